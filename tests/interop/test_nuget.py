"""NuGet packages against NuGet's own library."""

from __future__ import annotations

import io
import os
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from cryptography import x509
from tests import keys
from tests.artifacts import launcher
from tests.artifacts_signed import sign_deeply
from tests.shared import missing, sample, shared_dir, tool
from tests.toy import archive

from sealwright.signing.artifact import Directive, Identity
from sealwright.signing.formats import nupkg
from sealwright.supervisor import test_tsa


def nuget_verify(roots: Path, package: Path) -> subprocess.CompletedProcess[str]:
    program = shared_dir() / "tools" / "nuget-verify"
    if not program.exists():
        missing("nuget-verify is not there")
    environment = {**os.environ, "SSL_CERT_FILE": str(roots)}
    return subprocess.run(
        [program, package], env=environment, capture_output=True, text=True, check=False
    )


class RsaPki:
    """NuGet accepts RSA alone, in every certificate."""

    def __init__(self) -> None:
        self.root = keys.issue("RSA root", keys.new_key("rsa-2048"), None, authority=True)
        self.leaf = keys.issue(
            "Author", keys.new_key("rsa-2048"), self.root, extensions=[(keys.CODE_SIGNING, True)]
        )
        self.tsa = keys.issue(
            "TSA", keys.new_key("rsa-2048"), self.root, extensions=[(keys.TIME_STAMPING, True)]
        )
        self.stamp = keys.stamps_of(self.tsa, self.root)


@pytest.fixture(scope="module")
def pki() -> RsaPki:
    return RsaPki()


@pytest.mark.parametrize(
    ("hash_algorithm", "timestamp"),
    [("sha256", "rfc3161"), ("sha384", "none"), ("sha512", "rfc3161")],
)
def test_nuget_accepts_ours(
    hash_algorithm: str, timestamp: str, pki: RsaPki, tmp_path: Path
) -> None:
    target = io.BytesIO()
    options = {"hash-algorithm": hash_algorithm, "timestamp": timestamp}
    identity = Identity(pki.leaf.der, (pki.root.der,), int(time.time()))
    with sample("minimal.1.0.0.nupkg").open("rb") as source:
        generator = nupkg.sign(source, Directive("nuget-sign", options), identity, target)
        keys.drive(generator, pki.leaf.key, pki.stamp)
    package, roots, others = (tmp_path / each for each in ("a.nupkg", "roots.pem", "others.pem"))
    package.write_bytes(target.getvalue())
    roots.write_bytes(pki.root.pem)
    others.write_bytes(keys.pki().root.pem)
    done = nuget_verify(roots, package)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Author signature, {hash_algorithm.upper()}" in done.stdout
    assert f"time stamps {int(timestamp != 'none')}" in done.stdout
    assert nuget_verify(others, package).returncode == 1
    package.write_bytes(target.getvalue().replace(b"minimal.nuspec", b"minimaL.nuspec"))
    assert nuget_verify(roots, package).returncode == 1


@pytest.mark.parametrize(
    "name",
    ["nuget.versioning.8.0.0.nupkg", "system.security.cryptography.protecteddata.8.0.0.nupkg"],
)
def test_we_accept_what_nuget_org_signed(name: str) -> None:
    with sample(name).open("rb") as package:
        facts = nupkg.verify(package)
    assert [fact.format for fact in facts] == ["nuget", "nuget-repository"]
    assert all(fact.timestamp for fact in facts)


def test_nuget_accepts_time_stamps_of_the_test_authority(pki: RsaPki, tmp_path: Path) -> None:
    """With it everything begins, `make demo` too."""
    authority = test_tsa.provide(tmp_path / "tsa")
    tsa, root = (
        keys.Issued(authority.key, x509.load_der_x509_certificate(certificate))
        for certificate in (authority.certificate, authority.root)
    )
    target = io.BytesIO()
    directive = Directive("nuget-sign", {"hash-algorithm": "sha256", "timestamp": "rfc3161"})
    identity = Identity(pki.leaf.der, (pki.root.der,), int(time.time()))
    with sample("minimal.1.0.0.nupkg").open("rb") as source:
        generator = nupkg.sign(source, directive, identity, target)
        keys.drive(generator, pki.leaf.key, keys.stamps_of(tsa, root))
    package, roots = tmp_path / "a.nupkg", tmp_path / "roots.pem"
    package.write_bytes(target.getvalue())
    roots.write_bytes(pki.root.pem + root.pem)
    done = nuget_verify(roots, package)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nuget_accepts_deeply_signed_packages(pki: RsaPki, tmp_path: Path) -> None:
    """Programs and scripts in a package, an archive in it, and the package in an archive."""
    with zipfile.ZipFile(sample("minimal.1.0.0.nupkg")) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    program = launcher().read_bytes()
    files |= {
        "lib/net8.0/tool.dll": program,
        "tools/install.ps1": b"'hello'\r\n",
        "tools/native.zip": archive({"x64/native.dll": program}),
    }
    body = (
        '<zip-file><nupkg-file path="*.nupkg">'
        '<pe-file path="lib/**/*.dll"><authenticode-sign/></pe-file>'
        '<powershell-file path="tools/*.ps1"><authenticode-sign/></powershell-file>'
        '<zip-file path="tools/native.zip">'
        '<pe-file path="**/*.dll"><authenticode-sign/></pe-file></zip-file>'
        "<nuget-sign/></nupkg-file></zip-file>"
    )
    output, found = sign_deeply(archive({"a.nupkg": archive(files)}), body, tmp_path, pki.leaf)
    kinds = [each.fact.format for each in found]
    assert kinds == ["authenticode", "authenticode", "authenticode", "nuget"]
    package, roots = tmp_path / "a.nupkg", tmp_path / "roots.pem"
    roots.write_bytes(pki.root.pem)
    with zipfile.ZipFile(io.BytesIO(output)) as opened:
        package.write_bytes(opened.read("a.nupkg"))
    done = nuget_verify(roots, package)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Author signature, SHA256" in done.stdout
    with zipfile.ZipFile(package) as opened:
        signed = [opened.read("lib/net8.0/tool.dll"), opened.read("tools/install.ps1")]
        with zipfile.ZipFile(io.BytesIO(opened.read("tools/native.zip"))) as inner:
            signed.append(inner.read("x64/native.dll"))
    for name, content in zip(("tool.dll", "install.ps1", "native.dll"), signed, strict=True):
        path = tmp_path / name
        path.write_bytes(content)
        command = [tool("osslsigncode"), "verify", "-CAfile", str(roots), str(path)]
        report = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Signature verification: ok" in report.stdout, (name, report.stdout, report.stderr)
