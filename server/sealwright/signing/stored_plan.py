"""A plan as it is stored, with what is shown of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

from sealwright.model import member_tree
from sealwright.model.member_additions import Additions, add_members
from sealwright.model.member_tree import Listing
from sealwright.model.plan import StoredPlan
from sealwright.model.signed_member import Change, SignedMember
from sealwright.signing.plan import Plan

_SHOWN = 50  # warnings; a file may hold thousands of wheels


def stored_plan(plan: Plan, listing: Listing) -> StoredPlan:
    """The plan to be stored. Takes a while for many files: not for an event loop.

    Args:
        listing: of the containers that were opened for it.
    """
    text = plan.to_json()
    tree = member_tree.build(plan.root.to_json(), listing)
    return StoredPlan(
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        text=text,
        effect=effect_of(plan),
        tree=add_members(tree, _outputs(plan)).pack(),
        warnings=tuple(_first(plan.warnings)),
    )


def effect_of(plan: Plan) -> str:
    """SHA-256 over what is done, hexadecimal: equal for plans that do the same to the same bytes,
    whenever they are made and however they are told."""
    digest = hashlib.sha256()
    terms = [plan.artifact_name, plan.configuration_sha256, plan.timestamp]
    digest.update(_line([terms, sorted(plan.parameters.items())]))
    for node in plan.root.walk():
        done = [[each.name, sorted(each.options.items())] for each in node.directives]
        digest.update(_line([node.path, node.sha256, node.element, done]))
    return digest.hexdigest()


def _outputs(plan: Plan) -> Additions:
    """Detached signatures, in the containers around what they are for."""
    return {
        node.path: [
            SignedMember(path, 0, Change.PLANNED, "detached signature")
            for child in node.children
            for path in child.outputs
        ]
        for node in plan.root.walk()
        if any(child.outputs for child in node.children)
    }


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _first(warnings: Sequence[str]) -> Iterator[str]:
    yield from warnings[:_SHOWN]
    if len(warnings) > _SHOWN:
        yield f"There are {len(warnings) - _SHOWN} more of these; the plan has all of them."
