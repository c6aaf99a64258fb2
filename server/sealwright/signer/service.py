"""The signer process: a Unix socket before the token.

Whoever connects is known by the kernel (SO_PEERCRED): the user that the signer runs as may do
everything, members of the configured group may ask for signatures and checkpoints, nobody else is
answered. What is permitted beyond that is decided from the database, for every call (`grants`).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import grp
import logging
import os
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealwright.config import Settings
from sealwright.db import Database
from sealwright.db.migrate import is_current
from sealwright.errors import (
    ConfigurationError,
    ForbiddenError,
    InternalError,
    InvalidInputError,
    SealwrightError,
)
from sealwright.keystores import softhsm
from sealwright.keystores.uri import Pkcs11Uri
from sealwright.model.identifiers import is_id
from sealwright.model.passkey import RelyingParty, relying_party
from sealwright.model.signer_messages import (
    MAX_FRAME,
    Call,
    encode_bytes,
    encode_error,
    encode_frame,
    integer,
    parse_items,
    read_frame,
    text,
)
from sealwright.signer import app_keys, certificates
from sealwright.signer.certificates import Order
from sealwright.signer.orders import Orders, parse_order
from sealwright.signer.sessions import SessionPool
from sealwright.signer.signing import Signing
from sealwright.signer.trust import distrust_passkey, trust_passkey
from sealwright.transparency.sequence import Sequencer, open_log

MAX_CONNECTIONS = 64
#: Calls of one connection that are carried out at once; further ones wait unread.
MAX_CALLS = 64
#: How often the log is sequenced and open intents are settled without being asked.
_ROUND_SECONDS = 30.0
_STOP_SECONDS = 30.0

_UCRED = struct.Struct("3i")
_SO_PEERGROUPS = 59  # socket(7), not in Python's socket module
_GROUPS_BYTES = 1024  # the most that Python's getsockopt takes: 256 groups

_log = logging.getLogger(__name__)


async def serve(settings: Settings) -> None:
    """Run the signer until SIGTERM or SIGINT: open database, log and token, then answer.

    Raises:
        ConfigurationError, KeyStoreError, UnavailableError: it cannot start.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        database = Database(settings.signer_database)
        stack.push_async_callback(database.close)
        token = provide_token(settings)
        await stack.enter_async_context(
            running(settings, database, token.pool, token_uri=token.uri)
        )
        _log.info("the signer answers at %s", settings.socket)
        await stop.wait()


@dataclass(frozen=True)
class ProvidedToken:
    """The token that the settings name, or the embedded one, and sessions for it."""

    uri: Pkcs11Uri
    pool: SessionPool


def provide_token(settings: Settings) -> ProvidedToken:
    """Find the token that the settings name; without one, make or find the embedded SoftHSM.

    Raises:
        ConfigurationError, KeyStoreError
    """
    if settings.token_uri:
        uri = Pkcs11Uri.parse(settings.token_uri)
        environment: Mapping[str, str] = {
            name: os.environ[name] for name in settings.token_environment if name in os.environ
        }
    else:
        embedded = softhsm.provide(settings.token_folder)
        uri, environment = embedded.uri, embedded.environment
    pool = SessionPool(
        uri,
        pin_file=settings.pin_file,
        environment=environment,
        network=settings.token_network,
    )
    return ProvidedToken(uri, pool)


@contextlib.asynccontextmanager
async def running(
    settings: Settings, database: Database, pool: SessionPool, *, token_uri: Pkcs11Uri
) -> AsyncIterator[None]:
    """A signer that answers at its socket while the context is open.

    At the end it takes no more calls and finishes those it has.
    """
    if not await is_current(database):
        message = "The database's schema is not the one that this version expects."
        raise ConfigurationError(message, advice="Run 'sealwright db migrate' first.")
    key = await open_log(database, settings.checkpoint_key, settings.origin)
    await pool.start(settings.signer_sessions)
    try:
        rp = relying_party(settings.url)
        orders = Orders(database, pool, token_uri, rp)
        await orders.open()
        service = _Service(
            database,
            pool,
            token_uri,
            Sequencer(database, key),
            rp,
            orders,
        )
        await service.round()
        async with (
            _listen(settings.socket, settings.signer_group, service, _Door.SIGNATURES),
            _listen(settings.app_socket, settings.signer_app_group, service, _Door.APPS),
        ):
            rounds = asyncio.create_task(service.rounds())
            ordered = asyncio.create_task(orders.forever())
            try:
                yield
            finally:
                rounds.cancel()
                ordered.cancel()
                await asyncio.gather(rounds, ordered, return_exceptions=True)
    finally:
        await pool.close()


class _Service:
    """The operations."""

    def __init__(
        self,
        database: Database,
        pool: SessionPool,
        token_uri: Pkcs11Uri,
        sequencer: Sequencer,
        rp: RelyingParty,
        orders: Orders,
    ) -> None:
        self._database = database
        self._pool = pool
        self._token_uri = token_uri
        self._sequencer = sequencer
        self._signing = Signing(database, pool, rp)
        self._orders = orders

    async def answer(self, call: Call, peer: _Peer, door: _Door) -> dict[str, Any]:
        """Carry out a call; the answering message."""
        try:
            operation = _OPERATIONS.get(call.operation)
            if operation is None or operation.door is not door:
                message = f"The signer has no operation {call.operation[:40]!r}."
                raise InvalidInputError(message)
            if operation.own_user_only and not peer.is_own_user:
                message = f"{call.operation!r} is for the user alone that the signer runs as."
                raise ForbiddenError(message, advice="Run the command as that user.")
            result = await operation.run(self, call.arguments)
        except SealwrightError as error:
            _log.info("%s: %s", call.operation, error)
            return {"id": call.id, "error": encode_error(error)}
        except Exception:  # noqa: BLE001 (the last handler of a call)
            _log.exception("%s failed", call.operation)
            failure = InternalError("The signer failed.", advice="See the signer's own log.")
            return {"id": call.id, "error": encode_error(failure)}
        return {"id": call.id, "result": result}

    async def sign(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        request_id = text(arguments, "request_id")
        if not is_id(request_id):
            message = "The request's id is not one."
            raise InvalidInputError(message)
        signatures = await self._signing.sign(
            request_id,
            integer(arguments, "attempt", 1 << 31),
            parse_items(arguments),
        )
        return {"signatures": [encode_bytes(signature) for signature in signatures]}

    async def checkpoint(self, _: Mapping[str, Any]) -> dict[str, Any]:
        head = await self._sequencer.sequence()
        return {"size": head.size, "text": head.checkpoint}

    async def create_certificate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        order = Order.parse(arguments)
        made = await certificates.create(self._database, self._pool, self._token_uri, order)
        return {"certificate_id": made}

    async def bind_app_key(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        order = app_keys.Binding.parse(arguments)
        await app_keys.bind(self._database, self._pool, self._token_uri, order)
        return {}

    async def unbind_app_key(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        await app_keys.unbind(self._database, text(arguments, "build_system_id"))
        return {}

    async def app_jwt(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        system = text(arguments, "build_system_id")
        return {"jwt": await app_keys.make_jwt(self._database, self._pool, system, time.time())}

    async def trust_passkey(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        anchor = await trust_passkey(
            self._database,
            text(arguments, "organization_id"),
            text(arguments, "passkey_id"),
            text(arguments, "fingerprint"),
        )
        return {"user_id": anchor.user_id}

    async def distrust_passkey(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        await distrust_passkey(
            self._database, text(arguments, "organization_id"), text(arguments, "passkey_id")
        )
        return {}

    async def order(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What the operator orders, past the database's queue."""
        order = parse_order(arguments)
        return {"certificate_id": await self._orders.run(order, "operator")}

    async def list_keys(self, _: Mapping[str, Any]) -> dict[str, Any]:
        keys = await self._pool.list_keys()
        return {
            "keys": [
                {
                    "id": key.id.hex(),
                    "label": key.label,
                    "algorithm": key.algorithm,
                    "public_key": encode_bytes(key.public_key),
                    "exposed": key.exposed,
                }
                for key in keys
            ]
        }

    async def health(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "database": await _state(self._database.check()),
            "token": await _state(self._pool.list_keys()),
            "log": await _state(self._sequencer.sequence()),
        }

    async def rounds(self) -> None:
        """Do what is due, for ever."""
        while True:
            await asyncio.sleep(_ROUND_SECONDS)
            try:
                await self.round()
            except SealwrightError as error:
                _log.warning("the log was not sequenced: %s", error)
            except Exception:  # noqa: BLE001 (the next round may do better)
                _log.exception("the log was not sequenced")

    async def round(self) -> None:
        """Settle the open intents of finished requests, and sign a checkpoint over all leaves."""
        swept = await self._signing.sweep()
        if swept:
            _log.warning("%d signatures of finished requests had an unknown outcome", swept)
        await self._sequencer.sequence()


class _Door(enum.Enum):
    """A socket. Whoever may use one has no business at the other."""

    SIGNATURES = "signatures"
    APPS = "apps"


@dataclass(frozen=True)
class _Operation:
    run: Callable[[_Service, Mapping[str, Any]], Awaitable[dict[str, Any]]]
    own_user_only: bool = False
    door: _Door = _Door.SIGNATURES


_OPERATIONS: Mapping[str, _Operation] = {
    "sign": _Operation(_Service.sign),
    "checkpoint": _Operation(_Service.checkpoint),
    "health": _Operation(_Service.health),
    "create_certificate": _Operation(_Service.create_certificate, own_user_only=True),
    "order": _Operation(_Service.order, own_user_only=True),
    "list_keys": _Operation(_Service.list_keys, own_user_only=True),
    "bind_app_key": _Operation(_Service.bind_app_key, own_user_only=True),
    "unbind_app_key": _Operation(_Service.unbind_app_key, own_user_only=True),
    "trust_passkey": _Operation(_Service.trust_passkey, own_user_only=True),
    "distrust_passkey": _Operation(_Service.distrust_passkey, own_user_only=True),
    "app_jwt": _Operation(_Service.app_jwt, door=_Door.APPS),
}


@dataclass(frozen=True)
class _Peer:
    """Who is on the other side of a connection, as the kernel says (unix(7), SO_PEERCRED)."""

    uid: int
    groups: frozenset[int]

    @property
    def is_own_user(self) -> bool:
        return self.uid == os.geteuid()

    @classmethod
    def of(cls, connection: socket.socket) -> _Peer:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _, uid, gid = _UCRED.unpack(raw)
        try:
            more = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
        except OSError:  # in more groups than fit: then the first one has to be the right one
            more = b""
        return cls(uid, frozenset((gid, *struct.unpack(f"{len(more) // 4}I", more))))


@contextlib.asynccontextmanager
async def _listen(path: Path, group: str, service: _Service, door: _Door) -> AsyncIterator[None]:
    allowed = _group_id(group) if group else None
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (asyncio runs this as a task)
        connections.add(task)
        task.add_done_callback(connections.discard)
        # the end cancels it, which asyncio up to 3.11 would report as an error
        with contextlib.closing(writer), contextlib.suppress(asyncio.CancelledError):
            peer = _Peer.of(writer.get_extra_info("socket"))
            if not (peer.is_own_user or allowed in peer.groups):
                _log.warning("refused a connection of user %d", peer.uid)
            elif len(connections) > MAX_CONNECTIONS:
                _log.warning("refused a connection: there are %d already", MAX_CONNECTIONS)
            else:
                await _converse(reader, writer, peer, service, door)

    listener = _bind(path, allowed)
    server = await asyncio.start_unix_server(connected, sock=listener, limit=2 * MAX_FRAME)
    try:
        yield
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _converse(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    peer: _Peer,
    service: _Service,
    door: _Door,
) -> None:
    """Answer calls until the peer goes. Calls that have begun are finished in any case: what the
    token signs must be recorded whether or not somebody still waits for it."""
    room = asyncio.Semaphore(MAX_CALLS)
    calls: set[asyncio.Task[None]] = set()

    async def carry_out(call: Call) -> None:
        try:
            answer = encode_frame(await service.answer(call, peer, door))
            if writer.is_closing():  # uvloop's transport raises RuntimeError then
                raise ConnectionResetError
            writer.write(answer)
            await writer.drain()
        except OSError:
            _log.info("nobody waits any more for the answer to %s", call.operation)
        finally:
            room.release()

    try:
        while (message := await read_frame(reader)) is not None:
            call = Call.parse(message)
            await room.acquire()
            task = asyncio.create_task(carry_out(call))
            calls.add(task)
            task.add_done_callback(calls.discard)
    except SealwrightError as error:
        _log.warning("closed a connection of user %d: %s", peer.uid, error)
    finally:
        if calls:
            await asyncio.wait(calls, timeout=_STOP_SECONDS)


def _bind(path: Path, group: int | None) -> socket.socket:
    """Bind the socket so that nobody else may use it at any time."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
        if group is not None:
            os.chown(path, -1, group)
            path.chmod(0o660)
    except OSError as error:
        listener.close()
        message = f"The signer's socket {path} cannot be made ({error.strerror})."
        raise ConfigurationError(message, advice="Check the folder's owner and path.") from None
    finally:
        os.umask(mask)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove what a killed signer left; refuse where one is at work."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            message = f"The signer's socket {path} cannot be used ({error.strerror})."
            raise ConfigurationError(message, advice="Check the path and its owner.") from None
    message = f"Another signer answers at {path} already."
    raise ConfigurationError(message, advice="Stop it first, or set SEALWRIGHT_SIGNER_SOCKET.")


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        message = f"There is no group {name!r}."
        raise ConfigurationError(message, advice="Correct SEALWRIGHT_SIGNER_GROUP.") from None


async def _state(check: Awaitable[object]) -> str:
    try:
        await check
    except SealwrightError as error:
        return str(error)
    return "ok"
