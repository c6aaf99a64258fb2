"""App packages and bundles against osslsigncode, and the block map against a reader of its own."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from tests import keys
from tests.app_packages import bundle, check_block_map, package, publisher_of
from tests.artifacts import launcher
from tests.artifacts_signed import sign_deeply
from tests.interop.osslsigncode import Osslsigncode
from tests.shared import missing, sample

from sealwright.signing import algorithms
from sealwright.signing.artifact import Directive, Identity, SignatureFact
from sealwright.signing.formats.appx import APPX

JSIGN_2024 = [("2.5.4.3", "Jsign Code Signing Test Certificate 2024 (RSA)")]
JSIGN_2022 = [("2.5.4.3", "Jsign Code Signing Test Certificate 2022 (RSA)")]
RALPH = [
    *(("2.5.4.3", "ralph"), ("2.5.4.5", "1234"), ("2.5.4.6", "CC"), ("2.5.4.7", "ralph")),
    *((f"2.5.4.{number}", "ralph") for number in (8, 9, 10, 11, 12, 17)),
]


@pytest.fixture(scope="module")
def osslsigncode(tmp_path_factory: pytest.TempPathFactory) -> Osslsigncode:
    program = Osslsigncode(tmp_path_factory.mktemp("keys"))
    if program.version < (2, 8):
        missing("osslsigncode before 2.8 cannot verify app packages")
    return program


def sign(source: Path, target: Path, signer: keys.Issued, **options: str) -> None:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    directive = Directive("authenticode-sign", named)
    identity = Identity(signer.der, (keys.pki().intermediate.der,), 1_700_000_000)
    with source.open("rb") as unsigned, target.open("w+b") as signed:
        keys.drive(APPX.sign(unsigned, directive, identity, signed), signer.key)


def verify(path: Path) -> list[SignatureFact]:
    with path.open("rb") as file:
        return APPX.verify(file)


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
def test_accepts_ours(
    kind: str, hash_algorithm: str, osslsigncode: Osslsigncode, tmp_path: Path
) -> None:
    source, out = tmp_path / "in.appx", tmp_path / "out.appx"
    source.write_bytes(package({"a.bin": b"x" * 70_000}, publisher=publisher_of(kind)))
    leaf = keys.pki().leaf(kind)
    sign(source, out, leaf, hash_algorithm=hash_algorithm, timestamp="rfc3161")
    report = osslsigncode.verify(out)
    assert "Timestamp Server Signature verification: ok" in report
    assert f"Hash method is {hash_algorithm.upper()}" in report


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("minimal.msix", JSIGN_2024),
        ("minimal.appxbundle", JSIGN_2024),
        ("minimal-signed-by-signtool.msix", JSIGN_2022),
        ("App1_1.0.3.0_x64.appx", RALPH),
    ],
)
def test_real_packages(
    name: str, subject: list[tuple[str, str]], osslsigncode: Osslsigncode, tmp_path: Path
) -> None:
    signer = keys.named(subject)
    out = tmp_path / name
    sign(sample(name), out, signer, timestamp="rfc3161")
    osslsigncode.verify(out)
    check_block_map(out.read_bytes())
    sign(out, tmp_path / "again.appx", signer, hash_algorithm="sha384")
    osslsigncode.verify(tmp_path / "again.appx")
    (fact,) = verify(tmp_path / "again.appx")
    assert (
        fact.hash_algorithm == check_block_map((tmp_path / "again.appx").read_bytes()) == "sha384"
    )


def test_deeply_signed_packages(osslsigncode: Osslsigncode, tmp_path: Path) -> None:
    """Windows programs in a real package, and that in a bundle."""
    signer = keys.named(RALPH)
    body = (
        '<msix-file><pe-file path="*.exe"><authenticode-sign/></pe-file>'
        '<pe-file path="App1.dll"><authenticode-sign/></pe-file><authenticode-sign/></msix-file>'
    )
    content = sample("App1_1.0.3.0_x64.appx").read_bytes()
    output, found = sign_deeply(content, body, tmp_path, signer)
    assert len(found) == 3
    path = tmp_path / "out.appx"
    path.write_bytes(output)
    osslsigncode.verify(path)
    check_block_map(output)
    inner = body.replace("<msix-file>", '<msix-file path="a.appx">')
    body = f"<appx-file>{inner}<authenticode-sign/></appx-file>"
    publisher = (
        "PostalCode=ralph, T=ralph, OU=ralph, O=ralph, STREET=ralph, S=ralph, L=ralph, C=CC, "
        "SERIALNUMBER=1234, CN=ralph"
    )
    output, found = sign_deeply(bundle({"a.appx": content}, publisher), body, tmp_path, signer)
    assert len(found) == 4
    path = tmp_path / "out.appxbundle"
    path.write_bytes(output)
    osslsigncode.verify(path)
    check_block_map(output)


@pytest.mark.parametrize("kind", keys.KINDS)
def test_we_accept_its_signatures(kind: str, osslsigncode: Osslsigncode, tmp_path: Path) -> None:
    source, out = tmp_path / "in.appx", tmp_path / "out.appx"
    source.write_bytes(package({"a.exe": launcher().read_bytes()}, publisher=publisher_of(kind)))
    osslsigncode.sign(source, out, kind, "-h", "sha256")
    (fact,) = verify(out)
    assert fact.signer == keys.pki().leaf(kind).der


def test_changes_are_found(osslsigncode: Osslsigncode, tmp_path: Path) -> None:
    target = io.BytesIO()
    kind = "p256"
    content = package({"a.bin": b"text"}, publisher=publisher_of(kind), stored=frozenset({"a.bin"}))
    directive = Directive("authenticode-sign")
    keys.drive(
        APPX.sign(io.BytesIO(content), directive, keys.pki().identity(kind), target),
        keys.pki().leaf(kind).key,
    )
    path = tmp_path / "changed.appx"
    path.write_bytes(target.getvalue().replace(b"text", b"texd"))
    assert osslsigncode.refuses(path)
