"""The Merkle tree of RFC 6962, section 2.1 (and RFC 9162, 2.1), with SHA-256. Pure.

A tree of n leaves is its *frontier*: the roots of the largest complete subtrees from left to right,
one for each bit of n. The tree's root folds them from the right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

from sealwright.errors import InvalidInputError, VerificationError

HASH_SIZE = 32
MAX_SIZE = 2**53 - 1  #: leaves; a sequence is a JSON integer
MAX_PROOF = 2 * MAX_SIZE.bit_length()  #: hashes; no proof in a tree of `MAX_SIZE` is longer
EMPTY_ROOT = hashlib.sha256(b"").digest()


class HashReader(Protocol):
    """Access to the stored hashes of a tree."""

    def node(self, level: int, index: int) -> bytes:
        """Give the root of the complete subtree over the 2**level leaves from index * 2**level on.

        Raises:
            VerificationError: the hash is missing from the store or malformed.
        """
        ...


def leaf_hash(leaf: bytes) -> bytes:
    """Hash a leaf: SHA-256(0x00 || leaf)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash an inner node: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def subtree_hash(hashes: Sequence[bytes]) -> bytes:
    """Give the root over `hashes`, the nodes of one level; their number is a power of two."""
    while len(hashes) > 1:
        hashes = [node_hash(*pair) for pair in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


def frontier(hashes: Sequence[bytes]) -> list[bytes]:
    """Fold `hashes`, consecutive nodes of one level, into complete subtrees, largest first."""
    roots = []
    begin = 0
    for bit in reversed(range(len(hashes).bit_length())):
        if len(hashes) >> bit & 1:
            roots.append(subtree_hash(hashes[begin : begin + (1 << bit)]))
            begin += 1 << bit
    return roots


def root_of(roots: Iterable[bytes]) -> bytes:
    """Give the tree's root from its frontier, left to right; `EMPTY_ROOT` from an empty one."""
    result: bytes | None = None
    for root in reversed(list(roots)):
        result = root if result is None else node_hash(root, result)
    return EMPTY_ROOT if result is None else result


def range_hash(reader: HashReader, begin: int, end: int) -> bytes:
    """Give MTH(D[begin:end]) of a range that is a node of the tree (RFC 6962, 2.1)."""
    roots = []
    while begin < end:
        # The largest complete subtree that starts at `begin` and fits.
        level = (end - begin).bit_length() - 1
        roots.append(reader.node(level, begin >> level))
        begin += 1 << level
    return root_of(roots)


def inclusion_proof(reader: HashReader, index: int, size: int) -> list[bytes]:
    """Prove that leaf `index` is in the tree of `size` leaves (RFC 6962, 2.1.1).

    The leaf's sibling comes first.

    Raises:
        InvalidInputError: there is no such leaf in a tree of that size.
    """
    if not 0 <= index < size <= MAX_SIZE:
        message = f"A tree of {size} leaves has no leaf {index}."
        raise InvalidInputError(message)
    begin, end, siblings = 0, size, []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            siblings.append((middle, end))
            end = middle
        else:
            siblings.append((begin, middle))
            begin = middle
    return [range_hash(reader, *sibling) for sibling in reversed(siblings)]


def consistency_proof(reader: HashReader, old_size: int, size: int) -> list[bytes]:
    """Prove that the tree of `size` leaves continues the one of `old_size` (RFC 6962, 2.1.2).

    Empty for `old_size` 0 and for equal sizes.

    Raises:
        InvalidInputError: `old_size` exceeds `size`.
    """
    if not 0 <= old_size <= size <= MAX_SIZE:
        message = f"A tree of {size} leaves does not continue one of {old_size}."
        raise InvalidInputError(message)
    if old_size == 0:
        return []
    begin, end, parts = 0, size, []
    while old_size != end:
        middle = begin + _split(end - begin)
        if old_size <= middle:
            parts.append((middle, end))
            end = middle
        else:
            parts.append((begin, middle))
            begin = middle
    if begin > 0:  # else the old tree is a node of the new one, and its root is known
        parts.append((begin, end))
    return [range_hash(reader, *part) for part in reversed(parts)]


def verify_inclusion(
    leaf: bytes, index: int, size: int, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check an inclusion proof (RFC 9162, 2.1.3.2); `leaf` is the leaf's hash.

    Raises:
        VerificationError: it does not prove that.
    """
    if not 0 <= index < size <= MAX_SIZE or len(proof) > MAX_PROOF:
        message = f"No proof can show leaf {index} in a tree of {size} leaves."
        raise VerificationError(message)
    node, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            message = "The inclusion proof is too long."
            raise VerificationError(message)
        if node & 1 or node == last:
            result = node_hash(sibling, result)
            # A node without right sibling moves up unchanged.
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        node, last = node >> 1, last >> 1
    if last or result != root:
        message = f"The inclusion proof does not lead from leaf {index} to the root of the tree."
        raise VerificationError(message)


def verify_consistency(
    old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check a consistency proof (RFC 9162, 2.1.4.2).

    Raises:
        VerificationError: it does not prove that the larger tree continues the smaller.
    """
    if not 0 <= old_size <= size <= MAX_SIZE or len(proof) > MAX_PROOF:
        message = f"No proof can show that a tree of {size} leaves continues one of {old_size}."
        raise VerificationError(message)
    if old_size in (0, size):
        expected = EMPTY_ROOT if old_size == 0 else root
        if proof or old_root != expected:
            message = f"The trees of {old_size} and {size} leaves are not consistent."
            raise VerificationError(message)
        return
    if _fold_consistency(old_size, old_root, size, proof) != (old_root, root):
        message = f"The tree of {size} leaves does not continue the saved one of {old_size}."
        raise VerificationError(message)


def _fold_consistency(
    old_size: int, old_root: bytes, size: int, proof: Sequence[bytes]
) -> tuple[bytes, bytes] | None:
    """Fold `proof` into (old root, new root), 0 < old_size < size; None if its length is wrong."""
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return None
    node, last = old_size - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    return None if last else (old, new)


def _split(size: int) -> int:
    """Give the largest power of two smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1
