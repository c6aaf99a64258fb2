"""A stream is inflated with the help of its earlier version, and gives what zlib says it does."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.deflated import RAW, code, compressed

from sealwright.errors import ArtifactError
from sealwright.signing.containers import deflate_following, deflate_seams
from sealwright.signing.containers.deflate_following import InflatedStream, follower
from sealwright.signing.containers.deflate_seams import DeflateStream, seam_inflater
from sealwright.signing.containers.deflate_splice import splice
from sealwright.signing.containers.zip import ZipContainer

_LEAD = b"what is in front"


def _blocks(content: bytes, history: bytes = b"") -> bytes:
    """Compressed blocks that end at a byte, and none of which is the last."""
    made = zlib.compressobj(6, zlib.DEFLATED, RAW, 8, zdict=history)
    return made.compress(content) + made.flush(zlib.Z_SYNC_FLUSH)


def _inflated(stream: bytes) -> bytes:
    return zlib.decompress(stream, RAW)


def _old(stream: bytes) -> InflatedStream:
    """An old version, inflated."""
    old = InflatedStream(DeflateStream(io.BytesIO(_LEAD + stream), len(_LEAD), len(stream)))
    inflating, waiting = seam_inflater(old.seams), stream
    while not inflating.eof:
        old.keep(inflating.decompress(waiting, 100_000))
        waiting = inflating.unconsumed_tail
    return old


def _followed(old: InflatedStream, stream: bytes, pieces: int = 1 << 20) -> tuple[bytes, int]:
    """The content of a new version, and how much of it was taken from the old one."""
    following = follower(old, DeflateStream(io.BytesIO(_LEAD + stream), len(_LEAD), len(stream)))
    assert following is not None
    inflating, waiting, at = following.inflating, b"", 0
    made, taken = b"", 0
    while not inflating.eof:
        if not waiting:
            waiting, at = stream[at : at + pieces], at + pieces
        piece = inflating.decompress(waiting, 100_000)
        assert piece or waiting or inflating.eof, "it breaks off"
        waiting = inflating.unconsumed_tail
        made += piece
        if (leap := following.leap(piece)) is not None:
            known = b"".join(leap.pieces)
            made += known
            taken += len(known)
            inflating, waiting, at = leap.inflating, b"", leap.offset
    assert not inflating.unused_data
    return made, taken


def _signed(content: bytes) -> bytes:
    """As signing changes a program."""
    return content[:300] + b"sums" + content[304:] + b"signature" * 900


def _spliced(stream: bytes, content: bytes) -> bytes:
    target = io.BytesIO()
    old = _old(stream)
    assert splice(old.stream, old.seams, io.BytesIO(content), target)
    return target.getvalue()


@pytest.mark.parametrize("level", [1, 6, 9])
@pytest.mark.parametrize("pieces", [1 << 20, 1000])
def test_what_signing_keeps_is_not_inflated_again(level: int, pieces: int) -> None:
    content = code(1, 1_000_000)
    old = compressed(content, level)
    signed = _signed(content)
    made, taken = _followed(_old(old), _spliced(old, signed), pieces)
    assert made == signed
    assert taken > 700_000


def test_the_same_stream() -> None:
    content = code(2, 500_000)
    stream = compressed(content)
    made, taken = _followed(_old(stream), stream)
    assert made == content
    assert taken > 300_000


def test_another_stream_of_the_same_content() -> None:
    content = code(3, 300_000)
    made, _ = _followed(_old(compressed(content, 9)), compressed(content, 1))
    assert made == content


def test_nothing_in_common() -> None:
    made, taken = _followed(_old(compressed(code(4, 300_000))), compressed(code(5, 300_000)))
    assert (made, taken) == (code(5, 300_000), 0)


def test_the_same_blocks_behind_another_content() -> None:
    """They refer to what is in front of them, and give something else."""
    before, other = code(6, 64 << 10), code(7, 64 << 10)
    middle = _blocks(before[1000:20_000] * 9, before[-(32 << 10) :])
    end = compressed(b"end")
    old, new = _blocks(before) + middle + end, _blocks(other) + middle + end
    assert _inflated(old)[64 << 10 :] != _inflated(new)[64 << 10 :]
    made, taken = _followed(_old(old), new)
    assert made == _inflated(new)
    assert taken == 0


def test_one_byte_of_the_window_is_another() -> None:
    before = code(8, 64 << 10)
    at = (64 << 10) - 100
    other = before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :]
    middle = _blocks(before[-2000:] * 60, before[-(32 << 10) :])
    end = compressed(b"end")
    new = _blocks(other) + middle + end
    made, _ = _followed(_old(_blocks(before) + middle + end), new)
    assert made == _inflated(new)


def test_blocks_that_differ_far_behind() -> None:
    """What is equal is taken up to the last block that is equal to its last bit."""
    content = code(9, 900_000)
    changed = content[:600_000] + b"\0" * 5 + content[600_005:]
    start, end = _blocks(content[:100_000]), compressed(b"end")
    window = content[100_000 - (32 << 10) : 100_000]
    old = start + _blocks(content[100_000:], window) + end
    new = start + _blocks(changed[100_000:], window) + end
    made, taken = _followed(_old(old), new)
    assert made == changed + b"end"
    assert 300_000 < taken < 600_000 + (64 << 10)


def test_only_the_first_content_of_a_long_stream_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no short piece at its end, behind longer ones for which there is no room."""
    monkeypatch.setattr(deflate_following, "_MAX_KEPT", 380_000)
    content = code(10, 850_000)
    stream = compressed(content)
    made, taken = _followed(_old(stream), stream)
    assert made == content
    assert 100_000 < taken <= 300_000


@pytest.mark.parametrize("many", [100, 5000])
def test_many_empty_blocks(many: int) -> None:
    """Each ends where an old block ends, and none is worth a look for ever."""
    content = code(11, 200_000)
    start, end = _blocks(content[:100_000]), compressed(content[100_000:])
    empty = b"\0\0\0\xff\xff" * many
    made, _ = _followed(_old(start + end), start + empty + end)
    assert made == content


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.lists(st.tuples(st.integers(0, 399_999), st.binary(min_size=1, max_size=9)), max_size=4),
    st.lists(st.integers(1, 120_000), min_size=1, max_size=6),
    st.lists(st.integers(1, 120_000), min_size=1, max_size=6),
)
def test_whatever_the_streams_are(
    seed: int, changes: list[tuple[int, bytes]], some: list[int], others: list[int]
) -> None:
    """Two contents in blocks of any lengths."""
    content = code(seed, 400_000)
    changed = bytearray(content)
    for at, data in changes:
        changed[at : at + len(data)] = data
    old, new = _in_blocks(content, some), _in_blocks(bytes(changed), others)
    for stream, expected in ((new, bytes(changed)), (old, content)):
        made, _ = _followed(_old(old), stream)
        assert made == expected


def _in_blocks(content: bytes, lengths: list[int]) -> bytes:
    made = zlib.compressobj(6, zlib.DEFLATED, RAW)
    stream, at = b"", 0
    for length in lengths:
        stream += made.compress(content[at : at + length]) + made.flush(zlib.Z_BLOCK)
        at += length
    return stream + made.compress(content[at:]) + made.flush()


# As members of archives


def _archive(content: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.exe", content)
        made.writestr("b.txt", b"text")
    return data.getvalue()


def _resigned(data: bytes, content: bytes) -> bytes:
    """The archive with another content of its first member, packed as the engine does."""
    container, packed, target = ZipContainer(io.BytesIO(data), 9), io.BytesIO(), io.BytesIO()
    member = container.pack(0, io.BytesIO(content), packed)
    packed.seek(0)
    container.rebuild(target, {0: member}, lambda _: (packed, 0), {})
    return target.getvalue()


def _compared(before: bytes, after: bytes) -> tuple[bytes, bytes]:
    """Both contents of the first member, read as judges do."""
    old, new = (ZipContainer(io.BytesIO(each), 9) for each in (before, after))
    for each in (old, new):
        each.only_read()
    new.follow(old)
    return old.read(next(old.entries())), new.read(next(new.entries()))


@pytest.mark.parametrize("size", [1000, 128 << 10, 700_000])
def test_both_versions_of_a_member_are_read(size: int) -> None:
    content = code(12, size)
    before = _archive(content)
    after = _resigned(before, _signed(content))
    assert _compared(before, after) == (content, _signed(content))


def test_without_the_library_both_are_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    content = code(13, 300_000)
    before = _archive(content)
    after = _resigned(before, _signed(content))
    monkeypatch.setattr(deflate_following, "LIBRARY", None)
    monkeypatch.setattr(deflate_seams, "LIBRARY", None)
    assert _compared(before, after) == (content, _signed(content))


@pytest.mark.parametrize("place", [0.05, 0.3, 0.5, 0.9])
def test_damage_in_the_later_version_is_found(place: float) -> None:
    content = code(14, 600_000)
    before = _archive(content)
    after = bytearray(_resigned(before, _signed(content)))
    after[int(len(after) * place)] ^= 4
    with pytest.raises(ArtifactError, match="damaged"):
        _compared(before, bytes(after))


def test_more_than_declared_is_found_where_it_is_known_already() -> None:
    content = code(15, 600_000)
    before = _archive(content)
    after = bytearray(before)
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<L", after, after.index(signature) + offset, 300_000)
    with pytest.raises(ArtifactError, match="more than its declared size"):
        _compared(before, bytes(after))
