"""GitLab's REST API (v4): authentication, paging, and errors in our words.

python-gitlab makes the requests and reads the answers; the outgoing client carries them, so that
every address is judged, every answer bounded and no redirect followed with a token. Projects are
addressed by their immutable id.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests
from gitlab import Gitlab
from gitlab._backends.requests_backend import RequestsBackend, RequestsResponse
from gitlab.exceptions import GitlabError
from requests.structures import CaseInsensitiveDict

from sealwright.connectors import fields
from sealwright.connectors.blocking import RETRY_AFTER, BlockingClient
from sealwright.connectors.connector import RemoteError
from sealwright.errors import OriginError

Parameters = Mapping[str, str | int | list[str]]

PER_PAGE = 100
_MAX_PAGES = 20
_MAX_ANSWER = 8 * 1024 * 1024
_MAX_RETRY_AFTER = 86_400.0
_RATE_LIMIT = 60.0  # GitLab's limits are per minute; for when it does not say how long
_ARTIFACT_REDIRECTS = 2  # to the object store, and from there to its cache
_SENT_HEADERS = frozenset({"private-token", "job-token", "content-type", "user-agent", "accept"})


class GitLabError(RemoteError):
    """GitLab answered with an error.

    Attributes:
        status: HTTP status.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        advice: str = "",
        where: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, advice=advice, where=where, retry_after=retry_after)
        self.status = status


class GitLabApi:
    """Calls on one GitLab with one token. For one thread and a short time."""

    def __init__(
        self,
        base_url: str,
        http: BlockingClient,
        *,
        private_token: str = "",
        job_token: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            base_url: of the instance, with the path it is installed under, without ``/api/v4``.
            private_token: a personal, project or group access token.
            job_token: instead of it, a running job's ``CI_JOB_TOKEN``.
            clock: POSIX seconds.
        """
        self.host = urlsplit(base_url).hostname or base_url
        self._http = http
        self._token = private_token
        self._client = Gitlab(
            base_url.rstrip("/"),
            private_token=private_token or None,
            job_token=job_token or None,
            user_agent="sealwright",
            backend=_Backend,
            http=http,
            clock=clock,
        )

    def get(self, path: str, **parameters: str | int | list[str]) -> Mapping[str, Any]:
        """The JSON object at `path` (``/projects/1``).

        Raises:
            GitLabError: an error's status. RemoteError: GitLab is away or answers otherwise.
        """
        return self._object("GET", path, parameters)

    def find(self, path: str, **parameters: str | int | list[str]) -> Mapping[str, Any] | None:
        """The JSON object at `path`, or None where there is none (404)."""
        try:
            return self.get(path, **parameters)
        except GitLabError as error:
            if error.status == 404:
                return None
            raise

    def exists(self, path: str, **parameters: str | int | list[str]) -> bool:
        """Whether something is at `path`, without reading it."""
        try:
            self._call("HEAD", path, parameters)
        except GitLabError as error:
            if error.status == 404:
                return False
            raise
        return True

    def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a JSON object; gives the answer's."""
        return self._object("POST", path, {}, body)

    def pages(self, path: str, **parameters: str | int | list[str]) -> list[Mapping[str, Any]]:
        """Every object of a list, over all its pages.

        Raises:
            RemoteError: besides, if there are more pages than anybody needs.
        """
        found: list[Mapping[str, Any]] = []
        for page in range(1, _MAX_PAGES + 1):
            sent = {**parameters, "per_page": PER_PAGE, "page": page}
            listed = self._json(self._call("GET", path, sent))
            if not isinstance(listed, list):
                raise self._not_the_api()
            found += [item for item in listed if isinstance(item, Mapping)]
            if len(listed) < PER_PAGE:
                return found
        message = f"GitLab lists more than {_MAX_PAGES * PER_PAGE} entries."
        raise RemoteError(message, where=self.host)

    def download(self, path: str, target: BinaryIO, limit: int) -> str:
        """Stream a file into `target`; gives the hex SHA-256 of what was written.

        An instance with an object store redirects there; the token does not go along.
        """
        return self._http.download(
            self._client.api_url + path,
            target,
            limit,
            headers={"PRIVATE-TOKEN": self._token},
            redirects=_ARTIFACT_REDIRECTS,
        )

    def _object(
        self, verb: str, path: str, parameters: Parameters, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        answer = self._json(self._call(verb, path, parameters, body))
        if not isinstance(answer, Mapping):
            raise self._not_the_api()
        return answer

    def _call(
        self, verb: str, path: str, parameters: Parameters, body: Mapping[str, Any] | None = None
    ) -> requests.Response:
        try:
            return self._client.http_request(
                verb,
                path,
                query_data=dict(parameters),
                post_data=None if body is None else dict(body),
            )
        except GitlabError as error:
            raise self._refusal(error) from error
        except (requests.RequestException, RecursionError, ValueError) as error:
            raise self._not_the_api() from error

    def _json(self, response: requests.Response) -> object:
        try:
            return response.json()
        except (ValueError, RecursionError) as error:
            raise self._not_the_api() from error

    def _refusal(self, error: GitlabError) -> GitLabError:
        status = error.response_code or 0
        if 300 <= status < 400:
            said, advice = "it redirects elsewhere", "Correct the build system's base_url."
        else:
            said = fields.printable(error.error_message) or "no reason given"
            advice = _ADVICE.get(status, "")
        return GitLabError(
            f"GitLab answered {status}: {said}.",
            status=status,
            advice=advice,
            where=self.host,
        )

    def _not_the_api(self) -> RemoteError:
        message = "GitLab's answer is not one of its API."
        advice = "Check the build system's base_url: the instance's address without /api/v4."
        return RemoteError(message, advice=advice, where=self.host)


_ADVICE = {
    401: "Check that the access token is right, neither expired nor revoked.",
    403: "Check the access token's scopes and its role in the project.",
    404: "Check that the access token's user is a member of the project.",
}


class _Backend(RequestsBackend):
    """python-gitlab's transport, over the outgoing client: judged address, bounds, no redirects."""

    def __init__(self, http: BlockingClient, clock: Callable[[], float]) -> None:
        super().__init__()
        self._http = http
        self._clock = clock

    def http_request(  # type: ignore[override]
        self, method: str, url: str, **options: Any
    ) -> RequestsResponse:
        prepared = requests.Request(
            method,
            url,
            headers=options["headers"],
            params=options["params"],
            json=options["json"],
            auth=options["auth"],
        ).prepare()
        body = prepared.body or b""
        answer = self._http.send(
            method,
            str(prepared.url),
            headers={
                name: str(value)
                for name, value in prepared.headers.items()
                if name.lower() in _SENT_HEADERS
            },
            content=body.encode() if isinstance(body, str) else bytes(body),  # type: ignore[arg-type]
            limit=_MAX_ANSWER,
        )
        host = urlsplit(url).hostname or ""
        if answer.status == 429:  # python-gitlab would wait here; the caller's queue does
            raise self._too_many(answer.headers, host)
        if answer.status >= 500:
            message = f"GitLab answered {answer.status}."
            raise GitLabError(
                message,
                status=answer.status,
                where=host,
                retry_after=RETRY_AFTER,
            )
        response = requests.Response()
        response.status_code = answer.status
        response.headers = CaseInsensitiveDict(answer.headers)
        response.raw = io.BytesIO(answer.body)
        response.encoding = "utf-8"
        return RequestsResponse(response)

    def _too_many(self, headers: Mapping[str, str], host: str) -> GitLabError:
        """How long to wait: docs.gitlab.com, "Rate limits", response headers."""
        seconds = _RATE_LIMIT
        if headers.get("retry-after", "").isdecimal():
            seconds = float(headers["retry-after"][:9])
        elif headers.get("ratelimit-reset", "").isdecimal():
            seconds = float(headers["ratelimit-reset"][:12]) - self._clock() + 1
        seconds = min(max(seconds, 1.0), _MAX_RETRY_AFTER)
        return GitLabError(
            "GitLab's rate limit is exhausted.",
            status=429,
            advice=f"It asks to wait {seconds:.0f} s.",
            where=host,
            retry_after=seconds,
        )


def checked_id(value: str) -> str:
    """A numeric id that may stand in a path.

    Raises:
        OriginError: it is not one.
    """
    if not value.isascii() or not value.isdecimal() or len(value) > 19:
        message = f"{value[:40]!r} is not an id of GitLab."
        raise OriginError(message, advice="Send the number that the job's CI_ variables have.")
    return value
