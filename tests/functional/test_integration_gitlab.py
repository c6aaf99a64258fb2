"""The GitLab component under gitlab-ci-local, and its script under every shell and awk in use."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ci_target import FakeTarget, Target, fake, target
from tests.fakes.sealwright_ci import FakeServer, Fault, RefusalError
from tests.runners import Done, Runners, clean_environment, fenced, run, runners
from tests.shared import REPOSITORY, tool

__all__ = ["fake", "runners", "target"]

FOLDER = REPOSITORY / "integrations" / "gitlab"
PAGE = REPOSITORY / "docs" / "pipelines" / "gitlab.md"
SCRIPT = FOLDER / "sign.sh"
CLAIMS = {"pipeline_id": "5001", "project_path": "acme/app"}
TOOLS = "awk cat cp curl cut date find head mkdir mktemp mv rm sed sha256sum sleep tail tr unzip wc"


def archive() -> bytes:
    """A ZIP as GitLab keeps a job's artifacts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("dist/app.exe", b"MZ" + bytes(3000))
        made.writestr("dist/ä b/tool.exe", b"MZ" + os.urandom(300_000))
    return out.getvalue()


ARTIFACT = archive()


# The component in a pipeline


@dataclass
class Pipeline:
    """A repository with a pipeline that includes the component."""

    folder: Path
    runners: Runners
    server: Target

    def run(self, token: str = "", **inputs: str) -> Done:
        given: dict[str, str | int] = {
            "url": self.server.url,
            "organization-id": self.server.organization_id,
            "project": "app",
            "signing-policy": "release",
            "service-unavailable-timeout": 30,
            "stage": "sign",
        }
        build = {
            "stage": "build",
            "script": [
                'echo "SEALWRIGHT_ARTIFACT_JOB_ID=42" > build.env',
                "mkdir dist && cp $HOME/app.zip dist/",
            ],
            "artifacts": {"paths": ["dist/"], "reports": {"dotenv": "build.env"}},
        }
        after = {
            "stage": "check",
            "script": [
                'cp -R signed "$HOME/signed"',
                'echo "$SEALWRIGHT_STATE $SEALWRIGHT_REQUEST_URL" > "$HOME/variables"',
            ],
        }
        pipeline = {
            "stages": ["build", "sign", "check"],
            "include": [{"local": "/templates/sign.yml", "inputs": given | inputs}],
            "build": build,
            "check": after,
        }
        home = self.folder / "home"
        repository = self.folder / "repository"
        (repository / "templates").mkdir(parents=True)
        home.mkdir()
        (home / "app.zip").write_bytes(ARTIFACT)
        shutil.copy(FOLDER / "templates" / "sign.yml", repository / "templates")
        (repository / ".gitlab-ci.yml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
        for command in (
            ["init", "--quiet", "--initial-branch=main"],
            ["remote", "add", "origin", "git@gitlab.example.com:acme/app.git"],
            ["add", "--all"],
            ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "x"],
        ):
            subprocess.run(["git", *command], cwd=repository, check=True)
        variables = {
            "CI_PIPELINE_ID": CLAIMS["pipeline_id"],
            "SEALWRIGHT_ID_TOKEN": self.server.identity(self.server.url, **CLAIMS),
        }
        if token:
            variables["SEALWRIGHT_TOKEN"] = token
        return run(
            self.runners.node,
            self.runners.binary("gitlab-ci-local"),
            "--force-shell-executor",
            *[f"--variable={name}={value}" for name, value in variables.items()],
            cwd=repository,
            environment=clean_environment(home, GIT_CONFIG_NOSYSTEM="1"),
        )

    def signed_files(self) -> dict[str, bytes]:
        return _files(self.folder / "home" / "signed")


def _files(root: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.fixture(autouse=True)
def _rsync() -> None:
    tool("rsync")


def test_artifacts_of_a_job(tmp_path: Path, runners: Runners, target: Target) -> None:
    target.put_artifact("gitlab", "42", ARTIFACT)
    pipeline = Pipeline(tmp_path, runners, target)
    done = pipeline.run(parameters='version: 1.2\n# note\nquote: a "b" \\ c: d\n')
    assert done.status == 0, done.output
    assert "caller not verified" not in done.output
    files = pipeline.signed_files()
    with zipfile.ZipFile(io.BytesIO(ARTIFACT)) as source:
        assert sorted(files) == sorted(source.namelist())
        assert all(target.is_signed(source.read(name), files[name]) for name in files)
    assert (tmp_path / "home" / "variables").read_text().startswith("Completed http")
    assert not any(secret in done.output for secret in target.secrets)


def test_file_of_an_earlier_job_by_token(tmp_path: Path, runners: Runners, target: Target) -> None:
    pipeline = Pipeline(tmp_path, runners, target)
    done = pipeline.run(token=target.token, path="dist/app.zip")
    assert done.status == 0, done.output
    files = pipeline.signed_files()
    assert list(files) == ["app.zip"]
    assert target.is_signed(ARTIFACT, files["app.zip"])
    assert not any(secret in done.output for secret in target.secrets)


def test_refusal_fails_the_job(tmp_path: Path, runners: Runners, fake: FakeServer) -> None:
    fake.refuse = RefusalError(
        403, "origin_not_verified", ("The ref is dev.", "Push a tag."), ("It is a retry.", "")
    )
    done = Pipeline(tmp_path, runners, FakeTarget(fake)).run()
    assert done.status != 0
    assert re.search(r"Sealwright: The ref is dev\.\n.*How to fix: Push a tag\.", done.output)
    assert "Sealwright: It is a retry." in done.output


# The script alone, under every shell and awk


@dataclass
class Shell:
    """A shell with exactly the programs that the script needs."""

    name: str
    command: list[str]
    path: Path


def _shells() -> list[str]:
    return ["dash", "bash", "busybox", "gawk", "mawk"]


@pytest.fixture(params=_shells())
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    """One shell, or dash with one awk, on a path of its own."""
    return make_shell(request.param, tmp_path)


def make_shell(name: str, folder: Path) -> Shell:
    path = folder / "bin"
    path.mkdir()
    for program in TOOLS.split():
        (path / program).symlink_to(tool(program))
    if name == "busybox":
        applets = subprocess.run(
            [tool("busybox"), "--list"], capture_output=True, text=True, check=True
        ).stdout.split()
        for program in set(TOOLS.split()) & set(applets):
            (path / program).unlink()
            (path / program).symlink_to(tool("busybox"))
        return Shell(name, [tool("busybox"), "sh"], path)
    if name in {"gawk", "mawk"}:
        (path / "awk").unlink()
        (path / "awk").symlink_to(tool(name))
        return Shell(name, [tool("dash")], path)
    return Shell(name, [tool(name)], path)


@dataclass
class Script:
    """The script in a folder, and what came of it."""

    shell: Shell
    folder: Path
    server: FakeServer
    settings: dict[str, str] = field(default_factory=dict)

    def run(self, **more: str) -> Done:
        token = self.server.issuer.token(self.server.url, **CLAIMS)
        given = {
            "URL": self.server.url,
            "ORGANIZATION_ID": self.server.organization_id,
            "PROJECT": "app",
            "SIGNING_POLICY": "release",
            "ARTIFACT_JOB_ID": "42",
            "ID_TOKEN": token,
            "OUTPUT_DIRECTORY": "signed",
            "SERVICE_UNAVAILABLE_TIMEOUT": "20",
        }
        settings = given | self.settings | more
        environment = {f"SEALWRIGHT_{name}": value for name, value in settings.items()}
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        done = run(
            *self.shell.command,
            SCRIPT,
            cwd=self.folder,
            environment=environment
            | {
                "PATH": str(self.shell.path),
                "TMPDIR": str(temporary),
                "CI_PIPELINE_ID": CLAIMS["pipeline_id"],
                "CI_PROJECT_PATH": CLAIMS["project_path"],
            },
        )
        assert not list(temporary.iterdir()), "tokens are left behind"
        assert not any(secret in done.output for secret in [*self.server.secrets, token])
        return done

    def signed_files(self) -> dict[str, bytes]:
        return _files(self.folder / "signed")


@pytest.fixture
def script(shell: Shell, tmp_path: Path, fake: FakeServer) -> Script:
    fake.artifacts["gitlab", "42"] = ARTIFACT
    return Script(shell, tmp_path, fake)


@pytest.fixture
def dash(tmp_path: Path, fake: FakeServer) -> Script:
    fake.artifacts["gitlab", "42"] = ARTIFACT
    return Script(make_shell("dash", tmp_path), tmp_path, fake)


def test_every_shell(script: Script, fake: FakeServer) -> None:
    hostile = 'ü "q" \\ $HOME `id`\n\tnext'
    done = script.run(DESCRIPTION=hostile, PARAMETERS=" a : 1\r\n\nurl: https://x: y\nempty:")
    assert done.status == 0, done.output
    (request,) = fake.requests.values()
    assert request.submission["description"] == hostile
    assert request.submission["parameters"] == {"a": "1", "url": "https://x: y", "empty": ""}
    assert sorted(script.signed_files()) == ["dist/app.exe", "dist/ä b/tool.exe"]
    assert (script.folder / "sealwright.env").read_text().endswith("SEALWRIGHT_STATE=Completed\n")


def test_everything_that_can_break_off(dash: Script, fake: FakeServer) -> None:
    fake.steps = ((0.0, "Submitted"), (1.0, "Processing"), (2.0, "Completed"))
    fake.faults = [
        Fault("^POST", "lose"),
        Fault("^POST", 503, headers={"Retry-After": "1"}),
        Fault("^GET .*wait=", 502, headers={"Retry-After": "0"}),
        Fault("^GET .*wait=", "restart", at=400),
        Fault("signed-artifact", "cut", at=100_000),
        Fault("signed-artifact", 504, headers={"Retry-After": "0"}),
        Fault("signed-artifact", "cut", at=150_000),
    ]
    done = dash.run()
    assert done.status == 0, done.output
    assert len(fake.requests) == 1
    assert not any(fault.times for fault in fake.faults)
    assert len([one for one in fake.calls("signed-artifact") if one[2] == 206]) == 2
    assert len(dash.signed_files()) == 2


def test_upload_of_a_file_with_a_strange_name(dash: Script, fake: FakeServer) -> None:
    name = 'a;b,c "d" \\ é.bin'
    (dash.folder / name).write_bytes(bytes(range(256)) * 5000)
    fake.faults = [Fault("^POST", 503, headers={"Retry-After": "0"})]
    done = dash.run(PATH=name, ARTIFACT_JOB_ID="7", TOKEN=fake.token)
    assert done.status == 0, done.output
    (content,) = dash.signed_files().values()
    assert content.startswith(bytes(range(256)))


def test_access_token_that_runs_out(dash: Script, fake: FakeServer) -> None:
    fake.token_seconds = 1.0
    fake.steps = ((0.0, "WaitingForApproval"), (4.5, "Completed"))
    fake.faults = [Fault("^GET .*wait=", 503, headers={"Retry-After": "2"})]
    done = dash.run(DECOMPRESS="false")
    assert done.status == 0, done.output
    assert len(fake.requests) == 1
    assert len(fake.calls("^POST")) == 3, "renewed for the look and for the download"
    assert "WaitingForApproval: 0 of 2 approvals" in done.output


@pytest.mark.parametrize("state", ["Denied", "Failed", "Canceled"])
def test_other_ends(dash: Script, fake: FakeServer, state: str) -> None:
    fake.steps = ((0.0, state),)
    fake.status = {"reason": "no\n\x1b[31m \x9b1m\tway\r", "advice": "ask Ada"}
    done = dash.run()
    assert done.status == 1
    assert f"Sealwright: The signing request is {state}: no" in done.output
    assert "How to fix: ask Ada" in done.output
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x80-\x9f]", done.output)


def test_time_that_is_over(dash: Script, fake: FakeServer) -> None:
    fake.steps = ((0.0, "WaitingForApproval"),)
    done = dash.run(TIMEOUT="1")
    assert done.status == 3
    assert "still WaitingForApproval after 1 s" in done.output
    fake.faults = [Fault("POST", 503, times=99)]
    assert dash.run(SERVICE_UNAVAILABLE_TIMEOUT="1").status == 3


def test_no_waiting(dash: Script, fake: FakeServer) -> None:
    fake.steps = ((0.0, "Processing"),)
    done = dash.run(WAIT="false")
    assert done.status == 0, done.output
    assert "Processing: signing, 5 of 12 files (after " in done.output
    assert "SEALWRIGHT_STATE=Processing" in (dash.folder / "sealwright.env").read_text()


@pytest.mark.parametrize(
    "wrong",
    [
        {"URL": "http://sign.example.com"},
        {"URL": "https://u:p@sign.example.com"},
        {"ORGANIZATION_ID": "../x"},
        {"PROJECT": ""},
        {"ARTIFACT_JOB_ID": ""},
        {"ARTIFACT_JOB_ID": "dist"},
        {"JOB_TO_SIGN": "1", "PATH": "x"},
        {"PATH": "missing"},
        {"PARAMETERS": "version 1"},
        {"TIMEOUT": "5m"},
        {"WAIT": "yes"},
        {"DECOMPRESS": "yes"},
        {"ID_TOKEN": ""},
        {"TOKEN": 'a"\nurl = "http://x'},
    ],
    ids=str,
)
def test_wrong_settings_send_nothing(dash: Script, fake: FakeServer, wrong: dict[str, str]) -> None:
    done = dash.run(**wrong)
    assert done.status == 2, done.output
    assert "How to fix" in done.output
    assert not fake.log


def test_bytes_that_are_not_those_that_were_signed(dash: Script, fake: FakeServer) -> None:
    fake.steps = ((0.0, "Completed"),)
    size = 10**6
    fake.status = {"output": {"file_name": "a.zip", "size": size, "sha256": "0" * 64}}
    done = dash.run(SERVICE_UNAVAILABLE_TIMEOUT="1")
    assert done.status == 3, "fewer bytes than there should be: broken off"
    fake.status = {"output": {"file_name": "a.zip", "size": 300, "sha256": "0" * 64}}
    assert dash.run().status == 1
    assert dash.signed_files() == {}


def test_unknown_server_and_certificate(dash: Script, fake: FakeServer) -> None:
    done = dash.run(ORGANIZATION_ID="other")
    assert done.status == 1
    assert "Nothing is at" in done.output


_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text('abc_"\\ .:{', max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@pytest.fixture(scope="module", params=["mawk", "gawk", "busybox"])
def flatten(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[str]]:
    """A command that flattens JSON with one awk."""
    folder = tmp_path_factory.mktemp("flatten")
    shell = make_shell(request.param, folder)
    text = SCRIPT.read_text()
    function = re.search(r"^flatten\(\) \{\n.*?^\}\n", text, re.MULTILINE | re.DOTALL)
    assert function
    path = folder / "flatten.sh"
    path.write_text(f"LC_ALL=C PATH={shell.path}; export LC_ALL\n{function[0]}flatten\n")
    return [*shell.command, str(path)]


@given(documents=st.lists(st.dictionaries(st.sampled_from(["a", "b", "state"]), _JSON), min_size=1))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_json_is_read_as_python_reads_it(flatten: list[str], documents: list[Any]) -> None:
    # many documents in one, for starting a shell is what takes the time
    whole = {"all": documents}
    for separators in ((",", ":"), (" , ", " : ")):
        text = json.dumps(whole, ensure_ascii=False, separators=separators)
        done = subprocess.run(flatten, input=text.encode(), capture_output=True, check=True)
        lines = done.stdout.decode().split("\n")[:-1]
        assert lines == [f"{path}\t{value}" for path, value in _leaves(whole, ())]


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _leaves(
                one, (*path, re.sub(rb"[^A-Za-z0-9_-]", b"_", name.encode()).decode())
            )
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _leaves(one, (*path, str(number)))
    elif isinstance(value, str):
        yield ".".join(path), re.sub("[\x00-\x1f\x7f-\x9f]", _control, value)
    else:
        yield ".".join(path), json.dumps(value)


def _control(found: re.Match[str]) -> str:
    # what JSON writes as an escape of four digits is shown as a question mark
    return "?" if found[0] < " " and found[0] not in "\n\t\r\b\f" else " "


def test_long_answers_take_time_in_proportion(flatten: list[str]) -> None:
    files = [{"path": f"bin/{i}.exe", "sha256_after": "a" * 64, "x": 'q"\\'} for i in range(10_000)]
    text = json.dumps({"files": files, "state": "Completed"}).encode()
    done = subprocess.run(flatten, input=text, capture_output=True, check=True, timeout=20)
    assert done.stdout.endswith(b"state\tCompleted\n")


# What it is made of


def test_template_is_what_the_sources_make() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import build; print(build.template(), end='')"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=True,
    )
    made = (FOLDER / "templates" / "sign.yml").read_text()
    assert made == done.stdout, "run integrations/gitlab/build.py"


def test_script_is_clean() -> None:
    done = run(tool("shellcheck"), "--shell=sh", SCRIPT, cwd=FOLDER)
    assert done.status == 0, done.output
    assert "$[[" not in SCRIPT.read_text(), "GitLab would take it for an input"


def _documents() -> tuple[dict[str, Any], dict[str, Any]]:
    spec, jobs = yaml.safe_load_all((FOLDER / "templates" / "sign.yml").read_text())
    return spec["spec"], jobs


def test_template_fits_gitlabs_schema(tmp_path: Path) -> None:
    _, jobs = _documents()
    path = tmp_path / "sign.yml"
    path.write_text(yaml.safe_dump(jobs))
    schema = ["--builtin-schema", "vendor.gitlab-ci"]
    run(sys.executable, "-m", "check_jsonschema", *schema, path, cwd=tmp_path, check=True)


def test_inputs_are_used_and_documented() -> None:
    spec, _ = _documents()
    used = set(re.findall(r"\$\[\[ inputs\.([a-z-]+) \]\]", (FOLDER / "template.yml").read_text()))
    assert used == set(spec["inputs"])
    page = PAGE.read_text()
    assert [name for name in spec["inputs"] if f"`{name}`" not in page] == []


def test_pipelines_of_the_page(tmp_path: Path) -> None:
    spec, _ = _documents()
    for number, block in enumerate(fenced(PAGE, "yaml")):
        path = tmp_path / f"{number}.yml"
        path.write_text(block)
        schema = ["--builtin-schema", "vendor.gitlab-ci"]
        run(sys.executable, "-m", "check_jsonschema", *schema, path, cwd=tmp_path, check=True)
        given_inputs = yaml.safe_load(block)["include"][0]["inputs"]
        required = {name for name, one in spec["inputs"].items() if "default" not in one}
        assert required <= set(given_inputs) <= set(spec["inputs"])
