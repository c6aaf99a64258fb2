"""G12: every change, deletion, insertion, swap and truncation of the log is detected offline.

Three attackers make thousands of random single edits. One damages a published file in any way. One
edits leaves and recomputes every tile, but lacks the log's key. The last has the key too and signs
a new checkpoint for a log that is flawless in itself: the checkpoint saved earlier betrays them.
"""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from tests.unit.transparency_sample import VKEY, MemoryTiles, grow, leaf

from sealwright.errors import VerificationError
from sealwright.transparency.canonical import canonical
from sealwright.transparency.sequencer import Head
from sealwright.transparency.verify import verify_log

SIZE = 270
SAVED_SIZE = 262
LEAVES = [leaf(n, digest=f"{n * 7:064x}") for n in range(SIZE)]

FILE_EDITS = 2400
LEAF_EDITS = 800
KEY_EDITS = 1000


def publish(leaves: list[bytes]) -> MemoryTiles:
    store = MemoryTiles()
    _, checkpoint = grow(store, Head(), leaves)
    store["checkpoint"] = checkpoint.encode()
    return store


STORE = publish(LEAVES)
SAVED = publish(LEAVES[:SAVED_SIZE])["checkpoint"]


def check(store: MemoryTiles, saved: bytes | None = SAVED) -> None:
    verify_log(store, store.get("checkpoint", b""), VKEY, saved_checkpoint=saved)


def detected(store: MemoryTiles) -> bool:
    """Whether verification refuses the log. Any other exception than its own fails the test."""
    try:
        check(store)
    except VerificationError:
        return True
    return False


def damage(pick: random.Random, content: bytes) -> tuple[str, bytes]:
    """One random edit of a file's bytes."""
    begin, end = sorted(pick.choices(range(len(content) + 1), k=2))
    at = pick.randrange(len(content))
    kind = pick.choice(["change", "bit", "delete", "insert", "swap", "truncate", "zero", "repeat"])
    match kind:
        case "change":
            edited = content[:at] + pick.randbytes(1) + content[at + 1 :]
        case "bit":
            edited = content[:at] + bytes([content[at] ^ 1 << pick.randrange(8)])
            edited += content[at + 1 :]
        case "delete":
            end = min(end, begin + pick.choice([1, 2, 32, 64, 10_000]))
            edited = content[:begin] + content[end:]
        case "insert":
            edited = content[:begin] + pick.randbytes(pick.choice([1, 2, 32])) + content[begin:]
        case "swap":
            length = min(pick.choice([1, 2, 32]), len(content) // 2)
            a = pick.randrange(0, len(content) - 2 * length + 1)
            b = pick.randrange(a + length, len(content) - length + 1)
            edited = content[:a] + content[b : b + length] + content[a + length : b]
            edited += content[a : a + length] + content[b + length :]
        case "truncate":
            edited = content[:begin]
        case "zero":
            edited = content[:begin] + bytes(end - begin) + content[end:]
        case _:
            edited = content[:end] + content[begin:end] + content[end:]
    return kind, edited


def edit(pick: random.Random, limit: int) -> tuple[str, list[bytes]]:
    """One random edit of the list of leaves that touches a leaf before `limit`."""
    leaves = list(LEAVES)
    at = pick.randrange(limit)
    kind = pick.choice(["change", "delete", "insert", "swap", "truncate"])
    match kind:
        case "change":
            name, value = pick.choice(
                [
                    ("actor", "ci:8"),
                    ("action", "request.denied"),
                    ("policy_hash", None),
                    ("request", "req-x"),
                    ("data", {"digest": f"{pick.getrandbits(256):064x}"}),
                    ("time", "2026-01-02T03:04:05.999999Z"),
                ]
            )
            leaves[at] = canonical(json.loads(leaves[at]) | {name: value})
        case "delete":
            del leaves[at]
        case "insert":
            leaves.insert(at, leaf(at, "request.forged"))
        case "swap":
            other = pick.choice([n for n in range(SIZE) if n != at])
            leaves[at], leaves[other] = leaves[other], leaves[at]
        case _:
            del leaves[at:]
    return kind, leaves


def renumber(leaves: list[bytes]) -> list[bytes]:
    return [canonical(json.loads(body) | {"sequence": n}) for n, body in enumerate(leaves)]


def test_the_untouched_log_verifies() -> None:
    check(STORE)
    assert sorted(STORE) == [
        "checkpoint",
        "tile/0/000",
        "tile/0/001.p/14",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/14",
    ]


@pytest.mark.untraced
def test_damage_to_any_file_is_detected() -> None:
    pick = random.Random(2026)
    paths = sorted(STORE)
    seen: Counter[str] = Counter()
    while seen.total() < FILE_EDITS:
        path = pick.choice(paths)
        store = MemoryTiles(STORE)
        kind, store[path] = damage(pick, STORE[path])
        if store[path] == STORE[path]:
            continue
        seen[kind] += 1
        assert detected(store), f"{kind} in {path}, edit {seen.total()}"
    assert min(seen.values()) > 100
    print(f"G12: {FILE_EDITS} of {FILE_EDITS} edits of files detected: {dict(seen)}")


def test_lost_exchanged_and_outdated_files_are_detected() -> None:
    for path in STORE:
        lacking = MemoryTiles(STORE)
        del lacking[path]
        assert detected(lacking), path
        for other in STORE:
            if STORE[other] != STORE[path]:
                exchanged = {path: STORE[other], other: STORE[path]}
                assert detected(MemoryTiles({**STORE, **exchanged})), (path, other)
    older = publish(LEAVES[: SAVED_SIZE - 1])
    assert detected(older)
    assert detected(MemoryTiles({**STORE, "checkpoint": older["checkpoint"]}))


@pytest.mark.untraced
def test_edits_without_the_key_are_detected() -> None:
    pick = random.Random(12)
    seen: Counter[str] = Counter()
    while seen.total() < LEAF_EDITS:
        kind, leaves = edit(pick, SIZE)
        if pick.random() < 0.5:
            leaves = renumber(leaves)
        if leaves == LEAVES:
            continue
        forged = MemoryTiles()
        grow(forged, Head(), leaves)
        forged["checkpoint"] = STORE["checkpoint"]
        seen[kind] += 1
        assert detected(forged), f"{kind}, edit {seen.total()}"
    assert min(seen.values()) > 50
    print(f"G12: {LEAF_EDITS} of {LEAF_EDITS} edits of leaves detected: {dict(seen)}")


@pytest.mark.untraced
def test_edits_with_the_key_are_detected_by_the_saved_checkpoint() -> None:
    pick = random.Random(77)
    seen: Counter[str] = Counter()
    while seen.total() < KEY_EDITS:
        kind, leaves = edit(pick, SAVED_SIZE)
        leaves = renumber(leaves)
        if leaves == LEAVES:
            continue
        forged = publish(leaves)
        seen[kind] += 1
        if seen.total() % 20 == 0:
            check(forged, saved=None)  # the forgery is flawless in itself
        assert detected(forged), f"{kind}, edit {seen.total()}"
    assert min(seen.values()) > 100
    print(f"G12: {KEY_EDITS} of {KEY_EDITS} rewritten logs detected: {dict(seen)}")


def test_without_a_saved_checkpoint_the_keys_holder_could_rewrite() -> None:
    """Why a checkpoint is kept elsewhere: without one, nobody could tell."""
    forged = publish(renumber(LEAVES[1:]))
    check(forged, saved=None)
    with pytest.raises(VerificationError):
        check(forged)
