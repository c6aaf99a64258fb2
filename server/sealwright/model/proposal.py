"""Proposed artifact configurations, and trials of one on a sample."""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sealwright.model.request import StoredArtifact


class TrialState(enum.StrEnum):
    """Where a trial stands."""

    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Trial:
    """An artifact configuration applied to a sample, to see what would be signed. Nothing is.

    Attributes:
        xml: the configuration; empty: one is to be made from the sample.
        sample: removed from the store once the trial has ended; name and digest stay.
        parameters: name -> value, for the configuration.
        plan: JSON of `signing.plan`; empty until done.
        tree: of all members, as `model.member_tree` packs it; None until done.
        fault: why it failed, for people; with `advice` and `where`.
    """

    id: str
    organization_id: str
    project_id: str
    requested_by: str
    created_at: dt.datetime
    xml: str
    sample: StoredArtifact
    state: TrialState = TrialState.WAITING
    started_at: dt.datetime | None = None
    plan: str = ""
    tree: bytes | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""
    advice: str = ""
    where: str = ""

    @property
    def warnings(self) -> Sequence[str]:
        """The plan's warnings."""
        # canonical JSON: a text in it cannot hold this, and most plans are long and have none
        if ',"warnings":' not in self.plan:
            return ()
        found: Sequence[str] = json.loads(self.plan)["warnings"]
        return found


class ProposalState(enum.StrEnum):
    """Where a proposal stands."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DECLINED = "declined"


@dataclass(frozen=True)
class Proposal:
    """A new version of an artifact configuration by somebody who may not add one.

    Attributes:
        trial_id: the trial whose configuration it is, with its sample; None: not tried.
        comment: the proposer's; `word`: the answer's.
        configuration_id: the version that it became.
    """

    id: str
    organization_id: str
    project_id: str
    slug: str
    name: str
    xml: str
    comment: str
    trial_id: str | None
    proposed_by: str
    created_at: dt.datetime
    state: ProposalState = ProposalState.OPEN
    word: str = ""
    decided_by: str | None = None
    decided_at: dt.datetime | None = None
    configuration_id: str | None = None
