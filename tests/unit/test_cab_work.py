"""How much is decompressed to sign files in cabinets by LZX, and that it is limited."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from tests.fakes import installers
from tests.fakes.cabinets import LZX, MSZIP, File, Folder, build
from tests.fakes.lzx_encoder import ALIGNED, FRAME, VERBATIM, Encoder
from tests.toy import IDENTITY, LANGUAGE, answers, archive, configuration, toy

from sealwright.errors import ArtifactError
from sealwright.signing import engine
from sealwright.signing.budget import Limits
from sealwright.signing.containers.lzx import Lzx

TEXT = b"".join(b"line %d of a text\n" % number for number in range(3000))
SIGNED = '<toy-file path="*.toy" max-matches="unbounded"><toy-sign/></toy-file>'
INNER = f'<cab-file path="in.cab">{SIGNED}</cab-file>'
PACKAGE = (
    '<msi-file path="in.msi"><toy-file path="*/*.toy" max-matches="unbounded"><toy-sign/>'
    "</toy-file></msi-file>"
)
SIZE = 1 << 20


def by_lzx(*files: tuple[str, bytes]) -> bytes:
    content = b"".join(each for _, each in files)
    members = [File(name.encode(), each) for name, each in files]
    blocks = Encoder(16, (VERBATIM, ALIGNED), 3 * FRAME).compress(content)
    return build([Folder(members, LZX | 16 << 8, blocks=blocks)])


def package(*files: tuple[str, bytes]) -> bytes:
    rows = [installers.Installed(name, name, each, hashed=True) for name, each in files]
    options = installers.Options(replaced={installers.stream("files.cab"): by_lzx(*files)})
    return installers.build(rows, options)


def sign(artifact: bytes, body: str, folder: Path, limits: Limits | None = None) -> bytes:
    source, output = folder / "in", folder / "out"
    source.write_bytes(artifact)
    engine.sign_file(
        source,
        output,
        configuration(body),
        IDENTITY,
        answers,
        language=LANGUAGE,
        limits=limits,
    )
    return output.read_bytes()


@pytest.fixture
def decompressed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Bytes by LZX in each stage."""
    counted: Counter[str] = Counter()
    stage = "sign"
    block = Lzx.block

    def counting(self: Lzx, data: bytes, size: int) -> bytes:
        counted[stage] += size
        return block(self, data, size)

    monkeypatch.setattr(Lzx, "block", counting)
    for name in ("build_plan", "verify_result"):
        original = getattr(engine, name)

        def during(
            *args: object, _name: str = name, _original: object = original, **options: object
        ) -> object:
            nonlocal stage
            stage = _name
            try:
                return _original(*args, **options)  # type: ignore[operator] # a function
            finally:
                stage = "sign"

        monkeypatch.setattr(engine, name, during)
    return counted


def test_planning_and_verifying_decompress_once(tmp_path: Path, decompressed: Counter[str]) -> None:
    """What was planned is kept until it is signed, containers as well."""
    small = [("a.toy", toy(TEXT)), ("b.toy", toy(TEXT[7:]))]
    cabinet, installer = by_lzx(*small), package(*small)
    outer = by_lzx(("0.toy", toy(b"0")), ("in.cab", cabinet), ("in.msi", installer))
    once = 2 * sum(len(each) for _, each in small)
    once += len(toy(b"0")) + len(cabinet) + len(installer)
    signed = sign(outer, f"<cab-file>{SIGNED}{INNER}{PACKAGE}</cab-file>", tmp_path)
    assert decompressed == {"build_plan": once, "verify_result": once}
    (tmp_path / "signed").write_bytes(signed)
    found = [path for path, _ in engine.verify_file(tmp_path / "signed", language=LANGUAGE)]
    assert len(found) == 5


def test_unchanged_files_are_read_once_more_to_be_written(
    tmp_path: Path, decompressed: Counter[str]
) -> None:
    files = [("a.txt", TEXT), ("b.toy", toy(TEXT)), ("c.txt", TEXT[9:])]
    once = sum(len(each) for _, each in files)
    sign(by_lzx(*files), f"<cab-file>{SIGNED}</cab-file>", tmp_path)
    assert decompressed["sign"] == decompressed["verify_result"] == once
    assert decompressed["build_plan"] <= once


@cache
def heavy(*, by: int = LZX) -> bytes:
    """A small cabinet: to read its signed file, a MiB in front of that has to be decompressed."""
    if by == MSZIP:
        return build([Folder([File(b"a.txt", bytes(SIZE)), File(b"b.toy", toy())])])
    return by_lzx(("a.txt", bytes(SIZE)), ("b.toy", toy()))


def nested(count: int, *, by: int = LZX) -> tuple[bytes, str]:
    """As many of them, in an archive that holds each content nearly for nothing."""
    members = {f"{number}/in.cab": heavy(by=by) for number in range(count)}
    body = f'<cab-file path="*/in.cab" max-matches="unbounded">{SIGNED}</cab-file>'
    return archive(members), f"<zip-file>{body}</zip-file>"


def test_what_nobody_extracts_counts(tmp_path: Path, decompressed: Counter[str]) -> None:
    limits = Limits(ratio=1, ratio_allowance=3 * SIZE)
    with pytest.raises(ArtifactError, match=f"more than the {3 * SIZE} bytes") as caught:
        sign(*nested(5), tmp_path, limits)
    assert "MSZIP" in caught.value.advice
    assert "2/in.cab" in caught.value.where
    assert "b.toy" in caught.value.where
    assert decompressed["build_plan"] <= 3 * SIZE
    assert sign(*nested(2), tmp_path, limits)


def test_mszip_counts_by_the_time_that_it_takes(tmp_path: Path) -> None:
    assert sign(*nested(5, by=MSZIP), tmp_path, Limits(ratio=1, ratio_allowance=SIZE))
    with pytest.raises(ArtifactError, match="decompressing more than"):
        sign(*nested(5, by=MSZIP), tmp_path, Limits(ratio=1, ratio_allowance=SIZE // 4))
