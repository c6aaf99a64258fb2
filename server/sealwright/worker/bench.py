"""Opens everything that a worker works with, and closes it again."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sealwright.config import Settings, TimestampAuthoritySettings
from sealwright.connectors.outgoing import OutgoingClient
from sealwright.db import Database
from sealwright.errors import ConfigurationError
from sealwright.intake.retrieval import retrieval_policy
from sealwright.origin.systems import open_systems
from sealwright.queueing.queue import Queue
from sealwright.signing.authenticode_trust import read_roots
from sealwright.signing.budget import Limits
from sealwright.signing.child_pool import ChildPool
from sealwright.signing.child_process import LAYERS, SandboxSettings
from sealwright.signing.confinement import ChildLimits
from sealwright.signing.signer_client import SignerClient
from sealwright.signing.timestamp_client import TimestampClient
from sealwright.signing.timestamp_http import TimestampHttp
from sealwright.signing.timestamps import TimestampAuthority
from sealwright.storage import open_store
from sealwright.storage.scratch import Scratch
from sealwright.workbench import Workbench


@contextlib.asynccontextmanager
async def open_bench(settings: Settings) -> AsyncIterator[Workbench]:
    """Open it. Nothing is asked of other parts yet: they may come later.

    Raises:
        ConfigurationError: a setting cannot work.
        UnavailableError: the spool cannot be written.
    """
    authorities = [timestamp_authority(one) for one in settings.timestamp_authorities]
    children = settings.children or os.cpu_count() or 1
    async with contextlib.AsyncExitStack() as stack:
        scratch = Scratch(settings.spool_folder)
        scratch.open()
        stack.callback(scratch.close)
        database = Database(settings.database)
        stack.push_async_callback(database.close)
        systems = open_systems(settings, database)
        stack.callback(systems.close)
        queue = Queue(settings.redis)
        stack.push_async_callback(queue.close)
        signer = SignerClient(settings.socket)
        stack.push_async_callback(signer.close)
        http = await stack.enter_async_context(TimestampHttp())
        pool = ChildPool(scratch.folder, children, sandbox_settings(settings))
        yield Workbench(
            settings=settings,
            database=database,
            queue=queue,
            store=open_store(settings.artifacts),
            scratch=scratch,
            signer=signer,
            timestamps=TimestampClient(authorities, http, budget=settings.timestamp_budget)
            if authorities
            else None,
            children=await stack.enter_async_context(pool),
            room=asyncio.Semaphore(children),
            outgoing=await stack.enter_async_context(OutgoingClient(retrieval_policy(settings))),
            systems=systems,
        )


def sandbox_settings(settings: Settings) -> SandboxSettings:
    """The limits of format children, and whom they may trust.

    Raises:
        ConfigurationError: a file of roots cannot be read.
    """
    return SandboxSettings(
        child=ChildLimits(
            cpu_seconds=int(settings.request_seconds), file_size=settings.max_inflated_bytes
        ),
        artifact=Limits(
            depth=settings.max_depth,
            members=settings.max_members,
            extracted=settings.max_inflated_bytes,
            spool=settings.max_inflated_bytes,
        ),
        wall_seconds=settings.request_seconds,
        required=frozenset(LAYERS) if settings.require_confinement else frozenset(),
        roots=_trusted_roots(settings.authenticode_roots),
        timestamp_roots=_trusted_roots(
            settings.authenticode_timestamp_roots or settings.authenticode_roots
        ),
    )


def _trusted_roots(file: Path | None) -> tuple[bytes, ...]:
    if file is None:
        return ()
    try:
        return read_roots(file.read_bytes())
    except OSError as error:
        message = f"The roots for <authenticode-verify> cannot be read: {error}."
        raise ConfigurationError(message) from None


def timestamp_authority(settings: TimestampAuthoritySettings) -> TimestampAuthority:
    """The authority with its roots read.

    Raises:
        ConfigurationError: the file of roots is missing, or holds none.
    """
    try:
        roots = x509.load_pem_x509_certificates(settings.roots.read_bytes())
    except (OSError, ValueError) as error:
        message = (
            f"The roots of the time stamp authority {settings.name!r} cannot be read: {error}."
        )
        raise ConfigurationError(
            message, advice="Name a PEM file with its root certificates in 'roots'."
        ) from None
    return TimestampAuthority(
        name=settings.name,
        url=settings.url,
        trusted_roots=tuple(root.public_bytes(Encoding.DER) for root in roots),
        timeout=settings.timeout,
        concurrency=settings.concurrency,
    )
