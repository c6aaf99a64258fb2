"""Containers rebuilt as signing does it: changed members are packed first."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import BinaryIO

from sealwright.signing.artifact import Container, PackedMember


def rebuild(
    container: Container,
    target: BinaryIO,
    changed: Mapping[int, BinaryIO] | None = None,
    added: Mapping[str, bytes] | None = None,
    shard: Callable[[], Container] | None = None,
) -> None:
    """Write the container anew to the empty `target`.

    Args:
        changed: new content by order; packed from the last to the first.
        shard: opens the container again for each that is packed; None: `container` packs.
    """
    parts = io.BytesIO(b"part")
    parts.seek(0, io.SEEK_END)
    packed: dict[int, PackedMember] = {}
    places: dict[int, int] = {}
    for order in sorted(changed or {}, reverse=True):
        assert changed is not None
        places[order] = parts.tell()
        packer = shard() if shard else container
        packed[order] = packer.pack(order, changed[order], parts)
    outputs = {path: io.BytesIO(content) for path, content in (added or {}).items()}
    container.rebuild(target, packed, lambda order: (parts, places[order]), outputs)
