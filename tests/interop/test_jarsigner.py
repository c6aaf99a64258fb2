"""Java archives against the JDK's jarsigner, in both directions."""

from __future__ import annotations

import io
import subprocess
import zipfile
from pathlib import Path

import pytest
from tests import keys
from tests.artifacts import launcher
from tests.artifacts_signed import sign_deeply
from tests.shared import sample, tool
from tests.toy import archive

from sealwright.signing.artifact import Directive
from sealwright.signing.formats import jar, pe

PASSWORD = "changeit"


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key store that trusts the roots and knows the signers."""
    trusted = keys.pki()
    folder = tmp_path_factory.mktemp("jarsigner")
    wanted = {"root": trusted.root, "tsa-root": trusted.tsa_root}
    wanted |= {kind: trusted.leaf(kind) for kind in ("rsa-3072", "p384")}
    for alias, issued in wanted.items():
        (folder / f"{alias}.pem").write_bytes(issued.pem)
        options = ("-keystore", folder / "trusted.p12", "-storepass", PASSWORD, "-noprompt")
        run(tool("keytool"), "-importcert", *options, "-alias", alias, "-file",
            folder / f"{alias}.pem")  # fmt: skip
    return folder / "trusted.p12"


def signed(content: bytes, kind: str, hash_algorithm: str, timestamp: str = "rfc3161") -> bytes:
    target = io.BytesIO()
    directive = Directive("jar-sign", {"hash-algorithm": hash_algorithm, "timestamp": timestamp})
    generator = jar.sign(io.BytesIO(content), directive, keys.pki().identity(kind), target)
    keys.drive(generator, keys.pki().leaf(kind).key)
    return target.getvalue()


def accepted(content: bytes, keystore: Path, folder: Path) -> str:
    path = folder / "signed.jar"
    path.write_bytes(content)
    options = ("-strict", "-certs", "-keystore", keystore, "-storepass", PASSWORD)
    report = run(tool("jarsigner"), "-verify", *options, path)
    assert "jar verified." in report
    return report


@pytest.mark.parametrize(
    ("kind", "hash_algorithm"), [("rsa-3072", "sha256"), ("rsa-3072", "sha512"), ("p384", "sha384")]
)
def test_jarsigner_accepts_ours(
    kind: str, hash_algorithm: str, keystore: Path, tmp_path: Path
) -> None:
    content = signed(sample("hello.jar").read_bytes(), kind, hash_algorithm)
    report = accepted(content, keystore, tmp_path)
    assert "timestamp" in report


def test_jarsigner_accepts_long_and_foreign_names(keystore: Path, tmp_path: Path) -> None:
    names = ["a" * 300, "é" * 200 + "/€", "x/y z", "META-INF/services/é"]
    content = signed(archive({name: name.encode() for name in names}), "p384", "sha256", "none")
    accepted(content, keystore, tmp_path)
    spoilt = content.replace(b"x/y z", b"x/y q")
    path = tmp_path / "spoilt.jar"
    path.write_bytes(spoilt)
    options = ("-strict", "-keystore", keystore, "-storepass", PASSWORD)
    assert subprocess.run([tool("jarsigner"), "-verify", *options, path], check=False).returncode


def test_jarsigner_accepts_deeply_signed_archives(keystore: Path, tmp_path: Path) -> None:
    """A library in a WAR in an EAR, and an app bundle, in a ZIP archive that is signed as well."""
    library = archive({"native/tool.dll": launcher().read_bytes(), "a/B.class": b"1"})
    signed_before = signed(library, "p384", "sha256", "none")
    war = archive({"WEB-INF/lib/b.jar": signed_before, "WEB-INF/lib/c.jar": library})
    whole = {
        "app.ear": archive({"web.war": war, "META-INF/application.xml": b"<application/>"}),
        "app.aab": archive({"BundleConfig.pb": b"1", "base/manifest/AndroidManifest.xml": b"2"}),
    }
    libraries = (
        '<jar-file path="WEB-INF/lib/*.jar" max-matches="unbounded">'
        '<pe-file path="native/*.dll"><authenticode-sign/></pe-file><jar-sign/></jar-file>'
    )
    body = (
        '<zip-file><jar-file path="app.ear"><jar-file path="web.war">'
        f"{libraries}<jar-sign/></jar-file><jar-sign/></jar-file>"
        '<jar-file path="*.aab"><jar-sign hash-algorithm="sha512"/></jar-file>'
        "<jar-sign/></zip-file>"
    )
    output, found = sign_deeply(archive(whole), body, tmp_path)
    assert len(found) == 8
    accepted(output, keystore, tmp_path)
    outer = _members(output)
    ear = _members(outer["app.ear"])
    inside = _members(ear["web.war"])
    for content in (outer["app.aab"], outer["app.ear"], ear["web.war"]):
        accepted(content, keystore, tmp_path)
    for name in ("WEB-INF/lib/b.jar", "WEB-INF/lib/c.jar"):
        accepted(inside[name], keystore, tmp_path)
        files = _members(inside[name])
        assert sum(path.endswith(".SF") for path in files) == 1  # the earlier signature is gone
        assert len(pe.verify(io.BytesIO(files["native/tool.dll"]))) == 1


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.mark.parametrize("options", [(), ("-digestalg", "SHA-512"), ("-sectionsonly",)])
def test_we_accept_what_jarsigner_signs(options: tuple[str, ...], tmp_path: Path) -> None:
    store = ("-keystore", tmp_path / "own.p12", "-storepass", PASSWORD)
    make = ("-genkeypair", "-alias", "a", "-keyalg", "EC", "-dname", "CN=Own")
    run(tool("keytool"), *make, *store)
    ours = tmp_path / "ours.jar"
    ours.write_bytes(signed(sample("hello.jar").read_bytes(), "rsa-3072", "sha256"))
    sources = [(sample("hello.jar"), 1), (ours, 2)]
    if "SHA-512" in options:
        sources.pop()  # jarsigner changes the sections of the manifest that the first signer signed
    for source, signatures in sources:
        target = tmp_path / "theirs.jar"
        run(tool("jarsigner"), *store, *options, "-signedjar", target, source, "a")
        with target.open("rb") as file:
            assert len(jar.verify(file)) == signatures
