"""PowerShell files against osslsigncode, in both directions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests import keys
from tests.interop.osslsigncode import Osslsigncode
from tests.shared import missing

from sealwright.signing import algorithms
from sealwright.signing.artifact import Directive, SignatureFact
from sealwright.signing.formats.powershell import POWERSHELL

TEXTS = {
    "plain.ps1": b"Write-Output 1\r\n",
    "no-line-end.psm1": b"Write-Output 1",
    "unix.psd1": b"@{\n}\n",
    "utf-8.ps1": "Write-Output 'Grüße 🦭'\r\n".encode(),
    "utf-8-mark.ps1": "Write-Output 'Grüße'\r\n".encode("utf-8-sig"),
    "utf-16.ps1": "\ufeffWrite-Output 'Grüße 🦭'\r\n".encode("utf-16-le"),
    "plain.ps1xml": b"<Configuration/>\r\n",
    "utf-8-mark.psc1": "<PSConsoleFile name='ü'/>".encode("utf-8-sig"),
    "utf-16.cdxml": "\ufeff<PowerShellMetadata/>\r\n".encode("utf-16-le"),
    "plain.mof": b"#pragma autorecover\n\n",
}


@pytest.fixture(scope="module")
def osslsigncode(tmp_path_factory: pytest.TempPathFactory) -> Osslsigncode:
    program = Osslsigncode(tmp_path_factory.mktemp("keys"))
    if program.version < (2, 8):
        missing("osslsigncode before 2.8 knows no PowerShell files")
    return program


def sign(source: Path, target: Path, kind: str = "p256", **options: str) -> None:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    directive = Directive("authenticode-sign", {"file.name": source.name, **named})
    with source.open("rb") as unsigned, target.open("w+b") as signed:
        generator = POWERSHELL.sign(unsigned, directive, keys.pki().identity(kind), signed)
        keys.drive(generator, keys.pki().leaf(kind).key)


def verify(path: Path) -> list[SignatureFact]:
    with path.open("rb") as file:
        return POWERSHELL.verify(file)


@pytest.mark.parametrize("name", TEXTS)
def test_accepts_ours(name: str, osslsigncode: Osslsigncode, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TEXTS[name])
    out = tmp_path / f"out-{name}"
    sign(tmp_path / name, out, description="Sealwright", timestamp="rfc3161")
    report = osslsigncode.verify(out)
    assert "Text description: Sealwright" in report
    assert "Timestamp Server Signature verification: ok" in report


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
def test_every_key_and_hash(
    kind: str, hash_algorithm: str, osslsigncode: Osslsigncode, tmp_path: Path
) -> None:
    source, ours, theirs = tmp_path / "a.ps1", tmp_path / "b.ps1", tmp_path / "c.ps1"
    source.write_bytes(TEXTS["utf-16.ps1"])
    sign(source, ours, kind, hash_algorithm=hash_algorithm)
    osslsigncode.verify(ours)
    osslsigncode.sign(source, theirs, kind, "-h", hash_algorithm)
    (fact,) = verify(theirs)
    assert fact.hash_algorithm == hash_algorithm
    assert fact.signer == keys.pki().leaf(kind).der


@pytest.mark.parametrize("name", TEXTS)
def test_we_accept_its_signatures(name: str, osslsigncode: Osslsigncode, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TEXTS[name])
    once, twice, again = (tmp_path / f"{number}-{name}" for number in range(3))
    osslsigncode.sign(tmp_path / name, once, "rsa-3072")
    assert len(verify(once)) == 1
    sign(once, twice, append="true", hash_algorithm="sha384")
    assert [fact.hash_algorithm for fact in verify(twice)] == ["sha256", "sha384"]
    assert len(re.findall("Signature verification: ok", osslsigncode.verify(twice))) >= 2
    sign(once, again, "p384")
    assert len(verify(again)) == 1
    osslsigncode.verify(again)


def test_both_find_a_change(osslsigncode: Osslsigncode, tmp_path: Path) -> None:
    source, signed = tmp_path / "a.ps1", tmp_path / "b.ps1"
    source.write_bytes(TEXTS["utf-8.ps1"])
    sign(source, signed)
    signed.write_bytes(signed.read_bytes().replace(b"Write-Output", b"Write-Error "))
    assert osslsigncode.refuses(signed)
    with pytest.raises(Exception, match="digest of the script"):
        verify(signed)
