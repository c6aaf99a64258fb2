"""What cannot be signed is said by the plan, before anybody approves anything."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests import app_packages, keys, pe_images
from tests.artifacts import launcher
from tests.fakes.cabinets import File, Folder
from tests.fakes.cabinets import build as build_cabinet
from tests.fakes.installers import Installed
from tests.fakes.installers import build as build_installer
from tests.toy import archive, configuration

from sealwright.cli import cli
from sealwright.errors import ArtifactError
from sealwright.signing.artifact import Identity
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.engine import verify_file
from sealwright.signing.planner import build_plan
from sealwright.signing.spool import Spool

SIGN = "<authenticode-sign/>"
APPEND = '<authenticode-sign append="true"/>'
APPEND_SHA512 = '<authenticode-sign append="true" hash-algorithm="sha512"/>'
PE = f"<pe-file>{SIGN}</pe-file>"
GPG = '<file path="b"><create-gpg-signature output-file-name="b.asc"/></file>'
DETACHED = "<create-cms-signature output-file-name='x.p7'/>"
OTHERS = build_cabinet([Folder([File(b"a", b"a")], reserve=b"mine")])
GAPS = pe_images.image(subsystem=10, gap=512)
APP = app_packages.package({"app.exe": launcher().read_bytes()})
VECTORS = Path(__file__).resolve().parent.parent / "vectors"
PUBLISHED = VECTORS / "nupkg" / "system.security.cryptography.protecteddata.8.0.0.nupkg"
IMAGE = pe_images.image()
# the section's padding, 3 bytes, is not there
UNPADDED = IMAGE.replace(struct.pack("<II", 512, 4096), struct.pack("<II", 509, 4096))[:-3]
TYPES = (
    b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    b'<Default Extension="rels" ContentType="application/xml"/></Types>'
)
ELSEWHERE = (
    b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    b'<Relationship Id="a" Target="/a.rels" Type="http://schemas.openxmlformats.org/package/2006/'
    b'relationships/digital-signature/origin"/></Relationships>'
)
NO_RELATIONSHIPS = (
    b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"/>'
)
OPC = {"[Content_Types].xml": TYPES, "_rels/.rels": ELSEWHERE, "a.rels": b""}
SIGNED = (VECTORS / "pe" / "osslsigncode-sha256-page-hashes.exe").read_bytes()
SIGNED = SIGNED[:600] + bytes([SIGNED[600] ^ 1]) + SIGNED[601:]
QUANTUM = build_cabinet([Folder([File(b"a.exe", b"a")], 0x0472)])


def planned(
    content: bytes, body: str, folder: Path, name: str = "a", identity: Identity | None = None
) -> None:
    parsed = parse_configuration(configuration(body)).resolve({})
    spool = Spool(folder, 1 << 30)
    source = io.BytesIO(content)
    build_plan(source, name, parsed, signing_time=0, spool=spool, identity=identity)


def stored(members: Mapping[str, bytes]) -> bytes:
    """A ZIP archive that compresses nothing."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as opened:
        for path, content in members.items():
            opened.writestr(path, content)
    return made.getvalue()


def patched(offset: int, value: int, content: bytes = IMAGE) -> bytes:
    """A PE image with another number in its optional header."""
    at = 0x80 + 24 + offset
    return content[:at] + struct.pack("<I", value) + content[at + 4 :]


def with_table(content: bytes, start: int, table: bytes = b"") -> bytes:
    """A PE image whose certificate table begins at `start`."""
    whole = content + table
    return patched(112 + 32, start, patched(112 + 36, len(whole) - start, whole))


@pytest.mark.parametrize(
    ("content", "body", "reason", "advice"),
    [
        (OTHERS, f"<cab-file>{SIGN}</cab-file>", "reserved areas", "without them"),
        (GAPS, f"<pe-file>{SIGN}</pe-file>", "gaps between its sections", "Link it"),
        (
            APP,
            f'<appx-file><file path="app.exe">{DETACHED}</file></appx-file>',
            "No file can be added",
            "ZIP archive",
        ),
        (
            APP,
            f'<zip-file><pe-file path="app.exe">{SIGN}</pe-file></zip-file>',
            "block map would be wrong",
            "Use <appx-file>",
        ),
        (
            QUANTUM,
            f'<cab-file><pe-file path="a.exe">{SIGN}</pe-file></cab-file>',
            "is compressed by Quantum",
            "make the cabinet with MSZIP",
        ),
        (IMAGE[:-1], PE, "1 bytes of its sections are missing", "written it whole"),
        (patched(60, 0x7FFFFFFF), PE, "SizeOfHeaders is 2147483647", "written it whole"),
        (patched(36, 0), PE, "FileAlignment is 0", "written it whole"),
        (patched(68, 10, UNPADDED), PE, "3 bytes of its sections", "written it whole"),
        (with_table(IMAGE, len(IMAGE) - 100), PE, "100 bytes of its", "written it whole"),
        (
            with_table(IMAGE, len(IMAGE), b"junk"),
            f"<pe-file>{APPEND}</pe-file>",
            "cut off",
            "Remove",
        ),
        (
            (VECTORS / "msi" / "osslsigncode-sha256-ex.msi").read_bytes(),
            f"<msi-file>{APPEND_SHA512}</msi-file>",
            "Only a sha256 signature can be appended",
            'Set hash-algorithm="sha256"',
        ),
        (
            SIGNED,
            f"<pe-file>{APPEND}</pe-file>",
            "would stay, does not verify",
            "without append",
        ),
        (
            archive({"a.nuspec": b"", ".Signature.P7S": b""}),
            "<nupkg-file><nuget-sign/></nupkg-file>",
            "in the place of the package's signature",
            "Leave it out",
        ),
        (
            archive({"a.nuspec": b"", ".signature.p7s/a": b""}),
            "<nupkg-file><nuget-sign/></nupkg-file>",
            "in the place of the package's signature",
            "Leave it out",
        ),
        (
            PUBLISHED.read_bytes(),
            "<nupkg-file><nuget-sign/></nupkg-file>",
            "a repository's signature",
            "before it is published",
        ),
        (
            archive({"META-INF/MANIFEST.MF": b"Main-Class: a\r\n\r\n"}),
            "<jar-file><jar-sign/></jar-file>",
            "does not begin with Manifest-Version",
            "Make the archive again",
        ),
        (
            archive(OPC),
            "<opc-file><opc-sign/></opc-file>",
            "in an unusual place",
            "without signatures",
        ),
    ],
    ids=[
        *("cabinet", "efi", "added", "index", "quantum"),
        *(
            "cut",
            "headers",
            "alignment",
            "efi-cut",
            "table",
            "append",
            "msi",
            "kept",
            "nupkg-case",
            "nupkg-folder",
        ),
        *("nupkg", "jar", "opc"),
    ],
)
def test_the_plan_refuses(
    content: bytes, body: str, reason: str, advice: str, tmp_path: Path
) -> None:
    inside = "<zip-file>" + body.replace("-file>", '-file path="in">', 1) + "</zip-file>"
    for data, meant in ((content, body), (archive({"in": content}), inside)):
        with pytest.raises(ArtifactError, match=reason) as caught:
            planned(data, meant, tmp_path)
        assert advice in caught.value.advice


def damaged(content: bytes, mark: bytes) -> bytes:
    """One bit is another in what is stored as `mark`."""
    at = content.index(mark)
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


PARTS = {"[Content_Types].xml": TYPES, "_rels/.rels": NO_RELATIONSHIPS, "a.exe": IMAGE}
JAR = f'<jar-file><pe-file path="a.exe">{SIGN}</pe-file><jar-sign/></jar-file>'
OPC_DEEP = f'<opc-file><pe-file path="a.exe">{SIGN}</pe-file><opc-sign/></opc-file>'
NUPKG_DEEP = f'<nupkg-file><pe-file path="a.exe">{SIGN}</pe-file><nuget-sign/></nupkg-file>'
APP_ALONE = f"<appx-file>{SIGN}</appx-file>"


@pytest.mark.parametrize(
    ("content", "body", "reason", "where"),
    [
        (stored({**PARTS, "b.txt": b"unnamed"}), OPC_DEEP, "checksum", "a!/b.txt"),
        (stored({"a.exe": IMAGE, "b.txt": b"unnamed"}), JAR, "checksum", "a!/b.txt"),
        (stored({"a.nuspec": b"", "a.exe": IMAGE, "b.txt": b"unnamed"}), NUPKG_DEEP, "checksum",
         "a!/b.txt"),
        (app_packages.package({"b.txt": b"unnamed"}, stored=frozenset({"b.txt"})), APP_ALONE,
         "checksum", "a!/b.txt"),
    ],
    ids=["opc", "jar", "nupkg", "app"],
)  # fmt: skip
def test_damage_in_what_nobody_names_is_found(
    content: bytes, body: str, reason: str, where: str, tmp_path: Path
) -> None:
    """The container's signature covers it."""
    planned(content, body, tmp_path)
    with pytest.raises(ArtifactError, match=reason) as caught:
        planned(damaged(content, b"unnamed"), body, tmp_path)
    assert caught.value.where == where
    alone = re.sub("<(jar|opc|nuget)-sign/>", "", body)
    if alone != body:
        planned(damaged(content, b"unnamed"), alone, tmp_path)  # it is only copied then


def test_relationships_that_signing_would_read_are_read(tmp_path: Path) -> None:
    content = archive({**PARTS, "b/_rels/c.xml.rels": b"<Relationships/>"})
    with pytest.raises(ArtifactError, match="does not list relationships") as caught:
        planned(content, OPC_DEEP, tmp_path)
    assert caught.value.where == "a!/b/_rels/c.xml.rels"


@pytest.mark.parametrize(
    ("content", "body", "kind", "reason"),
    [
        (APP, APP_ALONE, "p384", "The publisher in the manifest"),
        (archive({"a.nuspec": b""}), "<nupkg-file><nuget-sign/></nupkg-file>", "p256", "only RSA"),
        (
            archive({"b": b""}),
            f"<zip-file>{GPG}</zip-file>",
            "p256",
            "needs an OpenPGP key, but the signer is an X.509 certificate",
        ),
    ],
    ids=["publisher", "nuget", "openpgp"],
)
def test_what_this_signer_cannot_sign_is_refused(
    content: bytes, body: str, kind: str, reason: str, tmp_path: Path
) -> None:
    planned(content, body, tmp_path)
    with pytest.raises(ArtifactError, match=reason) as caught:
        planned(content, body, tmp_path, identity=keys.pki().identity(kind))
    assert caught.value.advice
    assert caught.value.where.startswith("a")


def test_openpgp_keys_sign_no_programs(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"needs an X\.509 certificate"):
        planned(IMAGE, PE, tmp_path, identity=Identity(b"\x99\x01\x02"))


@pytest.mark.parametrize(
    ("name", "content", "element", "reason"),
    [
        ("a.wsf", b"<package/>", "windows-script-file", "has no </job>"),
        ("a.ps1", b"", "powershell-file", "another format"),
        ("a.ps1", b"\xef\xbb\xbf", "powershell-file", "is empty"),
        ("a.txt", b"1", "powershell-file", "not the name of a script"),
    ],
)
def test_the_plan_refuses_scripts(
    name: str, content: bytes, element: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=reason) as caught:
        planned(content, f"<{element}>{SIGN}</{element}>", tmp_path, name)
    assert caught.value.advice
    assert caught.value.where == name


@pytest.mark.parametrize(
    "content",
    [UNPADDED, patched(68, 10), with_table(IMAGE, len(IMAGE), b"junk"), IMAGE + b"overlay"],
    ids=["unpadded", "efi", "replaced", "overlay"],
)
def test_odd_programs_that_windows_loads_are_planned(content: bytes, tmp_path: Path) -> None:
    planned(content, PE, tmp_path)


@pytest.mark.parametrize(
    ("content", "body"),
    [
        (OTHERS, '<cab-file path="in"/>'),
        (GAPS, '<pe-file path="in"/>'),
        (APP, f'<appx-file path="in"><pe-file path="app.exe">{SIGN}</pe-file></appx-file>'),
        (APP, '<zip-file path="in"><pe-file path="app.exe"/></zip-file>'),
        (QUANTUM, f'<cab-file path="in">{SIGN}</cab-file>'),
    ],
    ids=["cabinet", "efi", "app", "archive", "quantum"],
)
def test_what_only_stays_is_not_refused(content: bytes, body: str, tmp_path: Path) -> None:
    other = f'<file path="other">{DETACHED}</file>'
    planned(archive({"in": content, "other": b""}), f"<zip-file>{body}{other}</zip-file>", tmp_path)


def test_only_scripts_are_looked_at_as_scripts(tmp_path: Path) -> None:
    """Texts about signatures, and texts with zeros, are no scripts."""
    about = b"# SIG # Begin signature block\r\n"
    file = tmp_path / "a.zip"
    file.write_bytes(archive({"a.md": about, "a.info": b"text" * 500 + bytes(1), "b.ps1": b"1"}))
    assert verify_file(file) == []
    file.write_bytes(archive({"a.ps1": about}))
    with pytest.raises(ArtifactError, match="whole signature block"):
        verify_file(file)


def test_files_outside_of_an_installer_do_not_end_the_search(tmp_path: Path) -> None:
    file = tmp_path / "a.msi"
    file.write_bytes(
        build_installer(
            [
                Installed("a", "a.txt", b"a", cabinet="files.cab"),
                Installed("b", "b.exe", launcher().read_bytes(), cabinet="#b.cab"),
                Installed("c", "c.txt", b"c", cabinet=None),
            ]
        )
    )
    closed: list[str] = []
    assert verify_file(file, closed=closed.append) == []
    assert sorted(closed) == ["a.msi!/Example App/a.txt", "a.msi!/Example App/c.txt"]


def test_malformed_members_do_not_end_the_search(tmp_path: Path) -> None:
    """As with programs for Android, which have bytes that belong to no record, in an archive that a
    signed one carries along. What was found is told, and it is no success."""
    signed = (VECTORS / "pe" / "osslsigncode-sha256-page-hashes.exe").read_bytes()
    broken = archive({"a.txt": b"a"}) + b"more"
    file = tmp_path / "a.zip"
    file.write_bytes(archive({"a.apk": broken, "b.exe": signed + b"more", "c.exe": signed}))
    with pytest.raises(ArtifactError):
        verify_file(file)
    done = CliRunner().invoke(cli, ["verify", str(file)])
    assert done.exit_code == 1
    assert done.stdout.startswith("a.zip!/c.exe: authenticode, sha256, ")
    assert len(done.stdout.splitlines()) == 1
    assert re.search(r"Malformed too: a\.zip!/b\.exe: The certificate table", done.stderr)
    assert re.search(r"Error: a\.zip!/a\.apk: There is other data after", done.stderr)
