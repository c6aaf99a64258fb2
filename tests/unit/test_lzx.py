"""LZX in cabinets: what our own encoder of the tests makes, and what is malformed.

`tests/interop/test_cab.py` shows that other programs read the same from that encoder's output.
"""

from __future__ import annotations

import contextlib
import io
import random

import pytest
from tests.artifacts import launcher
from tests.fakes.cabinets import LZX, MSZIP, File, Folder, build
from tests.fakes.lzx_encoder import (
    ALIGNED,
    FRAME,
    UNCOMPRESSED,
    VERBATIM,
    Encoder,
    Writer,
    codes_of,
)
from tests.rebuilding import rebuild

from sealwright.errors import ArtifactError, ClosedMemberError
from sealwright.signing.containers import cab, lzx
from sealwright.signing.containers.cab import Cabinet
from sealwright.signing.containers.cab_container import CabContainer

TEXT = b"".join(b"line %d of a text\n" % number for number in range(5000))
PROGRAM = launcher("t32.exe").read_bytes()[: 3 * FRAME - 77]
SHAPES = (
    ((VERBATIM,), FRAME),
    ((ALIGNED,), 40_000),
    ((UNCOMPRESSED,), 10_001),
    ((VERBATIM, ALIGNED, UNCOMPRESSED), 10_001),
    ((UNCOMPRESSED, VERBATIM), 33_333),
    ((ALIGNED, VERBATIM), 1 << 20),
)


def cabinet(content: bytes, window_bits: int = 17, shape: int = 3) -> bytes:
    blocks = Encoder(window_bits, *SHAPES[shape]).compress(content)
    files = [File(b"a", content[:1000]), File(b"b", content[1000:])]
    return build([Folder(files, LZX | window_bits << 8, blocks=blocks)])


def contents(cabinet: bytes) -> bytes:
    container, target = CabContainer(io.BytesIO(cabinet), 10), io.BytesIO()
    for entry in container.entries():
        container.extract(entry, target)
    return target.getvalue()


@pytest.mark.parametrize("window_bits", [15, 16, 21])
@pytest.mark.parametrize("shape", range(len(SHAPES)))
@pytest.mark.untraced
def test_blocks_of_every_kind(window_bits: int, shape: int) -> None:
    for content in (PROGRAM, TEXT[:50_001], b"abc" * 20_000, random.Random(1).randbytes(1500)):
        assert contents(cabinet(content, window_bits, shape)) == content


def test_calls_are_translated() -> None:
    # What the encoder leaves as it is was absolute to the format: 16, from the start of the file.
    content = (
        b"\xe8\x10\0\0\0" + b"x" * 11 + b"\xe8\x10\0\0\0" + b"\xe8\xff\xff\xff\xff" + b"x" * 20
    )
    (block,) = Encoder(15, (VERBATIM,), FRAME, file_size=1000).compress(content)
    decoded = lzx.Lzx(15).block(*block)
    assert decoded == (
        b"\xe8\x10\0\0\0" + b"x" * 11 + b"\xe8\0\0\0\0" + b"\xe8\xe7\x03\0\0" + b"x" * 20
    )


def test_a_changed_member_makes_it_mszip() -> None:
    before = cabinet(PROGRAM)
    target = io.BytesIO()
    rebuild(CabContainer(io.BytesIO(before), 10), target, {0: io.BytesIO(b"new")})
    after = Cabinet(target, 10)
    assert [folder.kind for folder in after._folders] == [MSZIP]
    assert contents(target.getvalue()) == b"new" + PROGRAM[1000:]
    old, new = CabContainer(io.BytesIO(before), 10), CabContainer(target, 10)
    (_, kept), (_, same) = old.entries(), new.entries()
    assert old.fingerprint(kept) == new.fingerprint(same)


def test_long_folders_are_copied_but_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading takes minutes for each GiB: what would take hours is refused at once."""
    before = cabinet(TEXT[:2000])
    monkeypatch.setattr(cab, "MAX_LZX", 1999)
    container, target = CabContainer(io.BytesIO(before), 10), io.BytesIO()
    first, _ = container.entries()
    with pytest.raises(ClosedMemberError, match="of 2000 bytes by LZX") as caught:
        container.extract(first, io.BytesIO())
    assert "MSZIP" in caught.value.advice
    rebuild(container, target)
    monkeypatch.setattr(cab, "MAX_LZX", 2000)
    assert contents(target.getvalue()) == TEXT[:2000]


def test_all_folders_share_what_is_read() -> None:
    folders = [
        Folder([File(b"%d" % n, TEXT[:2000])], LZX | 15 << 8, blocks=Encoder(15, *SHAPES[0])
               .compress(TEXT[:2000]))
        for n in range(3)
    ]  # fmt: skip
    opened = Cabinet(io.BytesIO(build(folders)), 10, 4100)
    assert opened.lzx == 4000
    for member in opened.members[:2]:
        opened.extract(member, io.BytesIO())
    with pytest.raises(ClosedMemberError, match="by LZX; 100 more are read"):
        opened.extract(opened.members[2], io.BytesIO())


def test_impossible_windows() -> None:
    for window_bits in (0, 14, 22, 31):
        content = build([Folder([File(b"a", b"x")], LZX | window_bits << 8, blocks=[(b"xx", 1)])])
        with pytest.raises(ArtifactError, match="impossible window"):
            contents(content)


def bits(*fields: tuple[int, int]) -> bytes:
    writer = Writer()
    for value, width in fields:
        writer.put(value, width)
    writer.align()
    return bytes(writer.data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        bits((0, 1), (0, 3), (0, 16), (9, 8)),  # no such block
        bits((0, 1), (4, 3), (0, 16), (9, 8)),
        bits((0, 1), (VERBATIM, 3), (0, 16), (0, 8)),  # empty block
        bits((0, 1), (VERBATIM, 3), (0, 16), (9, 8)) + bytes(90),  # no code for the lengths
        bits((0, 1), (ALIGNED, 3), (0, 16), (9, 8), *[(1, 3)] * 8) + bytes(90),  # too many codes
        bits((0, 1), (UNCOMPRESSED, 3), (0, 16), (9, 8)) + bytes(12) + b"short",
    ],
)
def test_malformed_frames(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="LZX is malformed"):
        lzx.Lzx(15).block(data, 9)


def test_damage_is_refused_or_only_other_content() -> None:
    rng = random.Random(7)
    good = Encoder(16, (VERBATIM, ALIGNED), 5000).compress(TEXT[:20_000])
    ((data, size),) = good
    for _ in range(60):
        spoilt = bytearray(data)
        spoilt[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        with contextlib.suppress(ArtifactError):
            assert (
                len(lzx.Lzx(16).block(bytes(spoilt[: rng.choice([len(data), 900])]), size)) == size
            )
    with pytest.raises(ArtifactError):
        lzx.Lzx(16).block(data, size + 1)
    with pytest.raises(ArtifactError):
        lzx.Lzx(16).block(data[:-10], size)


def test_the_number_of_blocks_in_a_frame_is_limited() -> None:
    for length, is_accepted in ((10, True), (2, False)):
        ((data, size),) = Encoder(15, (UNCOMPRESSED,), length).compress(TEXT[:400])
        if is_accepted:
            assert lzx.Lzx(15).block(data, size) == TEXT[:400]
        else:
            with pytest.raises(ArtifactError, match="malformed"):
                lzx.Lzx(15).block(data, size)


def test_tables_are_limited_in_the_long_run() -> None:
    """Each block costs the time to make its tables, of however few bytes it is."""
    for length, is_accepted in ((5000, True), (1000, False)):
        frames = Encoder(15, (VERBATIM,), length).compress(TEXT[: 2 * FRAME + 20_000])
        decoder = lzx.Lzx(15)
        found = [decoder.block(*frame) for frame in frames[:2]]
        assert b"".join(found) == TEXT[: 2 * FRAME]
        if is_accepted:
            assert decoder.block(*frames[2]) == TEXT[2 * FRAME : 2 * FRAME + 20_000]
        else:
            with pytest.raises(ArtifactError, match="malformed"):
                decoder.block(*frames[2])


def raw_block(length: int, content: bytes) -> bytes:
    """An uncompressed block as it begins, and some of what it holds."""
    header = bits((UNCOMPRESSED, 3), (length >> 8, 16), (length & 0xFF, 8))
    return header + b"\1\0\0\0" * 3 + content


def test_padding_behind_an_odd_block_may_follow_in_the_next_frame() -> None:
    head = bits((0, 1), (UNCOMPRESSED, 3), (0, 16), (1, 8)) + b"\1\0\0\0" * 3 + b"x\0"
    frames = [
        (head + raw_block(FRAME - 1, TEXT[: FRAME - 1]), FRAME),
        (b"\0" + raw_block(4, b"last"), 4),
    ]
    decoder = lzx.Lzx(15)
    assert [decoder.block(*frame) for frame in frames] == [b"x" + TEXT[: FRAME - 1], b"last"]


def test_bits_behind_the_end_are_refused() -> None:
    """Also where a longer frame has come before, so that there is something to be looked at."""
    frames = Encoder(15, (VERBATIM,), 1 << 20).compress(TEXT[: FRAME + 9000])
    for cut in (1, 2, 3, 40):
        decoder = lzx.Lzx(15)
        decoder.block(*frames[0])
        data, size = frames[1]
        with pytest.raises(ArtifactError, match="malformed"):
            decoder.block(data[:-cut], size)


@pytest.mark.parametrize("offset", [50, 0, 51, 1 << 15, (1 << 15) + 1])
def test_recent_offsets_that_lead_nowhere(offset: int) -> None:
    """An uncompressed block sets them, to whatever it likes."""
    recent = offset.to_bytes(4, "little") * 3
    first = bits((0, 1), (UNCOMPRESSED, 3), (0, 16), (50, 8)) + recent + TEXT[:50]
    encoder, writer = Encoder(15, (VERBATIM,), FRAME), Writer()
    items = encoder.symbols([(4, 1)], [1, 1, 1])  # a match of four bytes by the first of them
    encoder.header(writer, VERBATIM, 4, [items], [1, 1, 1])
    encoder.put(writer, items[0], codes_of(encoder.main), codes_of(encoder.lengths), VERBATIM)
    writer.align()
    data = first + bytes(writer.data)
    if offset == 50:
        assert lzx.Lzx(15).block(data, 54) == TEXT[:50] + TEXT[:4]
    else:
        with pytest.raises(ArtifactError, match="malformed"):
            lzx.Lzx(15).block(data, 54)


def test_matches_do_not_go_past_the_frame() -> None:
    frames = Encoder(15, (VERBATIM,), FRAME).compress(b"abc" * 1000)
    with pytest.raises(ArtifactError, match="malformed"):
        lzx.Lzx(15).block(frames[0][0], 2999)
