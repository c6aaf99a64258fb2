package sealwright

import com.cloudbees.groovy.cps.NonCPS
import groovy.json.JsonOutput
import groovy.json.JsonSlurperClassic

/**
 * Single calls to the server, each with an answer within seconds: the thread that makes them runs all
 * pipelines of the controller, so waiting and repeating is left to the steps.
 *
 * An answer is a map of plain values, since pipelines are saved to disk between steps: `outcome` is
 * `ok` (then `body`), `away` (then `message` and `retryAfter`, seconds or 0) or `refused` (then
 * `status` and `problems`, a list of `error` and `howToFix`).
 */
class Server implements Serializable {
    private static final long serialVersionUID = 1L

    private static final int CONNECT_MILLISECONDS = 5_000
    private static final int READ_MILLISECONDS = 15_000
    private static final int LONGEST_ANSWER = 16 << 20
    private static final int LONGEST_TEXT = 2_000
    private static final List<Integer> AWAY = [408, 429, 502, 503, 504]

    /** Submit the build's artifact. The same build, artifact and policy again is the same request. */
    @NonCPS
    static Map<String, Object> submit(Map<String, Object> settings, String apiToken, String identityToken) {
        Map<String, Object> body = [
            project: settings.projectSlug,
            signing_policy: settings.signingPolicySlug,
            parameters: settings.parameters,
            repository: settings.job,
            run_id: settings.build,
            run_attempt: 0,
            artifact_id: settings.inputArtifactPath,
        ]
        if (settings.artifactConfigurationSlug) {
            body.artifact_configuration = settings.artifactConfigurationSlug
        }
        if (settings.description) {
            body.description = settings.description
        }
        String path = "/api/v1/organizations/${settings.organizationId}/ci/${settings.buildSystemSlug}/signing-requests"
        Map<String, String> headers = ['Content-Type': 'application/json']
        if (identityToken) {
            headers['X-Sealwright-Identity-Token'] = identityToken
        }
        Map<String, Object> answer = call(settings, 'POST', path, apiToken, headers, JsonOutput.toJson(body))
        answer = checked(answer, ['id', 'state', 'web_url'])
        if (answer.outcome == 'ok') {
            // without the access token: the API token reads the request too, and is not kept anywhere
            Map<String, Object> made = answer.body as Map<String, Object>
            List<String> labels = made.labels instanceof List ? made.labels.collect { plain(it) } : []
            answer.body = [id: plain(made.id), url: plain(made.web_url), labels: labels] as HashMap<String, Object>
        }
        return answer
    }

    /** Where the request stands now. Of its files and log only what the steps need is kept. */
    @NonCPS
    static Map<String, Object> status(Map<String, Object> settings, String id, String apiToken) {
        Map<String, Object> answer = call(settings, 'GET', "/api/v1/signing-requests/${id}?wait=0", apiToken, [:], null)
        answer = checked(answer, ['state'])
        if (answer.outcome == 'ok') {
            Map<String, Object> body = answer.body as Map<String, Object>
            Map<String, Object> output = body.output instanceof Map ? body.output : [:]
            Map<String, Object> progress = body.progress instanceof Map ? body.progress : [:]
            answer.body = [
                state: plain(body.state),
                stage: plain(progress.stage),
                done: progress.done instanceof Integer ? progress.done : 0,
                files: progress.files instanceof Integer ? progress.files : 0,
                isFinal: body.is_final == true,
                reason: plain(body.reason),
                advice: plain(body.advice),
                url: plain(body.url),
                quorum: body.quorum instanceof Integer ? body.quorum : 0,
                approvals: body.approvals instanceof List ? body.approvals.count { it instanceof Map && it.verdict == 'approve' } : 0,
                sha256: plain(output.sha256),
                size: output.size instanceof Number ? output.size as long : 0L,
            ] as HashMap<String, Object>
        }
        return answer
    }

    /** One line without control characters: nothing that others wrote may write the log's own lines. */
    @NonCPS
    static String plain(Object value) {
        String line = value == null ? '' : value.toString()
        line = line.replaceAll('[\\p{Cc}\\p{Cf}\\u2028\\u2029]+', ' ').trim()
        return line.length() > LONGEST_TEXT ? line.substring(0, LONGEST_TEXT) : line
    }

    @NonCPS
    private static Map<String, Object> call(
        Map<String, Object> settings, String method, String path, String token, Map<String, String> headers, String body
    ) {
        HttpURLConnection connection = null
        try {
            connection = open(new URL("${settings.url}${path}"))
            connection.requestMethod = method
            connection.instanceFollowRedirects = false
            connection.useCaches = false
            connection.connectTimeout = CONNECT_MILLISECONDS
            connection.readTimeout = READ_MILLISECONDS
            connection.setRequestProperty('Authorization', "Bearer ${token.trim()}")
            connection.setRequestProperty('Accept', 'application/json')
            connection.setRequestProperty('User-Agent', 'sealwright-jenkins')
            headers.each { name, value -> connection.setRequestProperty(name, value.trim()) }
            if (body != null) {
                byte[] bytes = body.getBytes('UTF-8')
                connection.doOutput = true
                    connection.outputStream.withStream { it.write(bytes) }
            }
            return answer(connection)
        } catch (IOException error) {
            return [outcome: 'away', retryAfter: 0, message: plain("The server at ${settings.url} does not answer: ${error}")]
        } finally {
            connection?.disconnect()
        }
    }

    /** Through the proxy that the controller is configured with, where there is one. */
    @NonCPS
    private static HttpURLConnection open(URL url) {
        Class<?> proxies
        try {
            proxies = Class.forName('hudson.ProxyConfiguration', true, Server.classLoader)
        } catch (ClassNotFoundException absent) {
            return url.openConnection() as HttpURLConnection
        }
        try {
            return proxies.getMethod('open', URL).invoke(null, url) as HttpURLConnection
        } catch (java.lang.reflect.InvocationTargetException error) {
            throw new IOException(error.cause)
        }
    }

    @NonCPS
    private static Map<String, Object> answer(HttpURLConnection connection) {
        int status = connection.responseCode
        if (status in AWAY) {
            String asked = connection.getHeaderField('Retry-After')
            int retryAfter = asked != null && asked ==~ /[0-9]{1,5}/ ? asked as int : 0
            return [outcome: 'away', retryAfter: retryAfter, message: "The server answers ${status}.".toString()]
        }
        Object body = parse(readBounded(status >= 400 ? connection.errorStream : connection.inputStream))
        if (status >= 200 && status < 300) {
            return [outcome: 'ok', body: body instanceof Map ? body : [:]]
        }
        return [outcome: 'refused', status: status, problems: problems(status, body instanceof Map ? body : [:])]
    }

    @NonCPS
    private static String readBounded(InputStream stream) {
        if (stream == null) {
            return ''
        }
        ByteArrayOutputStream bytes = new ByteArrayOutputStream()
        byte[] buffer = new byte[65536]
        stream.withStream {
            for (int count = stream.read(buffer); count >= 0; count = stream.read(buffer)) {
                bytes.write(buffer, 0, count)
                if (bytes.size() > LONGEST_ANSWER) {
                    throw new IOException('its answer is too long')
                }
            }
        }
        return bytes.toString('UTF-8')
    }

    @NonCPS
    private static Object parse(String text) {
        try {
            return text.isEmpty() ? null : new JsonSlurperClassic().parseText(text)
        } catch (Exception | StackOverflowError malformed) {
            return null
        }
    }

    /** The refusals of a problem document (RFC 9457) with our members `advice` and `errors`. */
    @NonCPS
    private static List<Map<String, String>> problems(int status, Map<String, Object> body) {
        List<Map<String, String>> found = []
        if (body.errors instanceof List) {
            for (Object one in (body.errors as List).take(20)) {
                if (one instanceof Map) {
                    found << [error: plain(one.error), howToFix: plain(one.how_to_fix)]
                }
            }
        }
        if (!found) {
            String redirect = status >= 300 && status < 400 ? 'Give the address that it redirects to as serverUrl.' : ''
            found << [
                error: plain(body.detail ?: body.title ?: "The server answers ${status}."),
                howToFix: plain(body.advice ?: redirect),
            ]
        }
        return found
    }

    @NonCPS
    private static Map<String, Object> checked(Map<String, Object> answer, List<String> names) {
        Map<String, Object> body = answer.body as Map<String, Object>
        if (answer.outcome != 'ok' || names.every { body[it] instanceof String && body[it] }) {
            return answer
        }
        return [
            outcome: 'refused',
            status: 0,
            problems: [[
                error: "The server's answer is not the one of its API.",
                howToFix: 'Check that serverUrl is the address of a Sealwright server.',
            ]],
        ]
    }
}
