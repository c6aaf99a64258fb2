"""The rules of origin verification, as data.

`judge` applies every rule that fits the occasion to what the CI system said, and gives an `Origin`
that names the rules which held, or refuses with everything that did not. It reads nothing but its
arguments. docs/origin.md lists each rule by its name; a test compares the two.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sealwright.errors import OriginError
from sealwright.model.build_system import BuildSystemKind, RepositoryLink
from sealwright.model.origin import (
    ArtifactFacts,
    Locator,
    Origin,
    OriginRules,
    Proof,
    RulesetFacts,
    RunFacts,
)
from sealwright.origin.claims import misfits
from sealwright.origin.patterns import matches_any

#: What may start a run whose artifacts are signed. Neither pull and merge requests, whose code
#: nobody has accepted, nor runs that others start with the rights of the repository.
EVENTS: Mapping[BuildSystemKind, frozenset[str]] = {
    BuildSystemKind.GITHUB: frozenset(
        {"push", "workflow_dispatch", "schedule", "release", "create", "repository_dispatch"}
    ),
    BuildSystemKind.GITLAB: frozenset({"push", "web", "schedule", "api", "trigger"}),
    # class names of causes; several may have come together
    BuildSystemKind.JENKINS: frozenset(
        {
            "BranchEventCause",
            "BranchIndexingCause",
            "GitHubPushCause",
            "GitLabWebHookCause",
            "SCMTriggerCause",
            "TimerTriggerCause",
            "UserIdCause",
        }
    ),
}
_LIVE = frozenset({"queued", "in_progress", "waiting", "pending", "requested", "running"})
_DONE = frozenset({"completed", "success"})
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WORKFLOW = re.compile(r"\.github/workflows/[^/@]+\.ya?ml")
_REFS = {"branch": "refs/heads/", "tag": "refs/tags/"}


class Occasion(enum.Enum):
    """When facts are judged."""

    SUBMISSION = "submission"  # a build asks, the server fetches the artifact
    UPLOAD = "upload"  # a build asks and sends the artifact itself
    TRIGGER = "trigger"  # the run has ended; the server asks on its own
    RETRIEVAL = "retrieval"  # the worker is about to fetch the artifact


@dataclass(frozen=True)
class Refusal:
    """A rule that does not hold: what is wrong, and what to do about it."""

    rule: str
    error: str
    how_to_fix: str


class OriginRefusedError(OriginError):
    """The CI system's facts do not fit the rules; `refusals` has one entry for each that fails."""

    def __init__(self, refusals: tuple[Refusal, ...]) -> None:
        first = refusals[0]
        more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
        super().__init__(f"{first.error}{more}", advice=first.how_to_fix)
        self.refusals = refusals


@dataclass(frozen=True)
class Case:
    """What is judged.

    Attributes:
        rules: of the signing policy.
        recorded: the origin that the request was accepted with; only when its artifact is fetched.
    """

    kind: BuildSystemKind
    occasion: Occasion
    link: RepositoryLink
    locator: Locator
    facts: RunFacts
    rules: OriginRules = field(default_factory=OriginRules)
    recorded: Origin | None = None

    @property
    def is_git_forge(self) -> bool:
        """GitHub or GitLab: the repository is the CI system's own."""
        return self.kind is not BuildSystemKind.JENKINS

    @property
    def artifact(self) -> ArtifactFacts | None:
        """As the CI system describes it."""
        return self.facts.artifact

    @property
    def fetched(self) -> bool:
        """Whether the server fetches the artifact."""
        return self.occasion is not Occasion.UPLOAD

    @property
    def by_client(self) -> bool:
        """Whether a build asks."""
        return self.occasion in {Occasion.SUBMISSION, Occasion.UPLOAD}

    @property
    def wants_proof(self) -> bool:
        """Whether the caller has to be proven."""
        return self.rules.caller_proof or self.occasion is Occasion.UPLOAD

    @property
    def short_ref(self) -> str:
        """Name of the branch or tag."""
        return self.facts.ref.removeprefix("refs/heads/").removeprefix("refs/tags/")


Check = Callable[[Case], bool]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: stable; kept in `Origin.checks` and in the log.
        applies: whether the rule is about this case at all.
        check: whether it holds.
        error: what is wrong where it does not; may name facts in braces, by `Case`.
        fix: what to do about it.
    """

    name: str
    applies: Check
    check: Check
    error: str
    fix: str


def judge(case: Case) -> Origin:
    """Apply every rule.

    Raises:
        OriginRefusedError: with every rule that does not hold.
    """
    applied = [rule for rule in RULES if rule.applies(case)]
    refusals = tuple(
        Refusal(rule.name, _text(rule.error, case), rule.fix)
        for rule in applied
        if not rule.check(case)
    )
    if refusals:
        raise OriginRefusedError(refusals)
    return _origin(case, tuple(rule.name for rule in applied))


def judge_again(origin: Origin, rules: OriginRules, judged_by: OriginRules | None) -> None:
    """Judge the origin of an earlier request by another policy's rules, without asking again.

    Raises:
        OriginRefusedError: a rule does not hold, or only the build system could tell.
    """
    if rules in (judged_by, OriginRules()):
        return
    refusals = [
        Refusal(name, f"The origin does not fit the signing policy: {name}.", _RESUBMIT)
        for name, holds in _AGAIN
        if not holds(origin, rules)
    ]
    if refusals:
        raise OriginRefusedError(tuple(refusals))


def _origin(case: Case, checks: tuple[str, ...]) -> Origin:
    facts = case.facts
    return Origin(
        verified=True,
        repository_url=facts.repository_url,
        branch=case.short_ref,
        commit=facts.commit,
        source_control="git",
        build_url=facts.run_url,
        build_settings_file=facts.definition,
        proof=_proof(case),
        build_system_id=case.link.build_system_id,
        repository_id=facts.repository_id,
        ref=facts.ref,
        ref_type=facts.ref_type,
        event=facts.event,
        run_id=facts.run_id,
        run_attempt=facts.run_attempt,
        definition_commit=facts.definition_commit,
        runner=_runners(facts),
        artifact_id=case.artifact.id if case.artifact and case.fetched else "",
        artifact_sha256=case.artifact.sha256 if case.artifact and case.fetched else "",
        checks=checks,
    )


def _proof(case: Case) -> Proof:
    if case.facts.claims is not None:
        return Proof.CALLER
    return Proof.RUN if case.is_git_forge else Proof.CONTROLLER


def _runners(facts: RunFacts) -> str:
    names = {
        job.runner_group or {True: "hosted", False: "self-hosted", None: ""}[job.hosted]
        for job in facts.jobs
    }
    return ", ".join(sorted(names - {""}))[:500]


def _text(template: str, case: Case) -> str:
    facts = case.facts
    return template.format(
        facts=facts,
        link=case.link,
        locator=case.locator,
        ref=case.short_ref[:200],
        artifact=case.artifact.name[:200] if case.artifact else "",
        claims=", ".join(misfits(case.kind, facts)) if facts.claims is not None else "",
        rulesets=", ".join(_missing_rules(case)),
        bypass=", ".join(facts.rulesets.bypass_actors[:10]) if facts.rulesets else "",
    )


def _always(_case: Case) -> bool:
    return True


def _run_named(case: Case) -> bool:
    run_id, named = case.facts.run_id, case.locator.run_id
    if case.kind is BuildSystemKind.JENKINS and "/" not in named:
        # a build of a multibranch Pipeline is ``main/12``; itself it knows 12 and its job's name
        run_id = run_id.rpartition("/")[2]
    return bool(run_id) and run_id == named


def _event_allowed(case: Case) -> bool:
    allowed = EVENTS[case.kind]
    if case.rules.events:
        allowed &= frozenset(case.rules.events)
    return set(case.facts.event.split(",")) <= allowed


def _definition_known(case: Case) -> bool:
    if case.kind is BuildSystemKind.GITHUB:
        return _WORKFLOW.fullmatch(case.facts.definition) is not None
    return bool(case.facts.definition) and ".." not in case.facts.definition.split("/")


def _ref_exists(case: Case) -> bool:
    facts = case.facts
    prefix = _REFS.get(facts.ref_type)
    return prefix is not None and facts.ref.startswith(prefix) and len(facts.ref) > len(prefix)


def _ref_allowed(case: Case) -> bool:
    patterns = {"branch": case.rules.branches, "tag": case.rules.tags}
    return matches_any(patterns.get(case.facts.ref_type, ()), case.short_ref)


def _caller_proven(case: Case) -> bool:
    return case.facts.claims is not None


def _ended_well(case: Case) -> bool:
    facts = case.facts
    return facts.status in _DONE and facts.conclusion in {"success", ""}


def is_live(facts: RunFacts) -> bool:
    """Whether the run goes on."""
    return facts.status in _LIVE and not facts.conclusion


def _jobs_of_first_attempt(case: Case) -> bool:
    facts = case.facts
    return facts.run_attempt == 1 and bool(facts.jobs) and all(j.attempt == 1 for j in facts.jobs)


def _missing_rules(case: Case) -> list[str]:
    found = (case.facts.rulesets or RulesetFacts()).rules
    return [
        f"{name} >= {least}" if least else name
        for name, least in sorted(case.rules.rulesets.items())
        if name not in found or not _reaches(found[name], least)
    ]


def _reaches(value: str, least: str) -> bool:
    """Numbers are compared as such, everything else must be equal; nothing demanded: anything."""
    if not least:
        return True
    if value.isdecimal() and least.isdecimal():
        return int(value) >= int(least)
    return value == least


def _artifact_complete(case: Case) -> bool:
    artifact = case.artifact
    return (
        artifact is not None
        and (artifact.size > 0 or not case.is_git_forge)  # Jenkins tells no sizes
        and bool(artifact.name and artifact.file_name)
        and (not artifact.sha256 or _SHA256.fullmatch(artifact.sha256) is not None)
    )


def _of_artifact(check: Callable[[Case, ArtifactFacts], bool]) -> Check:
    """The check of an artifact; one that is missing is another rule's business."""
    return lambda case: case.artifact is None or check(case, case.artifact)


def _unchanged(case: Case) -> bool:
    recorded, facts, artifact = case.recorded, case.facts, case.artifact
    if recorded is None or artifact is None:
        return False
    before = (recorded.repository_id, recorded.run_id, recorded.run_attempt, recorded.commit,
              recorded.ref, recorded.event, recorded.artifact_id)  # fmt: skip
    now = (facts.repository_id, facts.run_id, facts.run_attempt, facts.commit, facts.ref,
           facts.event, artifact.id)  # fmt: skip
    return before == now and recorded.artifact_sha256 in {"", artifact.sha256}


_FORGE: Check = lambda case: case.is_git_forge  # noqa: E731
_FETCHED: Check = lambda case: case.fetched  # noqa: E731

_RESUBMIT = "Submit to this policy from the build itself."


def _same_ref(origin: Origin, rules: OriginRules) -> bool:
    patterns = {"branch": rules.branches, "tag": rules.tags}
    free = not (rules.branches or rules.tags)
    return free or matches_any(patterns.get(origin.ref_type, ()), origin.branch)


#: What an origin that was verified earlier can still be judged by.
_AGAIN: tuple[tuple[str, Callable[[Origin, OriginRules], bool]], ...] = (
    ("allowed-ref", _same_ref),
    ("event", lambda origin, rules: not rules.events or origin.event in rules.events),
    (
        "allowed-definition",
        lambda origin, rules: (
            not rules.definitions or origin.build_settings_file in rules.definitions
        ),
    ),
    ("caller", lambda origin, rules: not rules.caller_proof or origin.proof is Proof.CALLER),
    ("no-reruns", lambda _origin, rules: not rules.no_reruns),
    ("hosted-runners", lambda _origin, rules: not rules.hosted_runners_only),
    ("runner-groups", lambda _origin, rules: not rules.runner_groups),
    ("rulesets", lambda _origin, rules: not rules.rulesets),
)

#: Every rule, in the order in which they are shown.
RULES: tuple[Rule, ...] = (
    Rule(
        "repository",
        _always,
        lambda case: case.facts.repository_id == case.link.repository_id,
        "The run belongs to the repository with id {facts.repository_id}, not to the linked one.",
        "Submit from a run of the repository that is linked to the project, or link this one.",
    ),
    Rule(
        "owner",
        _FORGE,
        lambda case: case.facts.owner_id == case.link.owner_id,
        "The repository has another owner (id {facts.owner_id}) than when it was linked.",
        "If it was transferred on purpose, have a project administrator link it again.",
    ),
    Rule(
        "head-repository",
        _always,
        lambda case: case.facts.head_repository_id == case.link.repository_id,
        "The run's commit comes from another repository (id {facts.head_repository_id}): a fork.",
        "Merge the change, and sign what is built from the repository itself.",
    ),
    Rule(
        "addresses",
        _FORGE,
        lambda case: (
            case.facts.run_url.startswith(case.facts.repository_url.rstrip("/") + "/")
            and case.facts.run_url.endswith(f"/{case.facts.run_id}")
        ),
        "The run's page {facts.run_url} is not one of its repository.",
        "Check the address of the trusted build system.",
    ),
    Rule(
        "run",
        _always,
        _run_named,
        "The build system answered with the run {facts.run_id} instead of {locator.run_id}.",
        "Give the id of the run that makes the artifact.",
    ),
    Rule(
        "attempt",
        _always,
        lambda case: (
            case.facts.run_attempt >= 1
            and case.locator.run_attempt in {0, case.facts.run_attempt}
            and all(1 <= job.attempt <= case.facts.run_attempt for job in case.facts.jobs)
        ),
        "The run is in attempt {facts.run_attempt}, the submission names {locator.run_attempt}.",
        "Submit from the attempt that runs now.",
    ),
    Rule(
        "event",
        _always,
        _event_allowed,
        "The run was started by {facts.event!r}, from which nothing is signed.",
        "Sign in a run that a push, a tag, a schedule or a person started, and that the signing "
        "policy allows; never in one of a pull or merge request.",
    ),
    Rule(
        "definition",
        _always,
        _definition_known,
        "The run's definition {facts.definition!r} is not a file of the repository.",
        "Define the build in the repository (a workflow file, .gitlab-ci.yml, a Jenkinsfile).",
    ),
    Rule(
        "allowed-definition",
        lambda case: bool(case.rules.definitions),
        lambda case: case.facts.definition in case.rules.definitions,
        "The signing policy does not allow builds by {facts.definition!r}.",
        "Sign in an allowed workflow, or have this one added to the signing policy.",
    ),
    Rule(
        "ref",
        _always,
        _ref_exists,
        "The ref {facts.ref!r} of the run is neither a branch nor a tag that exists.",
        "Push the branch or tag again, or start the build on one that exists.",
    ),
    Rule(
        "allowed-ref",
        lambda case: bool(case.rules.branches or case.rules.tags),
        _ref_allowed,
        "The signing policy does not allow the ref {ref!r}.",
        "Build from an allowed branch or tag, or have the signing policy changed.",
    ),
    Rule(
        "commit",
        _always,
        lambda case: _COMMIT.fullmatch(case.facts.commit) is not None,
        "The build system did not tell the run's commit.",
        "Build from a git commit.",
    ),
    Rule(
        "definition-commit",
        _always,
        lambda case: case.facts.definition_commit in {"", case.facts.commit},
        "The build's definition was read from {facts.definition_commit}, another commit than the "
        "one that was built.",
        "Keep the definition in the repository, and build the commit that it is read from.",
    ),
    Rule(
        "reachable",
        _always,
        lambda case: (
            case.facts.reachable or (case.facts.reachable is None and not case.is_git_forge)
        ),
        "The commit {facts.commit} is not reachable from {ref!r} any more.",
        "The ref was moved after the run began: build what it points to now.",
    ),
    Rule(
        "live",
        lambda case: case.by_client,
        lambda case: is_live(case.facts),
        "The run is {facts.status} ({facts.conclusion}); only a running build may submit.",
        "Submit from within the run, or let a trigger sign what it leaves.",
    ),
    Rule(
        "succeeded",
        lambda case: case.occasion is Occasion.TRIGGER,
        _ended_well,
        "The run has not succeeded: {facts.status} ({facts.conclusion}).",
        "Nothing to do: a run that succeeds is signed.",
    ),
    Rule(
        "no-reruns",
        lambda case: case.rules.no_reruns,
        _jobs_of_first_attempt,
        "The signing policy allows no re-runs, and this is attempt {facts.run_attempt}.",
        "Start a new run instead.",
    ),
    Rule(
        "hosted-runners",
        lambda case: case.rules.hosted_runners_only,
        lambda case: bool(case.facts.jobs) and all(job.hosted is True for job in case.facts.jobs),
        "The signing policy allows only the build system's own machines; a job ran elsewhere.",
        "Run every job of the workflow on hosted runners.",
    ),
    Rule(
        "runner-groups",
        lambda case: bool(case.rules.runner_groups),
        lambda case: (
            bool(case.facts.jobs)
            and all(job.runner_group in case.rules.runner_groups for job in case.facts.jobs)
        ),
        "A job ran in a runner group that the signing policy does not allow.",
        "Run every job of the workflow in an allowed runner group.",
    ),
    Rule(
        "rulesets",
        lambda case: bool(case.rules.rulesets),
        lambda case: case.facts.rulesets is not None and not _missing_rules(case),
        "The {facts.ref_type} {ref!r} is not protected as the signing policy demands: {rulesets}.",
        "Add the rules to the repository's rulesets, or have the signing policy changed.",
    ),
    Rule(
        "bypass",
        lambda case: bool(case.rules.rulesets) and not case.rules.allow_bypass,
        lambda case: case.facts.rulesets is not None and not case.facts.rulesets.bypass_actors,
        "The protection of {ref!r} can be bypassed by: {bypass}.",
        "Remove the bypass list of the rulesets, or have the signing policy allow it.",
    ),
    Rule(
        "caller",
        lambda case: case.wants_proof and case.by_client,
        _caller_proven,
        "Nothing proves that the run itself submits.",
        "Send the identity token of the job: permit `id-token: write` (GitHub) or add an "
        "`id_tokens` entry (GitLab), and pass it on.",
    ),
    Rule(
        "claims",
        lambda case: case.facts.claims is not None,
        lambda case: not misfits(case.kind, case.facts),
        "The identity token does not fit the run: {claims}.",
        "Send the token of the job that submits, made in this run and by the workflow itself.",
    ),
    Rule(
        "token-id",
        lambda case: case.facts.claims is not None,
        lambda case: (
            bool((case.facts.claims or {}).get("jti"))
            and (case.facts.claims or {}).get("exp", "").isdecimal()
        ),
        "The identity token has no id or no end.",
        "Use the build system's own identity tokens.",
    ),
    Rule(
        "no-proof-by-trigger",
        lambda case: case.occasion is Occasion.TRIGGER,
        lambda case: not case.rules.caller_proof,
        "The signing policy demands proof of the caller, which a trigger cannot give.",
        "Submit from the build with its identity token, or have the signing policy changed.",
    ),
    Rule(
        "artifact",
        _FETCHED,
        lambda case: (
            _artifact_complete(case)
            and case.artifact is not None
            and case.artifact.id == case.locator.artifact_id
        ),
        "The build system has no usable artifact {locator.artifact_id!r} in this run.",
        "Upload the artifact in the run first, and give its id.",
    ),
    Rule(
        "artifact-run",
        _FETCHED,
        _of_artifact(lambda case, one: one.run_id == case.facts.run_id),
        "The artifact {artifact!r} was made by another run.",
        "Give the id of an artifact of the run that submits.",
    ),
    Rule(
        "artifact-repository",
        _FETCHED,
        _of_artifact(
            lambda case, one: one.repository_id == one.head_repository_id == case.link.repository_id
        ),
        "The artifact {artifact!r} was made in or for another repository.",
        "Give the id of an artifact of the linked repository.",
    ),
    Rule(
        "artifact-commit",
        _FETCHED,
        _of_artifact(lambda case, one: one.commit == case.facts.commit),
        "The artifact {artifact!r} was made from another commit.",
        "Give the id of an artifact of the run that submits.",
    ),
    Rule(
        "artifact-kept",
        _FETCHED,
        _of_artifact(lambda _case, one: not one.expired),
        "The artifact {artifact!r} has expired.",
        "Build it again, or have artifacts kept for longer.",
    ),
    Rule(
        "unchanged",
        lambda case: case.occasion is Occasion.RETRIEVAL,
        _unchanged,
        "The run or its artifact is not what it was when the request was accepted.",
        "Submit again.",
    ),
)
