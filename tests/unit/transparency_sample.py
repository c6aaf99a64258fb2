"""A small log to test with: a store in memory, a key, entries, and its growth."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sealwright.transparency.checkpoint import sign_checkpoint
from sealwright.transparency.leaf import Event, LeafEntry
from sealwright.transparency.note import SigningKey
from sealwright.transparency.sequencer import Advance, Head, Tail, advance
from sealwright.transparency.tiles import read_leaves

KEY = SigningKey("log.example.com/sealwright", bytes(range(32)))
VKEY = KEY.verifier.encode()
START = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


class MemoryTiles(dict[str, bytes]):
    """A `TileStore` that lets a test do what an attacker can: anything."""

    def read(self, path: str) -> bytes | None:
        return self.get(path)

    def write(self, path: str, content: bytes) -> None:
        self[path] = content

    def remove_partials(self, path: str) -> None:
        for partial in [name for name in self if name.startswith(f"{path}.p/")]:
            del self[partial]


def event(number: int, action: str = "request.submitted", **data: object) -> Event:
    return Event(
        time=START + timedelta(seconds=number),
        actor="ci:7",
        action=action,
        organization="org-1",
        request=f"req-{number}",
        policy_hash=f"{number:064x}",
        data=data,  # type: ignore[arg-type]
    )


def leaf(sequence: int, action: str = "request.submitted", **data: object) -> bytes:
    return LeafEntry(sequence, event(sequence, action, **data)).encode()


def publish(store: MemoryTiles, step: Advance) -> str:
    """Do what the server does after an advance; gives the signed checkpoint."""
    for tile, content in (*step.files, *step.tail.files):
        store.write(tile.path, content)
    for tile, _ in step.files:
        store.remove_partials(tile.path)
    return sign_checkpoint(step.checkpoint(KEY.name), KEY)


def stored_tail(store: MemoryTiles, head: Head) -> Tail:
    """The end of the published log."""
    return Tail.of(head, read_leaves(store, head.bundle) if head.bundle else [])


def grow(store: MemoryTiles, head: Head, leaves: Sequence[bytes]) -> tuple[Head, str]:
    """Append leaves and publish: the new head and the signed checkpoint."""
    step = advance(stored_tail(store, head), leaves)
    return step.head, publish(store, step)
