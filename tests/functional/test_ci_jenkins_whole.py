"""A release on Jenkins from end to end: the library under Jenkins' own transformer, the whole
server, Jenkins' API; signatures judged by osslsigncode."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.ci_whole import REPOSITORY, JenkinsWhole, eventually, jenkins_whole
from tests.fakes.gitlab import Token as GitLabToken
from tests.fakes.gitlab import fake_gitlab
from tests.fakes.jenkins import COMMIT
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


def test_trigger_signs_what_a_build_archived(tmp_path: Path, jenkins: JenkinsWhole) -> None:
    """The same notification twice, another one about the same build, a forged one."""
    jenkins.fill()
    jenkins.add_trigger("triggered", refs=["refs/heads/main"], artifact="*.exe")
    jenkins.build.building, jenkins.build.result = False, "SUCCESS"
    assert jenkins.deliver("n-0", "another secret") == 401
    for delivery in ("n-1", "n-1", "n-2"):
        assert jenkins.deliver(delivery) == 202
    [request] = eventually(lambda: jenkins.of_policy("triggered"), "a request")
    done = jenkins.wait_for(request["id"], "Completed", "Failed")
    assert (done["state"], done["origin"]["proof"]) == ("Completed", "controller"), done["reason"]
    (tmp_path / "app.exe").write_bytes(jenkins.signed_artifact(request["id"]))
    jenkins.check_signed(tmp_path / "app.exe")
    page = f"Signed {jenkins.system.url}/signing-requests/{request['id']}"
    eventually(lambda: page in (jenkins.build.description or ""), "the outcome in the description")

    def acted() -> bool:
        found = jenkins.admin.get("build-systems/jenkins/deliveries")["items"]
        return len(found) == 2 and all(one["outcome"] for one in found)

    eventually(acted, "both notifications acted on")
    assert len(jenkins.of_policy("triggered")) == 1


def test_killed_in_the_middle(tmp_path: Path, runners: Runners, jenkins: JenkinsWhole) -> None:
    jenkins.fill()
    controller = Jenkins(tmp_path, runners, jenkins)
    step = STEP.replace("POLICY", "killed").replace("MORE", "")
    asked = len(jenkins.jenkins.requests)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(controller.run, step)
        eventually(lambda: len(jenkins.jenkins.requests) > asked, "the first question")
        for part in ("web", "worker"):
            jenkins.system.wait_replaced(part, jenkins.system.kill(part))
        eventually(lambda: jenkins.of_policy("killed"), "a request")
        for part in ("worker", "web"):
            jenkins.system.wait_replaced(part, jenkins.system.kill(part))
        done = running.result(120)
    assert controller.result["failure"] is None, done.output
    jenkins.check_signed(controller.workspace / "app.exe")
    [request] = jenkins.of_policy("killed")
    assert request["state"] == "Completed"
    page = f"signing-requests/{request['id']}"

    def told() -> int:
        return (jenkins.build.description or "").count(page)

    eventually(lambda: told() == 1, "one report in the description")


def test_outcome_is_shown_on_the_commit_where_its_repository_is(jenkins: JenkinsWhole) -> None:
    """The project links Jenkins' job and the repository that it builds, which GitLab has."""
    with fake_gitlab() as forge:
        forge.projects[20].path = REPOSITORY
        forge.projects[20].settings["permissions"] = {
            "project_access": {"access_level": 40, "notification_level": 3},
            "group_access": None,
        }
        forge.tokens["glpat-user"] = GitLabToken()
        admin = jenkins.admin
        admin.post(
            "build-systems",
            {
                "slug": "forge", "name": "GitLab", "kind": "gitlab",
                "base_url": forge.url, "web_url": forge.url, "settings": {},
                "credentials": {"token": "glpat-server"},
            },
        )  # fmt: skip
        admin.post(
            "projects/product/repository-links",
            {"build_system": "forge", "repository": REPOSITORY, "proof": {"token": "glpat-user"}},
        )
        jenkins.fill()
        jenkins.add_trigger("mirrored", refs=["refs/heads/main"], artifact="*.exe")
        jenkins.build.building, jenkins.build.result = False, "SUCCESS"
        assert jenkins.deliver("n-forge") == 202
        [request] = eventually(lambda: jenkins.of_policy("mirrored"), "a request")
        assert jenkins.wait_for(request["id"], "Completed", "Failed")["state"] == "Completed"

        def shown() -> list[tuple[str, str]]:
            return [
                (one["sha"], one["status"])
                for one in forge.statuses
                if request["id"] in (one["target_url"] or "")
            ]

        eventually(lambda: shown() == [(COMMIT, "success")], "one green status on the commit")
        assert forge.violations == []
