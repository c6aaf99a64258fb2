"""Signers and judges tell of each file: what comes of it is true, or the result is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.toy import archive, file_digest, toy
from tests.toys_signed import Told, contents, signed

from sealwright.errors import VerificationError
from sealwright.signing.file_result import REPACK, FileDigest, FileResult, StageReport
from sealwright.signing.verify_result import VerifiedFile

TWICE = '<toy-sign hash-algorithm="sha384"/><toy-sign append="true"/>'
ANEW = '<toy-sign hash-algorithm="sha384"/><toy-sign/>'
DETACHED = '<create-toy-signature output-file-name="{}"/>'
BODY = (
    f'<zip-file><toy-file path="once"><toy-sign/></toy-file>'
    f'<toy-file path="twice">{TWICE}{DETACHED.format("twice.sig")}</toy-file>'
    f'<toy-file path="anew">{ANEW}</toy-file>'
    f'<toy-file path="?/doc" max-matches="2">{DETACHED.format(1)}{DETACHED.format(2)}</toy-file>'
    '<toy-box-file path="box"><toy-file path="in"><toy-sign/></toy-file><box-sign/></toy-box-file>'
    '<zip-file path="zip"><toy-file path="in"><toy-sign/></toy-file></zip-file>'
    '<toy-file path="signed"><toy-verify/><toy-sign append="true"/></toy-file></zip-file>'
)


def alone(content: bytes, directives: str, folder: Path) -> bytes:
    """A toy file signed by these directives and nothing else."""
    return signed(content, f"<toy-file>{directives}</toy-file>", folder).output


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("agreement")
    data = {
        "once": toy(b"1"),
        "twice": toy(b"2"),
        "anew": toy(b"3"),
        "x/doc": toy(b"doc"),
        "y/doc": toy(b"doc"),
        "box": archive({"in": toy(b"4")}),
        "zip": archive({"in": toy(b"5")}),
        "signed": alone(toy(b"6"), "<toy-sign/>", folder),
    }
    return signed(archive(data), BODY, folder)


def test_every_result_is_what_the_files_hold(told: Told, tmp_path: Path) -> None:
    results = [one.result for one in told.agree()]
    now = contents(told.output)
    nodes = {node.path: node for node in told.plan.root.walk()}
    chains: dict[str, list[FileResult]] = {}
    for one in results:
        chains.setdefault(one.path, []).append(one)
        assert one.element == nodes[one.path].element
        assert all(output in now for output in one.outputs)
    assert list(chains) == list(nodes)  # everything in it is signed
    for path, chain in chains.items():
        assert chain[0].sha256_before == nodes[path].sha256
        assert FileDigest(chain[-1].sha256_after, chain[-1].size) == file_digest(now[path])
        for one, following in pairwise(chain):
            assert one.sha256_after == following.sha256_before
    # contents that nobody sees afterwards: signed once, they are made again
    for name, content in (("twice", toy(b"2")), ("anew", toy(b"3"))):
        first = alone(content, '<toy-sign hash-algorithm="sha384"/>', tmp_path)
        one = chains[f"a!/{name}"][0]
        assert FileDigest(one.sha256_after, one.size) == file_digest(first)
        assert now[f"a!/{name}"] != first
    names = [one.directive for one in chains["a!/box"]]
    assert names == [REPACK, "box-sign"]
    assert len({one.sha256_after for one in chains["a!/box"]}) == 2
    doubled = [one.outputs for one in chains["a!/y/doc"]]
    assert doubled == [("a!/y/1",), ("a!/y/2",)]


def test_signers_tell_contents_in_between_alone(told: Told) -> None:
    passing = [(one.path, one.directive) for one in told.reports if one.passing is not None]
    assert passing == [
        ("a!/twice", "toy-sign"),
        ("a!/anew", "toy-sign"),
        ("a!/box", REPACK),
    ]


def test_proofs_are_those_of_their_directives(told: Told) -> None:
    proven = {
        (one.result.path, number): one.proof.fact.hash_algorithm
        for number, one in enumerate(told.agree())
        if one.proof is not None
    }
    at = told.of("twice", "toy-sign")
    assert proven["a!/twice", at] == "sha384"
    assert proven["a!/twice", at + 1] == "sha256"
    anew = told.of("anew", "toy-sign")
    assert ("a!/anew", anew) not in proven  # the second has taken its place
    assert proven["a!/anew", anew + 1] == "sha256"


OTHER = file_digest(b"other")
Lie = Callable[[Told], Told]


def report(path: str, directive: str, /, **change: object) -> Lie:
    """The signer tells something else of one directive."""

    def lie(told: Told) -> Told:
        at = told.of(path, directive)
        changed = replace(told.reports[at], **change)  # type: ignore[arg-type]
        return replace(told, reports=(*told.reports[:at], changed, *told.reports[at + 1 :]))

    return lie


def reports(change: Callable[[list[StageReport]], Sequence[StageReport]]) -> Lie:
    """The signer tells other reports."""
    return lambda told: replace(told, reports=tuple(change(list(told.reports))))


def judged(**changes: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Lie:
    """The judges tell something else."""

    def lie(told: Told) -> Told:
        changed = {name: change(getattr(told.verdict, name)) for name, change in changes.items()}
        return replace(told, verdict=replace(told.verdict, **changed))

    return lie


def other_document(files: tuple[VerifiedFile, ...]) -> tuple[VerifiedFile, ...]:
    return tuple(replace(one, content=OTHER) if one.path == "a!/x/doc" else one for one in files)


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(reports(lambda all_: all_[:-1]), id="nothing of the last"),
        pytest.param(reports(lambda all_: []), id="nothing"),
        pytest.param(reports(lambda all_: [*all_, all_[-1]]), id="more"),
        pytest.param(reports(lambda all_: all_[::-1]), id="backwards"),
        pytest.param(reports(lambda all_: [*all_[:1], all_[2], all_[1], *all_[3:]]), id="swapped"),
        pytest.param(report("once", "toy-sign", path="a!/other"), id="of a file not planned"),
        pytest.param(report("once", "toy-sign", path="a!/twice"), id="of another file"),
        pytest.param(report("once", "toy-sign", directive=REPACK), id="another directive"),
        pytest.param(report("once", "toy-sign", passing=OTHER), id="a content of its own"),
        pytest.param(report("", REPACK, passing=OTHER), id="an artifact of its own"),
        pytest.param(report("x/doc", "create-toy-signature", passing=OTHER), id="of an unchanged"),
        pytest.param(report("twice", "toy-sign", passing=None), id="no content in between"),
        pytest.param(report("box", REPACK, passing=None), id="no rebuilt content"),
        pytest.param(report("box", "box-sign", passing=OTHER), id="a signed content of its own"),
        pytest.param(judged(files=lambda all_: all_[:-1]), id="a file is not judged"),
        pytest.param(judged(files=lambda all_: all_[::-1]), id="judged in another order"),
        pytest.param(judged(files=other_document), id="an unchanged file was changed"),
        pytest.param(judged(signatures=lambda all_: all_[1:]), id="a signature is not judged"),
        pytest.param(judged(signatures=lambda all_: (*all_, all_[0])), id="one too many"),
    ],
)
def test_who_tells_something_else_is_not_believed(lie: Lie, told: Told) -> None:
    assert told.agree()
    with pytest.raises(VerificationError) as refused:
        lie(told).agree()
    assert "Report this as a defect" in refused.value.advice
    assert refused.value.where.startswith("a")


def test_an_artifact_in_which_nothing_is_signed_is_delivered_as_it_was(
    told: Told, tmp_path: Path
) -> None:
    data = archive({"signed": contents(told.output)["a!/once"]})
    body = '<zip-file><toy-file path="signed"><toy-verify/></toy-file></zip-file>'
    verified = signed(data, body, tmp_path)
    assert verified.agree() == []
    with pytest.raises(VerificationError, match="changed, against the plan"):
        replace(verified, output=data + b" ").agree()
