package sealwright

import com.cloudbees.groovy.cps.NonCPS

/** What a step is asked for, checked before anything is sent. Settings are maps of plain values. */
class Settings implements Serializable {
    private static final long serialVersionUID = 1L

    private static final Set<String> COMMON = [
        'serverUrl', 'organizationId', 'buildSystemSlug', 'apiTokenCredentialId',
        'serviceUnavailableTimeoutInSeconds', 'outputArtifactPath',
    ] as Set
    private static final Set<String> SUBMISSION = COMMON + [
        'projectSlug', 'signingPolicySlug', 'artifactConfigurationSlug', 'inputArtifactPath', 'description',
        'parameters', 'trustedBuildSystemTokenCredentialId', 'waitForCompletion',
        'waitForCompletionTimeoutInSeconds',
    ]
    private static final Set<String> DOWNLOAD = COMMON + ['signingRequestId']

    /**
     * For submitSigningRequest.
     *
     * @param environment SEALWRIGHT_URL and SEALWRIGHT_ORGANIZATION_ID stand for what is not given;
     *     JOB_NAME and BUILD_NUMBER name the build
     * @throws IllegalArgumentException with what to do about it
     */
    @NonCPS
    static Map<String, Object> ofSubmission(Map<String, ?> given, Map<String, String> environment) {
        Map<String, Object> settings = common(given, environment, SUBMISSION)
        for (String name in ['projectSlug', 'signingPolicySlug', 'inputArtifactPath']) {
            settings[name] = required(given, name)
        }
        for (String name in ['artifactConfigurationSlug', 'description', 'trustedBuildSystemTokenCredentialId']) {
            settings[name] = text(given, name)
        }
        settings.inputArtifactPath = (settings.inputArtifactPath as String).replace('\\', '/')
        settings.parameters = parameters(given.parameters)
        settings.waitForCompletion = flag(given, 'waitForCompletion', true)
        settings.waitForCompletionTimeoutInSeconds = seconds(given, 'waitForCompletionTimeoutInSeconds', 3600)
        settings.job = environment.JOB_NAME ?: ''
        settings.build = environment.BUILD_NUMBER ?: ''
        if (!(settings.build ==~ /[0-9]{1,10}/)) {
            throw wrong('BUILD_NUMBER is not set.', 'Call this from a build of Jenkins.')
        }
        if (settings.outputArtifactPath && !settings.waitForCompletion) {
            throw wrong('outputArtifactPath is given and waitForCompletion is false.',
                'Fetch it later with getSignedArtifact.')
        }
        return settings
    }

    /** For getSignedArtifact. */
    @NonCPS
    static Map<String, Object> ofDownload(Map<String, ?> given, Map<String, String> environment) {
        Map<String, Object> settings = common(given, environment, DOWNLOAD)
        settings.outputArtifactPath = required(given, 'outputArtifactPath')
        settings.signingRequestId = required(given, 'signingRequestId')
        if (!(settings.signingRequestId ==~ /[A-Za-z0-9-]{1,64}/)) {
            throw wrong("The signingRequestId is ${settings.signingRequestId}.", 'Use what submitSigningRequest returns.')
        }
        return settings
    }

    @NonCPS
    private static Map<String, Object> common(Map<String, ?> given, Map<String, String> environment, Set<String> known) {
        Set<String> unknown = (given.keySet()*.toString() as Set) - known
        if (unknown) {
            throw wrong("There is no parameter ${unknown.sort().join(', ')}.", "There are: ${known.sort().join(', ')}.")
        }
        String url = text(given, 'serverUrl') ?: environment.SEALWRIGHT_URL ?: ''
        String organization = text(given, 'organizationId') ?: environment.SEALWRIGHT_ORGANIZATION_ID ?: ''
        String system = text(given, 'buildSystemSlug') ?: 'jenkins'
        for (String value in [organization, system]) {
            if (!(value ==~ /[A-Za-z0-9._-]{1,128}/)) {
                throw wrong("organizationId or buildSystemSlug is '${value}'.", 'Use it as the server shows it.')
            }
        }
        return [
            url: serverUrl(url),
            organizationId: organization,
            buildSystemSlug: system,
            apiTokenCredentialId: required(given, 'apiTokenCredentialId'),
            serviceUnavailableTimeoutInSeconds: seconds(given, 'serviceUnavailableTimeoutInSeconds', 600),
            outputArtifactPath: text(given, 'outputArtifactPath'),
        ] as HashMap<String, Object>
    }

    /** Plain HTTP would show the token to everyone on the way. */
    @NonCPS
    private static String serverUrl(String value) {
        boolean safe = value ==~ '(?i)https://[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._~/-]*)?'
        boolean here = value ==~ '(?i)http://(localhost|127[.][0-9.]+)(:[0-9]+)?(/[a-z0-9._~/-]*)?'
        if (!safe && !here) {
            throw wrong("serverUrl is '${value}'.", 'Give serverUrl or SEALWRIGHT_URL as https://HOST of the Sealwright server.')
        }
        return value.replaceAll('/+$', '')
    }

    @NonCPS
    private static Map<String, String> parameters(Object given) {
        if (given == null) {
            return [:]
        }
        if (!(given instanceof Map)) {
            throw wrong('parameters is no map.', "Write parameters: [version: '1.2']")
        }
        Map<String, String> made = new LinkedHashMap<String, String>()
        given.each { key, value ->
            String name = key.toString()
            if (!(name ==~ /[A-Za-z0-9._-]{1,100}/)) {
                throw wrong("The parameter '${name}' is no name.", 'Use letters, digits, dots, dashes and underscores.')
            }
            made[name] = value == null ? '' : value.toString()
        }
        return made
    }

    @NonCPS
    private static String text(Map<String, ?> given, String name) {
        return given[name] == null ? '' : given[name].toString().trim()
    }

    @NonCPS
    private static String required(Map<String, ?> given, String name) {
        String value = text(given, name)
        if (!value) {
            throw wrong("${name} is not given.", "Add ${name}: '...'")
        }
        return value
    }

    @NonCPS
    private static boolean flag(Map<String, ?> given, String name, boolean absent) {
        String value = text(given, name) ?: absent.toString()
        if (!(value in ['true', 'false'])) {
            throw wrong("${name} is '${value}'.", 'Use true or false.')
        }
        return value == 'true'
    }

    @NonCPS
    private static int seconds(Map<String, ?> given, String name, int absent) {
        String value = text(given, name) ?: absent.toString()
        if (!(value ==~ /[0-9]{1,7}/)) {
            throw wrong("${name} is '${value}'.", 'Use a whole number of seconds.')
        }
        return value as int
    }

    @NonCPS
    private static IllegalArgumentException wrong(String what, String howToFix) {
        return new IllegalArgumentException("Sealwright: ${what} How to fix: ${howToFix}".toString())
    }
}
