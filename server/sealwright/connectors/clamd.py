"""Asking ClamAV's daemon about bytes: the commands INSTREAM and VERSION (clamd(8)).

The bytes are streamed, never written to a file that clamd would open, so that it may run on another
host and as another user. Whatever is not a plain "OK" or "FOUND" is an error: nothing passes by
accident.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from sealwright.errors import ConfigurationError, TooLargeError, UnavailableError

_CONNECT_SECONDS = 10.0
_SEND_SECONDS = 60.0  #: without clamd taking anything
_REPLY_SECONDS = 600.0  #: it unpacks archives after the last byte
_MAX_REPLY = 4096
_CHUNK = 1 << 18
_LENGTH = struct.Struct(">I")
#: What clamd reports, with AlertExceedsMax, of what is too large or too deep for it.
_LIMITS = "Heuristics.Limits.Exceeded"


@dataclass(frozen=True)
class Scanned:
    """What clamd says.

    Attributes:
        engine: its version and that of its signatures, such as ``ClamAV 1.4.3/27500/...``.
        finding: name of the signature that matched; empty: none did.
    """

    engine: str
    finding: str


class Clamd:
    """One daemon.

    Args:
        address: ``unix:/run/clamav/clamd.ctl`` or ``tcp://host:3310``.

    Raises:
        ConfigurationError: the address is neither.
    """

    def __init__(self, address: str) -> None:
        self._path, self._host, self._port = _parse(address)

    async def version(self) -> str:
        """Engine and signatures.

        Raises:
            UnavailableError: it does not answer.
        """
        async with self._connection() as connection:
            await _send(connection, b"zVERSION\0")
            return await _reply(connection)

    async def scan(self, chunks: AsyncIterator[bytes]) -> Scanned:
        """Have bytes scanned.

        Raises:
            TooLargeError: more than clamd takes, or what is in them is.
            UnavailableError: clamd does not answer, or could not scan them.
        """
        engine = await self.version()
        async with self._connection() as connection:
            # clamd answers and hangs up as soon as it has had too much
            replied = asyncio.create_task(_reply(connection))
            try:
                with contextlib.suppress(ConnectionError):
                    await _stream(connection, chunks, replied)
                return Scanned(engine, _finding(await replied))
            finally:
                replied.cancel()
                await asyncio.gather(replied, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[socket.socket]:
        """A socket, and no stream: one forgets the answer that has come if writing fails."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                connection = await asyncio.to_thread(self._connect)
            connection.setblocking(False)  # noqa: FBT003
        except OSError as error:
            reason = getattr(error, "strerror", None) or "no answer"
            message = f"The malware scanner (clamd) cannot be reached: {reason}."
            raise UnavailableError(message, advice="Check that it runs, and 'clamd'.") from None
        try:
            yield connection
        except (OSError, TimeoutError) as error:
            message = "The malware scanner (clamd) broke off."
            raise UnavailableError(message, advice="See clamd's log.") from error
        finally:
            connection.close()

    def _connect(self) -> socket.socket:
        if not self._path:
            return socket.create_connection((self._host, self._port), _CONNECT_SECONDS)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(_CONNECT_SECONDS)
            connection.connect(self._path)
        except BaseException:
            connection.close()
            raise
        return connection


async def _stream(
    connection: socket.socket, chunks: AsyncIterator[bytes], replied: asyncio.Task[str]
) -> None:
    """Send everything, or until clamd has answered."""
    await _send(connection, b"zINSTREAM\0")
    async for chunk in chunks:
        for start in range(0, len(chunk), _CHUNK):
            if replied.done():
                return
            part = chunk[start : start + _CHUNK]
            await _send(connection, _LENGTH.pack(len(part)) + part)
    await _send(connection, _LENGTH.pack(0))


async def _send(connection: socket.socket, data: bytes) -> None:
    async with asyncio.timeout(_SEND_SECONDS):
        await asyncio.get_running_loop().sock_sendall(connection, data)


async def _reply(connection: socket.socket) -> str:
    """One answer, which ends with NUL."""
    loop = asyncio.get_running_loop()
    raw = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(_REPLY_SECONDS):
            while b"\0" not in raw and len(raw) <= _MAX_REPLY:
                part = await loop.sock_recv(connection, _MAX_REPLY)
                if not part:
                    break
                raw += part
    text, end, _ = raw.partition(b"\0")
    if not end or len(text) >= _MAX_REPLY:
        message = "The malware scanner (clamd) hung up without an answer."
        raise UnavailableError(message, advice="See clamd's log.")
    return text.decode("utf-8", "replace").strip()


def _finding(reply: str) -> str:
    """Name of what was found, empty for nothing."""
    text = reply.removeprefix("stream: ")
    if text == "OK":
        return ""
    if text.endswith(" FOUND"):
        finding = text.removesuffix(" FOUND")
        if finding.startswith(_LIMITS):
            message = f"The artifact exceeds what the malware scanner unpacks ({finding[:100]})."
            raise TooLargeError(
                message,
                advice="Have MaxScanSize, MaxFileSize or MaxRecursion raised in clamd.conf.",
            )
        return finding[:200]
    if "size limit exceeded" in text:
        message = "The artifact is larger than the malware scanner takes."
        raise TooLargeError(message, advice="Have StreamMaxLength raised in clamd.conf.")
    message = f"The malware scanner could not scan the artifact: {text[:200]!r}."
    raise UnavailableError(message, advice="See clamd's log.")


def _parse(address: str) -> tuple[str, str, int]:
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        path = path.removeprefix("//")
        if path.startswith("/"):
            return path, "", 0
    elif address.startswith("tcp://"):
        with contextlib.suppress(ValueError):
            parts = urlsplit(address)
            if parts.hostname and not parts.path.strip("/"):
                return "", parts.hostname, parts.port or 3310
    message = f"The address of clamd, {address[:100]!r}, is none."
    raise ConfigurationError(message, advice="Set 'clamd' to unix:/path or tcp://host:port.")
