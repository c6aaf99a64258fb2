"""What the web process has open while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from sealwright.config import Settings
from sealwright.connectors.outgoing import OutgoingClient
from sealwright.db import Database
from sealwright.origin.systems import Systems
from sealwright.queueing.queue import Queue
from sealwright.reporting.mail import Mailer
from sealwright.storage import ArtifactStore
from sealwright.web.throttle import Throttle


@dataclass(frozen=True)
class Services:
    """Opened by the application's lifespan and closed with it."""

    settings: Settings
    database: Database
    queue: Queue
    store: ArtifactStore
    throttle: Throttle
    outgoing: OutgoingClient
    systems: Systems
    mailer: Mailer | None = None

    @property
    def is_https(self) -> bool:
        """Whether users reach the server by HTTPS."""
        return self.settings.url.startswith("https://")
