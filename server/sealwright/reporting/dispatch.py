"""Telling CI systems what the outbox holds: in order for each subject, again until it is taken.

Runs in every worker; who claims a row tells it. Nothing here can change a signing request.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from sealwright.connectors.connector import Connector, DeploymentGate, RemoteError
from sealwright.db import Database, Transaction, build_systems, outbox, request_sets
from sealwright.db.outbox import Message
from sealwright.errors import SealwrightError
from sealwright.model.build_system import RepositoryLink
from sealwright.model.identifiers import utc_now
from sealwright.model.report import Report, Reported
from sealwright.model.request import SigningRequest, State
from sealwright.origin.systems import Systems
from sealwright.queueing.claims import CLAIM, renewing
from sealwright.reporting.lanes import Due, Lanes
from sealwright.reporting.outbox import DEPLOYMENT, REFUSAL
from sealwright.reporting.report import refusal_report, request_report

_log = logging.getLogger(__name__)

#: messages under way at once, and to one build system: fewer than `Systems` has threads
_MOST, _EACH = 12, 4
_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 600.0
#: what could not be told for so long is given up
GIVE_UP = dt.timedelta(days=2)
_GATE_PAUSE = dt.timedelta(seconds=15)
_GATE_PATIENCE = dt.timedelta(days=1)


@dataclass(frozen=True)
class Dispatcher:
    """What telling needs. `url` is the server's address, without a trailing slash."""

    database: Database
    systems: Systems
    url: str

    async def run(self) -> None:
        """Tell what comes due, for good."""
        await self._lanes().run()

    async def tell_due(self) -> int:
        """Tell everything that is due now; how many messages were taken.

        Raises:
            UnavailableError: the database is away.
        """
        return await self._lanes().drain()

    def _lanes(self) -> Lanes[Message]:
        """A lane is a build system. What is due of one is the oldest of each subject."""

        async def due() -> list[Due[Message]]:
            async with self.database.read() as tx:
                found = await outbox.due(tx, utc_now(), each=_EACH)
            return [Due(one.id, one.build_system_id, one) for one in found]

        return Lanes(due, self._tell, most=_MOST, each=_EACH)

    async def _tell(self, message: Message) -> bool:
        now = utc_now()
        async with self.database.transaction() as tx:
            if not await outbox.claim(tx, message, now + CLAIM):
                return False
            link = await build_systems.get_link(tx, message.organization_id, message.link_id)

        async def renew() -> None:
            async with self.database.transaction() as tx:
                await outbox.renew(tx, message, utc_now() + CLAIM)

        async with renewing(renew):
            return await self._tell_claimed(message, link)

    async def _tell_claimed(self, message: Message, link: RepositoryLink | None) -> bool:
        try:
            if link is None or not await self._tell_link(message, link):
                await self._settle(message, "The link is gone.", None)
                return False
        except RemoteError as error:
            pause = None if error.retry_after is None else max(error.retry_after, _pause(message))
            await self._again(message, error, pause)
            return False
        except SealwrightError as error:
            await self._again(message, error, _pause(message))
            return False
        except Exception as error:  # noqa: BLE001 - the job wrapper: a report never ends the loop
            _log.error("report %d failed", message.id, exc_info=error)
            await self._again(message, error, _pause(message))
            return False
        return True

    async def _tell_link(self, message: Message, link: RepositoryLink) -> bool:
        async with self.database.read() as tx:
            system = await build_systems.get_any(tx, link.build_system_id)
        if system is None:
            return False
        connector = await self.systems.connector(system)
        if message.kind == DEPLOYMENT:
            await self._answer(message, link, connector)
            return True
        async with self.database.read() as tx:
            report = await self._report(tx, message)
            earlier = await outbox.last_told(tx, message.subject)
        if report is None:
            return False
        told = await self.systems.ask_plainly(
            connector.report,
            link,
            report,
            Reported(earlier.reference, earlier.url) if earlier else None,
        )
        async with self.database.transaction() as tx:
            await outbox.told(tx, message, utc_now(), told.reference, told.url)
        return True

    async def _report(self, tx: Transaction, message: Message) -> Report | None:
        if message.kind == REFUSAL:
            return refusal_report(message)
        return await request_report(tx, message, self.url)

    async def _answer(self, message: Message, link: RepositoryLink, connector: Connector) -> None:
        """Answer a deployment, or wait until the run's signing requests are finished."""
        run_id, environment = message.payload["run_id"], message.payload["environment"]
        async with self.database.read() as tx:
            found = await request_sets.of_run(tx, link.organization_id, link.project_id, run_id)
        of_run = [
            one
            for one in found
            if (one.origin.build_system_id, one.origin.repository_id)
            == (link.build_system_id, link.repository_id)
        ]
        approved = verdict(of_run)
        now = utc_now()
        if approved is None and now - message.created_at < _GATE_PATIENCE:
            await self._settle(message, "waits for signing", now + _GATE_PAUSE)
            return
        if isinstance(connector, DeploymentGate):
            comment = {
                True: "Everything that this run submitted is signed.",
                False: "A signing request of this run failed, was denied or canceled.",
                None: "Nothing of this run was signed.",
            }[approved]
            await self.systems.ask_plainly(
                connector.answer_deployment,
                link,
                run_id,
                environment,
                approved=approved is True,
                comment=comment,
            )
        async with self.database.transaction() as tx:
            await outbox.told(tx, message, now, "", "")

    async def _again(self, message: Message, error: Exception, pause: float | None) -> None:
        now = utc_now()
        text = error.message if isinstance(error, SealwrightError) else type(error).__name__
        over = pause is None or now - message.created_at > GIVE_UP
        due = None if over or pause is None else now + dt.timedelta(seconds=pause)
        _log.warning("report %d: %s%s", message.id, text, " Given up." if due is None else "")
        await self._settle(message, text, due)

    async def _settle(self, message: Message, error: str, due: dt.datetime | None) -> None:
        async with self.database.transaction() as tx:
            await outbox.failed(tx, message, error, due)


def verdict(found: Sequence[SigningRequest]) -> bool | None:
    """Whether a run's artifacts are signed: None while that is open. A request that another one
    repeats does not count."""
    repeated = {one.original_request_id for one in found}
    last = [one for one in found if one.id not in repeated]
    if not last or any(not one.state.is_final for one in last):
        return None
    return all(one.state is State.COMPLETED for one in last)


def _pause(message: Message) -> float:
    return min(_FIRST_PAUSE * float(1 << min(message.attempts, 12)), _LONGEST_PAUSE)
