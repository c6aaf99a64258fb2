"""Catalogs against osslsigncode, in both directions."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import keys
from tests.interop.osslsigncode import Osslsigncode
from tests.shared import missing, sample

from sealwright.signing import algorithms
from sealwright.signing.artifact import Directive, SignatureFact
from sealwright.signing.formats import catalog

UNSIGNED = Path(__file__).resolve().parent.parent / "vectors" / "catalog" / "unsigned.cat"


@pytest.fixture(scope="module")
def osslsigncode(tmp_path_factory: pytest.TempPathFactory) -> Osslsigncode:
    return Osslsigncode(tmp_path_factory.mktemp("keys"))


def sign(source: Path, target: Path, kind: str = "p256", **options: str) -> None:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    directive = Directive("authenticode-sign", named)
    with source.open("rb") as unsigned, target.open("w+b") as signed:
        generator = catalog.sign(unsigned, directive, keys.pki().identity(kind), signed)
        keys.drive(generator, keys.pki().leaf(kind).key)


def verify(path: Path) -> list[SignatureFact]:
    with path.open("rb") as file:
        return catalog.verify(file)


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
def test_accepts_ours(
    kind: str, hash_algorithm: str, osslsigncode: Osslsigncode, tmp_path: Path
) -> None:
    if osslsigncode.version < (2, 8):
        missing("osslsigncode before 2.8 cannot verify catalogs")
    out = tmp_path / "out.cat"
    sign(UNSIGNED, out, kind, hash_algorithm=hash_algorithm, timestamp="rfc3161")
    assert "Timestamp Server Signature verification: ok" in osslsigncode.verify(out)


@pytest.mark.parametrize("name", ["hyperv.cat", "wineyes.cat"])
def test_real_catalogs(name: str, osslsigncode: Osslsigncode, tmp_path: Path) -> None:
    if osslsigncode.version < (2, 8):
        missing("osslsigncode before 2.8 cannot verify catalogs")
    sign(sample(name), tmp_path / "1.cat", "rsa-3072")
    osslsigncode.verify(tmp_path / "1.cat")
    sign(tmp_path / "1.cat", tmp_path / "2.cat", append="true", hash_algorithm="sha384")
    assert osslsigncode.verify(tmp_path / "2.cat").count("Signature verification: ok") >= 2


@pytest.mark.parametrize("kind", keys.KINDS)
def test_we_accept_its_signatures(kind: str, osslsigncode: Osslsigncode, tmp_path: Path) -> None:
    out = tmp_path / "out.cat"
    osslsigncode.sign(UNSIGNED, out, kind, "-h", "sha384")
    (fact,) = verify(out)
    assert fact.hash_algorithm == "sha384"
    assert fact.signer == keys.pki().leaf(kind).der
    sign(out, tmp_path / "two.cat", append="true")
    assert len(verify(tmp_path / "two.cat")) == 2
