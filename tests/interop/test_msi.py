"""Windows Installer files against osslsigncode, 7-Zip and msitools, in both directions."""

from __future__ import annotations

import hashlib
import io
import struct
import subprocess
from pathlib import Path

import pytest
from tests import keys
from tests.artifacts import launcher
from tests.artifacts_signed import sign_deeply
from tests.fakes.cabinets import LZX, File, Folder
from tests.fakes.cabinets import build as build_cabinet
from tests.fakes.compound_files import PATCH, build
from tests.fakes.lzx_encoder import ALIGNED, VERBATIM, Encoder
from tests.interop.osslsigncode import Osslsigncode
from tests.shared import sample, tool

from sealwright.signing import algorithms
from sealwright.signing.artifact import Directive, SignatureFact
from sealwright.signing.containers.cab_container import CabContainer
from sealwright.signing.containers.msi import MsiContainer
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
    # Exported, the table Binary leaves a folder where the program runs.
    return subprocess.run(
        command, cwd=path.parent, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
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


SOURCE = """<?xml version="1.0" encoding="utf-8"?>
<Wix xmlns="http://schemas.microsoft.com/wix/2006/wi">
  <Product Id="*" Name="Example" Language="1033" Version="1.0.0" Manufacturer="Example"
      UpgradeCode="6a4d5f7e-1111-4222-8333-444455556666">
    <Package InstallerVersion="200" Compressed="yes"/>
    <Media Id="1" Cabinet="one.cab" EmbedCab="yes"/>
    <Directory Id="TARGETDIR" Name="SourceDir">
      <Directory Id="ProgramFilesFolder" Name="PFiles">
        <Directory Id="INSTALLDIR" Name="Example App">
          <Component Id="Main" Guid="6a4d5f7e-aaaa-4222-8333-444455556666">
            <File Id="text" Name="read me.txt" Source="read.me"/>
            <File Id="exe" Name="application.exe" Source="app.exe" KeyPath="yes"/>
          </Component>
          <Directory Id="SCRIPTS" Name="scripts">
            <Component Id="Script" Guid="6a4d5f7e-bbbb-4222-8333-444455556666">
              <File Id="script" Name="run.ps1" Source="run.ps1" KeyPath="yes"/>
            </Component>
          </Directory>
        </Directory>
      </Directory>
    </Directory>
    <Binary Id="Tool" SourceFile="tool.exe"/>
    <Feature Id="F" Level="1"><ComponentRef Id="Main"/><ComponentRef Id="Script"/></Feature>
  </Product>
</Wix>
"""
DEEP = """<msi-file subject="Example" author="Example">
  <directory path="PFiles/Example App">
    <pe-file path="*.exe"><authenticode-sign/></pe-file>
    <powershell-file path="**/*.ps1"><authenticode-sign/></powershell-file>
  </directory>
  <pe-file path="Binary/*"><authenticode-sign/></pe-file>
  <authenticode-sign/>
</msi-file>"""


def by_lzx(package: Path) -> None:
    """Has the same files in a cabinet by LZX, put in by msibuild."""
    command = [tool("msiinfo"), "extract", str(package), "one.cab"]
    cabinet = subprocess.run(command, capture_output=True, check=True).stdout
    container = CabContainer(io.BytesIO(cabinet), 10)
    files = []
    for entry in container.entries():
        container.extract(entry, content := io.BytesIO())
        files.append(File(entry.path.encode(), content.getvalue()))
    whole = b"".join(file.content for file in files)
    blocks = Encoder(18, (VERBATIM, ALIGNED), 100_000).compress(whole)
    (package.parent / "one.cab").write_bytes(
        build_cabinet([Folder(files, LZX | 18 << 8, blocks=blocks)])
    )
    command = [tool("msibuild"), str(package), "-a", "one.cab", str(package.parent / "one.cab")]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module", params=["MSZIP", "LZX"])
def made_by_wixl(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wixl")
    (folder / "package.wxs").write_text(SOURCE)
    # long enough to get a folder of its own
    (folder / "app.exe").write_bytes(launcher().read_bytes() + b"more of it" * 8000)
    (folder / "tool.exe").write_bytes(launcher("t64.exe").read_bytes())
    (folder / "read.me").write_bytes(b"Read me.\r\n" * 4000)
    (folder / "run.ps1").write_bytes(b"Write-Output 1\r\n")
    package = folder / f"{request.param}.msi"
    subprocess.run([tool("wixl"), "-o", package.name, "package.wxs"], cwd=folder, check=True)
    if request.param == "LZX":
        by_lzx(package)
    return package


def extracted(path: Path, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    subprocess.run([tool("msiextract"), str(path)], cwd=folder, check=True)
    return {each.name: each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def rows(path: Path, table: str) -> dict[str, list[str]]:
    lines = msiinfo(path, "export", table).splitlines()[3:]
    return {line.split("\t")[0]: line.split("\t")[1:] for line in lines}


def test_deep_signing(made_by_wixl: Path, osslsigncode: Osslsigncode, tmp_path: Path) -> None:
    content = made_by_wixl.read_bytes()
    (tmp_path / "signed.msi").write_bytes(sign_deeply(content, DEEP, tmp_path)[0])
    osslsigncode.verify(tmp_path / "signed.msi")
    with (tmp_path / "signed.msi").open("rb") as file:  # what follows does pass over a lead
        folders = MsiContainer(file, 100)._embedded[0].cabinet._folders
        assert any(folder.lead for folder in folders) is (made_by_wixl.stem == "MSZIP")
    before = extracted(made_by_wixl, tmp_path / "before")
    after = extracted(tmp_path / "signed.msi", tmp_path / "after")
    installed = {"application.exe", "read me.txt", "run.ps1"}
    assert before.keys() == after.keys() == installed
    assert before["read me.txt"] == after["read me.txt"]
    names = {"exe": "application.exe", "text": "read me.txt", "script": "run.ps1"}
    sizes = {key: int(row[2]) for key, row in rows(tmp_path / "signed.msi", "File").items()}
    assert sizes == {key: len(after[name]) for key, name in names.items()}
    hashes = rows(tmp_path / "signed.msi", "MsiFileHash")
    assert hashes
    for key, row in hashes.items():
        digest = struct.pack("<4i", *map(int, row[1:]))
        assert digest == hashlib.md5(after[names[key]]).digest()
    for name in ("application.exe", "run.ps1"):
        assert before[name] != after[name]
        (tmp_path / name).write_bytes(after[name])
        osslsigncode.verify(tmp_path / name)
    command = [tool("msiinfo"), "extract", str(tmp_path / "signed.msi"), "Binary.Tool"]
    done = subprocess.run(command, capture_output=True, check=True)
    (tmp_path / "tool.exe").write_bytes(done.stdout)
    osslsigncode.verify(tmp_path / "tool.exe")
    for table in msiinfo(made_by_wixl, "tables").split():
        if table not in ("File", "MsiFileHash") and not table.startswith("_"):
            exported = msiinfo(tmp_path / "signed.msi", "export", table)
            assert exported == msiinfo(made_by_wixl, "export", table)
