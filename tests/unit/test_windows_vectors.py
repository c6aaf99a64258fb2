"""What other implementations signed, kept as files: see the README in each folder of vectors."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from sealwright.signing.artifact import Format
from sealwright.signing.formats import cab, catalog, msi
from sealwright.signing.formats.appx import APPX
from sealwright.signing.formats.powershell import POWERSHELL
from sealwright.signing.formats.windows_script import WINDOWS_SCRIPT

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
FORMATS: dict[str, Format] = {
    "appx": APPX,
    "cab": cab,
    "catalog": catalog,
    "msi": msi,
    "powershell": POWERSHELL,
    "windows-script": WINDOWS_SCRIPT,
}


def expected(folder: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((VECTORS / folder / "expected.json").read_text())
    return content


@pytest.mark.parametrize("folder", FORMATS)
def test_every_vector_is_expected(folder: str) -> None:
    present = {path.name for path in (VECTORS / folder).iterdir()}
    assert present - {".gitattributes", "README.md", "expected.json"} == set(expected(folder))


@pytest.mark.parametrize(
    ("folder", "name"), [(folder, name) for folder in FORMATS for name in expected(folder)]
)
def test_vector(folder: str, name: str) -> None:
    content = (VECTORS / folder / name).read_bytes()
    known = expected(folder)[name]
    assert hashlib.sha256(content).hexdigest() == known["sha256"]
    found = [
        {
            "hash_algorithm": fact.hash_algorithm,
            "timestamp": fact.timestamp,
            "signer_sha256": hashlib.sha256(fact.signer).hexdigest(),
        }
        for fact in FORMATS[folder].verify(io.BytesIO(content))
    ]
    assert found == known["signatures"]
