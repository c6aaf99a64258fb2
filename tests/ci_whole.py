"""The whole server, linked to strict CI systems: what builds, webhooks and people do to it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import io
import json
import re
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from sealwright.model.identifiers import new_id
from tests.artifacts import build_artifact, launcher
from tests.fakes.github_state import Artifact, Content, Job, Run, User, commit
from tests.fakes.github_world import SECRET, World
from tests.fakes.gitlab import FakeGitLab, fake_gitlab, sha
from tests.fakes.gitlab import Token as GitLabToken
from tests.fakes.gitlab import delivery as gitlab_delivery
from tests.fakes.gitlab import runner as gitlab_runner
from tests.fakes.jenkins import API_TOKEN, FOLDER, USER, Build, FakeJenkins, fake_jenkins
from tests.fakes.jenkins import Job as JenkinsJob
from tests.fakes.oidc import github_claims
from tests.runners import fenced
from tests.shared import REPOSITORY as REPOSITORY_FOLDER
from tests.shared import tool
from tests.system import Api, Setup, System, set_up

RUN, SIGNING_JOB = 77, 9200
REPOSITORY = "acme/app"
APPROVER, STRANGER = ("ghu_octocat", 583231), ("ghu_mallory", 666)
GITLAB_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
JENKINS_SECRET = "a secret of the controller"
SECONDS = 60.0


def eventually(found: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """What `found` gives, as soon as that is something."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)
    return value


@dataclass
class Whole:
    """A running server with a project whose repository a CI system has.

    `token`, `secrets`, `identity` and the rest are those of `tests.ci_target.Target`.
    """

    system: System
    setup: Setup
    system_id: str = ""
    link_id: str = ""
    robot_id: str = ""
    secrets: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.system.url

    @property
    def organization_id(self) -> str:
        return self.setup.organization_id

    @property
    def token(self) -> str:
        return self.setup.token

    @property
    def admin(self) -> Api:
        return Api(self.url, self.setup.administrator_token)

    def trust(self, build_system: dict[str, Any], link: dict[str, Any]) -> None:
        """Trust the CI system, link its repository and make the policies of `POLICIES`."""
        admin = self.admin
        users = admin.get("users")["items"]
        self.robot_id = next(one["id"] for one in users if one["name"] == "robot")
        made = admin.post("build-systems", build_system)
        self.system_id = made["id"]
        named = {"build_system": build_system["slug"], "submitter": self.robot_id}
        self.link_id = admin.post("projects/product/repository-links", named | link)["id"]
        self.secrets += [self.setup.token, self.setup.administrator_token]

    def add_policy(self, slug: str, *, rules: dict[str, Any] | None = None, **more: Any) -> None:
        policy = {
            "slug": slug,
            "name": slug,
            "certificate": "release",
            "submitters": [self.robot_id],
            "timestamp_required": True,
            "origin_required": True,
            "origin_rules": rules or {},
        }
        self.admin.post("projects/product/signing-policies", policy | more)

    def requests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.admin.get("signing-requests", limit=200)["items"]
        return found

    def of_policy(self, slug: str) -> list[dict[str, Any]]:
        """The requests under a policy."""
        return [one for one in self.requests() if one["signing_policy"]["slug"] == slug]

    def add_trigger(self, policy: str, **more: Any) -> None:
        """Have what runs leave signed under a policy of the same name."""
        trigger = {"link": self.link_id, "signing_policy": policy, "submitter": self.robot_id}
        self.admin.post("projects/product/triggers", trigger | more)

    def signed_artifact(self, request_id: str) -> bytes:
        """What was signed."""
        address = f"{self.url}/api/v1/signing-requests/{request_id}/signed-artifact"
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.get(address, headers=headers, timeout=60).raise_for_status().content

    def request_count(self) -> int:
        return len(self.requests())

    def wait_for(self, request_id: str, *states: str) -> dict[str, Any]:
        """The request once it is in one of the states."""

        def read() -> dict[str, Any] | None:
            found: dict[str, Any] = self.admin.get(f"signing-requests/{request_id}")
            return found if found["state"] in states else None

        found: dict[str, Any] = eventually(read, f"{request_id} in {states}")
        return found

    def check_signed(self, program: Path) -> None:
        """Have osslsigncode verify signature and time stamp of a PE file."""
        [certificate] = self.admin.get("certificates")["items"]
        tsa = next(self.system.data.rglob("TEST-ONLY-root.pem"))
        roots = self.system.data / "roots.pem"
        roots.write_text(certificate["pem"] + tsa.read_text())
        checked = subprocess.run(
            [tool("osslsigncode"), "verify", "-CAfile", roots, "-TSA-CAfile", roots, program],
            capture_output=True, text=True,
        )  # fmt: skip
        assert "Succeeded" in checked.stdout, checked.stdout
        assert "Timestamp" in checked.stdout


@contextlib.contextmanager
def whole(build_system: str) -> Iterator[Whole]:
    """A server that may call CI systems on the loopback interface, with the artifact configuration
    of the page about signing from that kind."""
    page = REPOSITORY_FOLDER / "docs" / "pipelines" / f"{build_system}.md"
    with System.run(build_system_hosts="127.0.0.1") as system:
        yield Whole(system, set_up(system, fenced(page, "xml")[0].strip()))


@dataclass
class GitHubWhole(Whole):
    """The same with ``acme/app`` on the fake GitHub: run 77 is running and left an artifact."""

    world: World = field(kw_only=True)
    artifact_id: int = 42
    content: bytes = b""

    def fill(self) -> None:
        """As it was at first, with a new artifact; another test may begin.

        Checks stay: those of earlier requests may still be told of.
        """
        checks = self.world.state.checks
        self.world.fill()
        state = self.world.state
        state.checks = checks
        state.repositories[1001].owner, state.repositories[1003].owner = "acme", "mallory"
        state.runs = {RUN: Run(RUN, 1001, commit("c"), head_repository_id=1001)}
        state.jobs = [
            Job(9001, RUN),
            Job(SIGNING_JOB, RUN, "sign", status="in_progress", conclusion=None),
        ]
        out = self.system.data / "artifact.zip"
        self.content = build_artifact(out).read_bytes()
        out.unlink()
        self.artifact_id += 1
        state.artifacts = {self.artifact_id: Artifact(self.artifact_id, RUN, Content(self.content))}
        state.users[STRANGER[0]] = User(STRANGER[1], "mallory", {3001}, {1001})

    @property
    def run(self) -> Run:
        return self.world.state.runs[RUN]

    def identity(self, audience: str, **claims: str) -> str:
        issuer = self.world.fake.issuer
        own = {
            "check_run_id": str(SIGNING_JOB),
            "repository": REPOSITORY,
            "repository_owner": "acme",
            "sub": f"repo:{REPOSITORY}:ref:refs/heads/main",
            "job_workflow_ref": f"{REPOSITORY}/.github/workflows/release.yml@refs/heads/main",
            "workflow_ref": f"{REPOSITORY}/.github/workflows/release.yml@refs/heads/main",
        }
        token = issuer.token(github_claims(issuer.url, audience, **own | claims))
        self.secrets.append(token)
        return token

    def deliver(self, event: str, payload: dict[str, Any]) -> None:
        """A webhook as GitHub sends it."""
        body = json.dumps({"repository": {"id": 1001}} | payload).encode()
        tag = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "X-Hub-Signature-256": f"sha256={tag}",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": new_id(),
            "Content-Type": "application/json",
        }
        answer = httpx.post(
            f"{self.url}/webhooks/{self.system_id}", content=body, headers=headers, timeout=30
        )
        assert answer.status_code == 202, answer.text

    def request(self) -> str | None:
        """The request for the artifact of now."""
        for one in self.requests():
            found = self.admin.get(f"signing-requests/{one['id']}")
            if found["origin"]["artifact_id"] == str(self.artifact_id):
                return str(one["id"])
        return None

    def checks(self, request_id: str) -> list[dict[str, Any]]:
        """The check runs of a request."""
        checks = self.world.state.checks.values()
        return [one for one in checks if one["external_id"] == request_id]

    def concluded(self) -> dict[str, Any]:
        """The check of the request for the artifact of now, once it has a conclusion."""
        request_id = eventually(self.request, "a request")

        def found() -> list[dict[str, Any]]:
            return [one for one in self.checks(request_id) if one.get("conclusion")]

        [check] = eventually(found, "a conclusion")
        result: dict[str, Any] = check
        return result

    def shown(self, request_id: str) -> list[tuple[str, str]]:
        """What the check of a request has shown, one after the other: status and conclusion."""
        sent = []
        for one in self.world.fake.received:
            if re.search(r"/check-runs(/\d+)?$", one.path) and one.method in {"POST", "PATCH"}:
                body = json.loads(one.body)
                if body["external_id"] == request_id:
                    sent.append((body["status"], body.get("conclusion") or ""))
        return list(dict.fromkeys(sent))

    def press(self, check: dict[str, Any], button: str, user: tuple[str, int] = APPROVER) -> None:
        """A button of the check, pressed."""
        self.deliver(
            "check_run",
            {
                "action": "requested_action",
                "check_run": {
                    "id": check["id"],
                    "external_id": check["external_id"],
                    "app": {"id": self.world.state.app.id},
                },
                "requested_action": {"identifier": button},
                "sender": {"id": user[1], "login": user[0].removeprefix("ghu_")},
            },
        )


@contextlib.contextmanager
def github_whole(world: World) -> Iterator[GitHubWhole]:
    """The whole server and GitHub: policies ``proven``, ``release`` and ``triggered``."""
    with whole("github") as base:
        made = GitHubWhole(base.system, base.setup, world=world)
        made.fill()
        app, fake = world.state.app, world.fake
        build_system = {
            "slug": "github", "name": "GitHub", "kind": "github",
            "base_url": fake.url, "web_url": fake.web_url,
            "settings": {
                "client_id": app.client_id, "oidc_audience": made.url,
                "oidc_issuer": fake.issuer.url,
            },
            "credentials": {"private_key": app.pem, "webhook_secret": SECRET},
        }  # fmt: skip
        proof = {"token": APPROVER[0], "installation_id": "3001"}
        made.trust(build_system, {"repository": REPOSITORY, "proof": proof})
        made.add_policy("proven", rules={"caller_proof": True, "branches": ["main"]})
        made.add_policy("once", rules={"caller_proof": True, "no_reruns": True})
        made.add_policy(
            "release", quorum=1, approvers=[made.setup.administrator_id],
            rules={"caller_proof": True},
        )  # fmt: skip
        made.add_policy("triggered", rules={"branches": ["main"]})
        yield made


@dataclass
class GitLabWhole(Whole):
    """The same with ``acme/app`` on the fake GitLab: pipeline 5001, whose job 42 left artifacts."""

    gitlab: FakeGitLab = field(kw_only=True)
    content: bytes = b""

    def deliver(self, event: str, payload: dict[str, Any], signed_by: str = GITLAB_SECRET) -> int:
        """A webhook as GitLab sends it; the status of the answer."""
        headers, body = gitlab_delivery(
            event, payload, signing_token=signed_by, delivery_id=new_id()
        )
        address = f"{self.url}/webhooks/{self.system_id}"
        return httpx.post(address, content=body, headers=headers, timeout=30).status_code

    def shown(self, request_id: str) -> list[str]:
        """Commit statuses of a request."""
        statuses = self.gitlab.statuses
        return [one["status"] for one in statuses if request_id in (one["target_url"] or "")]

    def fill(self) -> None:
        fake = self.gitlab
        fake.reset()
        project = fake.projects[20]
        project.path = REPOSITORY
        project.settings["permissions"] = {
            "project_access": {"access_level": 40, "notification_level": 3},
            "group_access": None,
        }
        out = self.system.data / "artifact.zip"
        below = members(build_artifact(out).read_bytes())
        with zipfile.ZipFile(out, "w") as made:
            for name, content in below.items():
                made.writestr(f"dist/{name}", content)
        self.content = out.read_bytes()
        out.unlink()
        own = gitlab_runner(12270835, "instance_type")
        fake.add_pipeline(5001, ref="main", sha=sha("c2"))
        fake.add_job(42, "build", 5001, runner=own, archive=self.content)
        fake.add_job(43, "sign", 5001, status="running", runner=own)
        fake.tokens["glpat-user"] = GitLabToken()

    def identity(self, audience: str, **claims: str) -> str:
        host = self.gitlab.url.partition("//")[2]
        token = self.gitlab.id_token(
            43,
            aud=audience,
            job_project_path=REPOSITORY,
            sub=f"project_path:{REPOSITORY}:ref_type:branch:ref:main",
            ci_config_ref_uri=f"{host}/{REPOSITORY}//.gitlab-ci.yml@refs/heads/main",
            **claims,
        )
        self.secrets.append(token)
        return token


@contextlib.contextmanager
def gitlab_whole() -> Iterator[GitLabWhole]:
    """The whole server and GitLab, with the policy ``proven``."""
    with fake_gitlab() as fake, whole("gitlab") as base:
        made = GitLabWhole(base.system, base.setup, gitlab=fake)
        made.fill()
        build_system = {
            "slug": "gitlab", "name": "GitLab", "kind": "gitlab",
            "base_url": fake.url, "web_url": fake.url,
            "settings": {
                "oidc_audience": made.url, "oidc_issuer": fake.url, "status_check": "Sealwright",
            },
            "credentials": {"token": "glpat-server", "webhook_signing_token": GITLAB_SECRET},
        }  # fmt: skip
        made.trust(build_system, {"repository": REPOSITORY, "proof": {"token": "glpat-user"}})
        for slug in ("proven", "killed"):
            made.add_policy(slug, rules={"caller_proof": True, "branches": ["main"]})
        made.add_policy("triggered", rules={"branches": ["main"]})
        made.add_policy(
            "held", rules={"tags": ["v*"]}, quorum=1, approvers=[made.setup.administrator_id]
        )
        yield made
        assert fake.violations == []


@dataclass
class JenkinsWhole(Whole):
    """The same with the job ``acme/app`` on the fake Jenkins: build 12 archived a program."""

    jenkins: FakeJenkins = field(kw_only=True)
    content: bytes = field(default_factory=lambda: launcher().read_bytes())

    def deliver(self, delivery_id: str, secret: str = JENKINS_SECRET) -> int:
        """A notification that build 12 has ended, as docs/jenkins.md has it sent."""
        payload = {
            "delivery_id": delivery_id, "sent_at": int(time.time()), "event": "build",
            "repository": REPOSITORY, "run_id": "12", "status": "completed", "result": "SUCCESS",
        }  # fmt: skip
        body = json.dumps(payload).encode()
        tag = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-Sealwright-Signature-256": f"sha256={tag}"}
        address = f"{self.url}/webhooks/{self.system_id}"
        return httpx.post(address, content=body, headers=headers, timeout=30).status_code

    def fill(self) -> None:
        fake = self.jenkins
        fake.reset()
        fake.jobs |= {"acme": JenkinsJob(FOLDER), REPOSITORY: JenkinsJob()}
        fake.archive(
            REPOSITORY, fake.add_build(REPOSITORY, Build(12)), "dist/app.exe", self.content
        )

    @property
    def build(self) -> Build:
        return self.jenkins.jobs[REPOSITORY].builds[12]

    def identity(self, audience: str, **claims: str) -> str:
        token = self.jenkins.id_token(
            f"{self.jenkins.url}/job/acme/job/app/", int(claims["build_number"]), aud=audience
        )
        self.secrets.append(token)
        return token


@contextlib.contextmanager
def jenkins_whole() -> Iterator[JenkinsWhole]:
    """The whole server and Jenkins, with the policies ``vouched`` and ``proven``."""
    with fake_jenkins() as fake, whole("jenkins") as base:
        made = JenkinsWhole(base.system, base.setup, jenkins=fake)
        made.fill()
        build_system = {
            "slug": "jenkins", "name": "Jenkins", "kind": "jenkins",
            "base_url": fake.url, "web_url": fake.url,
            "settings": {
                "user": USER, "jobs": "acme/*", "oidc_audience": made.url,
                "oidc_issuer": fake.issuer.url,
            },
            "credentials": {"token": API_TOKEN, "controller_secret": JENKINS_SECRET},
        }  # fmt: skip
        made.trust(build_system, {"repository": REPOSITORY})
        for slug in ("vouched", "triggered", "killed", "mirrored"):
            made.add_policy(slug)
        made.add_policy("proven", rules={"caller_proof": True})
        yield made
        assert fake.violations == []


def members(content: bytes) -> dict[str, bytes]:
    """Files of a ZIP archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        return {name: source.read(name) for name in source.namelist()}
