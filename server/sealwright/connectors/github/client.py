"""GitHub's REST API: authentication as the App, least permissions, and errors in our words.

PyGithub makes and authenticates the requests; the outgoing client carries them. Repositories are
addressed by their immutable id (``/repositories/{id}/...``, as in GitHub's own page links and its
redirects of renamed repositories), and no address out of an answer is ever called with a token.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from github import Auth, GithubException
from github.Requester import Requester

from sealwright.connectors import fields
from sealwright.connectors.blocking import RETRY_AFTER, BlockingClient
from sealwright.connectors.connector import RemoteError
from sealwright.errors import ConfigurationError
from sealwright.model.build_system import RepositoryLink, TrustedBuildSystem

SignJwt = Callable[[dict[str, Any]], str | bytes]
"""Claims of an App's JWT -> the signed JWT (RS256). A key on a token signs where no PEM exists."""

API_VERSION = "2022-11-28"
PER_PAGE = 100
_MAX_ANSWER = 8 * 1024 * 1024
_MAX_PAGES = 20
_TOKEN_MARGIN = dt.timedelta(minutes=5)
_MAX_TOKENS = 256
_SECONDARY_LIMIT = 60.0  # what GitHub asks to wait where it says nothing
_MAX_RETRY_AFTER = 86_400.0

# The permissions of installation tokens, one set for each purpose.
READ_RUN = {"actions": "read", "contents": "read", "metadata": "read"}
READ_RULESETS = {"metadata": "read"}
READ_BYPASS_ACTORS = {"administration": "write", "metadata": "read"}
WRITE_CHECKS = {"checks": "write", "metadata": "read"}
ANSWER_DEPLOYMENTS = {"deployments": "write", "metadata": "read"}


class GitHubError(RemoteError):
    """GitHub answered with an error.

    Attributes:
        status: HTTP status.
    """

    def __init__(
        self, message: str, *, status: int, advice: str, where: str, retry_after: float | None
    ) -> None:
        super().__init__(message, advice=advice, where=where, retry_after=retry_after)
        self.status = status


class RepositoryApi:
    """Calls on one repository, with a token for it alone. For one thread and a short time.

    Args:
        renew: gives a requester with a new token, where tokens can be had.
    """

    def __init__(
        self,
        requester: Requester,
        repository_id: str,
        renew: Callable[[], Requester] | None = None,
    ) -> None:
        self._requester = requester
        self._prefix = f"/repositories/{repository_id}"
        self._renew = renew

    def get(self, path: str, **parameters: str | int) -> Mapping[str, Any]:
        """The JSON object at `path` (below the repository).

        Raises:
            GitHubError, RemoteError
        """
        return self._call("GET", path, parameters=parameters)[1]

    def send(self, verb: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a JSON object; gives the answer's, empty where there is none."""
        return self._call(verb, path, body=body)[1]

    def pages(
        self, path: str, items: str = "", **parameters: str | int
    ) -> Iterator[Mapping[str, Any]]:
        """Every object of a list, page by page; `items` is the list's name within the answer.

        Raises:
            RemoteError: besides, if there are more pages than anybody needs.
        """
        for page in range(1, _MAX_PAGES + 1):
            sent = {**parameters, "per_page": PER_PAGE, "page": page}
            headers, answer = self._call("GET", path, parameters=sent)
            yield from fields.objects(answer, items or "items")
            if 'rel="next"' not in headers.get("link", ""):
                return
        message = f"GitHub lists more than {_MAX_PAGES * PER_PAGE} entries."
        raise RemoteError(message, where=self._where)

    def location(self, path: str) -> str:
        """Where `path` redirects to."""
        headers, _ = self._call("GET", path)
        location = headers.get("location", "")
        if not location:
            message = "GitHub does not say where the artifact is."
            raise RemoteError(message, where=self._where)
        return location

    @property
    def _where(self) -> str:
        return self._requester.hostname

    def _call(
        self,
        verb: str,
        path: str,
        *,
        parameters: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        path = self._prefix + path
        try:
            return call(self._requester, verb, path, parameters, body)
        except GitHubError as error:
            if error.status != 401 or self._renew is None:
                raise
        # a token ends early when the App is suspended or installed anew: once more with another
        self._requester, self._renew = self._renew(), None
        return call(self._requester, verb, path, parameters, body)


class GitHubClient:
    """The API of one GitHub as one App, or with one access token. Threads may share it."""

    def __init__(
        self, build_system: TrustedBuildSystem, http: BlockingClient, sign_jwt: SignJwt | None
    ) -> None:
        self._build_system = build_system
        self._requesters = _requesters(http)
        self._sign_jwt = sign_jwt
        self._tokens: dict[tuple[str, str, str], _Token] = {}
        self._lock = threading.Lock()
        # Its debug messages quote whole answers, tokens included.
        logging.getLogger("github.Requester").setLevel(logging.INFO)

    @property
    def is_app(self) -> bool:
        """Whether there is an App to speak as; otherwise there is an access token."""
        return self._sign_jwt is not None or "private_key" in self._build_system.credentials

    def repository(self, link: RepositoryLink, permissions: Mapping[str, str]) -> RepositoryApi:
        """Calls on the linked repository with these permissions and no others.

        Raises:
            GitHubError: the App is not installed there, or was not granted the permissions.
            ConfigurationError: link or build system are incomplete.
        """
        if not link.repository_id.isdecimal():
            message = "The link has no numeric repository id."
            raise ConfigurationError(message, advice="Link the repository again.")
        if not self.is_app:
            return RepositoryApi(self.requester(self._access_token()), link.repository_id)
        key = (link.installation_id, link.repository_id, " ".join(sorted(permissions)))
        token = self._installation_token(key, permissions).value

        def renew() -> Requester:
            self._forget(key, token)
            return self.requester(Auth.Token(self._installation_token(key, permissions).value))

        return RepositoryApi(self.requester(Auth.Token(token)), link.repository_id, renew)

    def installed_at(self, link: RepositoryLink) -> str:
        """``owner/name`` of the linked repository, of which the App gets a token now.

        Raises:
            GitHubError: it gets none. ConfigurationError: link or build system are incomplete.
        """
        with self._lock:  # what was given before may be accepted nowhere by now
            for held in [held for held in self._tokens if held[0] == link.installation_id]:
                del self._tokens[held]
        key = (link.installation_id, link.repository_id, "metadata")
        return self._installation_token(key, READ_RULESETS).path

    def _forget(self, key: tuple[str, str, str], token: str) -> None:
        with self._lock:
            held = self._tokens.get(key)
            if held is not None and held.value == token:  # else another thread has renewed it
                del self._tokens[key]

    def requester(self, auth: Auth.Auth) -> Requester:
        """PyGithub's requester. For one thread: it keeps the call that it makes in itself."""
        return self._requesters(
            auth=auth,
            base_url=self._build_system.base_url.rstrip("/"),
            timeout=1,  # not used: the outgoing client has its own
            user_agent="sealwright",
            per_page=PER_PAGE,
            verify=True,
            retry=None,
            pool_size=None,
            api_version=API_VERSION,
        )

    def _access_token(self) -> Auth.Token:
        token = self._build_system.credentials.get("token", "")
        if not token:
            message = f"The build system {self._build_system.slug} has no GitHub credentials."
            raise ConfigurationError(message, advice="Give it the App's private key.")
        return Auth.Token(token)

    def _app(self) -> Auth.AppAuth:
        settings = self._build_system.settings
        issuer = settings.get("client_id") or settings.get("app_id")
        if not issuer:
            message = f"The build system {self._build_system.slug} names no GitHub App."
            raise ConfigurationError(message, advice="Set client_id, or app_id.")
        if self._sign_jwt is not None:
            return Auth.AppAuth(issuer, sign_func=self._sign_jwt)
        return Auth.AppAuth(issuer, self._build_system.credentials["private_key"])

    def _installation_token(
        self, key: tuple[str, str, str], permissions: Mapping[str, str]
    ) -> _Token:
        installation_id, repository_id, _ = key
        if not installation_id.isdecimal():
            message = "The link has no numeric installation id."
            raise ConfigurationError(message, advice="Link the repository again.")
        with self._lock:
            held = self._tokens.get(key)
        if held is not None and held.is_fresh():
            return held
        _, answer = call(
            self.requester(self._app()),
            "POST",
            f"/app/installations/{installation_id}/access_tokens",
            None,
            {"repository_ids": [int(repository_id)], "permissions": dict(permissions)},
        )
        token = _token(answer, repository_id)
        with self._lock:
            if len(self._tokens) >= _MAX_TOKENS:
                self._tokens.clear()
            self._tokens[key] = token
        return token


@dataclass(frozen=True)
class _Token:
    value: str = field(repr=False)
    expires_at: dt.datetime
    path: str = ""

    def is_fresh(self) -> bool:
        return dt.datetime.now(dt.UTC) + _TOKEN_MARGIN < self.expires_at


def _token(answer: Mapping[str, Any], repository_id: str) -> _Token:
    named = fields.objects(answer, "repositories")
    repositories = [fields.text(item, "id") for item in named]
    if repositories not in ([], [repository_id]):
        message = "GitHub gave an installation token for other repositories than the linked one."
        raise RemoteError(message, advice="Link the repository again.")
    value = answer.get("token")
    try:
        expires_at = dt.datetime.fromisoformat(fields.text(answer, "expires_at"))
    except ValueError:
        expires_at = None
    if not isinstance(value, str) or expires_at is None or expires_at.tzinfo is None:
        message = "GitHub's answer is not an installation token."
        raise RemoteError(message, advice="Check the build system's base_url.")
    return _Token(value, expires_at, fields.text(named[0], "full_name") if named else "")


def call(
    requester: Requester,
    verb: str,
    path: str,
    parameters: Mapping[str, str | int] | None,
    body: Mapping[str, Any] | None,
) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    """One call: the answer's headers by lower-case name, and its object.

    A list comes as the object's ``items``; an empty or unreadable answer as an empty object.

    Raises:
        GitHubError: an error's status.
        RemoteError: GitHub is away or does not answer as an API does.
    """
    with _in_our_words(requester.hostname):
        headers, answer = requester.requestJsonAndCheck(
            verb,
            path,
            parameters=dict(parameters or {}),
            headers={"Accept": "application/vnd.github+json"},
            input=body,
        )
    if isinstance(answer, list):
        return headers, {"items": answer}
    return headers, answer if isinstance(answer, dict) else {}


@contextlib.contextmanager
def _in_our_words(host: str) -> Iterator[None]:
    try:
        yield
    except GithubException as error:
        raise _error(error, host) from error
    except (AssertionError, RuntimeError, ValueError) as error:  # how PyGithub takes bad answers
        message = "GitHub's answer is not one of its API."
        advice = "Check the build system's base_url; an Enterprise Server's ends in /api/v3."
        raise RemoteError(message, advice=advice, where=host) from error


def _error(error: GithubException, host: str) -> GitHubError:
    said = fields.text(error.data, "message")
    retry_after = _retry_after(error, said)
    if retry_after is not None and error.status < 500:
        message = "GitHub's rate limit is exhausted."
        advice = f"It asks to wait {retry_after:.0f} s."
    else:
        message = f"GitHub answered {error.status}: {_printable(said) or 'no reason given'}."
        advice = _ADVICE.get(error.status, "")
    return GitHubError(
        message, status=error.status, advice=advice, where=host, retry_after=retry_after
    )


_ADVICE = {
    401: "Check the App's id and private key, or the access token, and this machine's clock.",
    403: "Check that the App is not suspended and that its permissions were accepted.",
    404: "Check that the App is installed and may access the repository.",
    422: "Check that the App's permissions were accepted, and that the commit exists.",
}


def _retry_after(error: GithubException, said: str) -> float | None:
    if error.status >= 500:
        return RETRY_AFTER
    if error.status not in {403, 429}:
        return None
    headers = {name.lower(): str(value) for name, value in (error.headers or {}).items()}
    seconds: float | None = None
    if headers.get("retry-after", "").isdecimal():
        seconds = float(headers["retry-after"][:9])
    elif headers.get("x-ratelimit-remaining") == "0" and (
        headers.get("x-ratelimit-reset", "").isdecimal()
    ):
        seconds = float(headers["x-ratelimit-reset"][:12]) - time.time() + 1
    elif error.status == 429 or Requester.isRateLimitError(said):
        seconds = _SECONDARY_LIMIT
    return None if seconds is None else min(max(seconds, 1.0), _MAX_RETRY_AFTER)


def _printable(said: str) -> str:
    return "".join(char for char in said[:200] if char.isprintable()).rstrip(".")


@dataclass(frozen=True)
class _Answer:
    """The part of an HTTP library's answer that PyGithub reads."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def getheaders(self) -> Any:
        return self.headers.items()

    def read(self) -> str:
        return self.body.decode("utf-8")


class _Connection:
    """PyGithub's connection, over the outgoing client: judged address, bounds, no redirects."""

    def __init__(
        self, http: BlockingClient, scheme: str, host: str, port: int | None = None, **_: Any
    ) -> None:
        self.host = host
        netloc = f"[{host}]" if ":" in host else host
        self._origin = f"{scheme}://{netloc}:{port}" if port else f"{scheme}://{netloc}"
        self._http = http
        self._call: tuple[str, str, bytes, dict[str, str]] = ("GET", "", b"", {})

    def request(
        self,
        verb: str,
        url: str,
        input: str | None,  # noqa: A002 - PyGithub's name
        headers: dict[str, str],
        stream: bool = False,  # noqa: ARG002, FBT001 - PyGithub's signature
    ) -> None:
        self._call = (verb, url, (input or "").encode(), headers)

    def getresponse(self) -> _Answer:
        verb, url, content, headers = self._call
        answer = self._http.send(
            verb, self._origin + url, headers=headers, content=content, limit=_MAX_ANSWER
        )
        if answer.status in {301, 307, 308}:  # PyGithub would follow, without end
            message = "GitHub redirects to another address."
            raise RemoteError(message, advice="Correct the build system's base_url.")
        if answer.status == 202:  # PyGithub would ask again, without end
            message = "GitHub is still working on the answer."
            raise RemoteError(message, retry_after=RETRY_AFTER)
        return _Answer(answer.status, answer.headers, answer.body)

    def close(self) -> None:
        """Nothing is kept open."""


def _requesters(http: BlockingClient) -> type[Requester]:
    """PyGithub's requester with our connections, apart from those of other build systems."""

    class JudgedRequester(Requester):
        pass

    JudgedRequester.injectConnectionClasses(
        cast("Any", partial(_Connection, http, "http")),
        cast("Any", partial(_Connection, http, "https")),
    )
    return JudgedRequester


def host_of(url: str) -> str:
    """The host name of a URL, lower case; empty if it has none."""
    return (urlsplit(url).hostname or "").lower()
