"""Verification of a whole log: what it reports, and what it names as at fault."""

from __future__ import annotations

import tracemalloc

import pytest
from tests.unit.transparency_sample import VKEY, MemoryTiles, grow, leaf

from sealwright.errors import VerificationError
from sealwright.transparency import verify
from sealwright.transparency.leaf import LeafEntry
from sealwright.transparency.merkle import leaf_hash
from sealwright.transparency.note import SigningKey
from sealwright.transparency.sequencer import Head
from sealwright.transparency.tiles import decode_bundle, encode_bundle
from sealwright.transparency.verify import UnmatchedIntent, verify_log


def log(leaves: list[bytes]) -> tuple[MemoryTiles, str]:
    store = MemoryTiles()
    _, checkpoint = grow(store, Head(), leaves)
    return store, checkpoint


def plain(size: int) -> list[bytes]:
    return [leaf(n) for n in range(size)]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 700])
def test_a_sound_log_verifies(size: int) -> None:
    store, checkpoint = log(plain(size))
    seen: list[LeafEntry] = []
    report = verify_log(store, checkpoint, VKEY, on_leaf=seen.append)
    assert [entry.encode() for entry in seen] == plain(size)
    assert report.checkpoint.size == size
    assert report.files == len(store)
    assert report.saved is None
    assert report.unmatched_intents == ()


@pytest.mark.parametrize("saved_size", [0, 1, 255, 256, 257, 512, 699, 700])
def test_a_saved_checkpoint_is_continued(saved_size: int) -> None:
    store = MemoryTiles()
    head, saved = grow(store, Head(), plain(saved_size))
    _, checkpoint = grow(store, head, plain(700)[saved_size:])
    report = verify_log(store, checkpoint.encode(), VKEY, saved_checkpoint=saved.encode())
    assert report.saved is not None
    assert report.saved.size == saved_size


@pytest.mark.parametrize("saved_size", [1, 256, 300, 512, 700])
def test_a_rewritten_log_does_not_continue_a_saved_checkpoint(saved_size: int) -> None:
    _, saved = log(plain(saved_size))
    rewritten = plain(700)
    rewritten[saved_size - 1] = leaf(saved_size - 1, "request.forged")
    store, checkpoint = log(rewritten)
    verify_log(store, checkpoint, VKEY)
    with pytest.raises(VerificationError, match=f"first {saved_size} leaves"):
        verify_log(store, checkpoint, VKEY, saved_checkpoint=saved)


@pytest.mark.parametrize(("size", "saved_size"), [(200, 201), (0, 1)])
def test_a_shorter_log_does_not_continue_a_saved_checkpoint(size: int, saved_size: int) -> None:
    store, checkpoint = log(plain(size))
    _, saved = log(plain(saved_size))
    with pytest.raises(VerificationError, match=f"fewer than the {saved_size}"):
        verify_log(store, checkpoint, VKEY, saved_checkpoint=saved)


def test_the_checkpoint_must_be_of_the_key() -> None:
    store, checkpoint = log(plain(3))
    other = SigningKey.generate("log.example.com/sealwright").verifier.encode()
    with pytest.raises(VerificationError, match="0 signatures"):
        verify_log(store, checkpoint, other)


def test_a_changed_leaf_is_named() -> None:
    store, checkpoint = log(plain(300))
    leaves = decode_bundle(store["tile/entries/001.p/44"], 44)
    leaves[7] = leaf(263, "request.forged")
    store["tile/entries/001.p/44"] = encode_bundle(leaves)
    with pytest.raises(VerificationError, match="leaf 263") as caught:
        verify_log(store, checkpoint, VKEY)
    assert caught.value.where == "tile/0/001.p/44"


def test_a_changed_hash_is_named() -> None:
    store, checkpoint = log(plain(600))
    tile = bytearray(store["tile/1/000.p/2"])
    tile[40] ^= 1
    store["tile/1/000.p/2"] = bytes(tile)
    with pytest.raises(VerificationError, match=r"Hash 1 .* tile/0/001") as caught:
        verify_log(store, checkpoint, VKEY)
    assert caught.value.where == "tile/1/000.p/2"


def test_missing_tiles_are_named() -> None:
    store, checkpoint = log(plain(600))
    for path in store:
        damaged = MemoryTiles(store)
        del damaged[path]
        with pytest.raises(VerificationError) as caught:
            verify_log(damaged, checkpoint, VKEY)
        assert caught.value.where == path


@pytest.mark.untraced
def test_levels_above_the_first() -> None:
    """65,536 leaves fill a tile of level 1; a wrong hash up there is named."""
    store, checkpoint = log(plain(65_537))
    assert verify_log(store, checkpoint, VKEY).files == len(store)
    for path in ("tile/1/000", "tile/2/000.p/1"):
        damaged = MemoryTiles(store)
        damaged[path] = leaf_hash(b"x") + store[path][32:]
        with pytest.raises(VerificationError) as caught:
            verify_log(damaged, checkpoint, VKEY)
        assert caught.value.where == path


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (leaf(6), "sequence is 6"),
        (leaf(5) + b" ", "canonical"),
        (leaf(5).replace(b'"request":', b'"requesu":'), "members"),
        (b"", "Not JSON"),
        (leaf(5, "signature.intended"), "lacks its intent_id"),
        (leaf(5, "signature.intended", intent_id=7), "lacks its intent_id"),
        (leaf(5, "signature.intended", intent_id="x" * 129), "lacks its intent_id"),
        (leaf(5, "signature.made", intent_id="x"), "no open intent"),
        (leaf(5, "signature.abandoned", intent_id="x"), "no open intent"),
    ],
)
def test_leaves_that_break_the_rules_are_named(entry: bytes, message: str) -> None:
    leaves = plain(10)
    leaves[5] = entry
    store, checkpoint = log(leaves)
    with pytest.raises(VerificationError, match=message) as caught:
        verify_log(store, checkpoint, VKEY)
    assert caught.value.where == "leaf 5 (tile/entries/000)"


def intents(*steps: tuple[str, str]) -> list[bytes]:
    return [leaf(n, f"signature.{step}", intent_id=i) for n, (step, i) in enumerate(steps)]


def test_intents_without_a_result_are_listed() -> None:
    store, checkpoint = log(
        intents(
            ("intended", "a"),
            ("intended", "b"),
            ("intended", "c"),
            ("made", "b"),
            ("intended", "d"),
            ("abandoned", "d"),
        )
    )
    report = verify_log(store, checkpoint, VKEY)
    assert report.unmatched_intents == (UnmatchedIntent("a", 0), UnmatchedIntent("c", 2))


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ([("made", "a"), ("intended", "a")], 0),
        ([("intended", "a"), ("made", "a"), ("made", "a")], 2),
        ([("intended", "a"), ("abandoned", "a"), ("made", "a")], 2),
        ([("intended", "a"), ("intended", "a")], 1),
    ],
)
def test_results_need_an_earlier_intent_of_their_own(
    steps: list[tuple[str, str]], fault: int
) -> None:
    store, checkpoint = log(intents(*steps))
    with pytest.raises(VerificationError) as caught:
        verify_log(store, checkpoint, VKEY)
    assert caught.value.where == f"leaf {fault} (tile/entries/000)"


def test_open_intents_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "MAX_OPEN_INTENTS", 3)
    store, checkpoint = log(intents(*[("intended", str(n)) for n in range(4)]))
    with pytest.raises(VerificationError, match="More than 3"):
        verify_log(store, checkpoint, VKEY)


def test_memory_does_not_grow_with_the_log() -> None:
    def peak(size: int) -> int:
        store, checkpoint = log(plain(size))
        tracemalloc.start()
        verify_log(store, checkpoint, VKEY)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(4096) < peak(512) + 200_000
