"""New versions of compressed contents, made of the old version's blocks."""

from __future__ import annotations

import hashlib
import io
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.deflated import RAW, code, compressed
from zlib_ng import zlib_ng

from sealwright.signing.containers import deflate_blocks, deflate_seams
from sealwright.signing.containers.deflate import inflater
from sealwright.signing.containers.deflate_seams import HEAD, DeflateStream, Seams, seam_inflater
from sealwright.signing.containers.deflate_splice import splice


def _seams(stream: bytes, pieces: int = 1 << 20, room: int = 1 << 20) -> Seams:
    """The seams that are found while a stream is inflated in pieces of any size."""
    found = Seams()
    inflating = seam_inflater(found)
    made, waiting, at = b"", b"", 0
    while not inflating.eof:
        if not waiting:
            waiting, at = stream[at : at + pieces], at + pieces
        made += inflating.decompress(waiting, room)
        waiting = inflating.unconsumed_tail
    assert not inflating.unused_data
    assert made == zlib.decompress(stream, RAW)
    return found


def _spliced(stream: bytes, content: bytes) -> tuple[int | None, bytes]:
    target = io.BytesIO()
    old = DeflateStream(io.BytesIO(b"before" + stream), 6, len(stream))
    return splice(old, _seams(stream), io.BytesIO(content), target), target.getvalue()


def _inflated(stream: bytes) -> bytes:
    """By two inflaters, of which one is not the engine's."""
    other = zlib.decompressobj(RAW)
    content = other.decompress(stream)
    assert other.eof
    assert not other.unused_data
    assert inflater().decompress(stream, len(content) + 1) == content
    return content


def _changed(content: bytes, tail: int) -> bytes:
    return content[:216] + b"SIGN" + content[220:] + hashlib.shake_256(b"t").digest(tail)


@pytest.mark.parametrize("level", [1, 4, 6, 9])
@pytest.mark.parametrize("tail", [0, 9000])
def test_most_of_the_stream_is_kept(level: int, tail: int) -> None:
    content = code(level, 600_000)
    stream = compressed(content, level)
    crc, made = _spliced(stream, _changed(content, tail))
    assert _inflated(made) == _changed(content, tail)
    assert crc == zlib.crc32(_changed(content, tail))
    assert len(made) < len(stream) + tail + 4000


def test_every_bit_of_a_byte_can_be_continued_at() -> None:
    offsets = set()
    for seed in range(60):
        content = code(seed, 260_000)
        stream = compressed(content, 6)
        seams = list(_seams(stream))
        crc, made = _spliced(stream, _changed(content, 50))
        assert _inflated(made) == _changed(content, 50)
        assert crc is not None
        offsets.add(next(seam.bit for seam in seams if seam.content >= HEAD + (32 << 10)) % 8)
        if len(offsets) == 8:
            return
    pytest.fail(f"only {sorted(offsets)}")


def test_seams_do_not_depend_on_how_the_stream_is_read() -> None:
    stream = compressed(code(1, 400_000))
    expected = list(_seams(stream))
    assert len(expected) > 2
    assert list(_seams(stream, pieces=777)) == expected
    assert list(_seams(stream, room=501)) == expected


def test_a_seam_tells_the_sum_of_what_is_before_it() -> None:
    content = code(2, 300_000)
    before = HEAD
    for seam in _seams(compressed(content)):
        assert seam.crc == zlib.crc32(content[before : seam.content])
        before = seam.content


def test_what_changed_in_the_middle_is_compressed_anew() -> None:
    content = code(3, 900_000)
    at = 500_000
    changed = content[:at] + b"changed" + content[at + 7 :]
    crc, made = _spliced(compressed(content), changed)
    assert crc == zlib.crc32(changed)
    assert _inflated(made) == changed


def test_what_was_cut_off_is_compressed_anew() -> None:
    content = code(4, 700_000)
    crc, made = _spliced(compressed(content), content[:500_001])
    assert crc is not None
    assert _inflated(made) == content[:500_001]


def test_another_content_is_not_spliced() -> None:
    assert _spliced(compressed(code(5, 300_000)), code(6, 300_000)) == (None, b"")


@pytest.mark.parametrize("strategy", [zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE])
def test_streams_of_other_compressors(strategy: int) -> None:
    content = code(7, 500_000)
    crc, made = _spliced(compressed(content, 6, strategy), _changed(content, 100))
    if crc is not None:
        assert _inflated(made) == _changed(content, 100)


def test_stored_blocks() -> None:
    content = code(8, 500_000)
    crc, made = _spliced(compressed(content, 0), _changed(content, 100))
    assert crc is not None
    assert _inflated(made) == _changed(content, 100)


def test_a_stream_of_empty_blocks_is_not_stopped_at_each() -> None:
    compressor = zlib_ng.compressobj(6, zlib_ng.DEFLATED, RAW)
    empty = b"\0\0\0\xff\xff" * 100_000
    stream = compressor.compress(bytes(50_000)) + compressor.flush(zlib_ng.Z_SYNC_FLUSH) + empty
    rest = zlib_ng.compressobj(6, zlib_ng.DEFLATED, RAW)
    stream += rest.compress(code(9, 200_000)) + rest.flush()
    assert len(list(_seams(stream))) <= 1


@pytest.mark.parametrize("cut", [1, 5, 1000])
def test_a_stream_that_breaks_off_has_no_end(cut: int) -> None:
    stream = compressed(code(10, 100_000))[:-cut]
    inflating = seam_inflater(Seams())
    inflating.decompress(stream, 1 << 20)
    assert not inflating.eof


def test_malformed_streams_are_refused() -> None:
    with pytest.raises(zlib_ng.error):
        seam_inflater(Seams()).decompress(b"\xff" * 40, 1000)


def test_another_build_of_the_library_finds_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflate_seams, "LIBRARY", None)
    content = code(11, 300_000)
    assert list(_seams(compressed(content))) == []
    assert _spliced(compressed(content), _changed(content, 10)) == (None, b"")


def test_the_library_is_the_one_whose_structure_is_known() -> None:
    """A newer wheel is taken with the structure of its version; see decision 14."""
    assert deflate_blocks.LIBRARY is not None


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.integers(0, 9),
    st.lists(st.tuples(st.integers(0, 299_999), st.binary(min_size=1, max_size=9)), max_size=3),
    st.integers(-90_000, 20_000),
)
def test_whatever_changes(
    seed: int, level: int, changes: list[tuple[int, bytes]], longer: int
) -> None:
    content = code(seed, 300_000)
    changed = content[: len(content) + min(longer, 0)] + bytes(max(longer, 0))
    for at, what in changes:
        changed = changed[:at] + what + changed[at + len(what) :]
    crc, made = _spliced(compressed(content, level), changed)
    if crc is not None:
        assert _inflated(made) == changed
        assert crc == zlib.crc32(changed)
