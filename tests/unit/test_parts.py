"""Work divided among shards: the same bytes and results as from one, whatever their number."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import keys
from tests.app_packages import check_block_map, package, publisher_of
from tests.fakes.cabinets import File, Folder
from tests.fakes.cabinets import build as build_cabinet
from tests.fakes.installers import Installed, Options
from tests.fakes.installers import build as build_installer
from tests.pe_images import image
from tests.toy import (
    BOX_SIGNATURE,
    IDENTITY,
    LANGUAGE,
    answers,
    archive,
    configuration,
    file_digest,
    toy,
)

from sealwright.errors import ArtifactError, InternalError, VerificationError
from sealwright.signing import elements
from sealwright.signing.agreement import agree
from sealwright.signing.artifact import Identity, SignatureResult
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.deep_sign import DeepSign
from sealwright.signing.elements import Language
from sealwright.signing.file_result import StageReport
from sealwright.signing.parts import Part, join_plans, share_of
from sealwright.signing.pending_signatures import PendingSignature
from sealwright.signing.plan import Plan, in_order
from sealwright.signing.planner import Share, build_plan
from sealwright.signing.shard import Shard
from sealwright.signing.spool import KeptFiles, Spool
from sealwright.signing.verify_result import Verdict, verify_result

BODY = (
    '<zip-file><toy-file path="*.toy" max-matches="unbounded"><toy-sign/></toy-file>'
    '<toy-file path="doc"><create-toy-signature output-file-name="${file.name}.sig"/></toy-file>'
    '<zip-file path="in.zip"><toy-file path="x"><toy-sign rounds="2"/></toy-file></zip-file>'
    "</zip-file>"
)
DATA = archive(
    {
        **{f"{n}.toy": toy(b"%d" % (n % 5) * 1000 * n) for n in range(9)},
        "same.toy": toy(b"3" * 3000),
        "doc": toy(b"doc"),
        "in.zip": archive({"x": toy(b"x"), "rest": b"rest" * 100}),
        "other": b"other" * 1000,
    }
)


@dataclass(frozen=True)
class Signer:
    """What is understood, and who signs it."""

    language: Language = LANGUAGE
    identity: Identity = IDENTITY
    answers: Callable[[Sequence[PendingSignature]], Sequence[SignatureResult]] = answers


TOY = Signer()


class Divided:
    """One artifact worked on by a number of shards, each with a spool of its own."""

    def __init__(
        self, folder: Path, count: int, body: str = BODY, data: bytes = DATA, signer: Signer = TOY
    ) -> None:
        self.signer = signer
        self.configuration = parse_configuration(configuration(body), signer.language).resolve({})
        self.shards = [Shard(number, count) for number in range(count)]
        self.spools = []
        self.kept = []
        for shard in self.shards:
            (folder / str(shard.number)).mkdir(parents=True)
            self.spools.append(Spool(folder / str(shard.number), 1 << 30))
            self.kept.append(KeptFiles(self.spools[-1], 1 << 20))
        self.source = io.BytesIO(data)
        self.folder = folder
        self.output = io.BytesIO()
        self.plan = join_plans([self.share(shard) for shard in self.shards])

    def share(self, shard: Shard) -> Plan:
        return build_plan(
            self.source,
            "a",
            self.configuration,
            signing_time=1_700_000_000,
            spool=self.spools[shard.number],
            language=self.signer.language,
            kept=self.kept[shard.number],
            share=Share(shard),
        )

    def sign(self) -> tuple[StageReport, ...]:
        parts: list[tuple[Path, Part]] = []
        reports: list[StageReport] = []
        for shard in self.shards:
            path = self.folder / f"part-{shard.number}"
            with path.open("x+b") as out:
                made = drive(
                    DeepSign(
                        share_of(self.plan, shard, self.signer.language),
                        self.source,
                        out,
                        self.signer.identity,
                        self.spools[shard.number],
                        language=self.signer.language,
                        kept=self.kept[shard.number],
                        is_part=True,
                    ),
                    self.signer,
                )
                reports += made.reports
                parts.append((path, made.part))
            assert self.spools[shard.number].used == 0
        whole = DeepSign(
            self.plan,
            self.source,
            self.output,
            self.signer.identity,
            self.spools[0],
            language=self.signer.language,
            parts=parts,
        )
        # the outermost container's stand before those of its members
        reports = [*drive(whole, self.signer).reports, *reports]
        assert self.spools[0].used == 0
        return in_order(self.plan, reports)

    def verify(self, output: bytes | None = None) -> Verdict:
        signed = io.BytesIO(self.output.getvalue() if output is None else output)
        verdicts = [
            verify_result(
                self.plan,
                self.configuration,
                self.source,
                signed,
                self.signer.identity.certificate,
                self.spools[shard.number],
                language=self.signer.language,
                shard=shard,
            )
            for shard in self.shards
        ]
        return Verdict(
            in_order(self.plan, [one for each in verdicts for one in each.signatures]),
            in_order(self.plan, [one for each in verdicts for one in each.files]),
        )


def undivided(
    folder: Path, body: str = BODY, data: bytes = DATA, signer: Signer = TOY
) -> tuple[Plan, bytes, tuple[StageReport, ...]]:
    """Plan, output and reports of `DeepSign` alone."""
    folder.mkdir(parents=True)
    spool = Spool(folder, 1 << 30)
    source, output = io.BytesIO(data), io.BytesIO()
    parsed = parse_configuration(configuration(body), signer.language).resolve({})
    language = signer.language
    plan = build_plan(
        source, "a", parsed, signing_time=1_700_000_000, spool=spool, language=language
    )
    signing = drive(
        DeepSign(plan, source, output, signer.identity, spool, language=language), signer
    )
    return plan, output.getvalue(), signing.reports


def drive(signing: DeepSign, signer: Signer = TOY) -> DeepSign:
    """Answer batch by batch until it is done."""
    batches = signing.batches()
    try:
        batch = next(batches)
        while True:
            batch = batches.send(list(signer.answers(batch)))
    except StopIteration:
        return signing


BOX_BODY = (
    BODY.replace("<zip-file>", "<toy-box-file>", 1).removesuffix("</zip-file>")
    + "<box-sign/></toy-box-file>"
)


@pytest.mark.parametrize("body", [BODY, BOX_BODY], ids=["zip", "signed itself"])
@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_any_number_of_shards_makes_the_same(tmp_path: Path, count: int, body: str) -> None:
    plan, output, reports = undivided(tmp_path / "alone", body)
    divided = Divided(tmp_path / "divided", count, body)
    assert divided.plan == plan
    assert divided.sign() == reports
    assert divided.output.getvalue() == output
    assert (BOX_SIGNATURE.encode() in output) == (body is BOX_BODY)
    verdict = divided.verify()
    assert len(verdict.signatures) == len([one for one in reports if one.digests])
    assert agree(plan, reports, verdict, file_digest(output))


TOYS = {f"{n}.toy": toy(b"%d" % (n % 5) * 60_000 * n) for n in range(9)}
TOY_FILES = '<toy-file path="**/*.toy" max-matches="unbounded"><toy-sign/></toy-file>'


@pytest.mark.parametrize(
    ("element", "data"),
    [
        ("cab-file", build_cabinet([Folder([File(n.encode(), c) for n, c in TOYS.items()])])),
        (
            "msi-file",
            build_installer(
                [Installed(f"f{n[0]}", n, c, hashed=n < "4") for n, c in TOYS.items()],
                Options(seed=1),
            ),
        ),
    ],
)
def test_cabinets_and_installers_are_divided_too(tmp_path: Path, element: str, data: bytes) -> None:
    body = f"<{element}>{TOY_FILES}</{element}>"
    plan, output, reports = undivided(tmp_path / "alone", body, data)
    divided = Divided(tmp_path / "divided", 3, body, data)
    assert divided.plan == plan
    assert divided.sign() == reports
    assert divided.output.getvalue() == output != data
    assert len(divided.verify().signatures) == len(TOYS)


def test_app_packages_are_divided_too(tmp_path: Path) -> None:
    rng = random.Random(4)
    programs = [image(overlay=rng.randbytes(60_000) + bytes(40_000 * n)) for n in range(5)]
    files = {f"{n}.exe": each for n, each in enumerate(programs)}
    data = package(
        {**files, "rest": b"rest" * 30_000},
        publisher=publisher_of("rsa-3072"),
        stored=frozenset({"3.exe"}),
    )
    leaf = keys.pki().leaf("rsa-3072")
    signer = Signer(
        elements.LANGUAGE,
        keys.pki().identity("rsa-3072"),
        lambda batch: [SignatureResult(keys.answer(each.request, leaf.key)) for each in batch],
    )
    body = (
        '<appx-file><pe-file path="*.exe" max-matches="unbounded"><authenticode-sign/></pe-file>'
        "<authenticode-sign/></appx-file>"
    )
    plan, output, reports = undivided(tmp_path / "alone", body, data, signer)
    divided = Divided(tmp_path / "divided", 3, body, data, signer)
    assert divided.plan == plan
    assert divided.sign() == reports
    assert divided.output.getvalue() == output
    assert len(divided.verify().signatures) == len(files) + 1
    check_block_map(output)
    for place in range(40, len(output), len(output) // 6):  # every byte matters to some shard
        changed = output[:place] + bytes([output[place] ^ 1]) + output[place + 1 :]
        with pytest.raises((VerificationError, ArtifactError)):
            divided.verify(changed)


def test_some_shard_sees_each_change(tmp_path: Path) -> None:
    divided = Divided(tmp_path, 3)
    divided.sign()
    good = divided.output.getvalue()
    seen = 0
    for place in range(30, len(good), 97):
        changed = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        with pytest.raises((VerificationError, ArtifactError)):
            divided.verify(changed)
        seen += 1
    assert seen > 10


def test_shards_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    divided = Divided(tmp_path, 2)
    one, two = (share_of(divided.plan, shard, LANGUAGE) for shard in divided.shards)
    assert join_plans([two, one]) == divided.plan
    with pytest.raises(InternalError, match="same member"):
        join_plans([one, one])
    with pytest.raises(InternalError, match="belong together"):
        join_plans([one, replace(two, signing_time=1)])


def test_outputs_of_two_shards_may_not_meet(tmp_path: Path) -> None:
    body = (
        '<zip-file><toy-file path="1.toy"><create-toy-signature output-file-name="x.sig"/>'
        '</toy-file><toy-file path="2.toy"><create-toy-signature output-file-name="X.SIG"/>'
        "</toy-file></zip-file>"
    )
    with pytest.raises(ArtifactError, match="replace another file"):
        Divided(tmp_path, 2, body)


def test_a_part_that_lies_about_its_members_is_noticed(tmp_path: Path) -> None:
    """What a child tells of its part is believed by nobody: the result is verified."""
    divided = Divided(tmp_path, 1)
    divided.sign()
    assert divided.verify()
    path = tmp_path / "part-0"
    spool = divided.spools[0]
    with path.open("rb") as file:
        content = file.read()
    forged = tmp_path / "forged"
    forged.write_bytes(content[::-1])
    (tmp_path / "again").mkdir()
    with (tmp_path / "again" / "part").open("x+b") as out:
        part = drive(
            DeepSign(
                divided.plan, divided.source, out, IDENTITY, spool, language=LANGUAGE, is_part=True
            )
        ).part
    output = io.BytesIO()
    drive(
        DeepSign(
            divided.plan,
            divided.source,
            output,
            IDENTITY,
            spool,
            language=LANGUAGE,
            parts=[(forged, part)],
        )
    )
    with pytest.raises((VerificationError, ArtifactError)):
        divided.verify(output.getvalue())


@given(st.lists(st.integers(0, 1 << 40), max_size=40), st.integers(1, 9))
def test_each_member_is_one_shards(sizes: list[int], count: int) -> None:
    members = list(enumerate(sizes))
    shares = [Shard(number, count).orders(members) for number in range(count)]
    assert sorted(order for share in shares for order in share) == list(range(len(sizes)))
    if sizes:
        loads = [sum(sizes[order] + (256 << 10) for order in share) for share in shares]
        # the longest-first rule: no load exceeds the mean by more than one member
        assert max(loads) <= sum(loads) / count + max(sizes) + (256 << 10)


@given(st.lists(st.integers(0, 1 << 40), max_size=40), st.integers(1, 9))
def test_neighbours_in_a_sequence_are_one_shards(sizes: list[int], count: int) -> None:
    members = list(enumerate(sizes))
    shares = [Shard(number, count).orders(members, in_sequence=True) for number in range(count)]
    assert [order for share in shares for order in sorted(share)] == list(range(len(sizes)))
    loads = [sum(sizes[order] + (256 << 10) for order in share) for share in shares]
    largest = max(sizes, default=0) + (256 << 10)
    for before, after in pairwise(loads):  # the later a share begins, the smaller it is
        assert after <= before + 2 * largest
