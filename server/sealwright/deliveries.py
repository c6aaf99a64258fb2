"""Webhooks in: a delivery is verified and kept by the web process, and acted on by a worker.

Deliveries come in any order, any number of times. Each is acted on once by its id; and what acting
does may be done again at any time with the same result, because every fact is fetched anew, a run's
artifact is submitted to a policy once, and an approver decides once.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sealwright.approve import approve_or_deny
from sealwright.connectors.connector import ArtifactLister, RunWatcher, WebhookEvent
from sealwright.db import (
    Database,
    build_systems,
    outbox,
    request_sets,
    requests,
    users,
    webhooks,
)
from sealwright.db.webhooks import Delivery
from sealwright.errors import NotFoundError, SealwrightError, UnavailableError
from sealwright.model.build_system import (
    LinkStanding,
    RepositoryLink,
    Trigger,
    TrustedBuildSystem,
)
from sealwright.model.identifiers import is_id, utc_now
from sealwright.model.origin import JobFacts, Locator, OriginRules, RunFacts, origin_rules
from sealwright.model.request import SigningRequest, State, Verdict
from sealwright.model.user import Principal, UserKind
from sealwright.origin import standing
from sealwright.origin.notices import Notice, NoticeKind, read_notice
from sealwright.origin.patterns import matches, matches_any
from sealwright.origin.rules import Case, Occasion, OriginRefusedError, is_live, judge
from sealwright.origin.systems import Systems
from sealwright.policy.permissions import Access, Grant, authorize
from sealwright.queueing.claims import CLAIM, renewing
from sealwright.queueing.lifecycle import advance
from sealwright.queueing.queue import Queue
from sealwright.reporting.dispatch import GIVE_UP
from sealwright.reporting.lanes import Due, Lanes
from sealwright.reporting.outbox import announce, ask_deployment
from sealwright.submit_run import Build, submit_run, verify_run

_log = logging.getLogger(__name__)

#: deliveries acted on at once, and of one system: with reports fewer than `Systems` has threads
_MOST, _EACH = 8, 3
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 600.0
_GIVE_UP = dt.timedelta(days=1)
_LAG = dt.timedelta(minutes=10)  #: by which what a CI system's API says may lag behind its webhooks
_MAX_ARTIFACTS = 50  #: of one run that one trigger submits
_UNSIGNED = (
    State.SUBMITTED,
    State.RETRIEVING_ARTIFACT,
    State.WAITING_FOR_APPROVAL,
    State.WAITING_FOR_ENDORSEMENT,
)
#: rules that the move of a tag may break
_OF_REFS = frozenset({"ref", "allowed-ref", "commit", "reachable"})
_VERDICTS = {"approve": Verdict.APPROVE, "deny": Verdict.DENY}


class _NotYetError(UnavailableError):
    """The CI system's API does not say yet what its webhook says."""


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
    """Act on what comes due, for good."""
    await _lanes(Actor(database, queue, systems)).run()


async def act_on_due(database: Database, queue: Queue, systems: Systems) -> int:
    """Act on every delivery that is due; how many were taken.

    Raises:
        UnavailableError: the database is away.
    """
    return await _lanes(Actor(database, queue, systems)).drain()


def _lanes(actor: Actor) -> Lanes[Delivery]:
    """A lane is a build system: one whose API hangs holds up nobody else."""

    async def due() -> list[Due[Delivery]]:
        async with actor.database.read() as tx:
            found = await webhooks.due(tx, utc_now(), each=_EACH)
        return [
            Due((one.build_system_id, one.delivery_id), one.build_system_id, one) for one in found
        ]

    async def act(delivery: Delivery) -> bool:
        return await _act(actor, delivery)

    return Lanes(due, act, most=_MOST, each=_EACH)


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
        patience = _LAG if isinstance(error, _NotYetError) else _GIVE_UP
        if now - delivery.received_at < patience:
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
            notice = Notice(NoticeKind(delivery.action), delivery.repository_id, delivery.locators)
            by_access = notice.kind is NoticeKind.ACCESS_CHANGED
            where = (
                {"installation_id": notice.locators.get("installation_id") or "none"}
                if by_access
                else {"repository_id": delivery.repository_id}
            )
            links = await build_systems.links(
                tx, system.organization_id, build_system_id=system.id, **where
            )
        if not links:
            return "ignored: the repository is not linked"
        outcomes: list[str] = []
        for link in links:
            match notice.kind:
                case NoticeKind.RUN_ENDED:
                    outcomes += await self._run_ended(system, link, notice.locators)
                case NoticeKind.JOB_ENDED:
                    outcomes += await self._job_ended(system, link, notice.locators)
                case NoticeKind.TAG_MOVED:
                    outcomes += await self._tag_moved(system, link, notice.locators)
                case NoticeKind.ACCESS_CHANGED:
                    outcomes += await self._access_changed(system, link)
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
        triggers = await self._triggers(link)
        if not triggers:
            return []
        link = await standing.require(self.database, self.systems, system, link)
        connector = await self.systems.connector(system)
        locator = Locator(link.repository_id, locators.get("run_id", ""))
        facts = await self.systems.ask(connector.facts, link, locator, OriginRules())
        if is_live(facts):
            message = f"The run {facts.run_id} goes on, {system.name} says."
            raise _NotYetError(message, advice="Nothing: it is asked again.")
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

    async def _triggers(self, link: RepositoryLink) -> list[Trigger]:
        async with self.database.read() as tx:
            found = await build_systems.find_triggers(tx, link.organization_id, link_id=link.id)
        return [trigger for trigger in found if trigger.enabled]

    async def _job_ended(
        self, system: TrustedBuildSystem, link: RepositoryLink, locators: Mapping[str, str]
    ) -> list[str]:
        """Where it was the last job, its run has ended: news of that may have been lost."""
        if not await self._triggers(link):
            return []
        link = await standing.require(self.database, self.systems, system, link)
        connector = await self.systems.connector(system)
        if not isinstance(connector, RunWatcher):
            return []
        run_id = locators.get("run_id", "")
        if not await self.systems.ask(connector.has_succeeded, link, run_id):
            return ["the run goes on, or did not succeed"]
        return await self._run_ended(system, link, locators)

    async def _tag_moved(
        self, system: TrustedBuildSystem, link: RepositoryLink, locators: Mapping[str, str]
    ) -> list[str]:
        """Cancel what waits and was built for the tag, unless the tag still leads to its commit."""
        ref = locators.get("ref", "")
        outcomes = []
        async for some in request_sets.in_states(
            self.database, link.organization_id, link.project_id, _UNSIGNED
        ):
            for request in some:
                origin = request.origin
                if not (_is_of(request, link) and origin.verified and origin.ref == ref):
                    continue
                why = await self._why_no_longer(system, link, request)
                if why:
                    await self._cancel(system, request, why)
                    outcomes.append(f"canceled: {request.id}")
        return outcomes

    async def _why_no_longer(
        self, system: TrustedBuildSystem, link: RepositoryLink, request: SigningRequest
    ) -> str:
        """Which rule about its ref the request's run no longer fits; empty: it fits."""
        origin = request.origin
        locator = Locator(origin.repository_id, origin.run_id, origin.run_attempt)
        rules = origin_rules(request.snapshot.fields.get("origin_rules", {}))
        connector = await self.systems.connector(system)
        facts = await self.systems.ask(connector.facts, link, locator, rules)
        try:
            judge(Case(system.kind, Occasion.RETRIEVAL, link, locator, facts, rules, origin))
        except OriginRefusedError as error:
            return next((one.error for one in error.refusals if one.rule in _OF_REFS), "")
        return ""

    async def _cancel(self, system: TrustedBuildSystem, request: SigningRequest, why: str) -> None:
        async with self.database.transaction() as tx:
            present = await requests.get(tx, request.organization_id, request.id, lock=True)
            if present is None or present.state not in _UNSIGNED:
                return
            await advance(
                tx, present, State.CANCELED, actor=f"build-system:{system.id}", now=utc_now(),
                reason=f"The tag was moved or deleted before anything was signed. {why}",
                advice="Build the tag again.",
            )  # fmt: skip
        await self.queue.announce(request.id)

    async def _access_changed(self, system: TrustedBuildSystem, link: RepositoryLink) -> list[str]:
        """Keep whether the repository can still be reached; report what could not be meanwhile."""
        before = link
        link = await standing.refresh(self.database, self.systems, system, link)
        if link.standing is LinkStanding.ACTIVE is not before.standing:
            await self._report_since(link, before.standing_at)
        return [f"{link.path}: {link.standing.value}"]

    async def _report_since(self, link: RepositoryLink, since: dt.datetime | None) -> None:
        """Report what goes on, and what has ended meanwhile: of two days where nobody knows."""
        place = self.database, link.organization_id, link.project_id
        going = [state for state in State if not state.is_final]
        async for some in request_sets.in_states(*place, going):
            await self._announce(link, some)
        async for some in request_sets.ended_since(*place, since or utc_now() - GIVE_UP):
            await self._announce(link, some)

    async def _announce(self, link: RepositoryLink, found: Sequence[SigningRequest]) -> list[str]:
        """Report once more those of `found` that came from the link; what was done."""
        own = [one for one in found if _is_of(one, link)]
        async with self.database.transaction() as tx:
            for one in own:
                present = await requests.get(tx, one.organization_id, one.id, lock=True)
                if present is not None:
                    await announce(tx, present, utc_now(), again=True)
        return [f"reported again: {one.id}" for one in own]

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
        if is_id(request_id):
            async with self.database.read() as tx:
                one = await requests.get(tx, link.organization_id, request_id)
            return await self._announce(link, [one] if one else [])
        outcomes = []
        async for some in request_sets.of_commit(
            self.database, link.organization_id, link.project_id, commit
        ):
            outcomes += await self._announce(link, some)
        return outcomes

    async def _deployment(self, link: RepositoryLink, locators: Mapping[str, str]) -> list[str]:
        run_id, environment = locators.get("run_id", ""), locators.get("environment", "")
        if not run_id or not environment:
            return []
        async with self.database.transaction() as tx:
            await ask_deployment(tx, link, run_id, environment, utc_now())
        return ["the deployment is answered once the run's requests are finished"]


def _is_of(request: SigningRequest, link: RepositoryLink) -> bool:
    origin = request.origin
    return (request.project_id, origin.build_system_id, origin.repository_id) == (
        link.project_id,
        link.build_system_id,
        link.repository_id,
    )


def _fits(trigger: Trigger, facts: RunFacts) -> bool:
    return trigger.definition in {"", facts.definition} and matches_any(trigger.refs, facts.ref)


def _left_by(jobs: Iterable[JobFacts]) -> list[tuple[str, str]]:
    """Where artifacts are those of jobs: the last one of each name."""
    return list({job.name: (job.name, job.id) for job in jobs}.values())


def _chosen(trigger: Trigger, artifacts: Iterable[tuple[str, str]]) -> list[str]:
    found = [one for name, one in artifacts if matches(trigger.artifact, name)]
    return found[:_MAX_ARTIFACTS]
