"""Authenticode against foreign implementations, in both directions."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pefile
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests import keys, pe_images
from tests.shared import sample, tool

from sealwright.errors import SealwrightError
from sealwright.signing import algorithms
from sealwright.signing.artifact import Directive, SignatureFact
from sealwright.signing.formats import pe
from sealwright.signing.x509 import Certificate, verify_chain

SAMPLES = ("ClassLibrary1.dll", "WindowsFormsApplication1.exe", "fbx64.efi", "wineyes.exe")
SHAPES = {
    "PE32+": pe_images.image(),
    "PE32": pe_images.image(wide=False),
    "overlay of odd length": pe_images.image(overlay=b"overlay"),
    "gap after the headers": pe_images.image(gap=1024),
    "unpadded last section": pe_images.image(text=b"\xc3" * 509),
    "several chunks": pe_images.image(overlay=b"\xff\x7f\x01" * 700_001),
}


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates and keys as files."""
    trusted = keys.pki()
    path = tmp_path_factory.mktemp("authenticode")
    (path / "root.pem").write_bytes(trusted.root.pem)
    (path / "issuer.pem").write_bytes(trusted.intermediate.pem)
    (path / "tsa-root.pem").write_bytes(trusted.tsa_root.pem)
    for kind in keys.KINDS:
        (path / f"{kind}.pem").write_bytes(trusted.leaf(kind).pem)
        (path / f"{kind}.key").write_bytes(trusted.leaf(kind).key_pem)
    return path


def sign(source: Path, target: Path, kind: str = "p256", **options: str) -> None:
    trusted = keys.pki()
    settings = {name.replace("_", "-"): value for name, value in options.items()}
    with source.open("rb") as unsigned, target.open("w+b") as signed:
        directive = Directive("authenticode-sign", settings)
        generator = pe.sign(unsigned, directive, trusted.identity(kind), signed)
        keys.drive(generator, trusted.leaf(kind).key)


def osslsigncode_accepts(path: Path, folder: Path) -> str:
    report = run(
        tool("osslsigncode"),
        "verify",
        "-CAfile",
        folder / "root.pem",
        "-TSA-CAfile",
        folder / "tsa-root.pem",
        path,
    )
    assert "Signature verification: failed" not in report
    assert "Succeeded" in report
    return report


# --- what we sign, others verify ----------------------------------------------------------------


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
@pytest.mark.parametrize("timestamp", ["none", "rfc3161"])
def test_osslsigncode_accepts_ours(
    kind: str, hash_algorithm: str, timestamp: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.exe").write_bytes(SHAPES["PE32+"])
    out = tmp_path / "out.exe"
    sign(
        tmp_path / "in.exe",
        out,
        kind,
        hash_algorithm=hash_algorithm,
        timestamp=timestamp,
        description="Sealwright",
        description_url="https://example.com/",
    )
    report = osslsigncode_accepts(out, folder)
    assert ("Timestamp Server Signature verification: ok" in report) == (timestamp != "none")
    assert "Text description: Sealwright" in report
    assert "URL description: https://example.com/" in report


@pytest.mark.parametrize("shape", SHAPES)
def test_osslsigncode_accepts_every_shape(shape: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in.exe").write_bytes(SHAPES[shape])
    sign(tmp_path / "in.exe", tmp_path / "out.exe", timestamp="rfc3161")
    osslsigncode_accepts(tmp_path / "out.exe", folder)


@pytest.mark.parametrize("name", SAMPLES)
def test_real_files(name: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / name
    sign(sample(name), out, "rsa-3072", timestamp="rfc3161")
    osslsigncode_accepts(out, folder)
    assert pefile.PE(str(out), fast_load=True).verify_checksum()


def test_appended_signatures(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "0.exe").write_bytes(SHAPES["PE32"])
    sign(tmp_path / "0.exe", tmp_path / "1.exe", "rsa-3072", timestamp="rfc3161")
    sign(tmp_path / "1.exe", tmp_path / "2.exe", "p384", append="true", hash_algorithm="sha512")
    sign(tmp_path / "2.exe", tmp_path / "3.exe", "p256", append="true", timestamp="rfc3161")
    report = osslsigncode_accepts(tmp_path / "3.exe", folder)
    assert report.count("Signature verification: ok") >= 3


def test_signify_accepts_ours(folder: Path, tmp_path: Path) -> None:
    """In a process of its own, where its dependency is taught that versions can have two digits."""
    sign(sample("ClassLibrary1.dll"), tmp_path / "a.dll", "rsa-3072", timestamp="rfc3161")
    program = r"""
import pathlib, re, sys
search = re.search
def lenient(pattern, text, flags=0):
    if isinstance(pattern, str):
        pattern = pattern.replace(r"\d", r"\d+")
    return search(pattern, text, flags)
re.search = lenient
import oscrypto.asymmetric
re.search = search
from signify.authenticode import AuthenticodeFile
from signify.x509 import Certificate, CertificateStore, FileSystemCertificateStore
store = FileSystemCertificateStore(location=pathlib.Path(sys.argv[2]), trusted=True)
with open(sys.argv[1], "rb") as file:
    signed = AuthenticodeFile.from_stream(file)
    signed.verify(trusted_certificate_store=store)
    for signature in signed.signatures:
        print(signature.signer_info.program_name, signature.signer_info.countersigner is not None)
"""
    store = tmp_path / "roots"
    store.mkdir()
    for name in ("root.pem", "tsa-root.pem"):
        (store / name).write_bytes((folder / name).read_bytes())
    report = run(sys.executable, "-W", "ignore", "-c", program, tmp_path / "a.dll", store)
    assert report.split() == ["None", "True"]


def test_sbverify_accepts_ours(folder: Path, tmp_path: Path) -> None:
    """The verifier of UEFI images takes the signer's certificate itself as anchor."""
    sign(sample("fbx64.efi"), tmp_path / "a.efi", "rsa-3072")
    report = run(tool("sbverify"), "--cert", folder / "rsa-3072.pem", tmp_path / "a.efi")
    assert "Signature verification OK" in report


# --- what others sign, we verify ----------------------------------------------------------------


def osslsigncode(folder: Path, kind: str, *options: str | Path) -> None:
    run(
        tool("osslsigncode"),
        "sign",
        "-certs",
        folder / f"{kind}.pem",
        "-key",
        folder / f"{kind}.key",
        "-ac",
        folder / "issuer.pem",
        *options,
    )


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", ["sha1", *algorithms.HASH_ALGORITHMS])
def test_we_accept_osslsigncode(
    kind: str, hash_algorithm: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.exe").write_bytes(SHAPES["overlay of odd length"])
    out = tmp_path / "out.exe"
    options = ("-h", hash_algorithm, "-n", "name", "-ph", "-in", tmp_path / "in.exe", "-out", out)
    osslsigncode(folder, kind, *options)
    with out.open("rb") as signed:
        (fact,) = pe.verify(signed)
    assert fact.hash_algorithm == hash_algorithm
    assert fact.signer == keys.pki().leaf(kind).der
    refuse_changes(out.read_bytes())


def test_we_accept_its_nested_signatures_and_append_to_them(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "0.exe").write_bytes(SHAPES["PE32+"])
    for count, kind in enumerate(("rsa-3072", "p256", "p384")):
        source, target = tmp_path / f"{count}.exe", tmp_path / f"{count + 1}.exe"
        osslsigncode(folder, kind, *(["-nest"] if count else []), "-in", source, "-out", target)
    with (tmp_path / "3.exe").open("rb") as signed:
        assert len(pe.verify(signed)) == 3
    sign(tmp_path / "3.exe", tmp_path / "4.exe", append="true", timestamp="rfc3161")
    with (tmp_path / "4.exe").open("rb") as signed:
        assert [fact.index for fact in pe.verify(signed)] == [0, 1, 2, 3]
    osslsigncode_accepts(tmp_path / "4.exe", folder)
    osslsigncode(folder, "p256", "-nest", "-in", tmp_path / "4.exe", "-out", tmp_path / "5.exe")
    with (tmp_path / "5.exe").open("rb") as signed:
        assert len(pe.verify(signed)) == 5


def test_we_accept_sbsign(folder: Path, tmp_path: Path) -> None:
    source = sample("fbx64.efi")
    for kind in ("rsa-3072", "rsa-4096"):
        target = tmp_path / f"{kind}.efi"
        run(
            tool("sbsign"),
            "--key",
            folder / f"{kind}.key",
            "--cert",
            folder / f"{kind}.pem",
            "--output",
            target,
            source,
        )
        source = target
    with source.open("rb") as signed:
        facts = pe.verify(signed)
    signers = {keys.pki().leaf(kind).der for kind in ("rsa-3072", "rsa-4096")}
    assert {fact.signer for fact in facts} == signers


@pytest.mark.parametrize(
    ("name", "count"),
    [("WindowsFormsApplication1.exe", 1), ("fbx64-signed-by-sbsign.efi", 2)],
)
def test_samples(name: str, count: int) -> None:
    with sample(name).open("rb") as signed:
        assert len(pe.verify(signed)) == count
    refuse_changes(sample(name).read_bytes())


NUGET = "system.security.cryptography.protecteddata.8.0.0.nupkg"


@pytest.mark.parametrize("package", [NUGET, "nuget.versioning.8.0.0.nupkg"])
def test_microsofts_signatures_lead_to_their_roots(package: str) -> None:
    roots = _roots("codesign.pem"), _roots("timestamp.pem")
    with zipfile.ZipFile(sample(package)) as archive:
        libraries = [archive.read(name) for name in archive.namelist() if name.endswith(".dll")]
    assert libraries
    for content in libraries:
        (fact,) = pe.verify(io.BytesIO(content))
        _lead_to_roots(fact, *roots)
        refuse_changes(content)


def test_sha1_primary_with_countersignature_and_nested_sha256() -> None:
    with zipfile.ZipFile(sample("App1_1.0.3.0_x64.appx")) as archive:
        content = archive.read("ClrCompression.dll")
    facts = pe.verify(io.BytesIO(content))
    assert [fact.hash_algorithm for fact in facts] == ["sha1", "sha256"]
    assert all(fact.timestamp for fact in facts)
    refuse_changes(content)


def _roots(name: str) -> list[Certificate]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one of the roots has a serial number of zero
        loaded = x509.load_pem_x509_certificates(sample(f"roots/{name}").read_bytes())
        loaded = [entry for entry in loaded if entry.serial_number > 0]
    return [Certificate.parse(entry.public_bytes(Encoding.DER)) for entry in loaded]


def _lead_to_roots(fact: SignatureFact, code: list[Certificate], time: list[Certificate]) -> None:
    assert fact.timestamp is not None
    assert fact.timestamp_signer is not None
    issuers = [Certificate.parse(entry) for entry in fact.certificates]
    for signer, roots, purpose in (
        (fact.signer, code, ExtendedKeyUsageOID.CODE_SIGNING),
        (fact.timestamp_signer, time, ExtendedKeyUsageOID.TIME_STAMPING),
    ):
        path = verify_chain(
            Certificate.parse(signer), issuers, roots, at=fact.timestamp, purpose=purpose
        )
        assert "Microsoft" in path[-1].name


def refuse_changes(content: bytes) -> None:
    """A changed byte at 40 places of what is signed is refused."""
    image = pe.parse(io.BytesIO(content))
    excluded = {
        *range(image.checksum, image.checksum + 4),
        *range(image.security, image.security + 8),
    }
    for position in range(0, image.content, max(1, image.content // 40)):
        if position not in excluded:
            spoilt = bytearray(content)
            spoilt[position] ^= 0x20
            with pytest.raises(SealwrightError):
                pe.verify(io.BytesIO(spoilt))
