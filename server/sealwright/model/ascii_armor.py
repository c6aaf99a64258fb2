"""ASCII armor, as OpenPGP wraps binary data for text (RFC 9580, 6)."""

from __future__ import annotations

import base64


def armor(kind: str, content: bytes) -> bytes:
    """The armor of a ``PUBLIC KEY BLOCK`` or ``SIGNATURE``."""
    text = base64.b64encode(content).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    checksum = base64.b64encode(crc24(content).to_bytes(3)).decode()
    parts = [f"-----BEGIN PGP {kind}-----", "", *lines, f"={checksum}", f"-----END PGP {kind}-----"]
    return ("\n".join(parts) + "\n").encode()


def crc24(content: bytes) -> int:
    """The armor's checksum (6.1.1)."""
    crc = 0xB704CE
    for byte in content:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc
