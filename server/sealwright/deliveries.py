"""Webhooks in: a delivery is verified and kept by the web process, and acted on by a worker.

Deliveries come in any order, any number of times. Each is acted on once by its id; and what acting
does may be done again at any time with the same result, because every fact is fetched anew, a run's
artifact is submitted to a policy once, and an approver decides once.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sealwright.approve import approve_or_deny
from sealwright.connectors.connector import ArtifactLister, WebhookEvent
from sealwright.db import Database, build_systems, outbox, requests, users, webhooks
from sealwright.db.webhooks import Delivery
from sealwright.errors import NotFoundError, SealwrightError, UnavailableError
from sealwright.model.build_system import RepositoryLink, Trigger, TrustedBuildSystem
from sealwright.model.identifiers import is_id, utc_now
from sealwright.model.origin import JobFacts, Locator, OriginRules, RunFacts
from sealwright.model.request import SigningRequest, Verdict
from sealwright.model.user import Principal, UserKind
from sealwright.origin.notices import Notice, NoticeKind, read_notice
from sealwright.origin.patterns import matches, matches_any
from sealwright.origin.rules import Occasion
from sealwright.origin.systems import Systems
from sealwright.policy.permissions import Access, Grant, authorize
from sealwright.queueing.claims import CLAIM, renewing
from sealwright.queueing.queue import Queue
from sealwright.reporting.outbox import announce, ask_deployment
from sealwright.submit_run import Build, submit_run, verify_run

_log = logging.getLogger(__name__)

ROUND_SECONDS = 1.0
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 600.0
_GIVE_UP = dt.timedelta(days=1)
_MAX_ARTIFACTS = 50  #: of one run that one trigger submits
_MAX_REPEATED = 50
_VERDICTS = {"approve": Verdict.APPROVE, "deny": Verdict.DENY}


async def keep(database: Database, system: TrustedBuildSystem, event: WebhookEvent) -> str:
    """Keep a verified delivery for a worker; what it means, or what became of it earlier."""
    notice = read_notice(system.kind, event)
    kind = notice.kind if notice else None
    now = utc_now()
    acts = kind not in {None, NoticeKind.NOTED}
    outcome = "" if acts else ("noted" if notice else "ignored: unknown event")
    delivery = Delivery(
        build_system_id=system.id,
        delivery_id=event.delivery_id[:200],
        name=event.name[:100],
        action=(kind.value if kind else event.action)[:100],
        repository_id=(notice.repository_id if notice else "")[:200],
        locators={name: text[:500] for name, text in (notice.locators if notice else {}).items()},
        received_at=now,
        due_at=now if acts else None,
        outcome=outcome,
    )
    async with database.transaction() as tx:
        earlier = await webhooks.add(tx, delivery)
    if earlier is not None:
        return f"received before: {earlier.outcome or 'under way'}"
    return outcome or delivery.action


async def act_on_deliveries(database: Database, queue: Queue, systems: Systems) -> None:
    """Act on what is due, round after round."""
    while True:
        await asyncio.sleep(ROUND_SECONDS * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
        try:
            await act_on_due(database, queue, systems)
        except SealwrightError as error:
            _log.warning("cannot act on webhooks now: %s", error)


async def act_on_due(database: Database, queue: Queue, systems: Systems) -> int:
    """Act on every delivery that is due; how many were taken.

    Raises:
        UnavailableError: the database is away.
    """
    async with database.read() as tx:
        due = await webhooks.due(tx, utc_now())
    return sum([await _act(Actor(database, queue, systems), delivery) for delivery in due])


async def _act(actor: Actor, delivery: Delivery) -> bool:
    now = utc_now()
    database = actor.database
    async with database.transaction() as tx:
        if not await webhooks.claim(tx, delivery, now + CLAIM):
            return False

    async def renew() -> None:
        async with database.transaction() as tx:
            await webhooks.renew(tx, delivery, utc_now() + CLAIM)

    async with renewing(renew):
        outcome, due = await _outcome(actor, delivery)
    async with database.transaction() as tx:
        await webhooks.settle(tx, delivery, outcome, due)
    return True


async def _outcome(actor: Actor, delivery: Delivery) -> tuple[str, dt.datetime | None]:
    """What came of it, and when to try again, if so."""
    now = utc_now()
    due: dt.datetime | None = None
    try:
        outcome = await actor.act(delivery)
    except UnavailableError as error:
        outcome = error.message
        if now - delivery.received_at < _GIVE_UP:
            pause = min(_FIRST_PAUSE * 2 ** min(delivery.attempts, 10), _LONGEST_PAUSE)
            due = now + dt.timedelta(seconds=pause)
    except SealwrightError as error:
        outcome = f"refused: {error.message}"
    except Exception as error:  # noqa: BLE001 - the job wrapper: a delivery never ends the loop
        _log.error("webhook %s failed", delivery.delivery_id, exc_info=error)
        outcome = f"failed: {type(error).__name__}"
    return outcome, due


@dataclass(frozen=True)
class Actor:
    """Acts on deliveries."""

    database: Database
    queue: Queue
    systems: Systems

    async def act(self, delivery: Delivery) -> str:
        """Do what the delivery asks for; what came of it.

        Raises:
            UnavailableError: a part is away; to be tried again. Other errors are final.
        """
        async with self.database.read() as tx:
            system = await build_systems.get_any(tx, delivery.build_system_id)
            if system is None or not system.enabled:
                return "ignored: the build system is disabled"
            links = await build_systems.links(
                tx,
                system.organization_id,
                build_system_id=system.id,
                repository_id=delivery.repository_id,
            )
        if not links:
            return "ignored: the repository is not linked"
        notice = Notice(NoticeKind(delivery.action), delivery.repository_id, delivery.locators)
        outcomes: list[str] = []
        for link in links:
            match notice.kind:
                case NoticeKind.RUN_ENDED:
                    outcomes += await self._run_ended(system, link, notice.locators)
                case NoticeKind.ACTION:
                    outcomes += await self._action(system, link, notice.locators)
                case NoticeKind.REPORT_AGAIN:
                    outcomes += await self._report_again(link, notice.locators)
                case NoticeKind.DEPLOYMENT:
                    outcomes += await self._deployment(link, notice.locators)
                case NoticeKind.NOTED:
                    pass
        return "; ".join(dict.fromkeys(outcomes)) or "nothing to do"

    async def _run_ended(
        self, system: TrustedBuildSystem, link: RepositoryLink, locators: Mapping[str, str]
    ) -> list[str]:
        """Submit what the triggers of the link ask for."""
        async with self.database.read() as tx:
            found = await build_systems.find_triggers(tx, link.organization_id, link_id=link.id)
        triggers = [trigger for trigger in found if trigger.enabled]
        if not triggers:
            return []
        connector = await self.systems.connector(system)
        locator = Locator(link.repository_id, locators.get("run_id", ""))
        facts = await self.systems.ask(connector.facts, link, locator, OriginRules())
        wanted = [trigger for trigger in triggers if _fits(trigger, facts)]
        if not wanted:
            return ["no trigger fits the run"]
        if isinstance(connector, ArtifactLister):
            listed = await self.systems.ask(connector.artifacts, link, locator.run_id)
            artifacts = [(one.name, one.id) for one in listed]
        else:
            artifacts = _left_by(facts.jobs)
        return [
            await self._submit(system, link, trigger, locator.run_id, artifact_id)
            for trigger in wanted
            for artifact_id in _chosen(trigger, artifacts)
        ]

    async def _submit(
        self,
        system: TrustedBuildSystem,
        link: RepositoryLink,
        trigger: Trigger,
        run_id: str,
        artifact_id: str,
    ) -> str:
        async with self.database.read() as tx:
            user = await users.get(tx, trigger.organization_id, trigger.submitter_id)
        if user is None or not user.active or user.kind is not UserKind.CI:
            return "refused: the trigger's CI user is not active"
        grant = Grant(Principal(user, f"trigger:{trigger.id}"), Access.PARTICIPANT)
        build = Build(
            system=system.id,
            project=trigger.project_id,
            policy=trigger.signing_policy_id,
            configuration=trigger.artifact_configuration_id,
            locator=Locator(link.repository_id, run_id, 0, artifact_id),
        )
        try:
            run = await verify_run(
                self.database,
                self.systems,
                trigger.organization_id,
                grant,
                build,
                Occasion.TRIGGER,
            )
            submitted = await submit_run(self.database, self.queue, run)
        except UnavailableError:
            raise
        except SealwrightError as error:
            return f"refused: {error.message}"
        return f"submitted: {submitted.request.id}"

    async def _action(
        self, system: TrustedBuildSystem, link: RepositoryLink, locators: Mapping[str, str]
    ) -> list[str]:
        """Approve or deny in the name of who pressed the button."""
        verdict = _VERDICTS.get(locators.get("action", ""))
        async with self.database.read() as tx:
            told = await outbox.by_reference(tx, link.id, locators.get("reference", ""))
            request_id = told.request_id if told else None
            request = (
                await requests.get(tx, link.organization_id, request_id) if request_id else None
            )
            identity = await build_systems.identity_of(tx, system.id, locators.get("user_id", ""))
            user = await users.get(tx, link.organization_id, identity.user_id) if identity else None
        if verdict is None or request is None or request.id != locators.get("request_id"):
            return []
        login = locators.get("login", "")[:100]
        if user is None or not user.active:
            note = f"{login} has no account here that may decide. Link it on the account's page."
            return [await self._explain(request, note)]
        try:
            grant = authorize("signing_requests.approve", Principal(user, f"remote:{system.id}"))
            comment = f"by {login} on {system.name}"
            await approve_or_deny(self.database, self.queue, grant, request.id, verdict, comment)
        except UnavailableError:
            raise
        except NotFoundError:
            return [await self._explain(request, f"{login} is not an approver of this request.")]
        except SealwrightError as error:
            return [await self._explain(request, error.message)]
        return [f"{verdict.value}: {request.id}"]

    async def _explain(self, request: SigningRequest, note: str) -> str:
        """Have the check show why nothing came of the button."""
        async with self.database.transaction() as tx:
            present = await requests.get(tx, request.organization_id, request.id, lock=True)
            if present is not None:
                await announce(tx, present, utc_now(), note=note)
        return f"refused: {note}"

    async def _report_again(self, link: RepositoryLink, locators: Mapping[str, str]) -> list[str]:
        """Report once more what is known of a request, or of every request of a commit."""
        request_id, commit = locators.get("request_id", ""), locators.get("commit", "")
        async with self.database.transaction() as tx:
            if is_id(request_id):
                one = await requests.get(tx, link.organization_id, request_id)
                found = [one] if one else []
            else:
                found = await requests.page(
                    tx, link.organization_id, project_ids=[link.project_id], limit=200
                )
            wanted = [
                one
                for one in found
                if one.project_id == link.project_id
                and one.origin.build_system_id == link.build_system_id
                and (one.id == request_id or (commit and one.origin.commit == commit))
            ]
            for one in wanted[:_MAX_REPEATED]:
                await announce(tx, one, utc_now(), again=True)
        return [f"reported again: {one.id}" for one in wanted[:_MAX_REPEATED]]

    async def _deployment(self, link: RepositoryLink, locators: Mapping[str, str]) -> list[str]:
        run_id, environment = locators.get("run_id", ""), locators.get("environment", "")
        if not run_id or not environment:
            return []
        async with self.database.transaction() as tx:
            await ask_deployment(tx, link, run_id, environment, utc_now())
        return ["the deployment is answered once the run's requests are finished"]


def _fits(trigger: Trigger, facts: RunFacts) -> bool:
    return trigger.definition in {"", facts.definition} and matches_any(trigger.refs, facts.ref)


def _left_by(jobs: Iterable[JobFacts]) -> list[tuple[str, str]]:
    """Where artifacts are those of jobs: the last one of each name."""
    return list({job.name: (job.name, job.id) for job in jobs}.values())


def _chosen(trigger: Trigger, artifacts: Iterable[tuple[str, str]]) -> list[str]:
    found = [one for name, one in artifacts if matches(trigger.artifact, name)]
    return found[:_MAX_ARTIFACTS]
