"""What a build has to say to have a project signed, with the project's own names filled in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where something is to be signed."""

    url: str
    organization_id: str
    project: str
    policy: str
    configuration: str


@dataclass(frozen=True)
class Snippet:
    """Text to copy. `id` is unique on a page; `more` is the page of the documentation."""

    id: str
    title: str
    text: str
    more: str


def snippets(place: Place) -> list[Snippet]:
    """One for each way to submit."""
    return [
        Snippet("github", "GitHub Actions (YAML)", _github(place), "pipelines/github"),
        Snippet("gitlab", "GitLab CI (YAML)", _gitlab(place), "pipelines/gitlab"),
        Snippet("jenkins", "Jenkinsfile", _jenkins(place), "pipelines/jenkins"),
        Snippet("powershell", "PowerShell", _powershell(place), "pipelines/powershell"),
        Snippet("command", "Command line", _command(place), "cli"),
        Snippet("curl", "curl", _curl(place), "api"),
    ]


def _github(place: Place) -> str:
    return f"""\
sign:
  needs: build
  runs-on: ubuntu-24.04
  permissions:
    id-token: write # proves this run to Sealwright
  steps:
    - uses: example/sealwright/integrations/github@<commit> # your mirror, a commit you have read
      with:
        url: {place.url}
        organization-id: {place.organization_id}
        project: {place.project}
        signing-policy: {place.policy}
        artifact-configuration: {place.configuration}
        github-artifact-id: ${{{{ needs.build.outputs.artifact-id }}}}
        output-directory: signed
"""


def _gitlab(place: Place) -> str:
    return f"""\
include:
  - component: $CI_SERVER_FQDN/example/sealwright-sign/sign@<commit> # your mirror
    inputs:
      url: {place.url}
      organization-id: {place.organization_id}
      project: {place.project}
      signing-policy: {place.policy}
      artifact-configuration: {place.configuration}
      stage: sign
"""


def _jenkins(place: Place) -> str:
    return f"""\
@Library('sealwright@<commit>') _

// SEALWRIGHT_URL={place.url}
// SEALWRIGHT_ORGANIZATION_ID={place.organization_id}
stage('Sign') {{
    def request = submitSigningRequest(
        apiTokenCredentialId: 'sealwright-token',
        projectSlug: '{place.project}',
        signingPolicySlug: '{place.policy}',
        artifactConfigurationSlug: '{place.configuration}',
        inputArtifactPath: 'dist/app.exe'
    )
    node {{
        getSignedArtifact(
            apiTokenCredentialId: 'sealwright-token',
            signingRequestId: request,
            outputArtifactPath: 'signed/app.exe'
        )
    }}
}}
"""


def _powershell(place: Place) -> str:
    return f"""\
# SEALWRIGHT_TOKEN comes from the secrets of the CI system
Submit-SigningRequest `
    -ApiUrl {place.url} `
    -OrganizationId {place.organization_id} `
    -ProjectSlug {place.project} `
    -SigningPolicySlug {place.policy} `
    -ArtifactConfigurationSlug {place.configuration} `
    -InputArtifactPath setup.exe `
    -WaitForCompletion -OutputArtifactPath setup.signed.exe
"""


def _command(place: Place) -> str:
    return f"""\
export SEALWRIGHT_URL={place.url}
# SEALWRIGHT_TOKEN comes from the secrets of the CI system
sealwright submit setup.exe --project {place.project} --policy {place.policy} \\
  --configuration {place.configuration} --wait --output setup.signed.exe
"""


def _curl(place: Place) -> str:
    return f"""\
curl --fail-with-body "{place.url}/api/v1/signing-requests" \\
  -H "Authorization: Bearer $SEALWRIGHT_TOKEN" \\
  -F project={place.project} -F signing_policy={place.policy} \\
  -F artifact_configuration={place.configuration} -F artifact=@setup.exe
"""
