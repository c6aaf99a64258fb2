"""A submission from a CI system: resolve the link, fetch the facts, judge them, `submit`.

The build says where to look (`Locator`); what is true is asked of the CI system with the server's
own credential. The artifact is fetched by the worker, or came with the submission where the caller
is proven.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from sealwright.db import Database, Transaction, build_systems, projects, users
from sealwright.errors import (
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    UnauthenticatedError,
)
from sealwright.model.build_system import RepositoryLink, TrustedBuildSystem
from sealwright.model.identifiers import utc_now
from sealwright.model.origin import Locator, Origin, RunFacts
from sealwright.model.request import StoredArtifact
from sealwright.model.user import Principal, User, UserKind
from sealwright.origin import standing
from sealwright.origin.replay import RunSubmission, run_submission
from sealwright.origin.rules import Case, Occasion, OriginRefusedError, judge
from sealwright.origin.systems import Systems
from sealwright.policy.decide import Target, check_submitter
from sealwright.policy.permissions import Access, Grant
from sealwright.queueing.queue import Queue
from sealwright.reporting.outbox import refuse
from sealwright.submit import Content, Reception, Submission, Submitted, resolve, submit
from sealwright.visible import is_name, missing

#: rules that must hold before anything is shown on the commit: else it is somebody else's
_OURS = frozenset({"repository", "owner", "head-repository", "commit"})


@dataclass(frozen=True)
class Build:
    """What a build asks for.

    Attributes:
        system: id or slug of the trusted build system; empty: the one of that kind that links the
            locator's repository to the project.
        locator: nothing in it is believed.
    """

    system: str
    project: str
    policy: str
    locator: Locator = field(repr=False)
    configuration: str | None = None
    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def submission(self) -> Submission:
        """The same, as everybody submits."""
        return Submission(
            self.project, self.policy, self.configuration, self.description, self.parameters
        )


@dataclass(frozen=True)
class Place:
    """Where a submission belongs, as the database has it."""

    system: TrustedBuildSystem
    link: RepositoryLink
    target: Target
    grant: Grant


@dataclass(frozen=True)
class VerifiedRun:
    """That the CI system's facts fit every rule. Only `verify_run` makes one."""

    place: Place
    build: Build
    facts: RunFacts
    origin: Origin

    def submission_of(self, artifact: str) -> RunSubmission:
        """What must not be submitted twice; `artifact` as in `run_submission`."""
        place = self.place
        return run_submission(
            self.origin,
            self.facts,
            place.link.organization_id,
            place.target.project.id,
            place.target.policy.id,
            artifact,
        )


async def verify_run(
    database: Database,
    systems: Systems,
    organization_id: str,
    caller: Grant | None,
    build: Build,
    occasion: Occasion,
) -> VerifiedRun:
    """Ask the CI system about the run, and judge what it says.

    Args:
        caller: None: nothing but the locator's identity token says who calls; it must prove the
            run, and counts in the name of the link's CI user.

    Raises:
        NotFoundError, ForbiddenError, PolicyViolationError: as `submit.admit`.
        UnauthenticatedError: without `caller`: nothing is linked that the token could belong to.
        OriginError: the facts do not exist, or do not fit (`OriginRefusedError`).
        UnavailableError: the CI system or the database is away.
    """
    async with database.read() as tx:
        if caller is not None:
            place = await _place(tx, organization_id, caller, build)
        else:
            place = await _place_of_token(tx, organization_id, build)
    check_submitter(place.grant.user, place.target)
    rules = place.target.policy.origin_rules
    if caller is None:
        rules = dataclasses.replace(rules, caller_proof=True)
    link = await standing.require(database, systems, place.system, place.link)
    place = dataclasses.replace(place, link=link)
    connector = await systems.connector(place.system)
    facts = await systems.ask(connector.facts, place.link, build.locator, rules)
    case = Case(place.system.kind, occasion, place.link, build.locator, facts, rules)
    try:
        origin = judge(case)
    except OriginRefusedError as error:
        if case.by_client and not _OURS & {refusal.rule for refusal in error.refusals}:
            async with database.transaction() as tx:
                await refuse(tx, place.link, place.target, facts, error, utc_now())
        raise
    return VerifiedRun(place, build, facts, origin)


async def submit_run(
    database: Database,
    queue: Queue,
    run: VerifiedRun,
    artifact: StoredArtifact | None = None,
    reception: Reception | None = None,
) -> Submitted:
    """Submit the run's artifact: the one that the origin names, or the `artifact` it sent.

    Raises:
        as `submit.submit`; OriginError: the identity token was used before.
    """
    named = f"sha256:{artifact.sha256}" if artifact else run.origin.artifact_id
    content = Content(
        input=artifact, origin=run.origin, remote=artifact is None, run=run.submission_of(named)
    )
    return await submit(database, queue, run.place.grant, run.build.submission, content, reception)


async def _place(tx: Transaction, organization_id: str, caller: Grant, build: Build) -> Place:
    if caller.organization_id != organization_id:
        raise missing(organization_id, "organization")
    target = await resolve(tx, caller, build.submission)
    system, link = await _link(tx, organization_id, target.project.id, build)
    return Place(system, link, target, caller)


async def _place_of_token(tx: Transaction, organization_id: str, build: Build) -> Place:
    """As `_place`, for a caller of whom nothing is proven: one answer to whatever is missing."""
    try:
        project = None
        if is_name(build.project):
            project = await projects.find(tx, organization_id, build.project)
        if project is None:
            raise missing(build.project, "project")
        system, link = await _link(tx, organization_id, project.id, build)
        user = await _submitter(tx, link)
        grant = Grant(Principal(user, f"link:{link.id}"), Access.PARTICIPANT)
        return Place(system, link, await resolve(tx, grant, build.submission), grant)
    except (NotFoundError, InvalidInputError, ForbiddenError):
        message = "The identity token can belong to no repository that is linked to this project."
        advice = "Check organization, build system, project and policy, and that the repository's "
        advice += "link names a CI user who may submit; or send an API token."
        raise UnauthenticatedError(message, advice=advice) from None


async def _submitter(tx: Transaction, link: RepositoryLink) -> User:
    user = None
    if link.submitter_id:
        user = await users.get(tx, link.organization_id, link.submitter_id)
    if user is None or not user.active or user.kind is not UserKind.CI:
        message = "The link names no CI user."
        raise ForbiddenError(message)
    return user


async def _link(
    tx: Transaction, organization_id: str, project_id: str, build: Build
) -> tuple[TrustedBuildSystem, RepositoryLink]:
    """The one link that fits.

    Raises:
        NotFoundError: no such build system, or it is not linked to the project.
        InvalidInputError: several repositories fit.
    """
    system_id = None
    if build.system:
        named = None
        if is_name(build.system):
            named = await build_systems.find(tx, organization_id, build.system)
        if named is None:
            raise missing(build.system, "trusted build system")
        system_id = named.id
    found = await build_systems.links(
        tx, organization_id, project_id=project_id, build_system_id=system_id
    )
    wanted = build.locator.repository.casefold()
    if wanted:
        found = [one for one in found if _is_named(one, wanted)]
    if not found:
        message = f"No repository {build.locator.repository[:200]!r} is linked to the project."
        raise NotFoundError(message, advice="Have a project administrator link it.")
    if len(found) > 1:
        message = "Several repositories are linked to the project."
        raise InvalidInputError(message, advice="Name the repository.")
    system = await build_systems.find(tx, organization_id, found[0].build_system_id)
    if system is None:
        raise missing(found[0].build_system_id, "trusted build system")
    return system, found[0]


def _is_named(link: RepositoryLink, wanted: str) -> bool:
    """By path or id, or as the job of a branch below a linked multibranch Pipeline of Jenkins."""
    path = link.path.casefold()
    below = not link.owner_id and wanted.startswith(f"{path}/")
    return wanted in {path, link.repository_id.casefold()} or below
