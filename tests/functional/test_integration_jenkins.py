"""The Jenkins library under Jenkins' own CPS transformer, saved and loaded again at every pause."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.ci_target import FakeTarget, Target, fake, target
from tests.fakes.sealwright_ci import FakeServer, Fault, RefusalError
from tests.runners import Done, Runners, clean_environment, fenced, run, runners
from tests.shared import REPOSITORY, shared_dir, tool

__all__ = ["fake", "runners", "target"]

FOLDER = REPOSITORY / "integrations" / "jenkins"
PAGE = REPOSITORY / "docs" / "pipelines" / "jenkins.md"
ARTIFACT = b"MZ" + os.urandom(300_000)
SUBMIT = """\
def id = submitSigningRequest(projectSlug: 'app', signingPolicySlug: 'release',
    inputArtifactPath: 'dist/app.exe', apiTokenCredentialId: 'api'{more})
"""
FETCH = """\
node('linux') {
    getSignedArtifact(signingRequestId: id, outputArtifactPath: 'out put/app.exe',
        apiTokenCredentialId: 'api')
}
"""


@dataclass
class Jenkins:
    """A controller with the library, and what came of a pipeline."""

    folder: Path
    runners: Runners
    server: Target
    unix: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    speed: float = 20.0
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    def run(self, pipeline: str, main: str = "Pipeline", library: Path = FOLDER) -> Done:
        self.workspace.mkdir(exist_ok=True)
        path = self.folder / "Jenkinsfile.groovy"
        path.write_text(pipeline)
        result = self.folder / "result.json"
        result.unlink(missing_ok=True)
        binaries = self.folder / "bin"
        binaries.mkdir(exist_ok=True)
        identity = self.server.identity(self.server.url, build_number="12")
        plan = {
            "library": str(library),
            "steps": str(FOLDER / "test" / "steps"),
            "pipeline": str(path),
            "environment": {
                "SEALWRIGHT_URL": self.server.url,
                "SEALWRIGHT_ORGANIZATION_ID": self.server.organization_id,
                "JOB_NAME": "acme/app",
                "BUILD_NUMBER": "12",
                "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            }
            | self.environment,
            "credentials": {"api": self.server.token, "identity": identity, "wrong": "swt_user_x"},
            "workspace": str(self.workspace),
            "speed": self.speed,
            "unix": self.unix,
            "powershell": _powershell() if not self.unix else "",
            "result": str(result),
        }
        (self.folder / "plan.json").write_text(json.dumps(plan))
        host = FOLDER / "test" / "host"
        done = run(
            tool("java"),
            "-XX:TieredStopAtLevel=1",
            "-cp",
            f"{self.runners.class_path}{os.pathsep}{host}",
            "groovy.ui.GroovyMain",
            host / f"{main}.groovy",
            self.folder / "plan.json",
            cwd=self.folder,
            environment=clean_environment(self.folder),
        )
        self.result = json.loads(result.read_text()) if result.exists() else {}
        for secret in [*self.server.secrets, identity]:
            assert secret not in done.output
            for saved in self.result.get("saved", []):
                assert secret.encode() not in base64.b64decode(saved), "saved to disk"
            for call in self.result.get("calls", []):
                assert secret not in "".join(call), "an argument of a step is shown to everyone"
        return done

    @property
    def failure(self) -> str:
        return str(self.result["failure"])


def _powershell() -> str:
    return shutil.which("pwsh") or str(shared_dir() / "tools" / "pwsh")


@pytest.fixture
def jenkins(tmp_path: Path, runners: Runners, fake: FakeServer) -> Jenkins:
    fake.artifacts["jenkins", "dist/app.exe"] = ARTIFACT
    return Jenkins(tmp_path, runners, FakeTarget(fake))


def submit(more: str = "") -> str:
    return SUBMIT.replace("{more}", f", {more}" if more else "")


def test_archived_artifact(tmp_path: Path, runners: Runners, target: Target) -> None:
    target.put_artifact("jenkins", "dist/app.exe", ARTIFACT)
    jenkins = Jenkins(tmp_path, runners, target)
    more = "parameters: [version: 1.2, url: \"a${':'} 'b'\"], description: 'ü \"q\" \\n x'"
    done = jenkins.run(submit(more) + FETCH + "return id\n")
    assert jenkins.result["failure"] is None, done.output
    assert target.is_signed(ARTIFACT, (jenkins.workspace / "out put" / "app.exe").read_bytes())
    assert [path.name for path in (jenkins.workspace / "out put").iterdir()] == ["app.exe"]
    assert "vouched for by its build controller" in done.output
    assert jenkins.result["value"] in done.output


def test_identity_token_and_download_in_one(
    tmp_path: Path, runners: Runners, target: Target
) -> None:
    target.put_artifact("jenkins", "dist/app.exe", ARTIFACT)
    jenkins = Jenkins(tmp_path, runners, target)
    more = "trustedBuildSystemTokenCredentialId: 'identity', outputArtifactPath: 'app.exe'"
    done = jenkins.run(f"node('linux') {{\n{submit(more)}}}\n")
    assert jenkins.result["failure"] is None, done.output
    assert "vouched" not in done.output
    assert target.is_signed(ARTIFACT, (jenkins.workspace / "app.exe").read_bytes())


@pytest.mark.parametrize("unix", [True, False], ids=["sh", "powershell"])
def test_everything_that_can_break_off(jenkins: Jenkins, fake: FakeServer, unix: bool) -> None:
    jenkins.unix = unix
    if not unix:
        (jenkins.folder / "bin").mkdir()
        (jenkins.folder / "bin" / "curl.exe").symlink_to(tool("curl"))
    fake.steps = ((0.0, "WaitingForApproval"), (3.0, "Completed"))
    fake.faults = [
        Fault("^POST", "lose"),
        Fault("^POST", 503, headers={"Retry-After": "7"}),
        Fault("^POST", 429),
        Fault("^GET .*wait=", 502),
        Fault("^GET .*wait=", "restart", at=300),
        Fault("signed-artifact", "cut", at=100_000),
        Fault("signed-artifact", 504),
        Fault("signed-artifact", "cut", at=150_000),
    ]
    done = jenkins.run(submit() + FETCH)
    assert jenkins.result["failure"] is None, done.output
    assert len(fake.requests) == 1
    assert not any(fault.times for fault in fake.faults)
    assert len([one for one in fake.calls("signed-artifact") if one[2] == 206]) == 2
    assert (jenkins.workspace / "out put" / "app.exe").read_bytes().startswith(ARTIFACT)
    assert 7 in jenkins.result["sleeps"], "Retry-After is heeded"
    assert len(jenkins.result["saved"]) >= 8, "restarted at each pause"
    assert "WaitingForApproval: 0 of 2 approvals" in done.output


def test_other_ends(jenkins: Jenkins, fake: FakeServer) -> None:
    fake.steps = ((0.0, "Denied"),)
    fake.status = {"reason": "no\n\x1b[8mha:////x\u202eway", "advice": "ask Ada"}
    jenkins.run(submit())
    assert re.fullmatch(
        r"Failure: Sealwright: The signing request \S+ is Denied: no \[8mha:////x way "
        r"How to fix: ask Ada",
        jenkins.failure,
    )


def test_time_that_is_over(jenkins: Jenkins, fake: FakeServer) -> None:
    fake.steps = ((0.0, "WaitingForApproval"),)
    jenkins.run(submit("waitForCompletionTimeoutInSeconds: 1"))
    assert "is still WaitingForApproval" in jenkins.failure
    done = jenkins.run(submit("waitForCompletion: false") + "return id\n")
    assert jenkins.result["failure"] is None, done.output
    jenkins.run("def id = '0192f0c1-7a30-7000-8000-000000000001'\n" + FETCH)
    assert "is still WaitingForApproval" in jenkins.failure
    assert not fake.calls("signed-artifact")


def test_progress_is_told(jenkins: Jenkins, fake: FakeServer) -> None:
    fake.steps = ((0.0, "Processing"),)
    done = jenkins.run(submit("waitForCompletionTimeoutInSeconds: 1"))
    assert "is still Processing" in jenkins.failure
    assert done.output.count("Processing: signing, 5 of 12 files (after ") == 1


def test_server_that_stays_away(jenkins: Jenkins, fake: FakeServer) -> None:
    fake.faults = [Fault("POST", 503, times=999)]
    jenkins.run(submit("serviceUnavailableTimeoutInSeconds: 1"))
    assert "raise serviceUnavailableTimeoutInSeconds" in jenkins.failure


def test_refusal(jenkins: Jenkins, fake: FakeServer) -> None:
    fake.refuse = RefusalError(
        403, "origin_not_verified", ("It was replayed.", "Build anew."), ("Two remotes.", "")
    )
    done = jenkins.run(submit())
    assert jenkins.failure == "Failure: Sealwright: It was replayed. How to fix: Build anew."
    assert "Sealwright: Two remotes." in done.output
    assert len(fake.calls("^POST")) == 1


def test_unknown_token(jenkins: Jenkins, fake: FakeServer) -> None:
    jenkins.run(submit().replace("'api'", "'wrong'"))
    assert "The token is not known." in jenkins.failure
    assert len(fake.calls("^POST")) == 1, "401 is no reason to try again"


def test_bytes_that_are_not_those_that_were_signed(jenkins: Jenkins, fake: FakeServer) -> None:
    fake.steps = ((0.0, "Completed"),)
    size = len(ARTIFACT) + len(b"\nsigned")
    fake.status = {"output": {"file_name": "a", "size": size, "sha256": "0" * 64}}
    jenkins.run(submit() + FETCH)
    assert "not what was signed" in jenkins.failure
    assert list((jenkins.workspace / "out put").iterdir()) == []


WRONG = (
    "serverUrl: 'http://sign.example.com'",
    "serverUrl: 'https://u:p@sign.example.com'",
    "organizationId: '../x'",
    "projectSlug: ''",
    "waitForCompletion: 'perhaps'",
    "waitForCompletionTimeoutInSeconds: '5m'",
    "parameters: ['a b': 1]",
    "parameters: 'a: b'",
    "apiTokn: 'x'",
    "outputArtifactPath: 'x', waitForCompletion: false",
    "outputArtifactPath: 'x'",
)


def test_wrong_parameters_send_nothing(jenkins: Jenkins, fake: FakeServer) -> None:
    given = "projectSlug: 'app', signingPolicySlug: 'release', inputArtifactPath: 'a', "
    given += "apiTokenCredentialId: 'api'"
    attempts = "".join(
        f"try {{ submitSigningRequest([{given}] + [{wrong}]); echo('accepted') }} "
        "catch (error) { echo('refused ' + error.message) }\n"
        for wrong in WRONG
    )
    done = jenkins.run(attempts)
    assert jenkins.result["failure"] is None, done.output
    lines = done.output.splitlines()
    assert len(lines) == len(WRONG)
    assert all(re.match(r"refused Sealwright: .* How to fix: ", line) for line in lines), lines
    assert not fake.log


def test_proxy_of_the_controller(jenkins: Jenkins, fake: FakeServer) -> None:
    shutil.copytree(FOLDER, jenkins.folder / "library")
    source = jenkins.folder / "library" / "src" / "hudson"
    source.mkdir()
    (source / "ProxyConfiguration.groovy").write_text(
        "package hudson\nclass ProxyConfiguration {\n"
        "    @com.cloudbees.groovy.cps.NonCPS\n"
        "    static URLConnection open(URL url) {\n"
        "        System.out.println('by proxy to ' + url.host)\n"
        "        return url.openConnection()\n    }\n}\n"
    )
    done = jenkins.run(submit(), library=jenkins.folder / "library")
    assert jenkins.result["failure"] is None, done.output
    assert "by proxy to 127.0.0.1" in done.output


def test_jenkinsfile_of_the_page(jenkins: Jenkins, fake: FakeServer) -> None:
    (text,) = fenced(PAGE, "groovy")
    head, _, pipeline = text.partition("\n")
    assert re.fullmatch(r"@Library\('sealwright@[0-9a-f]{40}'\) _", head)
    binaries = jenkins.folder / "bin"
    binaries.mkdir()
    for name in ("make", "osslsigncode"):
        (binaries / name).write_text('#!/bin/sh\necho "ran $0 $*"\n')
        (binaries / name).chmod(0o755)
    done = jenkins.run(pipeline.replace("'sealwright-token'", "'api'"))
    assert jenkins.result["failure"] is None, done.output
    assert "osslsigncode verify" in done.output
    archived = [call[1] for call in jenkins.result["calls"] if call[0] == "archiveArtifacts"]
    assert archived == ["dist/app.exe", "signed/app.exe"]


def test_loaded_as_a_shared_library(jenkins: Jenkins, fake: FakeServer) -> None:
    libraries = jenkins.folder / "libraries"
    libraries.mkdir()
    (libraries / "sealwright@tested").symlink_to(FOLDER)
    pipeline = f"@Library('sealwright@tested') _\n{submit()}echo \"signed ${{id}}\"\n"
    # JenkinsPipelineUnit's script class holds its environment, tokens and all: not for `saved`
    done = jenkins.run(pipeline.replace("echo", "println"), main="Loaded", library=libraries)
    assert done.status == 0, done.output
    assert "Completed" in done.output


def test_every_parameter_is_documented() -> None:
    source = (FOLDER / "src" / "sealwright" / "Settings.groovy").read_text()
    lists = re.findall(r"Set<String> [A-Z]+ =.*?\]", source, re.DOTALL)
    names = set(re.findall(r"'([a-zA-Z]+)'", "".join(lists)))
    assert len(names) >= 15
    page = PAGE.read_text()
    texts = "".join(path.read_text() for path in (FOLDER / "vars").glob("*.txt"))
    assert [name for name in sorted(names) if f"`{name}`" not in page or name not in texts] == []
