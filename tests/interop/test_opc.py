"""Open Packaging signatures against Apache POI and xmlsec1."""

from __future__ import annotations

import io
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from tests import keys
from tests.artifacts import launcher
from tests.artifacts_signed import sign_deeply
from tests.runners import Runners, run, runners
from tests.shared import sample, tool
from tests.toy import archive

from sealwright.errors import VerificationError
from sealwright.signing import algorithms, opc_package, opc_signature
from sealwright.signing.artifact import Directive
from sealwright.signing.formats import opc, pe

assert runners  # a fixture of another module

VERIFIER = Path(__file__).parent / "VerifyOpc.java"
Poi = Callable[[Path], dict[str, str]]


@pytest.fixture(scope="module")
def poi(runners: Runners) -> Poi:
    """Verifies every file in a folder: file name -> what POI says."""
    java = tool("java")

    def verify(folder: Path) -> dict[str, str]:
        files = sorted(folder.iterdir())
        done = run(
            java,
            "-cp",
            runners.opc_class_path,
            VERIFIER,
            *files,
            cwd=folder,
            check=True,
            seconds=240,
        )
        lines = [line.split(": ", 1) for line in done.output.splitlines() if ".vsix: " in line]
        assert len(lines) == len(files), done.output
        return {Path(path).name: found for path, found in lines}

    return verify


def signed(content: bytes, kind: str, hash_algorithm: str, timestamp: str = "rfc3161") -> bytes:
    target = io.BytesIO()
    directive = Directive("opc-sign", {"hash-algorithm": hash_algorithm, "timestamp": timestamp})
    identity = keys.pki().identity(kind)
    generator = opc.sign(io.BytesIO(content), directive, identity, target)
    keys.drive(generator, keys.pki().leaf(kind).key)
    return target.getvalue()


def expected(kind: str) -> str:
    return f"1 [valid CN=Signer {kind}, O=Sealwright tests]"


def test_poi_accepts_ours(poi: Poi, tmp_path: Path) -> None:
    """Every kind of key with every hash; odd names; deep; and what relic signed, as it is."""
    source = sample("VSIXProject1.vsix").read_bytes()
    wanted = {}
    folder = tmp_path / "signed"
    folder.mkdir()
    for kind in keys.KINDS:
        for hash_algorithm in algorithms.HASH_ALGORITHMS:
            name = f"{kind}-{hash_algorithm}.vsix"
            (folder / name).write_bytes(signed(source, kind, hash_algorithm))
            wanted[name] = expected(kind)
    odd = with_files(source, {"dir/LICENSE": b"x", "z.json": b"{}", "tool.dll": program()})
    (folder / "odd.vsix").write_bytes(signed(odd, "p256", "sha256"))
    wanted["odd.vsix"] = expected("p256")
    body = (
        '<opc-file><pe-file path="*.dll" max-matches="unbounded"><authenticode-sign/></pe-file>'
        "<opc-sign/></opc-file>"
    )
    deep, found = sign_deeply(odd, body, tmp_path, keys.pki().leaf("rsa-4096"))
    assert [each.fact.format for each in found] == ["authenticode", "authenticode", "opc"]
    with zipfile.ZipFile(io.BytesIO(deep)) as opened:
        assert len(pe.verify(io.BytesIO(opened.read("tool.dll")))) == 1
    (folder / "deep.vsix").write_bytes(deep)
    wanted["deep.vsix"] = expected("rsa-4096")
    tampered = signed(with_files(source, {"z.json": b"{}"}), "p256", "sha256")
    (folder / "changed.vsix").write_bytes(with_files(tampered, {"z.json": b"[]"}))
    (folder / "unsigned.vsix").write_bytes(archive(_unsigned(source)))
    (folder / "relic.vsix").write_bytes(source)
    office = signed(archive(large_document()), "p384", "sha512")
    (folder / "office.vsix").write_bytes(office)
    wanted["office.vsix"] = expected("p384")
    properties = {"docProps/core.xml": PROPERTIES.replace(b"Title", b"Titel")}
    (folder / "properties.vsix").write_bytes(with_files(office, properties))
    report = poi(folder)
    assert report.pop("properties.vsix").startswith("1 [INVALID")
    assert report.pop("changed.vsix").startswith("1 [INVALID")
    assert report.pop("unsigned.vsix") == "0 []"
    assert report.pop("relic.vsix").startswith("1 [valid")
    assert report == wanted


def program() -> bytes:
    return launcher().read_bytes()


def with_files(content: bytes, files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        present = {name: opened.read(name) for name in opened.namelist()}
    return archive({**present, **files})


def _unsigned(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return {
            name: opened.read(name)
            for name in opened.namelist()
            if "digital-signature" not in name and "_rels" not in name
        }


RELATIONSHIPS = "http://schemas.openxmlformats.org/package/2006/relationships"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
KIND = "application/vnd.openxmlformats-"


def document() -> dict[str, bytes]:
    """A document of Word: parts with relationships of their own."""
    rows = "".join(
        f'<Override PartName="/word/{name}.xml" '
        f'ContentType="{KIND}officedocument.wordprocessingml.{kind}+xml"/>'
        for name, kind in (("document", "document.main"), ("styles", "styles"))
    )
    types = (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        f'<Default Extension="rels" ContentType="{KIND}package.relationships+xml"/>{rows}</Types>'
    )

    def leads(kind: str, target: str) -> bytes:
        row = f'<Relationship Id="rId1" Type="{OFFICE}/{kind}" Target="{target}"/>'
        return f'<Relationships xmlns="{RELATIONSHIPS}">{row}</Relationships>'.encode()

    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    return {
        "[Content_Types].xml": types.encode(),
        "_rels/.rels": leads("officeDocument", "word/document.xml"),
        "word/document.xml": f'<w:document xmlns:w="{word}"><w:body/></w:document>'.encode(),
        "word/styles.xml": f'<w:styles xmlns:w="{word}"/>'.encode(),
        "word/_rels/document.xml.rels": leads("styles", "styles.xml"),
    }


PROPERTIES = (
    b'<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/'
    b'core-properties" xmlns:dc="http://purl.org/dc/elements/1.1/">'
    b"<dc:title>Title</dc:title></cp:coreProperties>"
)


def large_document() -> dict[str, bytes]:
    """`document` with core properties and more parts than POI takes unless it is told to."""
    made = document()
    types = made["[Content_Types].xml"].replace(
        b"</Types>",
        b'<Default Extension="png" ContentType="image/png"/><Override '
        b'PartName="/docProps/core.xml" ContentType="application/'
        b'vnd.openxmlformats-package.core-properties+xml"/></Types>',
    )
    kind = "http://schemas.openxmlformats.org/package/2006/relationships/metadata/core-properties"
    row = f'<Relationship Id="rId2" Type="{kind}" Target="docProps/core.xml"/></Relationships>'
    leads = made["_rels/.rels"].replace(b"</Relationships>", row.encode())
    images = {f"word/media/image{number}.png": b"\x89PNG%d" % number for number in range(40)}
    changed = {"[Content_Types].xml": types, "_rels/.rels": leads, "docProps/core.xml": PROPERTIES}
    return {**made, **changed, **images}


def test_we_accept_what_poi_signs(runners: Runners, tmp_path: Path) -> None:
    """With the relationships transform; Office's own signatures leave parts out."""
    leaf = keys.pki().leaf("rsa-3072")
    store, path = tmp_path / "key.p12", tmp_path / "whole.docx"
    encryption = BestAvailableEncryption(b"secret")
    store.write_bytes(
        serialize_key_and_certificates(b"a", leaf.key, leaf.certificate, [], encryption)
    )
    path.write_bytes(archive(document()))
    office = tmp_path / "office.docx"
    office.write_bytes(archive(document()))
    java, signer = tool("java"), VERIFIER.with_name("SignOpc.java")
    options = ("-cp", runners.opc_class_path, signer, store, "secret")
    run(java, *options, "whole", path, "office", office, cwd=tmp_path, check=True, seconds=240)
    # POI adds document properties when it saves, after it has signed.
    files = {name: content for name, content in members(path).items() if "docProps" not in name}
    with pytest.raises(VerificationError, match="not signed"), path.open("rb") as file:
        opc.verify(file)
    kept = opc_package.read_relationships(files["_rels/.rels"], "")
    kept = [each for each in kept if "core-properties" not in each.type]
    files["_rels/.rels"] = opc_package.write_relationships(kept)
    (fact,) = opc.verify(io.BytesIO(archive(files)))
    assert (fact.hash_algorithm, fact.signer) == ("sha384", leaf.der)
    files["word/styles.xml"] += b" "
    with pytest.raises(VerificationError, match="changed"):
        opc.verify(io.BytesIO(archive(files)))
    signature = opc_signature.verify(members(office)["_xmlsignatures/sig1.xml"], "", [])
    assert "word/styles.xml" in signature.parts
    with pytest.raises(VerificationError, match="not signed"), office.open("rb") as file:
        opc.verify(file)


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.mark.parametrize("kind", keys.KINDS)
def test_xmlsec1_accepts_the_signature(kind: str, tmp_path: Path) -> None:
    content = signed(sample("VSIXProject1.vsix").read_bytes(), kind, "sha384", "none")
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        name = next(each for each in opened.namelist() if each.endswith(".psdsxs"))
        document = opened.read(name)
    (tmp_path / "root.pem").write_bytes(keys.pki().root.pem)
    assert _xmlsec1(tmp_path, document).returncode == 0
    for old in (b"CN=", b"2027", b"/VSIXProject1.dll"):
        if old in document:
            assert _xmlsec1(tmp_path, document.replace(old, old[::-1])).returncode != 0


def _xmlsec1(folder: Path, document: bytes) -> subprocess.CompletedProcess[str]:
    path = folder / "signature.xml"
    path.write_bytes(document)
    options = ("--trusted-pem", folder / "root.pem", "--enabled-key-data", "x509")
    command = [
        tool("xmlsec1"),
        "--verify",
        "--ignore-manifests",
        *options,
        "--id-attr:Id",
        "Object",
        path,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)
