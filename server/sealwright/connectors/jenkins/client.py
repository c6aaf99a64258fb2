"""Jenkins' remote access API: one user's API token, strict JSON and XML, errors in our words.

Source: jenkins.io, "Remote Access API", "Authenticating scripted clients". With an API token no
crumb is needed. What is read is named by ``tree``, so that answers stay small.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode, urlsplit

from sealwright.connectors import fields
from sealwright.connectors.blocking import RETRY_AFTER, BlockingClient
from sealwright.connectors.connector import RemoteError
from sealwright.connectors.outgoing import OutgoingResponse
from sealwright.errors import ConfigurationError, OriginError

_MAX_ANSWER = 4 * 1024 * 1024
_MAX_NAME = 1024
_ARTIFACT_REDIRECTS = 1  # to the object store of an artifact manager


class JenkinsError(RemoteError):
    """The controller answered with an error.

    Attributes:
        status: HTTP status.
    """

    def __init__(
        self, message: str, *, status: int, advice: str, where: str, retry_after: float | None
    ) -> None:
        super().__init__(message, advice=advice, where=where, retry_after=retry_after)
        self.status = status


class JenkinsApi:
    """Calls on one controller as one user."""

    def __init__(self, base_url: str, user: str, token: str, http: BlockingClient) -> None:
        """
        Raises:
            ConfigurationError: user or token are missing.
        """
        if not user or not token or ":" in user:
            message = "The Jenkins controller has no user name or no API token."
            raise ConfigurationError(message, advice="Set user, and the user's API token.")
        self._base_url = base_url.rstrip("/")
        self._host = urlsplit(base_url).hostname or base_url
        self._http = http
        credentials = base64.b64encode(f"{user}:{token}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}"}

    def find(self, path: str, tree: str) -> Mapping[str, Any] | None:
        """What `tree` names of the object at `path`, or None where there is none (404).

        Raises:
            JenkinsError: an error's status.
            RemoteError: the controller is away or does not answer as Jenkins does.
        """
        query = urlencode({"tree": tree})
        answer = self._call("GET", f"{path}/api/json?{query}")
        if answer.status == 404:
            return None
        try:
            return fields.parse(self._checked(answer).body)
        except fields.MalformedError as error:
            message = f"The controller's answer is {error}."
            advice = "Check the build system's base_url: the controller's root URL."
            raise RemoteError(message, advice=advice, where=self._host) from error

    def read(self, path: str) -> bytes:
        """The bytes at `path`.

        Raises:
            JenkinsError, RemoteError: as above.
        """
        return self._checked(self._call("GET", path)).body

    def submit(self, path: str, form: Mapping[str, str]) -> None:
        """Send a form. Jenkins answers with a redirect to the page that was changed.

        Raises:
            JenkinsError, RemoteError: as above.
        """
        answer = self._call("POST", path, urlencode(form).encode())
        if not 300 <= answer.status < 400:
            self._checked(answer)

    def download(self, path: str, target: BinaryIO, limit: int) -> str:
        """Stream a file into `target`; gives the hex SHA-256 of what was written."""
        return self._http.download(
            self._base_url + path,
            target,
            limit,
            headers=self._headers,
            redirects=_ARTIFACT_REDIRECTS,
        )

    def _call(self, verb: str, path: str, form: bytes = b"") -> OutgoingResponse:
        headers = dict(self._headers)
        if form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        url = self._base_url + path
        return self._http.send(verb, url, headers=headers, content=form, limit=_MAX_ANSWER)

    def _checked(self, answer: OutgoingResponse) -> OutgoingResponse:
        if 200 <= answer.status < 300:
            return answer
        is_away = answer.status == 429 or answer.status >= 500
        message = f"The controller answered {answer.status}."
        raise JenkinsError(
            message,
            status=answer.status,
            advice=_ADVICE.get(answer.status, ""),
            where=self._host,
            retry_after=RETRY_AFTER if is_away else None,
        )


_ADVICE = {
    301: "Correct the build system's base_url: the controller redirects elsewhere.",
    302: "Correct the build system's base_url: the controller redirects elsewhere.",
    401: "Check the user and its API token.",
    403: "Check the user's permissions, and that it is an API token: passwords need a crumb.",
    404: "Check the user's permissions: Jenkins hides what may not be read.",
}


def job_path(full_name: str) -> str:
    """URL path of a job: ``team/app`` -> ``/job/team/job/app``.

    Raises:
        OriginError: not a name that a job can have.
    """
    if not 0 < len(full_name) <= _MAX_NAME:
        raise _no_name(full_name)
    return "".join(f"/job/{quoted(segment)}" for segment in full_name.split("/"))


def quoted(segment: str) -> str:
    """One segment of a URL path.

    Raises:
        OriginError: it would be more or less than one.
    """
    if segment in {"", ".", ".."} or not segment.isprintable():
        raise _no_name(segment)
    return quote(segment, safe="")


def _no_name(name: str) -> OriginError:
    message = f"{fields.printable(name, 60)!r} is not a name on a Jenkins controller."
    return OriginError(message, advice="Send JOB_NAME, BUILD_NUMBER and the artifact's own path.")
