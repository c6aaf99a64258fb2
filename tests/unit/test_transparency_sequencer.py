"""Growth of the tree: any way of growing gives the same log."""

from __future__ import annotations

import random

import pytest
from tests.unit.transparency_sample import KEY, MemoryTiles, grow, stored_tail

from sealwright.errors import InvalidInputError, VerificationError
from sealwright.transparency.checkpoint import open_checkpoint
from sealwright.transparency.merkle import MAX_SIZE, frontier, leaf_hash, root_of
from sealwright.transparency.sequencer import Head, Tail, advance
from sealwright.transparency.tiles import new_tiles

LEAVES = [b"leaf %d" % n for n in range(1400)]


def root(size: int) -> bytes:
    return root_of(frontier([leaf_hash(leaf) for leaf in LEAVES[:size]]))


@pytest.mark.parametrize("seed", range(5))
def test_growth_in_any_steps_gives_the_same_log(seed: int) -> None:
    whole = MemoryTiles()
    grow(whole, Head(), LEAVES)
    pick = random.Random(seed)
    store, head = MemoryTiles(), Head()
    while head.size < len(LEAVES):
        size = min(len(LEAVES), head.size + pick.choice([0, 1, 2, 100, 255, 256, 257, 600]))
        head, note = grow(store, Head.parse(head.encode()), LEAVES[head.size : size])
        checkpoint = open_checkpoint(note, KEY.verifier)
        assert checkpoint.root == head.root == root(size)
        assert Head.from_tiles(store, checkpoint) == head
    assert whole.items() <= store.items()


def test_files_are_those_that_the_growth_requires() -> None:
    store, head = MemoryTiles(), Head()
    for size in (0, 1, 2, 255, 256, 257, 1400):
        step = advance(stored_tail(store, head), LEAVES[head.size : size])
        wanted = new_tiles(head.size, size)
        assert [tile for tile, _ in step.files] == [one for one in wanted if not one.is_partial]
        assert {one for one in wanted if one.is_partial} <= {tile for tile, _ in step.tail.files}
        head, _ = grow(store, head, LEAVES[head.size : size])


def test_across_three_levels_of_tiles() -> None:
    store = MemoryTiles()
    leaves = [b"%d" % n for n in range(65_536 + 300)]
    head, _ = grow(store, Head(), leaves[:65_500])
    head, note = grow(store, head, leaves[65_500:])
    assert [len(edge) for edge in head.edges] == [44, 1, 1]
    assert head.root == root_of(frontier([leaf_hash(leaf) for leaf in leaves]))
    assert Head.from_tiles(store, open_checkpoint(note, KEY.verifier)) == head


def test_a_head_is_small() -> None:
    head = Head(2**48 - 1, ((bytes(32),) * 255,) * 6)
    assert len(head.encode()) == 8 + 6 * 255 * 32
    assert Head.parse(head.encode()) == head
    assert Head.parse(Head().encode()) == Head()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(7),
        bytes(9),
        bytes(7) + b"\1",
        bytes(7) + b"\1" + bytes(31),
        bytes(7) + b"\1" + bytes(33),
        b"\xff" * 8,
    ],
)
def test_damaged_heads(raw: bytes) -> None:
    with pytest.raises(InvalidInputError):
        Head.parse(raw)


def test_edges_must_fit_the_size() -> None:
    for size, edges in [(1, ()), (0, ((),)), (2, ((bytes(32),),)), (MAX_SIZE + 1, ()), (-1, ())]:
        with pytest.raises(InvalidInputError):
            Head(size, edges)


def test_the_last_leaves_must_be_the_heads() -> None:
    store = MemoryTiles()
    head, _ = grow(store, Head(), LEAVES[:3])
    assert Tail.of(head, LEAVES[:3]) == stored_tail(store, head)
    for leaves in ([], LEAVES[:2], [*LEAVES[:2], b"leaf 9"], LEAVES[:4]):
        with pytest.raises(VerificationError) as refused:
            Tail.of(head, leaves)
        assert refused.value.where == "tile/entries/000.p/3"
    with pytest.raises(VerificationError):
        Tail.of(Head(), LEAVES[:1])


def test_a_lost_head_is_not_rebuilt_from_changed_tiles() -> None:
    store = MemoryTiles()
    _, note = grow(store, Head(), LEAVES[:300])
    path = "tile/0/001.p/44"
    store[path] = bytes(32) + store[path][32:]
    with pytest.raises(VerificationError, match="root"):
        Head.from_tiles(store, open_checkpoint(note, KEY.verifier))
    del store[path]
    with pytest.raises(VerificationError, match=path):
        Head.from_tiles(store, open_checkpoint(note, KEY.verifier))


def test_limits() -> None:
    with pytest.raises(InvalidInputError):
        advance(Tail(), [b"x" * 65_536])
    edge = (bytes(32),)
    with pytest.raises(InvalidInputError, match="at most"):
        advance(Tail(Head(MAX_SIZE, (edge * 255,) * 6 + (edge * 31,))), [b"one more"])
