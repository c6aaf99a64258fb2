"""Linking a repository by a user's own proof.

After an installation GitHub sends the browser back with an ``installation_id``, which anybody can
write there. What counts is what GitHub tells the user's own token (the App's web application flow):
which repositories of that installation this user can administer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from github import Auth

from sealwright.connectors import fields
from sealwright.connectors.blocking import BlockingClient
from sealwright.connectors.connector import RemoteError
from sealwright.connectors.github.client import GitHubClient, GitHubError, call
from sealwright.errors import ConfigurationError, ForbiddenError, InvalidInputError
from sealwright.model.build_system import TrustedBuildSystem

_MAX_ANSWER = 64 * 1024
_PATH = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}")
_MAX_PAGES = 20
_PER_PAGE = 100


@dataclass(frozen=True)
class GitHubUser:
    """A user who proved to be one. `token` speaks for them until it expires: never keep it."""

    id: str
    login: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class LinkableRepository:
    """A repository that the user administers and the installation may access."""

    repository_id: str
    owner_id: str
    path: str
    installation_id: str


class GitHubLinking:
    """The App's web application flow."""

    def __init__(
        self, build_system: TrustedBuildSystem, client: GitHubClient, http: BlockingClient
    ) -> None:
        self._build_system = build_system
        self._client = client
        self._http = http

    def authorize_url(self, state: str, redirect_url: str) -> str:
        """Where to send the browser. `state` is bound to the session, and checked on return."""
        query = {"client_id": self._client_id, "state": state, "redirect_uri": redirect_url}
        return f"{self._web}/login/oauth/authorize?{urlencode(query)}"

    def user(self, code: str, redirect_url: str) -> GitHubUser:
        """Redeem the code that the browser came back with.

        Raises:
            ForbiddenError: GitHub does not accept the code.
            RemoteError: GitHub is away.
        """
        form = {
            "client_id": self._client_id,
            "client_secret": self._build_system.credentials.get("client_secret", ""),
            "code": code,
            "redirect_uri": redirect_url,
        }
        answer = self._http.send(
            "POST",
            f"{self._web}/login/oauth/access_token",
            headers={
                "Accept": "application/json",
                "Content-Type": "application/x-www-form-urlencoded",
            },
            content=urlencode(form).encode(),
            limit=_MAX_ANSWER,
        )
        token = fields.text(_json(answer.body), "access_token") if answer.status == 200 else ""
        if not token:
            message = "GitHub does not confirm who you are."
            raise ForbiddenError(message, advice="Start linking again.")
        _, user = call(self._client.requester(Auth.Token(token)), "GET", "/user", None, None)
        return GitHubUser(fields.text(user, "id"), fields.text(user, "login"), token)

    def repositories(
        self, user: GitHubUser, installation_id: str
    ) -> tuple[LinkableRepository, ...]:
        """What this user may link out of an installation.

        Raises:
            ForbiddenError: the installation is not one that this user can access.
            RemoteError: GitHub is away.
        """
        if not installation_id.isdecimal() or len(installation_id) > 19:
            raise _foreign()
        requester = self._client.requester(Auth.Token(user.token))
        path = f"/user/installations/{installation_id}/repositories"
        found: list[LinkableRepository] = []
        for page in range(1, _MAX_PAGES + 1):
            try:
                headers, answer = call(
                    requester, "GET", path, {"per_page": _PER_PAGE, "page": page}, None
                )
            except GitHubError as error:
                if error.status in {403, 404} and error.retry_after is None:
                    raise _foreign() from error
                raise
            found += (
                _linkable(item, installation_id)
                for item in fields.objects(answer, "repositories")
                if fields.at(item, "permissions", "admin") is True
            )
            if 'rel="next"' not in headers.get("link", ""):
                return tuple(found)
        message = f"The installation has more than {_MAX_PAGES * _PER_PAGE} repositories."
        raise RemoteError(message, advice="Install the App on the repositories that sign only.")

    def administered(self, user: GitHubUser, path: str) -> LinkableRepository | None:
        """The repository ``owner/name`` without an App, if this user administers it.

        Raises:
            InvalidInputError: there is an App: the installation decides what it may access.
            RemoteError: GitHub is away.
        """
        if self._client.is_app:
            message = "The installation of the App is not named."
            raise InvalidInputError(message, advice="Give the installation_id of the redirect.")
        if not _PATH.fullmatch(path):
            return None
        requester = self._client.requester(Auth.Token(user.token))
        try:
            _, found = call(requester, "GET", f"/repos/{path}", None, None)
        except GitHubError as error:
            if error.status in {401, 403, 404} and error.retry_after is None:
                return None
            raise
        return _linkable(found, "") if fields.at(found, "permissions", "admin") is True else None

    @property
    def _client_id(self) -> str:
        client_id = self._build_system.settings.get("client_id", "")
        if not client_id:
            message = "The App's client id is not configured."
            raise ConfigurationError(message, advice="Set client_id and client_secret.")
        return client_id

    @property
    def _web(self) -> str:
        return self._build_system.web_url.rstrip("/")


def _linkable(data: Mapping[str, object], installation_id: str) -> LinkableRepository:
    return LinkableRepository(
        repository_id=fields.text(data, "id"),
        owner_id=fields.text(data, "owner", "id"),
        path=fields.text(data, "full_name"),
        installation_id=installation_id,
    )


def _foreign() -> ForbiddenError:
    message = "You cannot access this installation of the App."
    return ForbiddenError(message, advice="Install the App on your own repository first.")


def _json(body: bytes) -> object:
    try:
        answer: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer
