"""A GitHub for tests: a real HTTP server that refuses what GitHub refuses.

Every request and every answer is checked against GitHub's own description of its API
(`github_contract`). Answers start from GitHub's own examples, with the addresses in them left as
they are: a client that follows one leaves the machine, which the outgoing policy of the tests
forbids. `faults` collects what a test must not leave behind: requests outside the description and
answers that GitHub would not give.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import jwt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.fakes.github_contract import Operation, contract
from tests.fakes.github_state import LEVELS, Artifact, Job, Repository, Run, State, Token, User
from tests.fakes.oidc import FakeIssuer
from tests.fakes.server import served

REPOSITORY = "/repos/{owner}/{repo}"
NEEDS = {
    ("get", f"{REPOSITORY}/actions/artifacts/{{artifact_id}}"): ("actions", "read"),
    ("get", f"{REPOSITORY}/actions/artifacts/{{artifact_id}}/{{archive_format}}"): (
        "actions",
        "read",
    ),
    ("get", f"{REPOSITORY}/actions/runs/{{run_id}}"): ("actions", "read"),
    ("get", f"{REPOSITORY}/actions/runs/{{run_id}}/artifacts"): ("actions", "read"),
    ("get", f"{REPOSITORY}/actions/runs/{{run_id}}/jobs"): ("actions", "read"),
    ("post", f"{REPOSITORY}/actions/runs/{{run_id}}/deployment_protection_rule"): (
        "deployments",
        "write",
    ),
    ("post", f"{REPOSITORY}/check-runs"): ("checks", "write"),
    ("patch", f"{REPOSITORY}/check-runs/{{check_run_id}}"): ("checks", "write"),
    ("get", f"{REPOSITORY}/commits/{{ref}}/check-runs"): ("checks", "read"),
    ("get", f"{REPOSITORY}/compare/{{basehead}}"): ("contents", "read"),
    ("get", f"{REPOSITORY}/git/ref/{{ref}}"): ("contents", "read"),
    ("get", f"{REPOSITORY}/git/tags/{{tag_sha}}"): ("contents", "read"),
    ("get", f"{REPOSITORY}/rules/branches/{{branch}}"): ("metadata", "read"),
    ("get", f"{REPOSITORY}/rulesets"): ("metadata", "read"),
    ("get", f"{REPOSITORY}/rulesets/{{ruleset_id}}"): ("metadata", "read"),
    ("post", f"{REPOSITORY}/statuses/{{sha}}"): ("statuses", "write"),
}
ONLY_APPS = {
    ("post", f"{REPOSITORY}/check-runs"),
    ("patch", f"{REPOSITORY}/check-runs/{{check_run_id}}"),
    ("post", f"{REPOSITORY}/actions/runs/{{run_id}}/deployment_protection_rule"),
}


class Refusal(Exception):  # noqa: N818
    """GitHub's way to say no."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.answer = JSONResponse(
            {"message": message, "documentation_url": "https://docs.github.com/rest"},
            status,
            headers=headers,
        )


@dataclass
class Call:
    """One checked request."""

    operation: Operation
    query: Mapping[str, str]
    body: dict[str, Any]
    token: Token | None = None
    user: User | None = None
    repository: Repository = field(default_factory=lambda: Repository(0, "", 0, ""))

    def number(self, name: str) -> int:
        return int(self.operation.parameters[name])


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = tuple[int, Any, dict[str, str]]


class FakeGitHub:
    """`url` is the API's base, `web_url` that of the pages; `scripted` answers come first."""

    def __init__(self, state: State, issuer: FakeIssuer, prefix: str) -> None:
        self.state = state
        self.issuer = issuer
        self.prefix = prefix
        self.web_url = ""
        self.blob_url = ""
        self.scripted: list[Response] = []
        self.received: list[Received] = []
        self.blob_received: list[Received] = []
        self.blob_script: Callable[[], Response] | None = None
        self.faults: list[str] = []
        self._handlers: dict[tuple[str, str], Callable[[Call], Answer]] = {
            ("post", "/app/installations/{installation_id}/access_tokens"): self._access_token,
            ("get", "/user"): self._user,
            ("get", "/user/installations/{installation_id}/repositories"): self._user_repositories,
            **dict(zip(NEEDS, self._repository_handlers(), strict=True)),
        }

    @property
    def url(self) -> str:
        return self.web_url + self.prefix

    def reset(self) -> None:
        self.scripted.clear()
        self.received.clear()
        self.blob_received.clear()
        self.blob_script = None
        self.faults.clear()
        self.issuer.reset()

    def app(self) -> Starlette:
        methods = ["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD"]
        return Starlette(
            routes=[
                *self.issuer.routes("/_services/token"),
                Route("/login/oauth/access_token", self._oauth, methods=["POST"]),
                Route("/{path:path}", self._serve, methods=methods),
            ]
        )

    def blob_app(self) -> Starlette:
        return Starlette(routes=[Route("/blobs/{id:int}", self._blob)])

    async def _serve(self, request: Request) -> Response:
        body = await request.body()
        # As it came: an encoded slash, question mark or percent sign is not one of the path's own.
        path = request.scope["raw_path"].decode("ascii")
        self.received.append(Received(request.method, path, dict(request.headers), body))
        if self.scripted:
            return self.scripted.pop(0)
        try:
            return self._answered(request, path, body)
        except Refusal as refusal:
            return refusal.answer

    def _answered(self, request: Request, path: str, body: bytes) -> Response:
        self._check_headers(request)
        if not path.startswith(f"{self.prefix}/"):
            raise Refusal(404, "Not Found")
        path = self._by_name(path.removeprefix(self.prefix))
        operation = contract().find(request.method, path)
        if operation is None or operation.key not in self._handlers:
            self.faults.append(f"{request.method} {path} is not described")
            raise Refusal(404, "Not Found")
        query = {name: values[-1] for name, values in parse_qs(request.url.query).items()}
        parsed = self._parsed(body)
        call = Call(operation, query, parsed or {})
        self._authorize(call, request.headers.get("authorization", ""))
        errors = contract().request_errors(operation, query, parsed)
        if errors:
            raise Refusal(422, f"Invalid request.\n\n{'; '.join(errors)}")
        status, answer, headers = self._handlers[operation.key](call)
        for error in contract().answer_errors(operation, status, answer):
            self.faults.append(f"{operation.key} answers wrong: {error}")
        headers["x-ratelimit-remaining"] = "4999"
        if answer is None:
            return Response(status_code=status, headers=headers)
        return JSONResponse(answer, status, headers=headers)

    def _check_headers(self, request: Request) -> None:
        if not request.headers.get("user-agent"):
            raise Refusal(403, "Request forbidden by administrative rules.")
        if request.headers.get("x-github-api-version") != "2022-11-28":
            raise Refusal(400, "Invalid API version.")
        if request.headers.get("accept") != "application/vnd.github+json":
            raise Refusal(415, "Unsupported 'Accept' header.")

    def _by_name(self, path: str) -> str:
        """``/repositories/{id}/...`` is the same as ``/repos/{owner}/{repo}/...``."""
        first, _, rest = path.lstrip("/").partition("/")
        if first == "repositories":
            repository_id, _, below = rest.partition("/")
            repository = self.state.repositories.get(int(repository_id))
            if repository is None:
                raise Refusal(404, "Not Found")
            return f"/repos/{repository.full_name}/{below}".rstrip("/")
        if first == "repos":
            name = "/".join(rest.split("/")[:2])
            for repository in self.state.repositories.values():
                if name in repository.former_names:
                    target = f"{self.url}/repositories/{repository.id}{rest.removeprefix(name)}"
                    raise Refusal(301, "Moved Permanently", location=target)
        return path

    def _parsed(self, body: bytes) -> dict[str, Any] | None:
        if not body:
            return None
        try:
            parsed = json.loads(body)
        except ValueError:
            raise Refusal(400, "Problems parsing JSON") from None
        if not isinstance(parsed, dict):
            raise Refusal(400, "Body should be a JSON object")
        return parsed

    # Who calls, and whether they may.

    def _authorize(self, call: Call, authorization: str) -> None:
        scheme, _, value = authorization.partition(" ")
        if call.operation.path.startswith("/app/"):
            self._check_jwt(value if scheme == "Bearer" else "")
            return
        if call.operation.path.startswith("/user"):
            call.user = self.state.users.get(value)
            if call.user is None:
                raise Refusal(401, "Bad credentials")
            return
        token = self.state.tokens.get(value) if scheme in {"token", "Bearer"} else None
        if token is None or token.expires_at <= dt.datetime.now(dt.UTC):
            raise Refusal(401, "Bad credentials")
        names = call.operation.parameters
        repository = next(
            (
                item
                for item in self.state.repositories.values()
                if (item.owner, item.name) == (names["owner"], names["repo"])
            ),
            None,
        )
        if repository is None or repository.id not in token.repository_ids:
            raise Refusal(404, "Not Found")
        permission, level = NEEDS[call.operation.key]
        if LEVELS.get(token.permissions.get(permission, ""), 0) < LEVELS[level]:
            raise Refusal(403, "Resource not accessible by integration")
        if call.operation.key in ONLY_APPS and not token.app:
            raise Refusal(403, "You must authenticate via a GitHub App.")
        call.token, call.repository = token, repository

    def _check_jwt(self, value: str) -> None:
        app = self.state.app
        try:
            claims = jwt.decode(
                value,
                app.key.public_key(),
                algorithms=["RS256"],
                options={"require": ["iat", "exp", "iss"]},
            )
        except jwt.ExpiredSignatureError:
            message = "'Expiration time' claim ('exp') must be a numeric value in the future"
            raise Refusal(401, message) from None
        except jwt.ImmatureSignatureError:
            raise Refusal(401, "'Issued at' claim ('iat') must be in the past") from None
        except jwt.InvalidTokenError:
            raise Refusal(401, "A JSON web token could not be decoded") from None
        if claims["exp"] > time.time() + 600:
            raise Refusal(401, "'Expiration time' claim ('exp') is too far in the future")
        if claims["iss"] not in {app.client_id, str(app.id)}:
            raise Refusal(404, "Integration not found")

    # The App's and the user's own calls.

    def _access_token(self, call: Call) -> Answer:
        installation = self.state.installations.get(call.number("installation_id"))
        if installation is None:
            raise Refusal(404, "Not Found")
        if installation.suspended:
            raise Refusal(403, "This installation has been suspended")
        wanted = call.body.get("permissions") or installation.permissions
        for name, level in wanted.items():
            if LEVELS[level] > LEVELS.get(installation.permissions.get(name, ""), 0):
                raise Refusal(
                    422, "The permissions requested are not granted to this installation."
                )
        ids = set(call.body.get("repository_ids") or installation.repository_ids)
        if not ids <= installation.repository_ids:
            message = (
                "There is at least one repository that does not exist or is not accessible "
                "to the parent installation."
            )
            raise Refusal(422, message)
        token = self.state.issue(dict(wanted), ids)
        answer = contract().example("installation-token")
        answer["token"] = token.value
        answer["expires_at"] = token.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        answer["permissions"] = token.permissions
        template = answer["repositories"][0]
        answer["repositories"] = [
            self._repository(self.state.repositories[repository_id], template)
            for repository_id in sorted(ids)
        ]
        return 201, answer, {}

    def _user(self, call: Call) -> Answer:
        assert call.user is not None
        name = "private-user-response-with-public-and-private-profile-information"
        return 200, contract().example(name) | {"id": call.user.id, "login": call.user.login}, {}

    def _user_repositories(self, call: Call) -> Answer:
        assert call.user is not None
        installation = self.state.installations.get(call.number("installation_id"))
        if installation is None or installation.id not in call.user.installation_ids:
            raise Refusal(403, "You must have access to this installation.")
        answer = contract().example("repository-paginated")
        template = answer["repositories"][0]
        rows = []
        for repository_id in sorted(installation.repository_ids):
            row = self._repository(self.state.repositories[repository_id], template)
            is_admin = repository_id in call.user.administers
            row["permissions"] = {"admin": is_admin, "push": True, "pull": True}
            rows.append(row)
        return self._page(call, rows, "repositories")

    async def _oauth(self, request: Request) -> Response:
        form = await request.form()
        app = self.state.app
        user_token = self.state.codes.pop(str(form.get("code")), None)
        if (form.get("client_id"), form.get("client_secret")) != (app.client_id, app.client_secret):
            return JSONResponse({"error": "incorrect_client_credentials"})
        if user_token is None:
            return JSONResponse({"error": "bad_verification_code"})
        return JSONResponse({"access_token": user_token, "token_type": "bearer", "scope": ""})

    # The repository's calls, in the order of NEEDS.

    def _repository_handlers(self) -> Iterator[Callable[[Call], Answer]]:
        yield self._get_artifact
        yield self._download
        yield self._get_run
        yield self._run_artifacts
        yield self._jobs
        yield self._answer_deployment
        yield self._create_check
        yield self._update_check
        yield self._list_checks
        yield self._compare
        yield self._get_ref
        yield self._get_tag
        yield self._branch_rules
        yield self._list_rulesets
        yield self._get_ruleset
        yield self._create_status

    def _get_artifact(self, call: Call) -> Answer:
        return 200, self._artifact(self._own_artifact(call)), {}

    def _download(self, call: Call) -> Answer:
        artifact = self._own_artifact(call)
        if artifact.expired:
            raise Refusal(410, "Artifact has expired")
        return 302, None, {"location": f"{self.blob_url}/blobs/{artifact.id}?sig=signed"}

    def _get_run(self, call: Call) -> Answer:
        run = self._own_run(call)
        answer = contract().example("workflow-run")
        answer |= {
            "id": run.id,
            "head_branch": run.head_branch,
            "head_sha": run.head_sha,
            "path": run.path,
            "event": run.event,
            "status": run.status,
            "conclusion": run.conclusion,
            "run_attempt": run.attempt,
            "html_url": f"{self.web_url}/{call.repository.full_name}/actions/runs/{run.id}",
        }
        head = self.state.repositories.get(run.head_repository_id or 0)
        template = answer["repository"]
        answer["repository"] = self._repository(call.repository, template)
        answer["head_repository"] = self._repository(head, template) if head else None
        return 200, answer, {}

    def _run_artifacts(self, call: Call) -> Answer:
        run = self._own_run(call)
        rows = [self._artifact(i) for i in self.state.artifacts.values() if i.run_id == run.id]
        return self._page(call, rows, "artifacts")

    def _jobs(self, call: Call) -> Answer:
        run = self._own_run(call)
        jobs = [job for job in self.state.jobs if job.run_id == run.id]
        if call.query.get("filter", "latest") == "latest":
            jobs = [job for job in jobs if job.attempt == run.attempt]
        return self._page(call, [self._job(job, run) for job in jobs], "jobs")

    def _answer_deployment(self, call: Call) -> Answer:
        run = self._own_run(call)
        if call.body["environment_name"] not in run.waiting_environments:
            raise Refusal(422, "No pending deployment requests to approve or reject")
        run.waiting_environments.discard(call.body["environment_name"])
        self.state.deployments.append({"run_id": run.id, **call.body})
        return 204, None, {}

    def _create_check(self, call: Call) -> Answer:
        body = call.body
        if body["head_sha"] not in call.repository.parents:
            raise Refusal(422, f"No commit found for SHA: {body['head_sha']}")
        number = max(self.state.checks, default=70000) + 1
        check = {"id": number, "repository_id": call.repository.id, "status": "queued"}
        self.state.checks[number] = check
        return 201, self._changed_check(check, body), {}

    def _update_check(self, call: Call) -> Answer:
        check = self.state.checks.get(call.number("check_run_id"))
        if check is None or check["repository_id"] != call.repository.id:
            raise Refusal(404, "Not Found")
        return 200, self._changed_check(check, call.body), {}

    def _list_checks(self, call: Call) -> Answer:
        commit, name = call.operation.parameters["ref"], call.query.get("check_name")
        rows = [
            self._check(check)
            for check in self.state.checks.values()
            if check["repository_id"] == call.repository.id
            and check["head_sha"] == commit
            and name in {None, check["name"]}
        ]
        return self._page(call, rows, "check_runs")

    def _compare(self, call: Call) -> Answer:
        base, separator, head = call.operation.parameters["basehead"].partition("...")
        repository = call.repository
        if not separator or not {base, head} <= repository.parents.keys():
            raise Refusal(404, "Not Found")
        before, after = repository.ancestors(base), repository.ancestors(head)
        if not before & after:
            raise Refusal(404, f"No common ancestor between {base} and {head}.")
        ahead, behind = len(after - before), len(before - after)
        status = {(False, False): "identical", (True, False): "ahead", (False, True): "behind"}
        answer = contract().example("commit-comparison") | {
            "status": status.get((ahead > 0, behind > 0), "diverged"),
            "ahead_by": ahead,
            "behind_by": behind,
            "total_commits": ahead,
        }
        return 200, answer, {}

    def _get_ref(self, call: Call) -> Answer:
        ref = f"refs/{call.operation.parameters['ref']}"
        sha = call.repository.refs.get(ref)
        if sha is None:
            raise Refusal(404, "Not Found")
        kind = "tag" if sha in call.repository.tags else "commit"
        answer = contract().example("git-ref") | {"ref": ref}
        answer["object"] |= {"type": kind, "sha": sha}
        return 200, answer, {}

    def _get_tag(self, call: Call) -> Answer:
        sha = call.operation.parameters["tag_sha"]
        if sha not in call.repository.tags:
            raise Refusal(404, "Not Found")
        kind, target = call.repository.tags[sha]
        answer = contract().example("git-tag") | {"sha": sha}
        answer["object"] |= {"type": kind, "sha": target}
        return 200, answer, {}

    def _branch_rules(self, call: Call) -> Answer:
        branch = call.operation.parameters["branch"]
        return self._page(call, call.repository.branch_rules.get(branch, []), "")

    def _list_rulesets(self, call: Call) -> Answer:
        target = call.query.get("targets")
        keys = ("id", "name", "target", "source_type", "source", "enforcement", "node_id")
        rows = [
            {key: value for key, value in ruleset.items() if key in keys}
            for ruleset in call.repository.rulesets
            if target in {None, ruleset["target"]}
        ]
        return self._page(call, rows, "")

    def _get_ruleset(self, call: Call) -> Answer:
        assert call.token is not None
        number = call.number("ruleset_id")
        found = next((item for item in call.repository.rulesets if item["id"] == number), None)
        if found is None:
            raise Refusal(404, "Not Found")
        shown = dict(found)
        if call.token.permissions.get("administration") != "write":
            shown.pop("bypass_actors", None)
        return 200, shown, {}

    def _create_status(self, call: Call) -> Answer:
        sha = call.operation.parameters["sha"]
        if sha not in call.repository.parents:
            raise Refusal(422, f"No commit found for SHA: {sha}")
        if len(call.body.get("description") or "") > 140:
            raise Refusal(422, "description is too long (maximum is 140 characters)")
        number = 80001 + len(self.state.statuses)
        self.state.statuses.append({"id": number, "sha": sha, **call.body})
        return 201, contract().example("status") | {"id": number, **call.body}, {}

    # Shapes.

    def _repository(self, repository: Repository, template: dict[str, Any]) -> dict[str, Any]:
        return {
            **template,
            "id": repository.id,
            "name": repository.name,
            "full_name": repository.full_name,
            "html_url": f"{self.web_url}/{repository.full_name}",
            "owner": {
                **template["owner"],
                "login": repository.owner,
                "id": repository.owner_id,
            },
        }

    def _artifact(self, artifact: Artifact) -> dict[str, Any]:
        answer: dict[str, Any] = contract().example("artifact")
        digest = artifact.digest
        answer |= {
            "id": artifact.id,
            "name": artifact.name,
            "size_in_bytes": artifact.content.size,
            "expired": artifact.expired,
            "digest": f"sha256:{artifact.content.sha256()}" if digest == "" else digest,
        }
        run = self.state.runs.get(artifact.run_id or 0)
        described = run and {
            "id": run.id,
            "repository_id": run.repository_id,
            "head_repository_id": run.head_repository_id,
            "head_branch": run.head_branch,
            "head_sha": run.head_sha,
        }
        known = {name: value for name, value in (described or {}).items() if value is not None}
        answer["workflow_run"] = known or None
        return answer

    def _job(self, job: Job, run: Run) -> dict[str, Any]:
        answer: dict[str, Any] = contract().example("job-paginated")["jobs"][0]
        answer |= {
            "id": job.id,
            "run_id": job.run_id,
            "name": job.name,
            "status": job.status,
            "conclusion": job.conclusion,
            "labels": job.labels,
            "runner_id": 7 if job.runner_name else None,
            "runner_name": job.runner_name,
            "runner_group_id": job.runner_group_id,
            "runner_group_name": job.runner_group_name,
            "run_attempt": job.attempt,
            "head_sha": run.head_sha,
            "created_at": "2026-01-20T17:42:40Z",
        }
        return answer

    def _changed_check(self, check: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        if body.get("status") == "completed" and "conclusion" not in body:
            raise Refusal(422, "Validation Failed: conclusion is missing")
        if body.get("status") in {"queued", "in_progress"}:
            check |= {"conclusion": None, "completed_at": None}
        check |= body
        if body.get("conclusion"):
            check["status"] = "completed"
        return self._check(check)

    def _check(self, check: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = contract().example("check-run")
        shown = ("id", "name", "head_sha", "status", "conclusion", "external_id", "details_url")
        answer |= {name: check.get(name) for name in shown}
        answer["html_url"] = f"{self.web_url}/runs/{check['id']}"
        answer["output"] |= check.get("output", {})
        answer["app"]["id"] = self.state.app.id
        return answer

    def _page(self, call: Call, rows: list[Any], name: str) -> Answer:
        size, page = int(call.query.get("per_page", 30)), int(call.query.get("page", 1))
        if size > 100:
            raise Refusal(422, "per_page is at most 100")
        start = (page - 1) * size
        shown = rows[start : start + size]
        headers = {}
        if start + size < len(rows):
            headers["link"] = f'<https://api.github.com/elsewhere?page={page + 1}>; rel="next"'
        return 200, {"total_count": len(rows), name: shown} if name else shown, headers

    def _own_run(self, call: Call) -> Run:
        run = self.state.runs.get(call.number("run_id"))
        if run is None or run.repository_id != call.repository.id:
            raise Refusal(404, "Not Found")
        return run

    def _own_artifact(self, call: Call) -> Artifact:
        artifact = self.state.artifacts.get(call.number("artifact_id"))
        run = self.state.runs.get(artifact.run_id or 0) if artifact else None
        if artifact is None or (run is not None and run.repository_id != call.repository.id):
            raise Refusal(404, "Not Found")
        return artifact

    # The store of artifacts, another host.

    async def _blob(self, request: Request) -> Response:
        self.blob_received.append(
            Received(request.method, str(request.url.path), dict(request.headers), b"")
        )
        if "authorization" in request.headers:
            return Response("AuthenticationFailed", 403)
        if request.url.query != "sig=signed":
            return Response("AuthenticationFailed", 403)
        if self.blob_script is not None:
            return self.blob_script()
        content = self.state.artifacts[request.path_params["id"]].content

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in content:
                yield chunk

        headers = {"content-length": str(content.size), "content-type": "application/zip"}
        return StreamingResponse(chunks(), headers=headers)


@contextlib.contextmanager
def fake_github(state: State, prefix: str = "") -> Iterator[FakeGitHub]:
    """A running GitHub; with ``/api/v3`` as prefix an Enterprise Server."""
    fake = FakeGitHub(state, FakeIssuer(), prefix)
    with served(fake.app()) as port, served(fake.blob_app()) as blob_port:
        fake.web_url = f"http://127.0.0.1:{port}"
        fake.blob_url = f"http://127.0.0.1:{blob_port}"
        fake.issuer.url = f"{fake.web_url}/_services/token"
        yield fake
