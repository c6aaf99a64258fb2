"""The tree against a naive reading of RFC 6962, section 2.1, and against its own proofs."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Sequence

import pytest

from sealwright.errors import InvalidInputError, VerificationError
from sealwright.transparency.merkle import (
    EMPTY_ROOT,
    MAX_SIZE,
    consistency_proof,
    frontier,
    inclusion_proof,
    leaf_hash,
    range_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [b"%d" % n for n in range(70)]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]


def mth(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


ROOTS = [mth(LEAVES[:size]) for size in range(len(LEAVES) + 1)]


class Naive:
    """A `HashReader` that hashes the leaves."""

    @functools.cache  # noqa: B019
    def node(self, level: int, index: int) -> bytes:
        leaves = LEAVES[index << level : (index + 1) << level]
        assert len(leaves) == 1 << level, "only complete subtrees are stored"
        return mth(leaves)


READER = Naive()


def test_frontier_folds_to_the_root() -> None:
    for size, root in enumerate(ROOTS):
        assert root_of(frontier(HASHES[:size])) == root
        assert range_hash(READER, 0, size) == root
    assert root_of([]) == EMPTY_ROOT == ROOTS[0]


def test_every_inclusion_proof_verifies_and_nothing_else_does() -> None:
    for size in range(1, 40):
        root = ROOTS[size]
        for index in range(size):
            leaf = HASHES[index]
            proof = inclusion_proof(READER, index, size)
            verify_inclusion(leaf, index, size, root, proof)
            for case in [
                (HASHES[index + 1], index, size, root, proof),
                (leaf, index + 1, size, root, proof),
                (leaf, index ^ 1, size, root, proof),
                (leaf, index, size, EMPTY_ROOT, proof),
                (leaf, index, size, root, [*proof, root]),
                (leaf, index, size, root, [root, *proof]),
                (leaf, index, size, root, proof[:-1] if proof else [root]),
                (leaf, index, size, root, proof[1:] if proof else [root]),
            ]:
                with pytest.raises(VerificationError):
                    verify_inclusion(*case)


def test_every_consistency_proof_verifies_and_nothing_else_does() -> None:
    for size in range(1, 40):
        root = ROOTS[size]
        for old_size in range(size + 1):
            old = ROOTS[old_size]
            proof = consistency_proof(READER, old_size, size)
            verify_consistency(old_size, old, size, root, proof)
            wrong = [
                (old_size, old, size, root, [*proof, root]),
                (old_size, hashlib.sha256(old).digest(), size, root, proof),
                (size + 1, old, size, root, proof),
            ]
            if proof:
                wrong += [
                    (old_size, old, size, hashlib.sha256(root).digest(), proof),
                    (old_size, old, size, root, proof[:-1]),
                    (old_size, old, size, root, proof[1:]),
                    (old_size, old, size, root, []),
                    (old_size, old, size, root, [EMPTY_ROOT, *proof[1:]]),
                ]
            for case in wrong:
                with pytest.raises(VerificationError):
                    verify_consistency(*case)


def test_one_changed_bit_of_a_proof_is_seen() -> None:
    pick = random.Random(1)

    def flip(proof: list[bytes]) -> list[bytes]:
        at, bit = pick.randrange(len(proof)), pick.randrange(256)
        changed = int.from_bytes(proof[at]) ^ 1 << bit
        return [*proof[:at], changed.to_bytes(32), *proof[at + 1 :]]

    for _ in range(1000):
        size = pick.randrange(2, len(LEAVES))
        index = pick.randrange(1, size)
        inclusion = flip(inclusion_proof(READER, index, size))
        with pytest.raises(VerificationError):
            verify_inclusion(HASHES[index], index, size, ROOTS[size], inclusion)
        consistency = flip(consistency_proof(READER, index, size))
        with pytest.raises(VerificationError):
            verify_consistency(index, ROOTS[index], size, ROOTS[size], consistency)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3), (0, MAX_SIZE + 1)])
def test_impossible_inclusions(index: int, size: int) -> None:
    with pytest.raises(InvalidInputError):
        inclusion_proof(READER, index, size)
    with pytest.raises(VerificationError):
        verify_inclusion(EMPTY_ROOT, index, size, EMPTY_ROOT, [])


@pytest.mark.parametrize(("old_size", "size"), [(-1, 3), (4, 3), (0, MAX_SIZE + 1)])
def test_impossible_consistencies(old_size: int, size: int) -> None:
    with pytest.raises(InvalidInputError):
        consistency_proof(READER, old_size, size)
    with pytest.raises(VerificationError):
        verify_consistency(old_size, EMPTY_ROOT, size, EMPTY_ROOT, [])


def test_endless_proofs_are_refused() -> None:
    proof = [EMPTY_ROOT] * 1_000_000
    with pytest.raises(VerificationError):
        verify_inclusion(EMPTY_ROOT, 5, MAX_SIZE, EMPTY_ROOT, proof)
    with pytest.raises(VerificationError):
        verify_consistency(5, EMPTY_ROOT, MAX_SIZE, EMPTY_ROOT, proof)


def test_a_tree_cannot_claim_more_leaves_than_its_root_has() -> None:
    """The hashes lead to the root, but the proof is too short for a tree of the claimed size."""
    verify_inclusion(HASHES[0], 0, 2, ROOTS[2], [HASHES[1]])
    verify_consistency(1, ROOTS[1], 2, ROOTS[2], [HASHES[1]])
    with pytest.raises(VerificationError):
        verify_inclusion(HASHES[0], 0, 4, ROOTS[2], [HASHES[1]])
    with pytest.raises(VerificationError):
        verify_consistency(1, ROOTS[1], 4, ROOTS[2], [HASHES[1]])
