"""A Jenkins controller on the loopback interface that holds its callers to Jenkins' API.

Sources: jenkins.io ("Remote Access API", "Authenticating scripted clients", "CSRF Protection"), the
plugins' exported beans (Git, Pipeline, Branch API, Rebuilder), the OpenID Connect Provider plugin.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from tests.fakes.oidc import FakeIssuer
from tests.fakes.reports import NOW
from tests.fakes.server import served

from sealwright.model.build_system import BuildSystemKind, RepositoryLink, TrustedBuildSystem

AUDIENCE = "https://sign.example.com"
REMOTE = "https://git.example.com/team/app.git"
LIBRARY = "https://git.example.com/ci/library.git"
USER, API_TOKEN, PASSWORD = "sealwright", "11d0e2f4a6", "hunter2"
COMMIT = hashlib.sha1(b"c2").hexdigest()
MULTIBRANCH = "org.jenkinsci.plugins.workflow.multibranch.WorkflowMultiBranchProject"
FOLDER = "com.cloudbees.hudson.plugins.folder.Folder"
USER_CAUSE = "hudson.model.Cause$UserIdCause"
READ = frozenset({"read", "configure"})


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def checkout(
    remote: str = REMOTE, commit: str = COMMIT, *branches: str, kind: str = "BuildData"
) -> dict[str, Any]:
    """What the Git plugin adds to a build."""
    names = branches or ("refs/remotes/origin/main",)
    revision = {"SHA1": commit, "branch": [{"SHA1": commit, "name": name} for name in names]}
    return {
        "_class": f"hudson.plugins.git.util.{kind}",
        "buildsByBranchName": {names[0]: {"buildNumber": 1, "revision": revision}},
        "lastBuiltRevision": revision,
        "remoteUrls": [remote],
        "scmName": "",
    }


def causes(*classes: str) -> dict[str, Any]:
    listed = [{"_class": name, "shortDescription": "Started"} for name in classes]
    return {"_class": "hudson.model.CauseAction", "causes": listed}


@dataclass
class Build:
    """A build. `artifacts`: relative path -> bytes, or a callable that streams them."""

    number: int
    building: bool = True
    result: str | None = None
    description: str | None = None
    actions: list[dict[str, Any]] = field(
        default_factory=lambda: [causes(USER_CAUSE), {}, checkout()]
    )
    artifacts: dict[str, bytes | Callable[[], Iterator[bytes]]] = field(default_factory=dict)


def config(
    definition: str = "org.jenkinsci.plugins.workflow.cps.CpsScmFlowDefinition",
    *,
    remotes: tuple[str, ...] = (REMOTE,),
    refspec: str = "",
    script: str = "Jenkinsfile",
    head: str = "",
    head_name: str = "main",
    scm: str = "hudson.plugins.git.GitSCM",
) -> bytes:
    """A Pipeline job's ``config.xml``, as Jenkins writes it: XML 1.1, plugins by attribute."""
    spec = f"<refspec>{escape(refspec)}</refspec>" if refspec else ""
    entries = "".join(
        "<hudson.plugins.git.UserRemoteConfig>"
        f"<url>{escape(remote)}</url>{spec}<credentialsId>git</credentialsId>"
        "</hudson.plugins.git.UserRemoteConfig>"
        for remote in remotes
    )
    source = (
        f'<scm class="{scm}" plugin="git@5.8.0"><configVersion>2</configVersion>'
        f"<userRemoteConfigs>{entries}</userRemoteConfigs></scm>"
    )
    property_ = "org.jenkinsci.plugins.workflow.multibranch.BranchJobProperty"
    branch = (
        f'<{property_} plugin="workflow-multibranch@821"><branch>'
        f'<head class="{head}"><name>{escape(head_name)}</name></head>{source}</branch>'
        f"</{property_}>"
    )
    inside = source if not head else ""
    text = f"""<?xml version='1.1' encoding='UTF-8'?>
<flow-definition plugin="workflow-job@1540">
  <description>builds &lt;things&gt;</description>
  <properties>{branch if head else ""}</properties>
  <definition class="{definition}" plugin="workflow-cps@4150">
    {inside}<scriptPath>{escape(script)}</scriptPath><lightweight>true</lightweight>
  </definition>
  <triggers/>
</flow-definition>"""
    return text.encode()


@dataclass
class Job:
    """A job, folder or multibranch Pipeline."""

    kind: str = "org.jenkinsci.plugins.workflow.job.WorkflowJob"
    config: bytes = field(default_factory=config)
    builds: dict[int, Build] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818
    def __init__(self, status: int, text: str, **headers: str) -> None:
        self.response = PlainTextResponse(text, status, headers=headers)


class FakeJenkins:
    """See the module. `url` is the root URL, installed under a path if `prefix` is set."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.url = ""
        self.issuer = FakeIssuer()
        self._issuer_app = Starlette(routes=self.issuer.routes(f"{prefix}/oidc"))
        self.reset()

    def reset(self) -> None:
        """A small world: the job ``team/app``, whose build 12 runs and has archived two files."""
        self.requests: list[tuple[str, str]] = []
        self.violations: list[str] = []
        self.answers: dict[str, Response] = {}
        self.permissions = {"read", "configure", "update"}
        self.issuer.reset()
        self.issuer.url = f"{self.url}/oidc"
        self.jobs = {"team": Job(FOLDER), "team/app": Job()}
        self.fingerprints: dict[str, dict[str, Any]] = {}
        build = self.add_build("team/app", Build(12))
        self.archive("team/app", build, "dist/app.exe", b"MZ an app")
        self.archive("team/app", build, "dist/notes & more.txt", b"notes")

    def add_build(self, job: str, build: Build) -> Build:
        self.jobs[job].builds[build.number] = build
        return build

    def archive(self, job: str, build: Build, path: str, data: bytes) -> None:
        """As ``archiveArtifacts`` with ``fingerprint: true`` does."""
        build.artifacts[path] = data
        self.fingerprint(job, build.number, data)

    def fingerprint(self, job: str, number: int, data: bytes) -> None:
        known = self.fingerprints.setdefault(
            md5(data),
            {"hash": md5(data), "original": {"name": job, "number": number}, "usage": []},
        )
        ranges = {"ranges": [{"start": number, "end": number + 1}]}
        known["usage"].append({"name": job, "ranges": ranges})

    def id_token(self, job_url: str, number: int, **changes: Any) -> str:
        """What the plugin gives a build: no ``jti``, no ``nbf``, the credentials' id as ``kid``."""
        now = int(time.time())
        claims = {
            "iss": self.issuer.url, "aud": AUDIENCE, "iat": now, "exp": now + 3600,
            "sub": job_url, "build_number": number, **changes,
        }  # fmt: skip
        return self.issuer.token(claims, header={"typ": None, "x5t": None})

    # The server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = scope["raw_path"].decode().partition("?")[0]
        if "/.well-known/" in path:
            await self._issuer_app(scope, receive, send)
            return
        self.requests.append((request.method, path))
        try:
            local = path.removeprefix(self.prefix)
            response = self.answers.get(local) or self._answer(
                request, local, (await request.body()).decode()
            )
        except Refusal as refusal:
            response = refusal.response
        await response(scope, receive, send)

    def _answer(self, request: Request, path: str, body: str) -> Response:
        self._authenticate(request)
        if path.startswith("/-/store/"):
            self.violations.append("credentials were sent to the object store")
        if match := re.fullmatch(r"/fingerprint/([0-9a-f]{32})/api/json", path):
            return self._api(request, self.fingerprints.get(match[1]))
        match = re.fullmatch(r"((?:/job/[^/]+)+)(?:/([0-9]+))?(?:/(.+))?", path)
        if match is None:
            raise Refusal(404, "Not Found")
        name = "/".join(
            unquote(segment) for segment in match[1].removeprefix("/job/").split("/job/")
        )
        job = self.jobs.get(name)
        if job is None or "read" not in self.permissions:
            raise Refusal(404, "Not Found")  # Jenkins hides what may not be read
        rest = match[3] or ""
        if match[2] is None:
            return self._job(request, job, rest)
        build = job.builds.get(int(match[2]))
        if build is None:
            raise Refusal(404, "Not Found")
        return self._build(request, build, rest, body)

    def _authenticate(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not given.startswith("Basic "):
            raise Refusal(
                403, "Authentication required", **{"X-You-Are-Authenticated-As": "anonymous"}
            )
        user, _, secret = base64.b64decode(given[6:]).decode().partition(":")
        if user != USER or secret not in {API_TOKEN, PASSWORD}:
            raise Refusal(401, "Unauthorized")
        if (
            request.method == "POST"
            and secret == PASSWORD
            and "jenkins-crumb" not in request.headers
        ):
            raise Refusal(403, "No valid crumb was included in the request")

    def _job(self, request: Request, job: Job, rest: str) -> Response:
        if rest == "api/json":
            return self._api(request, {"_class": job.kind, "builds": []})
        if rest == "config.xml":
            if "configure" not in self.permissions:
                raise Refusal(403, f"{USER} is missing the Job/ExtendedRead permission")
            return Response(job.config, media_type="application/xml")
        raise Refusal(404, "Not Found")

    def _build(self, request: Request, build: Build, rest: str, body: str) -> Response:
        if rest == "api/json":
            return self._api(request, self._entity(build))
        if rest.startswith("artifact/"):
            return self._artifact(build, unquote(rest.removeprefix("artifact/")))
        if rest == "submitDescription":
            if request.method != "POST":
                raise Refusal(405, "POST is required")
            if "update" not in self.permissions:
                raise Refusal(403, f"{USER} is missing the Run/Update permission")
            build.description = parse_qs(body, keep_blank_values=True)["description"][0]
            return Response(status_code=302, headers={"Location": "."})
        raise Refusal(404, "Not Found")

    def _entity(self, build: Build) -> dict[str, Any]:
        return {
            "_class": "org.jenkinsci.plugins.workflow.job.WorkflowRun",
            "actions": build.actions,
            "artifacts": [
                {"displayPath": None, "fileName": path.rpartition("/")[2], "relativePath": path}
                for path in build.artifacts
            ],
            "building": build.building, "description": build.description,
            "displayName": f"#{build.number}", "duration": 0, "id": str(build.number),
            "inProgress": build.building, "keepLog": False, "number": build.number,
            "queueId": 4, "result": build.result, "timestamp": 1777888800000,
            "url": f"{self.url}/job/x/{build.number}/",
        }  # fmt: skip

    def _artifact(self, build: Build, path: str) -> Response:
        content = build.artifacts.get(path)
        if content is None:
            raise Refusal(404, "Not Found")
        if isinstance(content, bytes):
            return Response(content, media_type="application/octet-stream")
        make = content

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in make():
                yield chunk

        return StreamingResponse(chunks())

    def _api(self, request: Request, entity: Mapping[str, Any] | None) -> Response:
        if entity is None:
            raise Refusal(404, "Not Found")
        for name in request.query_params.keys() - {"tree", "depth", "pretty"}:
            self.violations.append(f"the API takes no parameter {name}")
        tree = request.query_params.get("tree", "")
        return JSONResponse(_pruned(entity, _parse_tree(tree)) if tree else entity)


Tree = dict[str, "Tree"]


def _parse_tree(text: str) -> Tree:
    """``a,b[c]`` (org.kohsuke.stapler.export.NamedPathPruner)."""
    tokens = re.findall(r"[A-Za-z0-9_]+|[\[\],]", text)
    if "".join(tokens) != text:
        raise Refusal(400, "malformed tree")
    root: Tree = {}
    stack = [root]
    last: Tree = root
    for token in tokens:
        if token == "[":
            stack.append(last)
        elif token == "]":
            if len(stack) == 1:
                raise Refusal(400, "malformed tree")
            stack.pop()
        elif token != ",":
            last = stack[-1].setdefault(token, {})
    if len(stack) != 1:
        raise Refusal(400, "malformed tree")
    return root


def _pruned(value: Any, tree: Tree) -> Any:
    if isinstance(value, list):
        return [_pruned(item, tree) for item in value]
    if not isinstance(value, Mapping):
        return value
    # An object that is named without its members comes with its default ones; `_class` always does.
    return {
        name: _pruned(member, tree[name]) if tree.get(name) else member
        for name, member in value.items()
        if name == "_class" or name in tree
    }


@contextlib.contextmanager
def fake_jenkins(prefix: str = "") -> Iterator[FakeJenkins]:
    """Serve one until the end of the block."""
    jenkins = FakeJenkins(prefix)
    with served(jenkins) as port:
        jenkins.url = f"http://127.0.0.1:{port}{prefix}"
        yield jenkins


# How Sealwright is told of it

LINK = RepositoryLink("l1", "o1", "p1", "b1", "team/app", "", "team/app", "", NOW)


def build_system(jenkins: FakeJenkins, **settings: str) -> TrustedBuildSystem:
    return TrustedBuildSystem(
        id="b1",
        organization_id="o1",
        slug="jenkins",
        name="Jenkins",
        kind=BuildSystemKind.JENKINS,
        base_url=jenkins.url,
        web_url=jenkins.url,
        enabled=True,
        created_at=NOW,
        settings={"user": USER, "jobs": "team/*", "oidc_audience": AUDIENCE, **settings},
        credentials={"token": API_TOKEN, "controller_secret": "controller"},
    )
