package sealwright

/** What both steps are made of. Everything here may be saved to disk and resumed in any line. */
class Steps implements Serializable {
    private static final long serialVersionUID = 1L

    private static final int FIRST_PAUSE = 2
    private static final int LONGEST_PAUSE = 30
    private static final int LONGEST_POLL = 5
    private static final int LONGEST_POLL_FOR_PEOPLE = 15
    private static final int PROGRESS_MILLISECONDS = 10_000

    private final Object script
    private final Map<String, Object> settings

    Steps(Object script, Map<String, Object> settings) {
        this.script = script
        this.settings = settings
    }

    /** The request for this build's artifact. */
    Map<String, Object> submit() {
        return patiently { Map<String, String> tokens ->
            Server.submit(settings, tokens.api, tokens.identity)
        }
    }

    /** Where a request stands. */
    Map<String, Object> status(String id) {
        return patiently { Map<String, String> tokens -> Server.status(settings, id, tokens.api) }
    }

    /** The request when it is final, or as it is when its time is over. Holds no executor. */
    Map<String, Object> follow(String id) {
        long begun = System.currentTimeMillis()
        long deadline = begun + settings.waitForCompletionTimeoutInSeconds * 1000L
        String told = ''
        String state = ''
        long toldAt = begun
        int pause = FIRST_PAUSE
        while (true) {
            Map<String, Object> found = status(id)
            String line = describe(found)
            long now = System.currentTimeMillis()
            boolean isProgress = found.state == 'Processing' && state == 'Processing'
            if (line != told && (!isProgress || now - toldAt >= PROGRESS_MILLISECONDS)) {
                script.echo("${line} (after ${(now - begun).intdiv(1000)} s)".toString())
                told = line
                toldAt = now
                pause = isProgress ? pause : FIRST_PAUSE
            }
            state = found.state
            long left = deadline - System.currentTimeMillis()
            if (found.isFinal || left <= 0) {
                return found
            }
            script.sleep(time: Math.min(pause, left.intdiv(1000) + 1) as int, unit: 'SECONDS')
            pause = Math.min(pause * 2, found.state == 'WaitingForApproval' ? LONGEST_POLL_FOR_PEOPLE : LONGEST_POLL)
        }
    }

    /** Ends the build unless the request is completed. */
    void check(String id, Map<String, Object> status) {
        if (status.state == 'Completed') {
            return
        }
        if (status.isFinal) {
            String why = status.reason ? ": ${status.reason}" : '.'
            fail("The signing request ${id} is ${status.state}${why}", status.advice ?: "See ${status.url}")
        }
        fail("The signing request ${id} is still ${status.state}.",
            "It goes on at ${status.url}. Raise waitForCompletionTimeoutInSeconds, or fetch it later with getSignedArtifact.")
    }

    /** Fetch the signed artifact into the workspace of the agent that this runs on. */
    void download(String id, Map<String, Object> status) {
        if (!(status.sha256 ==~ /[0-9a-f]{64}/)) {
            fail("The signing request ${id} has no signed artifact.", "See ${status.url}")
        }
        List<String> variables = [
            "SEALWRIGHT_ADDRESS=${settings.url}/api/v1/signing-requests/${id}/signed-artifact".toString(),
            "SEALWRIGHT_OUTPUT=${settings.outputArtifactPath}".toString(),
            "SEALWRIGHT_SHA256=${status.sha256}".toString(),
            "SEALWRIGHT_SIZE=${status.size}".toString(),
        ]
        long deadline = System.currentTimeMillis() + settings.serviceUnavailableTimeoutInSeconds * 1000L
        int pause = FIRST_PAUSE
        while (true) {
            int ended = runOnAgent(variables)
            if (ended == 0) {
                script.echo("Signed: ${settings.outputArtifactPath} (SHA-256 ${status.sha256})".toString())
                return
            }
            if (ended == 5) {
                fail("What was downloaded is not what was signed: its SHA-256 is not ${status.sha256}.", 'Run the build again.')
            }
            if (ended != Scripts.AGAIN || System.currentTimeMillis() >= deadline) {
                fail('The signed artifact cannot be downloaded.', 'See above what curl says; the agent needs curl and a way to the server.')
            }
            script.sleep(time: pause, unit: 'SECONDS')
            pause = Math.min(pause * 2, LONGEST_PAUSE)
        }
    }

    private int runOnAgent(List<String> variables) {
        int ended = 0
        script.withCredentials([script.string(credentialsId: settings.apiTokenCredentialId, variable: 'SEALWRIGHT_API_TOKEN')]) {
            script.withEnv(variables) {
                if (script.isUnix()) {
                    ended = script.sh(script: Scripts.posix(), returnStatus: true, label: 'Download the signed artifact')
                } else {
                    ended = script.powershell(script: Scripts.windows(), returnStatus: true, label: 'Download the signed artifact')
                }
            }
        }
        return ended
    }

    /**
     * Repeat a call while the server is away. The tokens are there for the call alone: nothing that is
     * saved to disk holds them.
     */
    private Map<String, Object> patiently(Closure<Map<String, Object>> attempt) {
        long deadline = System.currentTimeMillis() + settings.serviceUnavailableTimeoutInSeconds * 1000L
        int pause = FIRST_PAUSE
        while (true) {
            Map<String, Object> answer = withTokens(attempt)
            if (answer.outcome == 'ok') {
                return answer.body as Map<String, Object>
            }
            if (answer.outcome == 'refused') {
                refuse(answer.problems as List<Map<String, String>>)
            }
            long left = deadline - System.currentTimeMillis()
            if (left <= 0) {
                fail(answer.message as String, 'Check that the server runs and that the controller reaches it; raise serviceUnavailableTimeoutInSeconds.')
            }
            int wait = Math.min((answer.retryAfter ?: pause) as int, left.intdiv(1000) + 1) as int
            script.echo("${answer.message} Trying again for ${left.intdiv(1000)} s.".toString())
            script.sleep(time: wait, unit: 'SECONDS')
            pause = Math.min(pause * 2, LONGEST_PAUSE)
        }
    }

    private Map<String, Object> withTokens(Closure<Map<String, Object>> attempt) {
        Map<String, Object> answer = null
        List<Object> bindings = [script.string(credentialsId: settings.apiTokenCredentialId, variable: 'SEALWRIGHT_API_TOKEN')]
        if (settings.trustedBuildSystemTokenCredentialId) {
            bindings << script.string(credentialsId: settings.trustedBuildSystemTokenCredentialId, variable: 'SEALWRIGHT_IDENTITY_TOKEN')
        }
        script.withCredentials(bindings) {
            String identity = settings.trustedBuildSystemTokenCredentialId ? script.env.SEALWRIGHT_IDENTITY_TOKEN : ''
            answer = attempt([api: script.env.SEALWRIGHT_API_TOKEN, identity: identity])
        }
        return answer
    }

    private String describe(Map<String, Object> status) {
        if (status.state == 'WaitingForApproval') {
            return "WaitingForApproval: ${status.approvals} of ${status.quorum} approvals".toString()
        }
        if (status.state == 'Processing' && status.files > 0) {
            return "Processing: ${status.stage}, ${status.done} of ${status.files} files".toString()
        }
        return status.state
    }

    private void refuse(List<Map<String, String>> problems) {
        for (int i = 1; i < problems.size(); i++) {
            script.echo("Sealwright: ${problems[i].error} How to fix: ${problems[i].howToFix}".toString())
        }
        fail(problems[0].error, problems[0].howToFix)
    }

    private void fail(String what, String howToFix) {
        script.error("Sealwright: ${what}${howToFix ? ' How to fix: ' + howToFix : ''}".toString())
    }
}
