"""Opening connectors: credentials are unsealed here, and go nowhere but into the connector."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from sealwright.config import Settings
from sealwright.connectors.connector import Connector, RemoteError
from sealwright.connectors.outgoing import OutgoingPolicy
from sealwright.connectors.registry import Factory, connect
from sealwright.connectors.vault import Vault, open_vault
from sealwright.db import Database, app_keys, build_systems
from sealwright.errors import ConflictError, OriginError, UnavailableError
from sealwright.model.build_system import TrustedBuildSystem

P = ParamSpec("P")
T = TypeVar("T")

_MAX_OPEN = 64
_THREADS = 24  #: calls to CI systems at once; each has a timeout of its own


class Systems:
    """The trusted build systems of one process, as connectors. Use within one event loop."""

    def __init__(self, database: Database, key_file: Path, factory: Factory) -> None:
        self._database = database
        self._key_file = key_file
        self._factory = factory
        self._vault: Vault | None = None
        self._open: OrderedDict[str, Connector] = OrderedDict()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="build-system")

    def vault(self) -> Vault:
        """What seals credentials.

        Raises:
            ConfigurationError: the key file cannot be used.
        """
        if self._vault is None:
            self._vault = open_vault(self._key_file)
        return self._vault

    async def connector(self, system: TrustedBuildSystem) -> Connector:
        """The connector of an enabled build system; kept open until its settings change.

        Raises:
            ConflictError: it is disabled.
            ConfigurationError: its credentials do not open, or do not suffice.
        """
        if not system.enabled:
            message = f"The trusted build system {system.slug} is disabled."
            raise ConflictError(message, advice="Have an administrator enable it.")
        async with self._database.read() as tx:
            sealed = await build_systems.sealed_credentials(tx, system.id)
            key_on_token = await app_keys.get(tx, system.id) is not None
        state = [
            system.id,
            system.base_url,
            system.web_url,
            dict(system.settings),
            sealed,
            key_on_token,
        ]
        key = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
        if key not in self._open:
            credentials = self.vault().open(system.id, sealed)
            self._open[key] = self.make(system, credentials, key_on_token=key_on_token)
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return self._open[key]

    def make(
        self,
        system: TrustedBuildSystem,
        credentials: dict[str, str],
        *,
        key_on_token: bool = False,
    ) -> Connector:
        """A connector that is not kept: how settings are tried before they are stored."""
        return self._factory(dataclasses.replace(system, credentials=credentials), key_on_token)

    async def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a connector's method in a thread, with its errors as those of the whole program.

        Raises:
            UnavailableError: the CI system is away; trying again may help.
            OriginError: it refuses, or the facts do not exist.
        """
        try:
            return await self.ask_plainly(call, *args, **kwargs)
        except RemoteError as error:
            if error.retry_after is None:
                raise OriginError(error.message, advice=error.advice, where=error.where) from error
            raise UnavailableError(
                error.message, advice=error.advice or "Try again.", where=error.where
            ) from error

    async def ask_plainly(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `ask`, with RemoteError as it comes."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(call, *args, **kwargs))

    def close(self) -> None:
        """Let calls under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def open_systems(settings: Settings, database: Database) -> Systems:
    """The build systems by the server's settings."""
    hosts = settings.build_system_hosts
    outgoing = OutgoingPolicy(internal_hosts=hosts, internal_http=True)
    factory = functools.partial(connect, outgoing=outgoing, app_socket=settings.app_socket)
    return Systems(database, settings.vault_key, factory)
