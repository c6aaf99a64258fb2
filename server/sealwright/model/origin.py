"""Where an artifact comes from: what was claimed, what the CI system said, what that proves.

The client supplies locators, the CI system supplies facts. `Locator` is what a client may say;
`RunFacts` is what a connector fetched with the server's own credential; `Origin` is what the rules
of `origin/` made of it, and what a request, a policy and the log hold.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Proof(enum.StrEnum):
    """What stands behind an origin, weakest first."""

    CLAIMED = "claimed"  # the submitter said so
    CONTROLLER = "controller"  # a build controller vouches with a shared secret (Jenkins)
    RUN = "run-verified"  # the CI system confirmed run and artifact; the caller is not proven
    CALLER = "caller-verified"  # besides, an identity token of the CI system proves the caller


@dataclass(frozen=True)
class Origin:
    """The origin of an artifact.

    `verified` tells whether a trusted build system confirmed the facts. While it is False every
    value is a claim of the submitter: shown as such, and never enough for a policy that requires
    a verified origin.

    Attributes:
        branch: branch or tag name without ``refs/heads/``; see `ref` and `ref_type`.
        build_url: page of the run, pipeline or build.
        build_settings_file: what defines the build (workflow path, ``.gitlab-ci.yml``, ...).
        repository_id: the CI system's immutable id.
        ref: full ref (``refs/heads/main``); `ref_type` is ``branch`` or ``tag``.
        event: what started the run (``push``, ``workflow_dispatch``, GitLab's pipeline source).
        run_id, run_attempt: GitHub run, GitLab pipeline, Jenkins build.
        definition_commit: commit that the build definition was read from.
        runner: ``github-hosted``, ``self-hosted``, or the runner group; comma-separated if mixed.
        artifact_id, artifact_sha256: what was fetched from the CI system.
        checks: names of the rules that were applied and held.
    """

    verified: bool = False
    repository_url: str = ""
    branch: str = ""
    commit: str = ""
    source_control: str = ""
    build_url: str = ""
    build_settings_file: str = ""
    proof: Proof = Proof.CLAIMED
    build_system_id: str = ""
    repository_id: str = ""
    ref: str = ""
    ref_type: str = ""
    event: str = ""
    run_id: str = ""
    run_attempt: int = 0
    definition_commit: str = ""
    runner: str = ""
    artifact_id: str = ""
    artifact_sha256: str = ""
    checks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Locator:
    """What a client says so that the server can find the run. Nothing in it is believed.

    Attributes:
        artifact_id: GitHub artifact id; GitLab job id; Jenkins relative artifact path.
        identity_token: the CI system's OIDC token (a JWT), or empty. Never log it.
    """

    repository: str = ""
    run_id: str = ""
    run_attempt: int = 0
    artifact_id: str = ""
    identity_token: str = field(default="", repr=False)


@dataclass(frozen=True)
class JobFacts:
    """One job of the run, in one attempt. `hosted` is None where the system does not say."""

    id: str
    name: str
    attempt: int
    status: str
    hosted: bool | None
    runner_group_id: str = ""
    runner_group: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ArtifactFacts:
    """An artifact as the CI system describes it. `sha256` is hex, empty where it keeps none."""

    id: str
    name: str
    file_name: str
    size: int
    sha256: str
    expired: bool
    run_id: str
    repository_id: str
    head_repository_id: str
    commit: str


@dataclass(frozen=True)
class RulesetFacts:
    """How a ref is protected, as the CI system says now.

    `rules` are the system's rule types in force for the ref (``pull_request``,
    ``non_fast_forward``, ``required_linear_history``, ``code_scanning``, ``protected``...) with
    their parameters flattened (``pull_request.required_approving_review_count``: ``2``).
    `active_since` is RFC 3339, empty where unknown.
    """

    rules: Mapping[str, str] = field(default_factory=dict)
    bypass_actors: tuple[str, ...] = ()
    active_since: str = ""


@dataclass(frozen=True)
class RunFacts:
    """Everything that a connector learned of a run from the CI system itself.

    Attributes:
        head_repository_id: repository of the head commit: another one where a fork made the run.
        definition: path of the workflow or job definition.
        reachable: whether `commit` is reachable from `ref` as it is now; None: not asked.
        ref_type: ``branch`` or ``tag`` as resolved by the system; empty where the ref is gone.
        claims: of a verified OIDC token (signature, issuer, audience, times checked), else None.
    """

    repository_id: str
    repository_url: str
    owner_id: str
    head_repository_id: str
    run_id: str
    run_attempt: int
    event: str
    status: str
    conclusion: str
    commit: str
    ref: str
    ref_type: str
    reachable: bool | None
    definition: str
    definition_commit: str
    run_url: str
    jobs: tuple[JobFacts, ...] = ()
    artifact: ArtifactFacts | None = None
    rulesets: RulesetFacts | None = None
    claims: Mapping[str, str] | None = None


@dataclass(frozen=True)
class OriginRules:
    """What a signing policy demands of an origin. Patterns are those of artifact configurations
    (``*``, ``?``, ``[a-z]``, ``**``), matched with case. Empty tuples: anything.

    Attributes:
        branches, tags: allowed names; with both empty any ref is.
        events: allowed events; empty: the system's allowlist without pull and merge requests.
        definitions: allowed workflow paths.
        caller_proof: demand `Proof.CALLER`.
        no_reruns: only attempt 1, and no job of an earlier attempt.
        hosted_runners_only: every contributing job ran on the CI vendor's own machines.
        runner_groups: allowed runner groups by name; empty: any.
        rulesets: demanded rules of the ref, by name as in `RulesetFacts.rules`, with the least
            value; empty value: just present. No bypass actors may exist unless
            `allow_bypass`.
    """

    branches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()
    caller_proof: bool = False
    no_reruns: bool = False
    hosted_runners_only: bool = False
    runner_groups: tuple[str, ...] = ()
    rulesets: Mapping[str, str] = field(default_factory=dict)
    allow_bypass: bool = False


def origin_rules(fields: Mapping[str, Any]) -> OriginRules:
    """The rules from their JSON form; what is missing there is empty."""
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return OriginRules(**dict(fields) | lists)
