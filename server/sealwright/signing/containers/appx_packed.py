"""Changed members of app packages that are packed before the package is rebuilt.

Behind a member's data comes what the block map is to say of it: digests and sizes of its blocks, of
which only who has compressed it knows.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from typing import BinaryIO

from sealwright.errors import InternalError
from sealwright.signing.artifact import PackedMember
from sealwright.signing.containers.appx_block_map import BLOCK, BlockPacking, MappedFile
from sealwright.signing.containers.zip_writing import pack_content
from sealwright.signing.streams import read_at

_SIZE = struct.Struct("<I")


def pack_mapped(
    order: int, content: BinaryIO, target: BinaryIO, method: int, packing: BlockPacking
) -> PackedMember:
    """Append a member's data to `target`, and what the block map is to say of it."""
    made = pack_content(
        content, target, method, lambda pieces, how: packing.compress(order, pieces, how)
    )
    mapped = packing.mapped(order)
    notes = mapped.whole + b"".join(mapped.digests)
    notes += b"".join(_SIZE.pack(size) for size in mapped.sizes or ())
    target.write(notes)
    return replace(made, stored=made.stored + len(notes))


def read_mapped(
    file: BinaryIO, offset: int, packed: PackedMember, hash_algorithm: str, *, is_stored: bool
) -> tuple[PackedMember, MappedFile]:
    """The member without the notes behind its data, and the notes.

    Args:
        file: where `pack_mapped` has written it,
        offset: from where on.

    Raises:
        InternalError: it is shorter than its notes.
    """
    blocks = -(-packed.size // BLOCK)
    digest = hashlib.new(hash_algorithm).digest_size
    length = digest * (1 + blocks) + (0 if is_stored else _SIZE.size * blocks)
    stored = packed.stored - length
    if stored < 0:
        message = "A packed member of an app package has no notes."
        raise InternalError(message)
    notes = read_at(file, offset + stored, length)
    digests = tuple(notes[at : at + digest] for at in range(0, digest * (1 + blocks), digest))
    sizes = tuple(size for (size,) in _SIZE.iter_unpack(notes[digest * (1 + blocks) :]))
    mapped = MappedFile(packed.size, 0, digests[1:], digests[0], None if is_stored else sizes)
    return replace(packed, stored=stored), mapped
