"""What signers and judges tell of each file, put together by the plan.

Who signs is believed nothing that others can tell. The plan says which directives there are, in
which order, and what each file held before the first. Who judges the result, in a process that
signed nothing, says what each holds after the last, and the caller what the artifact itself does.
What remains to the signer are the contents in between, which nobody else sees: each is the one
that the next directive began with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sealwright.signing.artifact import Directive
from sealwright.signing.elements import OUTPUT_FILE_NAME, is_embedded
from sealwright.signing.file_result import REPACK, FileDigest, FileResult, StageReport
from sealwright.signing.plan import Plan, PlanNode, require
from sealwright.signing.verify_result import Verdict, VerifiedSignature


@dataclass(frozen=True)
class Agreed:
    """What was done, and the signature that was found for it.

    Attributes:
        result: complete.
        proof: None where nothing was signed, or another signature has taken the place of this one.
    """

    result: FileResult
    proof: VerifiedSignature | None


def agree(
    plan: Plan, reports: Sequence[StageReport], verdict: Verdict, delivered: FileDigest
) -> list[Agreed]:
    """Put together what was done to each file, in the plan's order. Takes a while for many files:
    not for an event loop.

    Args:
        reports: of the signing side, in the plan's order.
        verdict: on all of the artifact.
        delivered: the signed artifact, as the caller has hashed it.

    Raises:
        VerificationError: signers or judges tell of something else than was planned, or of a
            content that is not the planned one.
    """
    nodes = [(node, _stages(node)) for node in plan.root.walk() if node.has_work]
    members = [node.path for node, _ in nodes if node is not plan.root]
    stages = [(node.path, stage.name) for node, each in nodes for stage in each]
    lasting = [(node.path, stage.name) for node, each in nodes for stage in each if stage.lasts]
    root = plan.root.path
    judged = [each.path for each in verdict.files] == members
    require(judged, "The files that were judged are not the planned ones.", root)
    found = [(each.path, each.directive) for each in verdict.signatures] == lasting
    require(found, "The signatures that were found are not the planned ones.", root)
    signed = [(each.path, each.directive) for each in reports] == stages
    require(signed, "What was told of the signing is not what was planned.", root)
    if not plan.root.has_work:
        require(delivered == plan.root.content, "The file was changed, against the plan.", root)
    told, proofs = iter(reports), iter(verdict.signatures)
    after = iter(each.content for each in verdict.files)
    return [
        agreed
        for node, each in nodes
        for agreed in _agree(
            node, each, told, proofs, delivered if node is plan.root else next(after)
        )
    ]


@dataclass(frozen=True)
class _Stage:
    """One thing that is done to a file."""

    name: str
    replaces: bool  # the file's content
    lasts: bool = False  # whether its signature is there at the end
    outputs: tuple[str, ...] = ()


def _stages(node: PlanNode) -> list[_Stage]:
    lasting = {id(directive) for directive in node.lasting}
    stages = [
        _Stage(each.name, is_embedded(each), id(each) in lasting, _outputs(node, each))
        for each in node.directives
    ]
    if any(child.has_work for child in node.children):
        return [_Stage(REPACK, replaces=True), *stages]
    return stages


def _outputs(node: PlanNode, directive: Directive) -> tuple[str, ...]:
    """The paths of what it makes beside the file, in the plan's form."""
    name = directive.options.get(OUTPUT_FILE_NAME)
    return (f"{node.path.rpartition('/')[0]}/{name}",) if name else ()


def _agree(
    node: PlanNode,
    stages: Sequence[_Stage],
    reports: Iterator[StageReport],
    proofs: Iterator[VerifiedSignature],
    final: FileDigest,
) -> Iterator[Agreed]:
    """One file's: follow its content from the planned one to the one that was judged."""
    changes = sum(stage.replaces for stage in stages)
    before = node.content
    for stage in stages:
        report = next(reports)
        changes -= stage.replaces
        told = report.passing is not None
        passes = stage.replaces and changes > 0
        require(told == passes, "Other contents were told than those in between.", node.path)
        after = report.passing or (final if stage.replaces else before)
        yield Agreed(
            FileResult(
                path=node.path,
                element=node.element,
                directive=stage.name,
                sha256_before=before.sha256,
                sha256_after=after.sha256,
                size=after.size,
                summary=report.summary,
                digests=report.digests,
                hash_algorithm=report.hash_algorithm,
                outputs=stage.outputs,
            ),
            next(proofs) if stage.lasts else None,
        )
        before = after
    require(before == final, "The file was changed, against the plan.", node.path)
