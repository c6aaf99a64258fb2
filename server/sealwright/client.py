"""A client of the server's own API (``/api/v1``): what the command line submits and fetches with.

What breaks off is tried again, within a time that the caller gives: submissions under one
idempotency key, so that they make one request however often they arrive; downloads from where they
stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from sealwright.errors import (
    ConfigurationError,
    InternalError,
    SealwrightError,
    TooManyRequestsError,
    UnauthenticatedError,
    UnavailableError,
    VerificationError,
)

Json = dict[str, Any]
Progress = Callable[[int], None]  #: called with the number of bytes moved so far
T = TypeVar("T")

_CHUNK = 1 << 20
_POLL_SECONDS = 30  #: of one long poll
_FOLLOW_SECONDS = 2  #: while somebody watches
_RETRY_STATUS = frozenset({429, 502, 503, 504})
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
_MAX_ANSWER = 16 << 20  #: bytes of a JSON answer


@dataclass(frozen=True)
class Submission:
    """What is asked for. Project, policy and configuration by slug or id."""

    project: str | None
    signing_policy: str
    artifact_configuration: str | None = None
    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)

    def query(self) -> dict[str, str]:
        """As parameters of the query string."""
        plain = {
            "project": self.project,
            "signing_policy": self.signing_policy,
            "artifact_configuration": self.artifact_configuration,
            "description": self.description,
        }
        return (
            {name: value for name, value in plain.items() if value}
            | {f"parameters[{name}]": value for name, value in self.parameters.items()}
            | {f"origin[{name}]": value for name, value in self.origin.items()}
        )


class Client:
    """Calls one server with one token. Use as a context manager.

    Args:
        url: of the server, without ``/api/v1``.
        patience: seconds during which one call is repeated while the server is away.
        transport: for tests.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            message = f"{url!r} is not the address of a server."
            raise ConfigurationError(message, advice="Use https://HOST, also in SEALWRIGHT_URL.")
        self._patience = patience
        self._http = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/v1/",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            # no time limit on reading: a long poll and a download may both be silent for long
            timeout=httpx.Timeout(30.0, read=_POLL_SECONDS + 60.0),
            transport=transport,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: str) -> Json:
        """The JSON at a path below ``/api/v1/``."""
        return self._patiently(lambda: _json(self._http.get(path, params=query)))

    def post(self, path: str, body: Json | None = None) -> Json:
        """The answer to a JSON body; under one idempotency key, however often it is sent."""
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        return self._patiently(
            lambda: _json(self._http.post(path, json=body or {}, headers=headers))
        )

    def submit(self, file: Path, submission: Submission, progress: Progress) -> Json:
        """Upload a file as a signing request; the request as the server has it.

        Raises:
            UnavailableError: the server stayed away.
            VerificationError: what arrived was not what was sent.
            SealwrightError: the server refused; of the class that has the answer's code.
        """
        size = file.stat().st_size
        with file.open("rb") as source:
            sha256 = hashlib.file_digest(source, "sha256").hexdigest()
        query = submission.query() | {"file_name": file.name, "sha256": sha256}
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "Idempotency-Key": secrets.token_hex(16),
        }

        def upload() -> Json:
            content = _read(file, progress)
            return _json(
                self._http.post("signing-requests", params=query, headers=headers, content=content)
            )

        return self._patiently(upload)

    def try_sample(self, project: str, xml: str, sample: Path, seconds: float) -> Json:
        """Have an artifact configuration applied to a sample; the trial once it has ended, or as it
        is after so many seconds.

        Raises:
            UnavailableError: the server stayed away.
            SealwrightError: the server refused; of the class that has the answer's code.
        """

        def upload() -> Json:
            with sample.open("rb") as source:
                files = {"sample": (sample.name, source)}
                return _json(
                    self._http.post(f"projects/{project}/trials", data={"xml": xml}, files=files)
                )

        trial = self._patiently(upload)
        deadline = time.monotonic() + seconds
        while trial["state"] in {"waiting", "working"} and time.monotonic() < deadline:
            trial = self.get(f"projects/{project}/trials/{trial['id']}", wait=str(_POLL_SECONDS))
        return trial

    def wait(
        self,
        request_id: str,
        seconds: float,
        changed: Callable[[Json], None],
        *,
        follow: bool = False,
    ) -> Json:
        """Wait until the request's state is final, or until `seconds` have passed.

        Args:
            changed: called with the request whenever its state is another one.
            follow: call `changed` for progress within a state too, which asks the server oftener.
        """
        deadline = time.monotonic() + seconds
        poll = _FOLLOW_SECONDS if follow else _POLL_SECONDS
        seen: tuple[object, object] | None = None
        query = {"wait": "0"}
        while True:
            request = self.get(f"signing-requests/{request_id}", **query)
            found = (request["state"], request.get("progress") if follow else None)
            if found != seen:
                seen = found
                changed(request)
            if request["is_final"] or time.monotonic() >= deadline:
                return request
            left = max(0, min(poll, int(deadline - time.monotonic())))
            if not left:
                time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
            query = {"wait": str(left)}
            if request.get("version"):  # servers without one wake up at the end alone
                query["known"] = request["version"]

    def wait_for_decision(self, request_id: str, user_id: str, seconds: float) -> Json:
        """Wait until the user has decided on the request, or nobody has to any more, or until
        `seconds` have passed."""
        deadline = time.monotonic() + seconds
        query = {"wait": "0"}
        while True:
            request = self.get(f"signing-requests/{request_id}", **query)
            decided = any(one["user"]["id"] == user_id for one in request["approvals"])
            left = int(deadline - time.monotonic())
            if decided or request["state"] != "WaitingForApproval" or left <= 0:
                return request
            query = {"wait": str(min(_POLL_SECONDS, left))}
            if request.get("version"):
                query["known"] = request["version"]

    def download(self, request: Json, target: Path, progress: Progress) -> None:
        """Fetch the signed artifact into `target`, which appears whole or not at all.

        Raises:
            VerificationError: it does not have the digest that the request names.
        """
        output = request.get("output")
        if not output:
            message = f"The signing request {request['id']} has no signed artifact."
            raise VerificationError(message, advice="Wait until it is Completed.")
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            with partial.open("xb") as file:
                path = f"signing-requests/{request['id']}/signed-artifact"
                self._patiently(lambda: self._fetch(path, file, output["size"], progress))
            with partial.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if sha256 != output["sha256"]:
                message = f"The download's SHA-256 is {sha256}, not {output['sha256']}."
                raise VerificationError(message, advice="Download it again.")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def _fetch(self, path: str, file: Any, size: int, progress: Progress) -> None:
        """Go on from where the file ends."""
        have = file.tell()
        if have >= size:
            return
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with self._http.stream("GET", path, headers=headers) as response:
            if response.status_code not in (200, 206):
                response.read()
                raise _error(response)
            if response.status_code == 200 and have:
                file.seek(0)
                file.truncate()
            # not in pieces of a size of ours: what has arrived when it breaks off must count
            for chunk in response.iter_bytes():
                file.write(chunk)
                progress(file.tell())
        if file.tell() < size:
            message = "The download broke off."
            raise UnavailableError(message)

    def _patiently(self, call: Callable[[], T]) -> T:
        """Repeat a call while the server is away."""
        deadline = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                with _connecting(str(self._http.base_url)):
                    return call()
            except (UnavailableError, TooManyRequestsError):
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


@contextlib.contextmanager
def _connecting(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        message = f"The server at {url} does not answer: {str(error) or type(error).__name__}."
        raise UnavailableError(message, advice="Check the address and that it runs.") from error


def _read(file: Path, progress: Progress) -> Iterator[bytes]:
    moved = 0
    with file.open("rb") as source:
        while chunk := source.read(_CHUNK):
            yield chunk
            moved += len(chunk)
            progress(moved)


def _json(response: httpx.Response) -> Json:
    if not response.is_success:
        raise _error(response)
    value = response.json() if len(response.content) <= _MAX_ANSWER else None
    if not isinstance(value, dict):
        message = "The server's answer is not the one of its API."
        raise InternalError(message)
    return value


def _error(response: httpx.Response) -> SealwrightError:
    """The server's refusal as the error that it was there."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "code" not in problem:
        problem = {"detail": f"The server answered {response.status_code}."}
    code = str(problem.get("code", ""))
    kind = next((kind for kind in _family(SealwrightError) if kind.code == code), None)
    if kind is None:
        kind = UnauthenticatedError if response.status_code == 401 else SealwrightError
    if response.status_code in _RETRY_STATUS and not issubclass(kind, TooManyRequestsError):
        kind = UnavailableError
    return kind(
        str(problem.get("detail") or problem.get("title") or "The server refused."),
        advice=str(problem.get("advice") or ""),
        where=str(problem.get("where") or ""),
    )


def _family(kind: type[SealwrightError]) -> Iterator[type[SealwrightError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from _family(subclass)
