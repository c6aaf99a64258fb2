"""Windows Installer files against osslsigncode, 7-Zip and msitools, in both directions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests import keys
from tests.compound_files import PATCH, build
from tests.interop.osslsigncode import Osslsigncode
from tests.shared import sample, tool

from sealwright.signing import cms
from sealwright.signing.artifact import Directive, SignatureFact
from sealwright.signing.formats import msi

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "msi"
UNSIGNED = VECTORS / "wixl.msi"


@pytest.fixture(scope="module")
def osslsigncode(tmp_path_factory: pytest.TempPathFactory) -> Osslsigncode:
    return Osslsigncode(tmp_path_factory.mktemp("keys"))


def sign(source: Path, target: Path, kind: str = "p256", **options: str) -> None:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    directive = Directive("authenticode-sign", named)
    with source.open("rb") as unsigned, target.open("w+b") as signed:
        generator = msi.sign(unsigned, directive, keys.pki().identity(kind), signed)
        keys.drive(generator, keys.pki().leaf(kind).key)


def verify(path: Path) -> list[SignatureFact]:
    with path.open("rb") as file:
        return msi.verify(file)


def msiinfo(path: Path, *arguments: str) -> str:
    command = [tool("msiinfo"), arguments[0], str(path), *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", cms.HASH_ALGORITHMS)
@pytest.mark.parametrize("extended", ["true", "false"])
def test_accepts_ours(
    kind: str, hash_algorithm: str, extended: str, osslsigncode: Osslsigncode, tmp_path: Path
) -> None:
    out = tmp_path / "out.msi"
    options = {"hash_algorithm": hash_algorithm, "msi_digital_signature_ex": extended}
    sign(UNSIGNED, out, kind, timestamp="rfc3161", **options)
    report = osslsigncode.verify(out)
    assert "Timestamp Server Signature verification: ok" in report
    assert ("Calculated MsiDigitalSignatureEx" in report) is (extended == "true")


@pytest.mark.parametrize(
    "name", ["minimal.msi", "dummy.msi", "minimal-signed-with-signtool.msi", "storages.msp"]
)
def test_real_packages(name: str, osslsigncode: Osslsigncode, tmp_path: Path) -> None:
    source = VECTORS / name if name.endswith(".msp") else sample(name)
    sign(source, tmp_path / "1.msi", "rsa-3072")
    osslsigncode.verify(tmp_path / "1.msi")
    sign(tmp_path / "1.msi", tmp_path / "2.msi", append="true")
    assert osslsigncode.verify(tmp_path / "2.msi").count("Signature verification: ok") >= 2
    if name.endswith(".msi"):
        before, after = msiinfo(source, "tables"), msiinfo(tmp_path / "2.msi", "tables")
        assert before == after
        assert "MsiDigitalSignatureEx" in msiinfo(tmp_path / "2.msi", "streams")
        assert msiinfo(tmp_path / "2.msi", "suminfo") == msiinfo(source, "suminfo")


@pytest.mark.parametrize("version", [3, 4])
def test_large_and_scattered_files(
    version: int, osslsigncode: Osslsigncode, tmp_path: Path
) -> None:
    """With a DIFAT; sectors that lie anywhere are put in order."""
    tree = {"large": bytes(range(256)) * 32_000, "sub": {"stream": b"s" * 5000, "mini": b"m"}}
    (tmp_path / "in.msp").write_bytes(build(tree, version, class_id=PATCH, seed=1).content)
    sign(tmp_path / "in.msp", tmp_path / "out.msp")
    osslsigncode.verify(tmp_path / "out.msp")
    done = subprocess.run(
        [tool("7z"), "t", str(tmp_path / "out.msp")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("options", [(), ("-add-msi-dse",)])
@pytest.mark.parametrize("kind", keys.KINDS)
def test_we_accept_its_signatures(
    kind: str, options: tuple[str, ...], osslsigncode: Osslsigncode, tmp_path: Path
) -> None:
    out = tmp_path / "out.msi"
    osslsigncode.sign(UNSIGNED, out, kind, "-h", "sha384", *options)
    (fact,) = verify(out)
    assert fact.hash_algorithm == "sha384"
    assert fact.signer == keys.pki().leaf(kind).der
    sign(out, tmp_path / "two.msi", append="true", hash_algorithm="sha384")
    assert len(verify(tmp_path / "two.msi")) == 2
