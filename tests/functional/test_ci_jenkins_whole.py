"""A release on Jenkins from end to end: the library under Jenkins' own transformer, the whole
server, Jenkins' API; signatures judged by osslsigncode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ci_whole import JenkinsWhole, eventually, jenkins_whole
from tests.functional.test_integration_jenkins import Jenkins
from tests.runners import Runners, runners

__all__ = ["runners"]

STEP = """\
node('linux') {
    submitSigningRequest(projectSlug: 'product', signingPolicySlug: 'POLICY',
        inputArtifactPath: 'dist/app.exe', outputArtifactPath: 'app.exe',
        apiTokenCredentialId: 'api'MORE)
}
"""
IDENTITY = ", trustedBuildSystemTokenCredentialId: 'identity'"


@pytest.fixture(scope="module")
def jenkins() -> Iterator[JenkinsWhole]:
    with jenkins_whole() as made:
        yield made


@pytest.mark.parametrize(
    ("policy", "more", "proof"),
    [("vouched", "", "controller"), ("proven", IDENTITY, "caller-verified")],
)
def test_signs_an_archived_file(
    tmp_path: Path, runners: Runners, jenkins: JenkinsWhole, policy: str, more: str, proof: str
) -> None:
    controller = Jenkins(tmp_path, runners, jenkins)
    done = controller.run(STEP.replace("POLICY", policy).replace("MORE", more))
    assert controller.result["failure"] is None, done.output
    jenkins.check_signed(controller.workspace / "app.exe")
    request = next(one for one in jenkins.requests() if one["signing_policy"]["slug"] == policy)
    assert (request["origin"]["proof"], request["state"]) == (proof, "Completed")
    page = f"Signed {jenkins.system.url}/signing-requests/{request['id']}"
    eventually(lambda: page in (jenkins.build.description or ""), "the outcome in the description")


def test_refused_with_what_to_do(tmp_path: Path, runners: Runners, jenkins: JenkinsWhole) -> None:
    controller = Jenkins(tmp_path, runners, jenkins)
    controller.run(STEP.replace("POLICY", "proven").replace("MORE", ""))
    assert "identity token" in controller.failure
    assert "How to fix: " in controller.failure
