"""What a worker works with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sealwright.config import Settings
from sealwright.connectors.outgoing import OutgoingClient
from sealwright.db import Database
from sealwright.origin.systems import Systems
from sealwright.queueing.queue import Queue
from sealwright.signing.child_pool import ChildPool
from sealwright.signing.signer_client import SignerClient
from sealwright.signing.timestamp_client import TimestampClient
from sealwright.storage import ArtifactStore
from sealwright.storage.scratch import Scratch

ACTOR = "worker"


@dataclass(frozen=True)
class Workbench:
    """Everything that a worker works with."""

    settings: Settings
    database: Database
    queue: Queue
    store: ArtifactStore
    scratch: Scratch
    signer: SignerClient
    timestamps: TimestampClient | None
    children: ChildPool
    room: asyncio.Semaphore  #: one place for each child that may be at work
    outgoing: OutgoingClient
    systems: Systems
