import sealwright.Settings
import sealwright.Steps

/**
 * Have Sealwright sign an artifact that this build has archived with its fingerprint.
 *
 * Needs no agent and holds no executor unless outputArtifactPath is given.
 *
 * @return the id of the signing request
 */
String call(Map arguments) {
    Map settings = Settings.ofSubmission(arguments, [
        SEALWRIGHT_URL: env.SEALWRIGHT_URL,
        SEALWRIGHT_ORGANIZATION_ID: env.SEALWRIGHT_ORGANIZATION_ID,
        JOB_NAME: env.JOB_NAME,
        BUILD_NUMBER: env.BUILD_NUMBER,
    ])
    if (settings.outputArtifactPath && !env.WORKSPACE) {
        error('Sealwright: outputArtifactPath needs a workspace. How to fix: call this inside node { }, or leave it out and call getSignedArtifact there.')
    }
    Steps steps = new Steps(this, settings)
    Map submitted = steps.submit()
    String id = submitted.id
    echo("Signing request ${id}: ${submitted.url}".toString())
    if (submitted.labels) {
        echo("Origin: ${submitted.labels.join('; ')}".toString())
    }
    if (settings.waitForCompletion) {
        Map status = steps.follow(id)
        steps.check(id, status)
        if (settings.outputArtifactPath) {
            steps.download(id, status)
        }
    }
    return id
}
