"""relic and Jsign: what we sign deep is verified by relic, what both sign we verify."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from tests import keys
from tests.app_packages import package, publisher_of
from tests.artifacts import launcher
from tests.artifacts_signed import sign_deeply
from tests.runners import Runners, run, runners
from tests.shared import tool
from tests.toy import archive

from sealwright.errors import VerificationError
from sealwright.signing.engine import verify_file

assert runners  # a fixture of another module

KIND = "rsa-3072"
VECTORS = Path(__file__).resolve().parent.parent / "vectors"
TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="dll" ContentType="application/octet-stream"/>'
    '<Default Extension="vsixmanifest" ContentType="text/xml"/></Types>'
)
VSIX = {"[Content_Types].xml": TYPES.encode(), "extension.vsixmanifest": b"<PackageManifest/>"}
MANIFEST = b"Manifest-Version: 1.0\r\n\r\n"
DEEP = """<zip-file>
  <pe-file path="a.exe"><authenticode-sign description="Sealwright"/></pe-file>
  <msi-file path="b.msi"><authenticode-sign/></msi-file>
  <cab-file path="c.cab"><authenticode-sign hash-algorithm="sha384"/></cab-file>
  <powershell-file path="d.ps1"><authenticode-sign/></powershell-file>
  <catalog-file path="e.cat"><authenticode-sign/></catalog-file>
  <jar-file path="f.jar">
    <pe-file path="native/f.dll"><authenticode-sign/></pe-file><jar-sign/>
  </jar-file>
  <opc-file path="g.vsix">
    <pe-file path="**/*.dll"><authenticode-sign/></pe-file><opc-sign/>
  </opc-file>
  <appx-file path="h.appx">
    <pe-file path="h.exe"><authenticode-sign/></pe-file>
    <catalog-file path="AppxMetadata/CodeIntegrity.cat"><authenticode-sign/></catalog-file>
    <authenticode-sign/>
  </appx-file>
  <zip-file path="inner.zip"><zip-file path="i.zip">
    <pe-file path="i.dll"><authenticode-sign hash-algorithm="sha512"/></pe-file>
  </zip-file></zip-file>
</zip-file>"""


def unsigned() -> dict[str, bytes]:
    """One file of each format that relic knows, by name."""
    program = launcher().read_bytes()
    return {
        "a.exe": program,
        "b.msi": (VECTORS / "msi" / "wixl.msi").read_bytes(),
        "c.cab": (VECTORS / "cab" / "unsigned.cab").read_bytes(),
        "d.ps1": b"Write-Output 1\r\n",
        "e.cat": (VECTORS / "catalog" / "unsigned.cat").read_bytes(),
        "f.jar": archive({"META-INF/MANIFEST.MF": MANIFEST, "native/f.dll": program}),
        "g.vsix": archive(VSIX | {"lib/g.dll": program}),
        "h.appx": package({"h.exe": program}, publisher=publisher_of(KIND)),
    }


def written(files: Mapping[str, bytes], folder: Path) -> list[Path]:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())


def member(archived: bytes, path: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archived)) as opened:
        return opened.read(path)


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the leaf's certificates and key as files."""
    folder, leaf = tmp_path_factory.mktemp("keys"), keys.pki().leaf(KIND)
    (folder / "chain.pem").write_bytes(leaf.pem + keys.pki().intermediate.pem)
    (folder / "key.pem").write_bytes(leaf.key_pem)
    store = serialize_key_and_certificates(
        b"signer",
        leaf.key,
        leaf.certificate,
        [keys.pki().intermediate.certificate],
        BestAvailableEncryption(b"secret"),
    )
    (folder / "keys.p12").write_bytes(store)
    return folder


def relic_signs(runners: Runners, credentials: Path, files: Sequence[Path]) -> None:
    pair = (credentials / "chain.pem", credentials / "key.pem")
    run(runners.relic, "sign", *pair, *files, cwd=credentials, check=True)


def test_relic_accepts_ours(credentials: Path, runners: Runners, tmp_path: Path) -> None:
    inner = archive({"i.zip": archive({"i.dll": launcher("t64.exe").read_bytes()})})
    # relic wants a code integrity catalog in every app package, and makes one when it signs
    [package_file] = written({"h.appx": unsigned()["h.appx"]}, tmp_path / "package")
    relic_signs(runners, credentials, [package_file])
    files = unsigned() | {"h.appx": package_file.read_bytes()}
    content = archive(files | {"inner.zip": inner})
    output, found = sign_deeply(content, DEEP, tmp_path, keys.pki().leaf(KIND))
    assert len(found) == 13
    signed = {name: member(output, name) for name in unsigned()}
    signed["f.dll"] = member(signed["f.jar"], "native/f.dll")
    signed["g.dll"] = member(signed["g.vsix"], "lib/g.dll")
    signed["h.exe"] = member(signed["h.appx"], "h.exe")
    signed["i.dll"] = member(member(member(output, "inner.zip"), "i.zip"), "i.dll")
    root = tmp_path / "root.pem"
    root.write_bytes(keys.pki().root.pem)
    paths = written(signed, tmp_path / "signed")
    done = run(runners.relic, "verify", "--cert", root, *paths, cwd=tmp_path)
    assert done.status == 0, done.output
    assert done.output.count(": OK - ") == len(paths), done.output

    # it does look: at another root, and at the content
    root.write_bytes(keys.pki().tsa_root.pem)
    done = run(runners.relic, "verify", "--cert", root, *paths, cwd=tmp_path)
    assert done.output.count(" ERROR: ") == len(paths), done.output


def accepted(files: list[Path]) -> None:
    """Each is signed by the leaf, and verifies."""
    for file in files:
        found = verify_file(file)
        assert {fact.signer for _, fact in found} == {keys.pki().leaf(KIND).der}, file.name


def test_we_accept_what_relic_signs(credentials: Path, runners: Runners, tmp_path: Path) -> None:
    files = written(unsigned(), tmp_path / "files")
    relic_signs(runners, credentials, files)
    catalog = next(file for file in files if file.suffix == ".cat")
    accepted([file for file in files if file != catalog])
    # RFC 5652, 5.3: there must be some where the content is not plain data
    with pytest.raises(VerificationError, match="Signed attributes are missing"):
        verify_file(catalog)


def test_we_accept_what_jsign_signs(credentials: Path, runners: Runners, tmp_path: Path) -> None:
    kinds = (".exe", ".msi", ".cab", ".ps1", ".cat", ".appx")
    content = {name: each for name, each in unsigned().items() if name.endswith(kinds)}
    content["i.vbs"] = b"WScript.Echo 1\r\n"
    files = written(content, tmp_path / "files")
    run(
        *(tool("java"), "-cp", runners.jsign_class_path, "net.jsign.JsignCLI"),
        *("--keystore", credentials / "keys.p12", "--storepass", "secret", "--alg", "SHA-256"),
        *files,
        cwd=tmp_path,
        check=True,
    )
    accepted(files)
