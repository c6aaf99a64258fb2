import sealwright.Settings
import sealwright.Steps

/** Fetch the artifact of a completed signing request into the workspace, and check its digest. */
void call(Map arguments) {
    Map settings = Settings.ofDownload(arguments, [
        SEALWRIGHT_URL: env.SEALWRIGHT_URL,
        SEALWRIGHT_ORGANIZATION_ID: env.SEALWRIGHT_ORGANIZATION_ID,
    ])
    if (!env.WORKSPACE) {
        error('Sealwright: getSignedArtifact needs a workspace. How to fix: call it inside node { }.')
    }
    Steps steps = new Steps(this, settings)
    String id = settings.signingRequestId
    Map status = steps.status(id)
    steps.check(id, status)
    steps.download(id, status)
}
