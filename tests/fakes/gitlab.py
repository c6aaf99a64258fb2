"""A GitLab on the loopback interface that holds its callers to GitLab's API.

Sources: docs.gitlab.com (REST API: authentication, projects, pipelines, jobs, job artifacts,
commits, branches, tags, protected branches and tags, merge request approvals, external status
checks, webhooks, ID tokens) and how GitLab's own classes behave where the pages are silent: the
states of a commit status, which token may do what, what is answered to those who may not.

It refuses what GitLab refuses. What GitLab would silently ignore (unknown parameters, a token sent
where it does not belong) it writes down in `violations`: a test that leaves any has failed.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from tests.fakes.oidc import FakeIssuer, registered_claims
from tests.fakes.reports import NOW
from tests.fakes.server import served

from sealwright.model.build_system import BuildSystemKind, RepositoryLink, TrustedBuildSystem

AUDIENCE = "https://sign.example.com"
GUEST, REPORTER, DEVELOPER, MAINTAINER = 10, 20, 30, 40
PAGING = frozenset({"page", "per_page"})
FINAL = frozenset({"success", "failed", "canceled", "skipped"})


def sha(name: str) -> str:
    """A commit id that is always the same for a name."""
    return hashlib.sha1(name.encode()).hexdigest()


@dataclass
class Token:
    """An access token, or with `job` a CI_JOB_TOKEN."""

    scopes: frozenset[str] = frozenset({"api"})
    role: int = MAINTAINER
    projects: frozenset[int] = frozenset({20})
    state: str = "active"  # or "revoked", "expired"
    job: int = 0


@dataclass
class Job:
    """A CI/CD job. `archive`: its artifacts' bytes, or a callable that streams them."""

    id: int
    name: str
    pipeline: int
    status: str = "success"
    runner: dict[str, Any] | None = None
    tags: tuple[str, ...] = ()
    archive: bytes | Callable[[], Iterator[bytes]] | None = None
    expire_at: str | None = None
    started_at: str | None = "2026-05-04T10:00:00.000Z"


@dataclass
class Project:
    """A project: branches and tags are name -> commit."""

    id: int
    path: str
    namespace: int
    settings: dict[str, Any] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    files: dict[str, set[str]] = field(default_factory=dict)
    merge_requests: dict[int, dict[str, Any]] = field(default_factory=dict)
    protected_branches: list[dict[str, Any]] = field(default_factory=list)
    protected_tags: list[dict[str, Any]] = field(default_factory=list)
    approvals: dict[str, Any] | None = None  # None: an edition without
    approval_rules: list[dict[str, Any]] = field(default_factory=list)
    status_checks: list[dict[str, Any]] | None = None  # None: an edition without


class Refusal(Exception):  # noqa: N818
    def __init__(self, status: int, body: Any) -> None:
        self.response = JSONResponse(body, status)


def _message(status: int, text: str) -> Refusal:
    return Refusal(status, {"message": text})


@dataclass
class Call:
    """One request, its path taken apart."""

    method: str
    ids: dict[str, str]
    query: dict[str, list[str]]
    body: dict[str, Any]
    project: Project
    token: Token

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]


Handler = Callable[["FakeGitLab", Call], Any]


@dataclass(frozen=True)
class Operation:
    """What an operation takes and needs."""

    method: str
    path: re.Pattern[str]
    query: frozenset[str]
    body: Mapping[str, type]
    required: frozenset[str]
    scopes: frozenset[str]
    role: int
    job_token: bool
    handler: Handler


OPERATIONS: list[Operation] = []


def operation(
    method: str,
    path: str,
    *,
    query: str = "",
    body: Mapping[str, type] | None = None,
    required: str = "",
    role: int = REPORTER,
    job_token: bool = False,
) -> Callable[[Handler], Handler]:
    """Declare an operation; `:name` stands for one segment of the path."""
    pattern = re.compile(re.sub(r":(\w+)", r"(?P<\1>[^/]+)", path))
    scopes = frozenset({"api"} if method == "POST" else {"api", "read_api"})

    def declared(handler: Handler) -> Handler:
        OPERATIONS.append(
            Operation(
                method, pattern, frozenset(query.split()), body or {}, frozenset(required.split()),
                scopes, role, job_token, handler,
            )
        )  # fmt: skip
        return handler

    return declared


class FakeGitLab:
    """See the module. `url` is the base URL; with `prefix` it is installed under a path."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.url = ""
        self.issuer = FakeIssuer()
        self._issuer_app = Starlette(routes=self.issuer.routes(prefix))
        self.reset()

    def reset(self) -> None:
        """A small world: project 20, one pipeline on main with a finished and a running job."""
        self.violations: list[str] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.answers: dict[str, Response] = {}
        self.rate_limit: dict[str, str] | None = None
        self.store_redirects = False
        self.tokens = {"glpat-server": Token(), "glcbt-64_running": Token(job=301)}
        self.issuer.reset()
        self.issuer.url = self.url
        self.parents = {sha("c2"): sha("c1"), sha("c3"): sha("c2"), sha("side"): sha("c1")}
        self.pipelines: dict[int, dict[str, Any]] = {}
        self.jobs: dict[int, Job] = {}
        self.statuses: list[dict[str, Any]] = []
        self.check_responses: list[dict[str, Any]] = []
        self._ids = itertools.count(5001)
        app = Project(
            20, "team/app", 72,
            branches={"main": sha("c2"), "dev": sha("side")},
            tags={"v1.0": sha("c2")},
            files={sha("c2"): {".gitlab-ci.yml"}, sha("c1"): {".gitlab-ci.yml"}},
        )  # fmt: skip
        self.projects = {20: app, 99: Project(99, "stranger/app", 500)}
        self.add_pipeline(574, ref="main", sha=sha("c2"))
        hosted = runner(12270835, "instance_type")
        self.add_job(300, "build", 574, runner=hosted, archive=b"PK artifacts", tags=("linux",))
        self.add_job(301, "sign", 574, status="running", runner=hosted)

    def add_pipeline(self, pipeline_id: int, **values: Any) -> dict[str, Any]:
        entity = {
            "project_id": 20, "ref": "main", "sha": sha("c2"), "status": "running",
            "source": "push", "tag": False, **values, "id": pipeline_id,
        }  # fmt: skip
        self.pipelines[pipeline_id] = entity
        return entity

    def add_job(self, job_id: int, name: str, pipeline: int, **values: Any) -> Job:
        self.jobs[job_id] = Job(job_id, name, pipeline, **values)
        return self.jobs[job_id]

    # The server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = scope["raw_path"].decode().partition("?")[0]
        if "/.well-known/" in path:
            await self._issuer_app(scope, receive, send)
            return
        try:
            response = await self._answer(request, path.removeprefix(self.prefix))
        except Refusal as refusal:
            response = refusal.response
        await response(scope, receive, send)

    async def _answer(self, request: Request, path: str) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.method, path, headers))
        if self.rate_limit is not None:
            return PlainTextResponse("Retry later\n", 429, headers=self.rate_limit)
        if path in self.answers:
            return self.answers[path]
        if path.startswith("/-/store/"):
            return self._from_store(path, headers)
        api = path.removeprefix("/api/v4")
        if api == path:
            return PlainTextResponse("<html>GitLab</html>", 404, media_type="text/html")
        query: dict[str, list[str]] = {}
        for name, value in parse_qsl(request.url.query, keep_blank_values=True):
            query.setdefault(name, []).append(value)
        body = await request.body()
        return self._operate(request.method, api, query, body, headers)

    def _operate(
        self, method: str, path: str, query: dict[str, list[str]], body: bytes, headers: Any
    ) -> Response:
        wanted = "GET" if method == "HEAD" else method
        for known in OPERATIONS:
            match = known.path.fullmatch(path)
            if match is None or known.method != wanted:
                continue
            ids = {name: unquote(value) for name, value in match.groupdict().items()}
            token = self._authenticate(known, headers)
            self._check_form(known, query, body)
            project = self._project(known, ids.get("id", ""), token)
            call = Call(wanted, ids, query, json.loads(body or b"{}"), project, token)
            found = known.handler(self, call)
            if isinstance(found, Response):
                return found
            if isinstance(found, list):
                return _page(call, found)
            return JSONResponse(found, 201 if method == "POST" else 200)
        self.violations.append(f"no such operation: {method} {path}")
        raise Refusal(404, {"error": "404 Not Found"})

    def _authenticate(self, known: Operation, headers: Mapping[str, str]) -> Token:
        value = headers.get("private-token") or headers.get("authorization", "")[7:]
        token = self.tokens.get(headers.get("job-token") or value)
        if token is None:
            raise _message(401, "401 Unauthorized")
        if token.state != "active":
            reason = f"Token was {token.state}. You have to re-authorize from the user."
            raise Refusal(401, {"error": "invalid_token", "error_description": reason})
        if token.job:
            if "private-token" in headers or not known.job_token:
                raise _message(401, "401 Unauthorized")
            if self.jobs[token.job].status != "running":
                raise _message(401, "401 Unauthorized")
        elif not token.scopes & known.scopes:
            raise Refusal(403, {
                "error": "insufficient_scope",
                "error_description": "The request requires higher privileges than provided by the "
                "access token.",
                "scope": " ".join(sorted(known.scopes)),
            })  # fmt: skip
        return token

    def _check_form(self, known: Operation, query: Mapping[str, Any], body: bytes) -> None:
        for name in query.keys() - known.query:
            self.violations.append(f"{known.path.pattern} takes no parameter {name}")
        sent = json.loads(body) if body else {}
        for name, value in sent.items():
            kind = known.body.get(name)
            if kind is None:
                self.violations.append(f"{known.path.pattern} takes no field {name}")
            elif not isinstance(value, kind) or isinstance(value, bool):
                raise Refusal(400, {"error": f"{name} is invalid"})
        missing = known.required - sent.keys()
        if missing:
            raise Refusal(400, {"error": ", ".join(f"{name} is missing" for name in missing)})

    def _project(self, known: Operation, given: str, token: Token) -> Project:
        if not given:
            return self.projects[20]
        named = (one for one in self.projects.values() if one.path == given)
        project = self.projects.get(int(given)) if given.isdecimal() else next(named, None)
        if project is None or project.id not in token.projects:
            raise _message(404, "404 Project Not Found")
        if token.role < known.role:
            raise _message(403, "403 Forbidden")
        return project

    def _from_store(self, path: str, headers: Mapping[str, str]) -> Response:
        if {"private-token", "job-token", "authorization"} & headers.keys():
            self.violations.append("a token was sent to the object store")
        return archive_of(self.jobs[int(path.rpartition("/")[2])])

    # What is told of things: the documented fields and no others

    def pipeline_basic(self, pipeline: Mapping[str, Any]) -> dict[str, Any]:
        project = self.projects[pipeline["project_id"]]
        return {
            "id": pipeline["id"], "iid": 7, "project_id": project.id, "sha": pipeline["sha"],
            "ref": pipeline["ref"], "status": pipeline["status"], "source": pipeline["source"],
            "created_at": "2026-05-04T09:59:00.000Z", "updated_at": "2026-05-04T10:01:00.000Z",
            "web_url": f"{self.url}/{project.path}/-/pipelines/{pipeline['id']}",
        }  # fmt: skip

    def pipeline(self, pipeline: Mapping[str, Any]) -> dict[str, Any]:
        return self.pipeline_basic(pipeline) | {
            "before_sha": "0" * 40, "tag": pipeline["tag"], "yaml_errors": None, "user": USER,
            "started_at": "2026-05-04T10:00:00.000Z", "finished_at": None, "committed_at": None,
            "duration": None, "queued_duration": 2, "coverage": None,
            "detailed_status": {"text": pipeline["status"]}, "name": None,
        }  # fmt: skip

    def job(self, job: Job) -> dict[str, Any]:
        pipeline = self.pipelines[job.pipeline]
        artifacts: list[dict[str, Any]] = [
            {"file_type": "trace", "size": 1500, "filename": "job.log", "file_format": None}
        ]
        entity = {
            "id": job.id, "status": job.status, "stage": "build", "name": job.name,
            "ref": pipeline["ref"], "tag": pipeline["tag"], "coverage": None,
            "allow_failure": False, "created_at": "2026-05-04T09:59:00.000Z",
            "started_at": job.started_at, "finished_at": None, "erased_at": None,
            "duration": None, "queued_duration": 0.5, "user": USER,
            "commit": {"id": pipeline["sha"], "title": "A commit"},
            "pipeline": self.pipeline_basic(pipeline),
            "web_url": f"{self.url}/team/app/-/jobs/{job.id}",
            "project": {"ci_job_token_scope_enabled": False},
            "artifacts": artifacts, "runner": job.runner, "runner_manager": None,
            "artifacts_expire_at": job.expire_at, "archived": False, "tag_list": list(job.tags),
        }  # fmt: skip
        if job.archive is not None:
            size = len(job.archive) if isinstance(job.archive, bytes) else 0
            archive = {"filename": "artifacts.zip", "size": size}
            artifacts.append({"file_type": "archive", "file_format": "zip", **archive})
            if job.expire_at is None or job.expire_at > "2026":
                entity["artifacts_file"] = archive
        return entity

    def status(self, status: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: status[name]
            for name in (
                "id", "sha", "ref", "status", "name", "target_url", "description", "created_at",
                "started_at", "finished_at", "allow_failure", "coverage", "pipeline_id", "author",
            )
        }  # fmt: skip

    def ancestors(self, commit: str) -> list[str]:
        line = [commit]
        while line[-1] in self.parents:
            line.append(self.parents[line[-1]])
        return line

    def knows(self, commit: str) -> bool:
        heads = [
            head
            for p in self.projects.values()
            for head in (*p.branches.values(), *p.tags.values())
        ]
        known = {c for head in heads for c in self.ancestors(head)}
        return commit in known | {p["sha"] for p in self.pipelines.values()}

    # Deliveries and tokens

    def claims(self, job_id: int, **changes: Any) -> dict[str, Any]:
        """What GitLab's ID token says of a job; `changes` are forgeries."""
        job = self.jobs[job_id]
        pipeline = self.pipelines[job.pipeline]
        kind, folder = ("tag", "tags") if pipeline["tag"] else ("branch", "heads")
        return {
            **registered_claims(self.issuer.url, AUDIENCE),
            "sub": f"project_path:team/app:ref_type:{kind}:ref:{pipeline['ref']}",
            "namespace_id": "72", "namespace_path": "team",
            "project_id": "20", "project_path": "team/app",
            "job_project_id": str(pipeline["project_id"]), "job_project_path": "team/app",
            "job_namespace_id": "72", "job_namespace_path": "team",
            "user_id": "1", "user_login": "ada", "user_email": "ada@example.com",
            "user_access_level": "maintainer", "user_identities": [],
            "pipeline_id": str(job.pipeline), "pipeline_source": pipeline["source"],
            "job_id": str(job.id), "ref": pipeline["ref"], "ref_type": kind,
            "ref_path": f"refs/{folder}/{pipeline['ref']}", "ref_protected": "true",
            "runner_id": 12270835, "runner_environment": "self-hosted", "sha": pipeline["sha"],
            "project_visibility": "private",
            "ci_config_ref_uri": (
                f"{urlsplit(self.url).netloc}/team/app//.gitlab-ci.yml"  # never the prefix
                f"@refs/{folder}/{pipeline['ref']}"
            ),
            "ci_config_sha": pipeline["sha"],
            **changes,
        }  # fmt: skip

    def id_token(self, job_id: int, **changes: Any) -> str:
        return self.issuer.token(self.claims(job_id, **changes))


USER = {
    "id": 1,
    "username": "ada",
    "name": "Ada",
    "state": "active",
    "web_url": "",
    "locked": False,
}


def runner(runner_id: int, kind: str) -> dict[str, Any]:
    return {
        "id": runner_id, "description": "a runner", "ip_address": None, "active": True,
        "paused": False, "is_shared": kind == "instance_type", "runner_type": kind, "name": None,
        "online": True, "status": "online", "created_at": "2026-01-01T00:00:00.000Z",
        "job_execution_status": "active",
    }  # fmt: skip


def archive_of(job: Job) -> Response:
    if job.archive is None:
        raise _message(404, "404 Not Found")
    disposition = {"Content-Disposition": 'attachment; filename="artifacts.zip"'}
    if isinstance(job.archive, bytes):
        return Response(job.archive, media_type="application/zip", headers=disposition)
    make = job.archive

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in make():
            yield chunk

    return StreamingResponse(chunks(), media_type="application/zip", headers=disposition)


def _page(call: Call, entries: list[Any]) -> Response:
    page, size = int(call.one("page", "1")), min(int(call.one("per_page", "20")), 100)
    part = entries[(page - 1) * size : page * size]
    more = str(page + 1) if len(entries) > page * size else ""
    headers = {"X-Page": str(page), "X-Per-Page": str(size), "X-Next-Page": more}
    return JSONResponse(part, headers=headers | {"X-Total": str(len(entries))})


# Operations


@operation("GET", "/job", job_token=True, role=0)
def get_job_of_token(gitlab: FakeGitLab, call: Call) -> Any:
    if not call.token.job:
        raise _message(404, "404 Job Not Found")
    return gitlab.job(gitlab.jobs[call.token.job])


@operation("GET", "/projects/:id", query="license statistics with_custom_attributes", role=GUEST)
def get_project(gitlab: FakeGitLab, call: Call) -> Any:
    project = call.project
    return {
        "id": project.id, "name": "app", "path": "app", "path_with_namespace": project.path,
        "default_branch": "main", "visibility": "private", "archived": False,
        "web_url": f"{gitlab.url}/{project.path}",
        "http_url_to_repo": f"{gitlab.url}/{project.path}.git",
        "namespace": {"id": project.namespace, "kind": "group", "full_path": "team"},
        "ci_config_path": "", "merge_method": "merge",
        "only_allow_merge_if_pipeline_succeeds": False,
        "only_allow_merge_if_all_discussions_are_resolved": False,
        **project.settings,
    }  # fmt: skip


@operation("GET", "/projects/:id/pipelines/:pipeline_id")
def get_pipeline(gitlab: FakeGitLab, call: Call) -> Any:
    return gitlab.pipeline(_pipeline(gitlab, call))


@operation(
    "GET", "/projects/:id/pipelines/:pipeline_id/jobs",
    query="include_retried scope page per_page", job_token=True,
)  # fmt: skip
def get_pipeline_jobs(gitlab: FakeGitLab, call: Call) -> Any:
    pipeline = _pipeline(gitlab, call)
    jobs = sorted(
        (job for job in gitlab.jobs.values() if job.pipeline == pipeline["id"]),
        key=lambda job: -job.id,
    )
    if call.one("include_retried", "false") != "true":
        newest = {job.name: job for job in reversed(jobs)}
        jobs = [job for job in jobs if newest[job.name] is job]
    return [gitlab.job(job) for job in jobs]


def _pipeline(gitlab: FakeGitLab, call: Call) -> dict[str, Any]:
    found = gitlab.pipelines.get(int(call.ids["pipeline_id"]))
    if found is None or found["project_id"] != call.project.id:
        raise _message(404, "404 Not Found")
    return found


@operation("GET", "/projects/:id/jobs/:job_id")
def get_job(gitlab: FakeGitLab, call: Call) -> Any:
    return gitlab.job(_job(gitlab, call))


@operation("GET", "/projects/:id/jobs/:job_id/artifacts", query="job_token", job_token=True)
def get_artifacts(gitlab: FakeGitLab, call: Call) -> Any:
    job = _job(gitlab, call)
    if gitlab.store_redirects and job.archive is not None:
        location = f"{gitlab.url}/-/store/{job.id}"
        return Response(status_code=302, headers={"Location": location})
    return archive_of(job)


def _job(gitlab: FakeGitLab, call: Call) -> Job:
    found = gitlab.jobs.get(int(call.ids["job_id"]))
    if found is None or gitlab.pipelines[found.pipeline]["project_id"] != call.project.id:
        raise _message(404, "404 Not Found")
    return found


@operation("GET", "/projects/:id/repository/branches/:name")
def get_branch(gitlab: FakeGitLab, call: Call) -> Any:
    name = call.ids["name"]
    if name not in call.project.branches:
        raise _message(404, "404 Branch Not Found")
    return {
        "name": name, "commit": {"id": call.project.branches[name]}, "merged": False,
        "protected": False, "developers_can_push": False, "developers_can_merge": False,
        "can_push": True, "default": name == "main", "web_url": "",
    }  # fmt: skip


@operation("GET", "/projects/:id/repository/tags/:name")
def get_tag(gitlab: FakeGitLab, call: Call) -> Any:
    name = call.ids["name"]
    if name not in call.project.tags:
        raise _message(404, "404 Tag Not Found")
    return {
        "name": name, "message": "", "target": sha(f"tag object {name}"),
        "commit": {"id": call.project.tags[name]}, "release": None, "protected": False,
        "created_at": None,
    }  # fmt: skip


@operation("GET", "/projects/:id/repository/merge_base", query="refs[]")
def get_merge_base(gitlab: FakeGitLab, call: Call) -> Any:
    refs = call.query.get("refs[]", [])
    if len(refs) < 2:
        raise _message(400, "Provide at least 2 refs")
    for ref in refs:
        if not gitlab.knows(ref):
            raise _message(400, f"Could not find ref: {ref}")
    one, other = (gitlab.ancestors(ref) for ref in refs[:2])
    common = [commit for commit in one if commit in other]
    if not common:
        raise _message(404, "404 Merge Base Not Found")
    return {"id": common[0], "short_id": common[0][:8], "title": "A commit"}


@operation("GET", "/projects/:id/repository/files/:file_path", query="ref")
def get_file(gitlab: FakeGitLab, call: Call) -> Any:
    if call.ids["file_path"] not in call.project.files.get(call.one("ref"), set()):
        raise _message(404, "404 File Not Found")
    return {"file_path": call.ids["file_path"], "ref": call.one("ref")}


@operation("GET", "/projects/:id/merge_requests/:merge_request_iid")
def get_merge_request(gitlab: FakeGitLab, call: Call) -> Any:
    return _merge_request(call)


def _merge_request(call: Call) -> dict[str, Any]:
    found = call.project.merge_requests.get(int(call.ids["merge_request_iid"]))
    if found is None:
        raise _message(404, "404 Not found")
    return found


@operation(
    "GET", "/projects/:id/repository/commits/:sha/merge_requests", query="state page per_page"
)
def get_merge_requests_of_commit(gitlab: FakeGitLab, call: Call) -> Any:
    return list(call.project.merge_requests.values())


@operation("GET", "/projects/:id/protected_branches", query="search page per_page", role=MAINTAINER)
def get_protected_branches(gitlab: FakeGitLab, call: Call) -> Any:
    return call.project.protected_branches


@operation("GET", "/projects/:id/protected_tags", query="page per_page", role=MAINTAINER)
def get_protected_tags(gitlab: FakeGitLab, call: Call) -> Any:
    return call.project.protected_tags


@operation("GET", "/projects/:id/approvals", role=DEVELOPER)
def get_approvals(gitlab: FakeGitLab, call: Call) -> Any:
    if call.project.approvals is None:
        raise Refusal(404, {"error": "404 Not Found"})
    return call.project.approvals


@operation("GET", "/projects/:id/approval_rules", query="page per_page", role=DEVELOPER)
def get_approval_rules(gitlab: FakeGitLab, call: Call) -> Any:
    if call.project.approvals is None:
        raise Refusal(404, {"error": "404 Not Found"})
    return call.project.approval_rules


@operation(
    "GET", "/projects/:id/repository/commits/:sha/statuses",
    query="ref stage name pipeline_id all order_by sort page per_page",
)  # fmt: skip
def get_statuses(gitlab: FakeGitLab, call: Call) -> Any:
    if not gitlab.knows(call.ids["sha"]):
        raise _message(404, "404 Commit Not Found")
    return [
        gitlab.status(status)
        for status in gitlab.statuses
        if status["sha"] == call.ids["sha"]
        and call.one("name", status["name"]) == status["name"]
        and (call.one("all") == "true" or not status["retried"])
    ]


@operation(
    "POST", "/projects/:id/statuses/:sha", required="state", role=DEVELOPER,
    body={
        "state": str, "ref": str, "name": str, "context": str, "target_url": str,
        "description": str, "coverage": float, "pipeline_id": int,
    },
)  # fmt: skip
def post_status(gitlab: FakeGitLab, call: Call) -> Any:
    body, commit = call.body, call.ids["sha"]
    if body["state"] not in {"pending", "running", *FINAL}:
        raise Refusal(400, {"error": "state does not have a valid value"})
    if not gitlab.knows(commit):
        raise _message(404, "404 Commit Not Found")
    matching = [
        pipeline
        for pipeline in gitlab.pipelines.values()
        if pipeline["sha"] == commit
        and pipeline["project_id"] == call.project.id
        and pipeline["id"] == body.get("pipeline_id", pipeline["id"])
        and pipeline["ref"] == body.get("ref", pipeline["ref"])
    ]
    if "pipeline_id" in body and not matching:
        raise _message(404, "404 Pipeline for pipeline_id, sha and ref Not Found")
    if matching:
        pipeline = matching[-1]
    else:
        pipeline = gitlab.add_pipeline(
            next(gitlab._ids), sha=commit, ref=body.get("ref", "main"), source="external"
        )
    return _set_status(gitlab, pipeline, body)


def _set_status(
    gitlab: FakeGitLab, pipeline: Mapping[str, Any], body: Mapping[str, Any]
) -> dict[str, Any]:
    name = body.get("name") or body.get("context") or "default"
    for text in (name, body.get("description", ""), body.get("target_url", "")):
        if len(text) > 255:
            raise _message(400, "is too long (maximum is 255 characters)")
    same = [s for s in gitlab.statuses if s["name"] == name and s["pipeline_id"] == pipeline["id"]]
    open_ones = [s for s in same if s["status"] in {"pending", "running"}]
    current = open_ones[-1]["status"] if open_ones else "created"
    event, sources = {
        "pending": ("enqueue", {"created"}),
        "running": ("run", {"created", "pending"}),
        "success": ("success", {"created", "pending", "running"}),
        "failed": ("drop", {"created", "pending", "running"}),
        "canceled": ("cancel", {"created", "pending", "running"}),
        "skipped": ("skip", {"created", "pending"}),
    }[body["state"]]
    if current not in sources:
        reason = f'(Reason(s): Status cannot transition via "{event}")'
        raise _message(400, f"Cannot transition status via :{event} from :{current} {reason}")
    if not open_ones:
        for older in same:
            older["retried"] = True
        open_ones = [{
            "id": next(gitlab._ids), "sha": pipeline["sha"], "ref": pipeline["ref"], "name": name,
            "target_url": None, "description": None, "created_at": "2026-05-04T10:02:00.000Z",
            "started_at": None, "finished_at": None, "allow_failure": False, "coverage": None,
            "pipeline_id": pipeline["id"], "author": USER, "retried": False,
        }]  # fmt: skip
        gitlab.statuses.append(open_ones[0])
    status = open_ones[-1]
    status["status"] = body["state"]
    for optional in ("target_url", "description"):
        if optional in body:
            status[optional] = body[optional]
    return gitlab.status(status)


@operation(
    "GET", "/projects/:id/merge_requests/:merge_request_iid/status_checks", query="page per_page"
)
def get_status_checks(gitlab: FakeGitLab, call: Call) -> Any:
    if call.project.status_checks is None:
        raise _message(401, "401 Unauthorized")
    _merge_request(call)
    return [check | {"status": "pending"} for check in call.project.status_checks]


@operation(
    "POST", "/projects/:id/merge_requests/:merge_request_iid/status_check_responses",
    required="external_status_check_id sha status", role=DEVELOPER,
    body={"external_status_check_id": int, "sha": str, "status": str},
)  # fmt: skip
def post_status_check_response(gitlab: FakeGitLab, call: Call) -> Any:
    if call.project.status_checks is None:
        raise _message(401, "401 Unauthorized")
    merge_request = _merge_request(call)
    if call.body["status"] not in {"passed", "failed", "pending"}:
        raise Refusal(400, {"error": "status does not have a valid value"})
    ids = {check["id"] for check in call.project.status_checks}
    if call.body["external_status_check_id"] not in ids:
        raise _message(404, "404 Not found")
    if call.body["sha"] != merge_request["sha"]:
        raise _message(409, f"SHA does not match HEAD of source branch: {merge_request['sha']}")
    gitlab.check_responses.append({"iid": merge_request["iid"], **call.body})
    return {"id": next(gitlab._ids), "merge_request": {}, "external_status_check": {}}


# Webhooks, as WebHookService sends them


def delivery(
    event: str,
    payload: Mapping[str, Any] | bytes,
    *,
    secret: str = "",
    signing_token: str = "",
    delivery_id: str = "7d1e29f8-0c2a-4a4e-9d0e-2d6f3a5b9c01",
    sent_at: float | None = None,
) -> tuple[dict[str, str], bytes]:
    """Headers and body of one delivery."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitLab/18.11.0-ee",
        "Idempotency-Key": delivery_id,
        "X-Gitlab-Event": event,
        "X-Gitlab-Webhook-UUID": "b1c7f0a2-4d3e-4f5a-8b6c-7d8e9f0a1b2c",
        "X-Gitlab-Event-UUID": "c2d8e1b3-5e4f-4a6b-9c7d-8e9f0a1b2c3d",
        "X-Gitlab-Instance": "https://gitlab.example.com",
    }
    if secret:
        headers["X-Gitlab-Token"] = secret
    if signing_token:
        stamp = str(int(time.time() if sent_at is None else sent_at))
        key = base64.b64decode(signing_token.removeprefix("whsec_"))
        signed = f"{delivery_id}.{stamp}.".encode() + body
        tag = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        headers |= {"webhook-id": delivery_id, "webhook-timestamp": stamp}
        headers["webhook-signature"] = f"v1,{tag}"
    return headers, body


def pipeline_payload() -> dict[str, Any]:
    """A Pipeline Hook, cut down from the example of GitLab's documentation."""
    return {
        "object_kind": "pipeline",
        "object_attributes": {
            "id": 574, "iid": 3, "ref": "main", "tag": False, "sha": sha("c2"), "source": "push",
            "status": "success", "url": "https://gitlab.example.com/team/app/-/pipelines/574",
        },
        "merge_request": None,
        "user": {"id": 1, "name": "Ada", "username": "ada"},
        "project": {"id": 20, "name": "app", "path_with_namespace": "team/app"},
        "commit": {"id": sha("c2")},
        "builds": [
            {"id": 301, "name": "sign", "stage": "deploy", "status": "skipped", "runner": None},
            {"id": 300, "name": "build", "stage": "build", "status": "success", "runner": None},
        ],
    }  # fmt: skip


@contextlib.contextmanager
def fake_gitlab(prefix: str = "") -> Iterator[FakeGitLab]:
    """Serve one until the end of the block."""
    gitlab = FakeGitLab(prefix)
    with served(gitlab) as port:
        gitlab.url = gitlab.issuer.url = f"http://127.0.0.1:{port}{prefix}"
        yield gitlab


# How Sealwright is told of it

LINK = RepositoryLink("l1", "o1", "p1", "b1", "20", "72", "team/app", "", NOW)


def build_system(gitlab: FakeGitLab, **credentials: str) -> TrustedBuildSystem:
    return TrustedBuildSystem(
        id="b1",
        organization_id="o1",
        slug="gitlab",
        name="GitLab",
        kind=BuildSystemKind.GITLAB,
        base_url=gitlab.url,
        web_url=gitlab.url,
        enabled=True,
        created_at=NOW,
        settings={"oidc_audience": AUDIENCE},
        credentials={"token": "glpat-server", **credentials},
    )
