"""What other implementations signed, kept as files: see vectors/pe/README.md."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from sealwright.errors import SealwrightError
from sealwright.signing.formats import pe

FOLDER = Path(__file__).resolve().parent.parent / "vectors" / "pe"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())


def test_every_vector_is_expected() -> None:
    assert {path.name for path in FOLDER.glob("*.exe")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_vector(name: str) -> None:
    content = (FOLDER / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == EXPECTED[name]["sha256"]
    found = [
        {
            "hash_algorithm": fact.hash_algorithm,
            "timestamp": fact.timestamp,
            "signer_sha256": hashlib.sha256(fact.signer).hexdigest(),
        }
        for fact in pe.verify(io.BytesIO(content))
    ]
    assert found == EXPECTED[name]["signatures"]


@pytest.mark.parametrize("name", [name for name in EXPECTED if EXPECTED[name]["signatures"]])
@pytest.mark.untraced
def test_every_changed_byte_is_refused(name: str) -> None:
    """Each byte of the content in turn, outside of the checksum."""
    content = (FOLDER / name).read_bytes()
    image = pe.parse(io.BytesIO(content))
    for position in range(image.content):
        if not image.checksum <= position < image.checksum + 4:
            spoilt = bytearray(content)
            spoilt[position] ^= 0x01
            with pytest.raises(SealwrightError):
                pe.verify(io.BytesIO(spoilt))
