"""Signing inside out, and the independent check of what came of it."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.toy import (
    BOX_SIGNATURE,
    IDENTITY,
    LANGUAGE,
    MARK,
    answer,
    answers,
    archive,
    configuration,
    file_digest,
    toy,
)

from sealwright.errors import ArtifactError, InternalError, VerificationError
from sealwright.signing import spool
from sealwright.signing.advice import REPORT
from sealwright.signing.agreement import agree
from sealwright.signing.artifact import SignatureResult, TimestampForm
from sealwright.signing.budget import Pace
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.deep_sign import DeepSign
from sealwright.signing.engine import sign_file, verify_file
from sealwright.signing.file_result import FileResult, StageReport
from sealwright.signing.pending_signatures import PendingSignature
from sealwright.signing.plan import INSIDE, Plan
from sealwright.signing.planner import build_plan
from sealwright.signing.spool import Spool
from sealwright.signing.verify_result import Verdict, VerifiedSignature, verify_result

SIGN = "<toy-sign/>"


@pytest.fixture(scope="module", params=["in memory", "on disk"], autouse=True)
def _spooled(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything is run with temporary files in memory and with all of them on disk."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "on disk":
            patch.setattr(spool, "_SMALL", -1)
        yield


class Run:
    """One artifact, planned and signed."""

    def __init__(
        self,
        data: bytes,
        body: str,
        folder: Path,
        *,
        timestamp: TimestampForm = TimestampForm.NONE,
        pace: Pace | None = None,
    ) -> None:
        self.parsed = parse_configuration(configuration(body), LANGUAGE).resolve({})
        self.spool = Spool(folder, 1 << 30)
        self.source = io.BytesIO(data)
        self.plan = build_plan(
            self.source,
            "a",
            self.parsed,
            signing_time=1_700_000_000,
            timestamp=timestamp,
            spool=self.spool,
            language=LANGUAGE,
        )
        self.pace = pace
        self.batches: list[list[PendingSignature]] = []
        self.output = io.BytesIO()

    def driver(self) -> DeepSign:
        self.output = io.BytesIO()
        return DeepSign(
            self.plan,
            self.source,
            self.output,
            IDENTITY,
            self.spool,
            pace=self.pace,
            language=LANGUAGE,
        )

    def results(self) -> list[FileResult]:
        """Sign and verify; what was done to each file."""
        reports = self.sign()
        delivered = file_digest(self.output.getvalue())
        return [one.result for one in agree(self.plan, reports, self.verdict(), delivered)]

    def sign(self) -> tuple[StageReport, ...]:
        """Answer batch by batch; everything temporary must be gone afterwards."""
        batches = self.driver().batches()
        results: list[SignatureResult] | None = None
        try:
            while True:
                batch = batches.send(results) if results is not None else next(batches)
                self.batches.append(batch)
                results = answers(batch)
        except StopIteration as stop:
            assert self.spool.used == 0
            assert list(self.spool.folder.iterdir()) == []
            done: tuple[StageReport, ...] = stop.value
            return done

    def verify(
        self, output: bytes | None = None, **changes: object
    ) -> tuple[VerifiedSignature, ...]:
        """The signatures that were found."""
        return self.verdict(output, **changes).signatures

    def verdict(self, output: bytes | None = None, **changes: object) -> Verdict:
        plan = replace(self.plan, **changes)  # type: ignore[arg-type]
        signed = io.BytesIO(self.output.getvalue() if output is None else output)
        try:
            return verify_result(
                plan,
                self.parsed,
                self.source,
                signed,
                IDENTITY.certificate,
                self.spool,
                language=LANGUAGE,
            )
        finally:
            assert self.spool.used == 0


def zip_element(body: str, attributes: str = "") -> str:
    return f"<zip-file {attributes}>{body}</zip-file>"


def toys(path: str, directives: str = SIGN) -> str:
    return (
        f'<toy-file path="{path}" min-matches="0" max-matches="unbounded">{directives}</toy-file>'
    )


NESTED = {
    "readme": b"text" * 100,
    "a.toy": toy(b"a"),
    "inner.zip": archive(
        {"b.toy": toy(b"b"), "data": b"data" * 50, "deep.zip": archive({"c.toy": toy(b"c")})}
    ),
    "z.toy": toy(b"z"),
}
NESTED_BODY = zip_element(
    toys("*.toy")
    + zip_element(toys("*.toy") + zip_element(toys("*"), 'path="deep.zip"'), 'path="inner.zip"')
)


def read(data: bytes, *path: str) -> bytes:
    for name in path:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            data = opened.read(name)
    return data


def test_inside_out(tmp_path: Path) -> None:
    run = Run(archive(NESTED), NESTED_BODY, tmp_path)
    results = run.sign()
    assert [(r.path, r.directive) for r in results] == [
        ("a", "repack"),
        ("a!/a.toy", "toy-sign"),
        ("a!/inner.zip", "repack"),
        ("a!/inner.zip!/b.toy", "toy-sign"),
        ("a!/inner.zip!/deep.zip", "repack"),
        ("a!/inner.zip!/deep.zip!/c.toy", "toy-sign"),
        ("a!/z.toy", "toy-sign"),
    ]
    assert [len(batch) for batch in run.batches] == [4]
    signed = run.output.getvalue()
    assert MARK in read(signed, "inner.zip", "deep.zip", "c.toy")
    assert read(signed, "readme") == b"text" * 100
    assert len(run.verify()) == 4
    assert len(results[1].digests[0]) == 64
    assert results[1].hash_algorithm == "sha256"


def test_repeating_gives_the_same_bytes(tmp_path: Path) -> None:
    run = Run(archive(NESTED), NESTED_BODY, tmp_path)
    results = run.sign()
    first, digests = run.output.getvalue(), [p.request.digest for b in run.batches for p in b]
    run.batches.clear()
    run.pace = Pace(requests=1)
    assert run.sign() == results
    assert run.output.getvalue() == first
    assert sorted(p.request.digest for b in run.batches for p in b) == sorted(digests)


def test_answers_may_come_in_any_order_and_late(tmp_path: Path) -> None:
    run = Run(archive(NESTED), NESTED_BODY, tmp_path)
    run.sign()
    expected = run.output.getvalue()
    for seed in range(20):
        random_order = random.Random(seed)
        signing = run.driver()
        open_requests: list[PendingSignature] = []
        while not signing.done:
            works = signing.step()
            open_requests += signing.take()
            if open_requests and (not works or random_order.random() < 0.3):
                pending = open_requests.pop(random_order.randrange(len(open_requests)))
                signing.supply(pending.number, answer(pending.request))
        assert run.output.getvalue() == expected


def test_files_are_started_before_answers_are_worked_on(tmp_path: Path) -> None:
    """The token has its work as early as can be, and all of it is known to be there."""
    data = archive({f"{number}.toy": toy(b"%d" % number) for number in range(3)})
    run = Run(data, zip_element(toys("*", SIGN * 2)), tmp_path)
    signing = run.driver()
    for _ in range(3):
        assert not signing.all_started
        assert signing.step()
        [pending] = signing.take()
        signing.supply(pending.number, answer(pending.request))
    assert signing.step()
    assert signing.all_started
    assert signing.finished_files == 0
    assert len(signing.take()) == 1  # the second directive of one


def test_no_more_requests_are_open_than_allowed(tmp_path: Path) -> None:
    data = archive({f"{number}.toy": toy(b"%d" % number) for number in range(50)})
    run = Run(data, zip_element(toys("*")), tmp_path, pace=Pace(requests=8))
    run.sign()
    assert [len(batch) for batch in run.batches] == [8] * 6 + [2]
    assert len(run.verify()) == 50


def test_the_spool_slows_down_new_leaves_only(tmp_path: Path) -> None:
    data = archive({f"{number}.toy": toy(bytes([number]) * 10_000) for number in range(20)})
    run = Run(data, zip_element(toys("*")), tmp_path, pace=Pace(spool=50_000))
    run.sign()
    assert max(len(batch) for batch in run.batches) <= 6
    assert len(run.verify()) == 20


def test_equal_files_are_signed_once(tmp_path: Path) -> None:
    same = toy(b"same")
    data = archive(
        {
            "1.toy": same,
            "2.toy": same,
            "x/3.toy": same,
            "in.zip": archive({"4.toy": same}),
            "again.zip": archive({"4.toy": same}),
            "other.toy": toy(b"other"),
        }
    )
    detached = '<toy-sign/><create-toy-signature output-file-name="sig"/>'
    body = zip_element(
        toys("?.toy")
        + toys("other.toy")
        + toys("x/*.toy", detached)
        + f'<zip-file-set><include path="*.zip" max-matches="2"/><for-each>{toys("*")}'
        "</for-each></zip-file-set>"
    )
    run = Run(data, body, tmp_path)
    results = run.sign()
    assert sum(len(batch) for batch in run.batches) == 4  # same, other, and x/3.toy's two
    assert len([r for r in results if r.directive == "toy-sign"]) == 6
    assert len(run.verify()) == 7
    signed = run.output.getvalue()
    assert read(signed, "1.toy") == read(signed, "again.zip", "4.toy")


def test_equal_files_with_side_files(tmp_path: Path) -> None:
    data = archive({"x/a": toy(), "y/a": toy(), "b": toy()})
    body = zip_element(toys("**/?", '<create-toy-signature output-file-name="${file.name}.sig"/>'))
    run = Run(data, body, tmp_path)
    run.sign()
    assert sum(len(batch) for batch in run.batches) == 2  # options differ by name
    assert [r.outputs for r in run.results()[1:]] == [
        ("a!/x/a.sig",),
        ("a!/y/a.sig",),
        ("a!/b.sig",),
    ]
    with zipfile.ZipFile(io.BytesIO(run.output.getvalue())) as signed:
        assert signed.namelist() == ["x/a", "y/a", "b", "b.sig", "x/a.sig", "y/a.sig"]
        assert signed.read("x/a") == toy()
    assert len(run.verify()) == 3


def test_several_directives_in_order(tmp_path: Path) -> None:
    directives = (
        '<toy-sign hash-algorithm="sha384" rounds="2"/><toy-sign append="true" rounds="3"/>'
        '<create-toy-signature output-file-name="s" hash-algorithm="sha512"/>'
    )
    run = Run(archive({"a": toy()}), zip_element(toys("a", directives)), tmp_path)
    results = run.sign()
    assert [len(batch) for batch in run.batches] == [2, 2, 3, 3, 3, 1]
    assert [r.hash_algorithm for r in results[1:]] == ["sha384", "sha256", "sha512"]
    assert [len(r.digests) for r in results[1:]] == [4, 9, 1]
    found = run.verify()
    assert [(v.directive, v.fact.hash_algorithm) for v in found] == [
        ("toy-sign", "sha384"),
        ("toy-sign", "sha256"),
        ("create-toy-signature", "sha512"),
    ]


def test_one_file_without_a_container(tmp_path: Path) -> None:
    run = Run(toy(), f"<toy-file>{SIGN}</toy-file>", tmp_path, timestamp=TimestampForm.RFC3161)
    (result,) = run.sign()
    assert result.path == "a"
    assert run.verify()[0].fact.timestamp == 12345


def test_a_container_that_is_itself_signed(tmp_path: Path) -> None:
    body = f"<toy-box-file>{toys('*.toy')}<box-sign/></toy-box-file>"
    run = Run(archive({"a.toy": toy(), "b": b"b"}), body, tmp_path)
    assert [r.directive for r in run.sign()] == ["repack", "box-sign", "toy-sign"]
    assert len(run.verify()) == 2
    with zipfile.ZipFile(io.BytesIO(run.output.getvalue())) as signed:
        assert signed.namelist() == ["a.toy", "b", BOX_SIGNATURE]
    only_box = Run(archive({"b": b"b"}), "<toy-box-file><box-sign/></toy-box-file>", tmp_path)
    only_box.sign()
    assert len(only_box.verify()) == 1


def test_verification_of_what_is_there_signs_nothing(tmp_path: Path) -> None:
    signed = Run(toy(), f"<toy-file>{SIGN}</toy-file>", tmp_path)
    signed.sign()
    data = archive({"a.toy": signed.output.getvalue()})
    run = Run(data, zip_element(toys("a.toy", "<toy-verify/>")), tmp_path)
    assert run.sign() == ()
    assert run.output.getvalue() == data
    append = '<toy-verify/><toy-sign append="true"/>'
    both = Run(data, zip_element(toys("a.toy", append)), tmp_path)
    assert [r.directive for r in both.sign()] == ["repack", "toy-verify", "toy-sign"]
    assert len(both.verify()) == 1


def test_a_changed_artifact_is_not_signed(tmp_path: Path) -> None:
    run = Run(archive(NESTED), NESTED_BODY, tmp_path)
    run.source = io.BytesIO(archive(NESTED | {"readme": b"other"}))
    with pytest.raises(ArtifactError, match="not the planned one"):
        run.sign()


def test_unknown_and_repeated_answers_are_refused(tmp_path: Path) -> None:
    run = Run(toy(), f"<toy-file>{SIGN}</toy-file>", tmp_path)
    signing = run.driver()
    signing.step()
    (pending,) = signing.take()
    with pytest.raises(InternalError):
        signing.supply(7, answer(pending.request))
    signing.supply(pending.number, answer(pending.request))
    with pytest.raises(InternalError):
        signing.supply(pending.number, answer(pending.request))


def test_files_are_closed_after_an_error(tmp_path: Path) -> None:
    run = Run(archive(NESTED), NESTED_BODY, tmp_path)
    signing = run.driver()
    while signing.step():
        pass
    signing.close()
    assert not run.source.closed


# The result is compared with the submission, whatever made it.


def _signed(tmp_path: Path) -> Run:
    files = {
        "a.toy": toy(b"a"),
        "b.toy": toy(b"b"),
        "other": b"other",
        "in.zip": archive({"c": toy()}),
    }
    detached = toys("b.toy", '<create-toy-signature output-file-name="b.sig"/>')
    body = zip_element(toys("a.toy") + detached + zip_element(toys("c"), 'path="in.zip"'))
    run = Run(archive(files), body, tmp_path, timestamp=TimestampForm.RFC3161)
    run.sign()
    assert len(run.verify()) == 3
    return run


def _edit(
    data: bytes, changes: Mapping[str, bytes | None], names: Sequence[str] | None = None
) -> bytes:
    """The archive with members replaced, removed (None) or added; times and attributes are kept."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        infos = {info.filename: info for info in old.infolist()}
        for name in names or [*infos, *(n for n in changes if n not in infos)]:
            content = changes.get(name, old.read(name) if name in infos else None)
            if content is not None:
                info = infos.get(name, zipfile.ZipInfo(name, (2024, 5, 6, 7, 8, 10)))
                new.writestr(info, content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _spoilt(signed: bytes) -> dict[str, tuple[bytes, str]]:
    """Kinds of wrong results -> (output, part of the place that the error names)."""
    a = read(signed, "a.toy")
    return {
        "unsigned": (_edit(signed, {"a.toy": toy(b"a")}), "a.toy"),
        "content changed": (_edit(signed, {"a.toy": a.replace(b"TOY1a", b"TOY1x")}), "a.toy"),
        "other signer": (
            _edit(signed, {"a.toy": a.replace(IDENTITY.certificate.hex().encode(), b"00")}),
            "a.toy",
        ),
        "signature value": (
            _edit(signed, {"a.toy": a.replace(b'"value": "', b'"value": "0')}),
            "a",
        ),
        "no time stamp": (_edit(signed, {"a.toy": a.replace(b"12345", b"null")}), "a.toy"),
        "signed twice": (
            _edit(signed, {"a.toy": a.replace(b"]", b"," + a[a.index(b"[") + 1 :])}),
            "a.toy",
        ),
        "unplanned member changed": (_edit(signed, {"other": b"0ther"}), "other"),
        "member added": (_edit(signed, {"new": b""}), "new"),
        "member removed": (_edit(signed, {"other": None}), "other"),
        "order changed": (
            _edit(signed, {}, ["b.toy", "a.toy", "other", "in.zip", "b.sig"]),
            "",
        ),
        "side file missing": (_edit(signed, {"b.sig": None}), "b.sig"),
        "side file of something else": (
            _edit(signed, {"b.sig": read(signed, "b.sig").replace(b'"value": "', b'"value": "0')}),
            "b.toy",
        ),
        "detached file changed": (_edit(signed, {"b.toy": toy(b"B")}), "b.toy"),
        "inner unsigned": (_edit(signed, {"in.zip": archive({"c": toy()})}), "in.zip!/c"),
        "inner not an archive": (_edit(signed, {"in.zip": b"PK"}), "in.zip"),
        "comment added": (signed[:-2] + b"\x01\x00!", ""),
        "not an archive": (b"nothing", ""),
        "empty": (b"", ""),
    }


@pytest.mark.parametrize("kind", _spoilt(archive(dict.fromkeys(("a.toy", "b.sig"), b"["))).keys())
def test_a_wrong_result_is_refused(kind: str, tmp_path: Path) -> None:
    run = _signed(tmp_path)
    output, where = _spoilt(run.output.getvalue())[kind]
    assert output != run.output.getvalue()
    with pytest.raises((VerificationError, ArtifactError)) as caught:
        run.verify(output)
    assert where in caught.value.where
    assert caught.value.advice == REPORT, "it is not the submitter's to mend"


def test_the_submission_must_be_the_planned_one(tmp_path: Path) -> None:
    run = _signed(tmp_path)
    run.source = io.BytesIO(archive({}))
    with pytest.raises(VerificationError, match="not the planned one"):
        run.verify()


@pytest.mark.untraced
def test_every_single_byte_counts(tmp_path: Path) -> None:
    """Any changed byte of the signed archive is noticed, wherever it is.

    Left out are bits at the end of a new member's compressed data that inflate ignores.
    """
    run = _signed(tmp_path)
    signed = run.output.getvalue()
    unnoticed, places = [], set()
    for at in range(0, len(signed), 1 if spool._SMALL > 0 else 7):
        spoilt = bytearray(signed)
        spoilt[at] ^= 0x20
        try:
            run.verify(bytes(spoilt))
        except (VerificationError, ArtifactError) as error:
            places.add(error.where)
            continue
        unnoticed.append(at)
    ends = [
        info.header_offset + 30 + len(info.filename) + info.compress_size
        for info in zipfile.ZipFile(io.BytesIO(signed)).infolist()
    ]
    assert all(any(end - 2 <= at < end for end in ends) for at in unnoticed)
    assert len(unnoticed) <= len(ends)
    steps = [place.split(INSIDE) for place in places]
    assert all(one != other for each in steps for one, other in pairwise(each)), places


# Any archive, any nesting.

_content = st.one_of(st.binary(max_size=40), st.binary(max_size=20).map(toy))
_tree = st.recursive(
    st.dictionaries(st.sampled_from("abcdef"), _content, max_size=4),
    lambda inner: st.dictionaries(st.sampled_from("ghijk"), st.one_of(_content, inner), max_size=3),
    max_leaves=6,
)


def _pack(tree: object) -> bytes:
    if isinstance(tree, bytes):
        return tree
    assert isinstance(tree, dict)
    return archive({name: _pack(content) for name, content in tree.items()})


def _elements(tree: Mapping[str, object]) -> str:
    parts = []
    for name, content in tree.items():
        if isinstance(content, dict):
            parts.append(zip_element(_elements(content), f'path="{name}"'))
        elif isinstance(content, bytes) and content.startswith(b"TOY1"):
            parts.append(toys(name))
    return "".join(parts)


def _expect(tree: Mapping[str, object], data: bytes) -> int:
    count = 0
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.namelist() == list(tree)
        for name, content in tree.items():
            found = opened.read(name)
            if isinstance(content, dict):
                count += _expect(content, found)
            elif isinstance(content, bytes) and content.startswith(b"TOY1"):
                assert found.startswith(content + MARK)
                count += 1
            else:
                assert found == content
    return count


@settings(max_examples=60, deadline=None)
@given(tree=_tree, requests=st.integers(1, 5))
@pytest.mark.untraced
def test_any_tree(
    tree: dict[str, object], requests: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    body = _elements(tree) + toys("never")
    folder = tmp_path_factory.mktemp("tree")
    run = Run(_pack(tree), zip_element(body), folder, pace=Pace(requests=requests))
    run.sign()
    assert len(run.verify()) == _expect(tree, run.output.getvalue())


def test_sign_and_verify_files(tmp_path: Path) -> None:
    source, output = tmp_path / "in.zip", tmp_path / "out.zip"
    source.write_bytes(archive(NESTED))
    document = configuration(NESTED_BODY)
    results = sign_file(source, output, document, IDENTITY, answers, language=LANGUAGE)
    assert len(results) == 7
    assert [path for path, _ in verify_file(output, language=LANGUAGE)] == [
        "out.zip!/a.toy",
        "out.zip!/inner.zip!/b.toy",
        "out.zip!/inner.zip!/deep.zip!/c.toy",
        "out.zip!/z.toy",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zip", "out.zip"]


def test_links_are_passed_over_when_signatures_are_looked_for(tmp_path: Path) -> None:
    source, file = tmp_path / "in.zip", tmp_path / "a.zip"
    source.write_bytes(archive({"a.toy": toy()}))
    body = zip_element('<toy-file path="a.toy"><toy-sign/></toy-file>')
    sign_file(source, file, configuration(body), IDENTITY, answers, language=LANGUAGE)
    with zipfile.ZipFile(file, "a") as made:
        link = zipfile.ZipInfo("link.toy")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        made.writestr(link, "a.toy")
    closed: list[str] = []
    [(path, _)] = verify_file(file, closed=closed.append, language=LANGUAGE)
    assert path == "a.zip!/a.toy"
    assert closed == ["a.zip!/link.toy"]


def test_no_output_after_a_failure(tmp_path: Path) -> None:
    source, output = tmp_path / "in.zip", tmp_path / "out.zip"
    source.write_bytes(archive(NESTED))
    document = configuration(NESTED_BODY)

    def wrong(batch: Sequence[PendingSignature]) -> list[SignatureResult]:
        return [answer(pending.request, b"another key") for pending in batch]

    with pytest.raises(VerificationError):
        sign_file(source, output, document, IDENTITY, wrong, language=LANGUAGE)

    def failing(batch: Sequence[PendingSignature]) -> list[SignatureResult]:
        raise InternalError("no token")

    with pytest.raises(InternalError):
        sign_file(source, output, document, IDENTITY, failing, language=LANGUAGE)
    assert [path.name for path in tmp_path.iterdir()] == ["in.zip"]


def test_plans_survive_the_way_over_json(tmp_path: Path) -> None:
    run = Run(archive(NESTED), NESTED_BODY, tmp_path)
    run.plan = Plan.from_json(run.plan.to_json())
    run.sign()
    assert len(run.verify()) == 4
