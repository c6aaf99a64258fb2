"""The outgoing client for the connectors, which are synchronous and run in threads of their own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, BinaryIO, TypeVar

import httpx

from sealwright.connectors.connector import RemoteError
from sealwright.connectors.outgoing import (
    OutgoingClient,
    OutgoingPolicy,
    OutgoingResponse,
    Timeouts,
)
from sealwright.errors import InvalidInputError, TooLargeError, UnavailableError

T = TypeVar("T")

CALL_TIMEOUTS = Timeouts(connect=10.0, idle=20.0, total=30.0)
DOWNLOAD_TIMEOUTS = Timeouts(connect=10.0, idle=60.0, total=3600.0)
RETRY_AFTER = 30.0
"""Seconds to wait where a server is away and does not say for how long."""


class GoneError(RemoteError):
    """The server does not have the file, or no longer (404, 410)."""


class BlockingClient:
    """Calls a CI system from a thread without an event loop. Stateless, so threads may share it.

    Every address is judged by the policy, every answer is bounded, and no redirect is followed: an
    answer that redirects is given as it is.
    """

    def __init__(
        self,
        policy: OutgoingPolicy,
        *,
        tls: ssl.SSLContext | None = None,
        timeouts: Timeouts = CALL_TIMEOUTS,
        download_timeouts: Timeouts = DOWNLOAD_TIMEOUTS,
    ) -> None:
        """
        Args:
            policy: what may be called; a CI system in the own network is an internal host there.
            tls: trust; None trusts the bundled public authorities.
            timeouts: of short calls.
            download_timeouts: of artifacts; the total covers the whole download.
        """
        self._policy = policy
        self._tls = tls or httpx.create_ssl_context()
        self._timeouts = timeouts
        self._download_timeouts = download_timeouts

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        limit: int,
    ) -> OutgoingResponse:
        """Send a request and read the answer, whatever its status, of at most `limit` bytes.

        Raises:
            RemoteError: the address is not allowed, the server is away, or the answer is longer.
        """

        async def call() -> OutgoingResponse:
            async with OutgoingClient(self._policy, tls=self._tls) as client:
                return await client.send(
                    method,
                    url,
                    headers=headers,
                    content=content,
                    timeouts=self._timeouts,
                    limit=limit,
                    follow=False,
                )

        try:
            with _as_remote_errors():
                return _run(call())
        except TooLargeError as error:
            raise RemoteError(error.message, where=error.where) from error

    def download(
        self,
        url: str,
        target: BinaryIO,
        limit: int,
        *,
        headers: Mapping[str, str] | None = None,
        redirects: int = 0,
    ) -> str:
        """Stream a file into `target`; returns the hex SHA-256 of what was written.

        Memory does not grow with the file.

        Args:
            redirects: how many to follow, to other hosts too. Each address is judged, none may
                leave TLS, and `headers` go to the first one alone.

        Raises:
            GoneError: there is no such file any more.
            RemoteError: the address is not allowed, or does not give the whole file.
            TooLargeError: more than `limit` bytes.
        """

        async def call() -> str:
            address, sent = url, headers
            async with OutgoingClient(self._policy, tls=self._tls) as client:
                for _ in range(redirects):
                    async with client.stream(
                        "GET", address, headers=sent, timeouts=self._download_timeouts, follow=False
                    ) as response:
                        if not response.has_redirect_location:
                            return await _copy(response, target, limit)
                        address, sent = _redirected(response), None
                async with client.stream(
                    "GET", address, headers=sent, timeouts=self._download_timeouts, follow=False
                ) as response:
                    return await _copy(response, target, limit)

        with _as_remote_errors():
            return _run(call())


async def _copy(response: httpx.Response, target: BinaryIO, limit: int) -> str:
    where = response.url.host
    if response.status_code in {404, 410}:
        message = f"The artifact's store answered {response.status_code}."
        raise GoneError(message, advice="Run the build again.", where=where)
    if response.status_code != 200:
        message = f"The artifact's store answered {response.status_code}."
        retry = RETRY_AFTER if response.status_code in {408, 429} or _away(response) else None
        raise RemoteError(message, where=where, retry_after=retry)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        message = "The artifact's store sent it compressed although this was not asked for."
        raise RemoteError(message, where=where)
    announced = response.headers.get("Content-Length", "")
    _check_size(int(announced) if announced.isdecimal() else 0, limit, where)
    digest, size = hashlib.sha256(), 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        _check_size(size, limit, where)
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _redirected(response: httpx.Response) -> str:
    """Where a redirect leads; TLS is not left."""
    try:
        target = response.url.join(response.headers["Location"])
    except httpx.InvalidURL as error:
        message = "The artifact's store redirects to a malformed address."
        raise RemoteError(message, where=response.url.host) from error
    if response.url.scheme == "https" and target.scheme != "https":
        message = "The artifact's store redirects to an address without TLS."
        raise RemoteError(message, where=response.url.host)
    return str(target)


def _away(response: httpx.Response) -> bool:
    return response.status_code >= 500


def _check_size(size: int, limit: int, where: str) -> None:
    if size > limit:
        message = f"The artifact is larger than {limit} bytes."
        raise TooLargeError(message, advice="Split it, or have the limit raised.", where=where)


def _run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner() as runner:
        return runner.run(work)


@contextlib.contextmanager
def _as_remote_errors() -> Iterator[None]:
    try:
        yield
    except UnavailableError as error:
        raise RemoteError(
            error.message, advice=error.advice, where=error.where, retry_after=RETRY_AFTER
        ) from error
    except InvalidInputError as error:
        raise RemoteError(error.message, advice=error.advice, where=error.where) from error
