"""The signer's session processes: a token's signatures on every core, and a stuck or dead session
that costs one item and not the signer.

python-pkcs11 cannot be used from two threads, and a PKCS#11 module must not be forked after
C_Initialize. So each session is a fresh single-threaded process (`session`) with a socket to here.
They are opened one after another, because modules fail when two processes open a token at the same
instant, and replaced when they are next needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import os
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sealwright.errors import SealwrightError, UnavailableError
from sealwright.keystores.faults import SignatureUncertainError
from sealwright.keystores.pkcs11 import LOGIN_PAUSE, KeyInfo
from sealwright.keystores.uri import Pkcs11Uri
from sealwright.model.certificate import CertificateUsage
from sealwright.model.mechanism import KeyAlgorithm
from sealwright.signer import wire
from sealwright.signer.turns import Ticket, Turns
from sealwright.signer.wire import Json, SignItem

__all__ = ["Answer", "SessionPool", "SignItem"]

T = TypeVar("T")
Answer = bytes | SealwrightError

#: What a session process inherits from the signer's environment; `environment` adds the rest.
_INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
_START_TIMEOUT = 60.0
_CALL_TIMEOUT = 180.0  # RSA-4096 key generation on a slow HSM
_END_TIMEOUT = 5.0
_CHUNKS_PER_SESSION = 4  # so that a slow session does not hold up a batch

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Settings:
    uri: Pkcs11Uri
    pin_file: Path | None
    state_folder: Path | None
    environment: Mapping[str, str]
    network: bool
    stall_timeout: float


class _LostSessionError(Exception):
    """The session process died or was killed because it was stuck."""


class _Session:
    """One session process. Used by one task at a time."""

    def __init__(
        self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def launch(cls, settings: _Settings) -> _Session:
        """Start a process and let it open the token. Raises SealwrightError."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "sealwright.signer.session"),
                *(str(theirs.fileno()), str(os.getpid())),
                stdin=DEVNULL,
                stdout=DEVNULL,  # some modules print there
                pass_fds=[theirs.fileno()],
                env=_environment(settings),
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=wire.MAX_MESSAGE)
        session = cls(process, reader, writer)
        opening = {
            "uri": str(settings.uri),
            "pin_file": settings.pin_file and str(settings.pin_file),
            "state_folder": settings.state_folder and str(settings.state_folder),
            "network": settings.network,
        }
        try:
            opened = await session.call(opening, _START_TIMEOUT)
        except _LostSessionError as error:
            message = "A session process ended before it had opened the token."
            raise UnavailableError(message, advice="See the signer's error output.") from error
        except BaseException:
            session.kill()
            raise
        if not opened["confined"]:
            _log.warning("The kernel has no system call filter for the session processes.")
        return session

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and not self._reader.at_eof()

    async def sign(
        self, items: Sequence[SignItem], answers: list[Answer], stall_timeout: float
    ) -> None:
        """Append the items' answers to `answers` as they come.

        Raises:
            _LostSessionError: `answers` is short; of the first item without one, it is unknown
                whether the token signed it, and the others were not begun.
        """
        async with self._conversation(stall_timeout) as limit:
            loop = asyncio.get_running_loop()
            self._send({"op": "sign", "items": [item.encode() for item in items]})
            for _ in items:
                answer = await self._receive()
                answers.append(
                    bytes.fromhex(answer) if isinstance(answer, str) else wire.decode_error(answer)
                )
                limit.reschedule(loop.time() + stall_timeout)

    async def call(self, request: Json, timeout: float = _CALL_TIMEOUT) -> Json:  # noqa: ASYNC109
        """Ask for anything else. Raises _LostSessionError, or what the token answered."""
        async with self._conversation(timeout):
            self._send(request)
            answer = await self._receive()
        if "error" in answer:
            raise wire.decode_error(answer)
        return answer["result"]

    def kill(self) -> None:
        self._writer.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Let the process log out and end; kill it if it does not."""
        self._writer.close()
        try:
            async with asyncio.timeout(_END_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

    @contextlib.asynccontextmanager
    async def _conversation(self, limit: float) -> AsyncIterator[asyncio.Timeout]:
        """Kill the process if the exchange is not completed: its answers would be out of step."""
        try:
            async with asyncio.timeout(limit) as timeout:
                yield timeout
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            self.kill()
            raise _LostSessionError from error
        except BaseException:
            self.kill()
            raise

    def _send(self, message: Json) -> None:
        self._writer.write(wire.encode(message))

    async def _receive(self) -> Json:
        header = await self._reader.readexactly(wire.HEADER)
        return wire.decode(await self._reader.readexactly(wire.length(header)))


class _Slot:
    """A place for a session, with the pause between log-ins that lead to nothing."""

    def __init__(self) -> None:
        self._session: _Session | None = None
        self._next_launch = 0.0
        self._failure: SealwrightError | None = None

    async def session(self, settings: _Settings, opening: asyncio.Lock) -> _Session:
        """The live session; launched if need be, which raises SealwrightError."""
        if self._session is None or not self._session.alive:
            async with opening:
                self._session = await self._launch(settings)
        return self._session

    def succeeded(self) -> None:
        """The session has been of use: when it is lost, that is a new incident."""
        self._next_launch = 0.0

    async def end(self) -> None:
        if self._session is not None:
            await self._session.end()

    async def _launch(self, settings: _Settings) -> _Session:
        if self._session is not None:
            self._session.kill()
            self._session = None
        now = time.monotonic()
        if now < self._next_launch:
            raise self._failure or UnavailableError(
                "The token's session ended again; the log-in is not repeated yet.",
                advice=f"Check the token; it is tried again in {self._next_launch - now:.0f} s.",
            )
        self._next_launch = now + LOGIN_PAUSE
        self._failure = None
        try:
            return await _Session.launch(settings)
        except SealwrightError as error:
            self._failure = error
            raise


class SessionPool:
    """Sessions on one token. Belongs to one event loop.

    The thread that runs the loop must live as long as the pool: the kernel ends the session
    processes with the thread that started them.

    Args:
        uri, pin_file, state_folder: see `Token.open`.
        environment: variables for the PKCS#11 module, such as SOFTHSM2_CONF.
        network: whether the module needs network sockets or helper programs; without, the
            session processes give them up.
        stall_timeout: seconds after which a session that does not answer is killed.
    """

    def __init__(
        self,
        uri: Pkcs11Uri,
        *,
        pin_file: Path | None = None,
        state_folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        network: bool = False,
        stall_timeout: float = 30.0,
    ) -> None:
        self._settings = _Settings(
            uri, pin_file, state_folder, environment or {}, network, stall_timeout
        )
        self._slots: list[_Slot] = []
        self._turns: Turns[_Slot] = Turns()
        self._opening = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._exchanges: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def start(self, sessions: int = 2) -> None:
        """Open that many sessions, one after another.

        Raises:
            ConfigurationError, KeyStoreError, UnavailableError: see `Token.open`; none stays open.
        """
        slots = [_Slot() for _ in range(sessions)]
        try:
            for slot in slots:
                await slot.session(self._settings, self._opening)
                slot.succeeded()
        except BaseException:
            await asyncio.gather(*(slot.end() for slot in slots))
            raise
        for slot in slots:
            self._slots.append(slot)
            self._turns.give(slot)

    async def close(self) -> None:
        """Wait for what is being signed, then log out and end the processes."""
        self._closed = True
        last = Ticket()
        for _ in self._slots:
            await self._turns.take(last)
        await asyncio.gather(*(slot.end() for slot in self._slots))
        for slot in self._slots:
            self._turns.give(slot)  # whoever waits for one finds that the pool is closed

    async def sign_batch(self, items: Sequence[SignItem], owner: str = "") -> list[Answer]:
        """Sign, spread over the sessions.

        Args:
            owner: whose batch it is; see `turns`.

        Returns:
            For each item its signature or the error that `Token.sign` describes. Of an item with
            SignatureUncertainError it is unknown whether the token signed it; of one with another
            error, nothing was signed, or nothing that verifies.
        """
        pending = deque(enumerate(items))
        answers: dict[int, Answer] = {}
        workers = min(len(self._slots), len(items))
        size = min(-(-len(items) // (_CHUNKS_PER_SESSION * max(workers, 1))), wire.MAX_ITEMS)
        ticket = Ticket(owner)
        try:
            failures = await asyncio.gather(
                *(self._work(pending, answers, size, ticket) for _ in range(workers))
            )
        finally:
            pending.clear()  # if canceled: what has not been begun is not begun
        reason = next(filter(None, failures), None) or _closed()
        return [answers.get(index, reason) for index in range(len(items))]

    async def call(self, operation: str, **arguments: Json) -> Json:
        """Run another operation of `session` in one of the sessions.

        Raises:
            SignatureUncertainError: the session died meanwhile; it may have been carried out.
            SealwrightError: what the operation raised.
        """

        async def exchange(slot: _Slot) -> Json:
            session = await slot.session(self._settings, self._opening)
            try:
                result = await session.call({"op": operation, **arguments})
            except _LostSessionError as error:
                message = f"The session ended during {operation!r}: it may have been carried out."
                advice = "Look at the token's keys before you repeat it."
                raise SignatureUncertainError(message, advice=advice) from error
            slot.succeeded()
            return result

        return await self._with_slot(exchange)

    async def list_keys(self) -> list[KeyInfo]:
        """See `Token.list_keys`."""
        return [wire.decode_key(fields) for fields in await self.call("list_keys")]

    async def generate_key(self, algorithm: KeyAlgorithm, label: str) -> KeyInfo:
        """See `Token.generate_key`. Keys are generated one after another, see there."""
        async with self._writing:
            fields = await self.call("generate_key", algorithm=algorithm.value, label=label)
        return wire.decode_key(fields)

    async def import_key(self, pkcs8: bytes, label: str) -> KeyInfo:
        """See `Token.import_key`."""
        async with self._writing:
            fields = await self.call("import_key", key=pkcs8.hex(), label=label)
        return wire.decode_key(fields)

    async def self_signed_certificate(
        self,
        key_id: bytes,
        subject: str,
        validity: dt.timedelta,
        *,
        usage: CertificateUsage = CertificateUsage.CODE_SIGNING,
    ) -> bytes:
        """See `certificates.self_signed_certificate`."""
        return await self._certificate(
            "self_signed_certificate",
            key_id=key_id.hex(),
            subject=subject,
            validity=validity.total_seconds(),
            usage=usage.value,
        )

    async def certificate_authority(
        self, key_id: bytes, subject: str, validity: dt.timedelta
    ) -> bytes:
        """See `certificates.certificate_authority`."""
        return await self._certificate(
            "certificate_authority",
            key_id=key_id.hex(),
            subject=subject,
            validity=validity.total_seconds(),
        )

    async def issue_certificate(
        self,
        issuer_key_id: bytes,
        issuer_certificate: bytes,
        *,
        public_key: bytes,
        subject: str,
        validity: dt.timedelta,
        usage: CertificateUsage = CertificateUsage.CODE_SIGNING,
    ) -> bytes:
        """See `certificates.issue_certificate`."""
        return await self._certificate(
            "issue_certificate",
            issuer_key_id=issuer_key_id.hex(),
            issuer_certificate=issuer_certificate.hex(),
            public_key=public_key.hex(),
            subject=subject,
            validity=validity.total_seconds(),
            usage=usage.value,
        )

    async def certificate_signing_request(self, key_id: bytes, subject: str) -> bytes:
        """See `certificates.certificate_signing_request`."""
        return await self._certificate(
            "certificate_signing_request", key_id=key_id.hex(), subject=subject
        )

    async def _certificate(self, operation: str, **arguments: Json) -> bytes:
        return bytes.fromhex(await self.call(operation, **arguments))

    async def _work(
        self,
        pending: deque[tuple[int, SignItem]],
        answers: dict[int, Answer],
        size: int,
        ticket: Ticket,
    ) -> SealwrightError | None:
        """Sign chunks of `pending` until none is left; or say why no session can be had."""

        async def exchange(slot: _Slot) -> None:
            while pending:
                session = await slot.session(self._settings, self._opening)
                chunk = [pending.popleft() for _ in range(min(size, len(pending)))]
                received: list[Answer] = []
                try:
                    await session.sign(
                        [item for _, item in chunk], received, self._settings.stall_timeout
                    )
                except _LostSessionError:
                    received.append(_uncertain())
                answers.update(zip((index for index, _ in chunk), received, strict=False))
                pending.extendleft(reversed(chunk[len(received) :]))
                if any(isinstance(answer, bytes) for answer in received):
                    slot.succeeded()
                is_whole = len(received) == len(chunk)
                if self._closed or not is_whole or not self._turns.may_go_on(ticket):
                    return

        while pending:
            try:
                await self._with_slot(exchange, ticket)
            except SealwrightError as error:
                return error
        return None

    async def _with_slot(
        self, exchange: Callable[[_Slot], Awaitable[T]], ticket: Ticket | None = None
    ) -> T:
        """Run an exchange in the next idle slot; to its end, even if the caller is canceled: to
        stop it half-way would cost the session, and with it a log-in."""
        if not self._slots:
            raise _closed()
        slot = await self._turns.take(ticket or Ticket())

        async def run() -> T:
            try:
                if self._closed:
                    raise _closed()
                return await exchange(slot)
            finally:
                self._turns.give(slot)

        task = asyncio.create_task(run())
        self._exchanges.add(task)
        task.add_done_callback(self._exchanges.discard)
        return await asyncio.shield(task)


def _environment(settings: _Settings) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**inherited, **settings.environment}


def _uncertain() -> SignatureUncertainError:
    return SignatureUncertainError(
        "The session ended before the signature arrived: the token may have signed.",
        advice="Record another use of the key and sign again.",
    )


def _closed() -> UnavailableError:
    return UnavailableError("The key store has no session open.", advice="Start the signer.")
