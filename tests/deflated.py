"""Contents and compressed streams for tests of deflate; no code of the engine's."""

from __future__ import annotations

import random
import zlib

RAW = -zlib.MAX_WBITS


def code(seed: int, size: int) -> bytes:
    """What compresses about as machine code does."""
    source = random.Random(seed)
    words = [source.randbytes(source.randrange(2, 24)) for _ in range(800)]
    return b"".join(source.choices(words, k=size // 8))[:size]


def compressed(content: bytes, level: int = 6, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    """A raw stream."""
    made = zlib.compressobj(level, zlib.DEFLATED, RAW, 8, strategy)
    return made.compress(content) + made.flush()
