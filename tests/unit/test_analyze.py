"""Proposed configurations: what they say, and that they are accepted for their sample."""

from __future__ import annotations

import io
import random
import time
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from tests import keys, pe_images
from tests.artifacts import launcher
from tests.fakes.cabinets import Fields, File, Folder, build
from tests.shared import sample
from tests.toy import archive
from tests.unit.test_jar import signed as sign_jar

from sealwright.errors import ArtifactError
from sealwright.signing.analyze import analyze
from sealwright.signing.artifact import Directive
from sealwright.signing.authenticode_trust import Trust
from sealwright.signing.budget import Limits
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.formats import pe
from sealwright.signing.plan import Plan
from sealwright.signing.planner import build_plan
from sealwright.signing.spool import Spool

PROGRAM = launcher("t32.exe").read_bytes()
SCRIPT = b"Write-Host 1\r\n"


@cache
def trust(*, judges_chains: bool = True) -> Trust:
    roots = (keys.pki().root.der,)
    return Trust(roots, (keys.pki().tsa_root.der,), int(time.time()), judges_chains)


@cache
def published() -> bytes:
    """A program that somebody trusted has signed."""
    target = io.BytesIO()
    identity = keys.pki().identity("p256", 1_700_000_000)
    directive = Directive("authenticode-sign", {"timestamp": "none"})
    keys.drive(pe.sign(io.BytesIO(PROGRAM), directive, identity, target), keys.pki().leaf().key)
    return target.getvalue()


def stranger() -> bytes:
    """A program with the signature of somebody who is not."""
    signer = keys.issue(
        "Stranger", keys.new_key("p256"), None, extensions=[(keys.CODE_SIGNING, True)]
    )
    target = io.BytesIO()
    directive = Directive("authenticode-sign", {"timestamp": "none"})
    identity = keys.Identity(signer.der, (), 1_700_000_000)
    keys.drive(pe.sign(io.BytesIO(PROGRAM), directive, identity, target), signer.key)
    return target.getvalue()


def proposed(content: bytes, folder: Path, name: str = "a.zip", by: Trust | None = None) -> str:
    """The proposal, which is checked against its sample, without the lines around it."""
    spool, source = Spool(folder, 1 << 30), io.BytesIO(content)
    text = analyze(source, name, spool, trust=by or trust())
    assert spool.used == 0
    planned(content, text, folder, name)
    lines = text.splitlines()
    return "\n".join(line[2:] for line in lines if line.startswith("  "))


def planned(content: bytes, text: str, folder: Path, name: str = "a.zip") -> Plan:
    return build_plan(
        io.BytesIO(content),
        name,
        parse_configuration(text.encode()).resolve({}),
        signing_time=0,
        spool=Spool(folder, 1 << 30),
        trust=trust(),
    )


def test_a_release(tmp_path: Path) -> None:
    files = {
        "app.exe": PROGRAM,
        "lib/one.dll": PROGRAM,
        "lib/two.DLL": PROGRAM,
        "lib/three.dll": PROGRAM,
        "vendor/a.dll": published(),
        "vendor/b.dll": published(),
        "setup/run.ps1": SCRIPT,
        "web/page.js": b"alert(1)\n",
        "readme.txt": b"text",
    }
    assert proposed(archive(files), tmp_path) == (
        "<zip-file>\n"
        "  <!-- 4 files to be signed -->\n"
        '  <pe-file-set product-name="Simple Launcher">\n'
        '    <include path="app.exe"/>\n'
        '    <include path="lib/*.dll" max-matches="unbounded"/>\n'
        "    <for-each>\n"
        "      <authenticode-sign/>\n"
        "    </for-each>\n"
        "  </pe-file-set>\n"
        "  <!-- 2 files signed already, by CN=Signer p256,O=Sealwright tests -->\n"
        "  <pe-file-set>\n"
        '    <include path="vendor/*.dll" max-matches="unbounded"/>\n'
        "    <for-each>\n"
        "      <authenticode-verify/>\n"
        "    </for-each>\n"
        "  </pe-file-set>\n"
        "  <!-- 1 file to be signed -->\n"
        '  <powershell-file path="setup/run.ps1">\n'
        "    <authenticode-sign/>\n"
        "  </powershell-file>\n"
        "  <!-- 2 files left as they are -->\n"
        "</zip-file>"
    )


def test_a_single_program(tmp_path: Path) -> None:
    assert proposed(PROGRAM, tmp_path, "a.exe") == (
        '<pe-file product-name="Simple Launcher">\n  <authenticode-sign/>\n</pe-file>'
    )
    assert "<authenticode-verify/>" in proposed(published(), tmp_path, "a.exe")


def test_many_folders_become_one_pattern(tmp_path: Path) -> None:
    files = {f"{number}/x/{number}.dll": PROGRAM for number in range(5)} | {"top.dll": PROGRAM}
    text = proposed(archive(files), tmp_path)
    assert '<include path="**/*.dll" max-matches="unbounded"/>' in text
    assert text.count("<include") == 1


def test_a_pattern_never_means_other_files(tmp_path: Path) -> None:
    files = {
        "a/1.dll": PROGRAM,
        "a/2.dll": PROGRAM,
        "a/3.dll": published(),
        "b/1.dll": PROGRAM,
        "b/2.dll": PROGRAM,
        "c/1.dll": b"resources only",
    }
    text = proposed(archive(files), tmp_path)
    assert '<include path="a/1.dll"/>' in text
    assert '<include path="b/*.dll" max-matches="unbounded"/>' in text
    assert '<pe-file path="a/3.dll">' in text


def test_names_that_look_like_patterns(tmp_path: Path) -> None:
    names = [
        "a[1].exe",
        "b*.exe",
        "${x}.exe",
        "[x]/q?.exe",
        "d & <e>.exe",
        "no extension",
        "ä\u00a0ö.exe",
    ]
    files = dict.fromkeys(names, PROGRAM) | {"x.exe": b"no program"}
    text = proposed(archive(files), tmp_path)
    made = planned(archive(files), document(text), tmp_path)
    assert {node.member for node in made.root.children} == set(names)


def document(text: str) -> str:
    namespace = "http://signpath.io/artifact-configuration/v1"
    return f'<artifact-configuration xmlns="{namespace}">{text}</artifact-configuration>'


def test_names_that_cannot_be_written(tmp_path: Path) -> None:
    files = {"a\ufffe.exe": PROGRAM, "x--y.exe": stranger(), "b.exe": PROGRAM}
    text = proposed(archive(files), tmp_path)
    assert "a?.exe cannot be named in a configuration" in text
    assert "x- -y.exe is signed by CN=Stranger,O=Sealwright tests, but not trusted" in text
    assert text.count("<pe-file") == 1


def test_without_roots_signers_are_not_judged(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 30)
    source = io.BytesIO(archive({"a.exe": stranger()}))
    text = analyze(source, "a.zip", spool, trust=trust(judges_chains=False))
    assert "<authenticode-verify/>" in text


def test_broken_signatures(tmp_path: Path) -> None:
    broken = bytearray(published())
    broken[5000] ^= 1
    text = proposed(archive({"a.exe": bytes(broken)}), tmp_path)
    assert "<!-- Its present signature does not verify: " in text
    assert "<authenticode-sign/>" in text


def test_what_cannot_be_signed_is_not_proposed(tmp_path: Path) -> None:
    """A program that was cut off, and scripts and lists that only look like such."""
    whole = pe_images.image(overlay=b"debug")
    content = archive({"a.exe": whole, "cut.exe": whole[:700], "b.wsf": b"<package/>"})
    text = proposed(content, tmp_path)
    assert "<!-- cut.exe cannot be signed: The file is cut off: " in text
    assert "<!-- b.wsf cannot be signed: The script has no </job>" in text
    assert 'path="a.exe"' in text
    with pytest.raises(ArtifactError, match="The sample cannot be signed: The file is cut off"):
        proposed(whole[:700], tmp_path, "cut.exe")


def test_nested_containers(tmp_path: Path) -> None:
    cabinet = build([Folder([File(b"x\\app.exe", PROGRAM), File(b"text", b"text")])])
    package = archive({"a.nuspec": b"<package/>", "lib/a.dll": PROGRAM})
    files = {
        "setup.cab": cabinet,
        "inner.zip": archive({"deep.zip": archive({"p.exe": PROGRAM}), "n.txt": b""}),
        "empty.zip": archive({"n.txt": b""}),
        "libs/a.jar": archive({"A.class": b"\xca\xfe"}),
        "libs/b.jar": archive({"B.class": b"\xca\xfe"}),
        "signed.jar": sign_jar(archive({"B.class": b"\xca\xfe"})),
        "a.nupkg": package,
        "broken.zip": b"PK\x03\x04 and no more",
    }
    text = proposed(archive(files), tmp_path)
    assert (
        '<include path="libs/*.jar"' not in text.replace("libs/*.jar", "", 0) or "jar-sign" in text
    )
    for part in (
        '<cab-file path="setup.cab">',
        '<pe-file path="x/app.exe" product-name="Simple Launcher">',
        '<zip-file path="deep.zip">',
        '<nupkg-file path="a.nupkg">',
        "<nuget-sign/>",
        '<include path="libs/*.jar" max-matches="unbounded"/>',
        "<!-- signed.jar is signed by CN=Signer",
        "<!-- broken.zip cannot be read: ",
    ):
        assert part in text
    assert "empty.zip" not in text


def test_a_package_that_is_signed_anew(tmp_path: Path) -> None:
    signed = sign_jar(archive({"B.class": b"\xca\xfe", "native/a.dll": PROGRAM}))
    text = proposed(signed, tmp_path, "a.jar")
    assert "this replaces the signature" in text
    assert "<jar-sign/>" in text
    with pytest.raises(ArtifactError, match="The sample is signed by"):
        proposed(signed, tmp_path, "a.zip")


def test_a_package_whose_signature_cannot_be_read(tmp_path: Path) -> None:
    """So are those that jarsigner made before JDK 16."""
    signed = io.BytesIO(sign_jar(archive({"B.class": b"\xca\xfe"})))
    with zipfile.ZipFile(signed) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    [block] = [name for name in files if name.endswith((".EC", ".RSA"))]
    text = proposed(archive(files | {block: b"\x30\x00"}), tmp_path, "a.jar")
    assert "does not verify: The signature block cannot be read" in text
    assert "<jar-sign/>" in text


def test_nothing_to_sign(tmp_path: Path) -> None:
    for content in (b"", b"text", archive({"a.txt": b"text"})):
        with pytest.raises(ArtifactError, match="Nothing in it") as caught:
            proposed(content, tmp_path)
        assert "ZIP archive" in caught.value.advice


def test_why_nothing_in_it_can_be_signed(tmp_path: Path) -> None:
    sample = io.BytesIO(archive({"a.txt": b"text", "b.exe": published()}))
    doubtful = Trust((), (), int(time.time()))
    with pytest.raises(ArtifactError, match=r"signed\. b\.exe is signed by .*, but not trusted"):
        analyze(sample, "a.zip", Spool(tmp_path, 1 << 30), trust=doubtful)


def test_a_cabinet_that_can_be_opened_but_not_signed(tmp_path: Path) -> None:
    cabinet = build([Folder([File(b"a.exe", PROGRAM)])], Fields(reserve=b"of others"))
    text = proposed(archive({"a.cab": cabinet}), tmp_path)
    assert "<!-- It cannot be signed itself: The cabinet has reserved areas" in text
    assert text.count("<authenticode-sign/>") == 1
    plain = build([Folder([File(b"a.txt", b"text")])], Fields(reserve=b"of others"))
    with pytest.raises(ArtifactError, match="Nothing in it"):
        proposed(plain, tmp_path, "a.cab")


def test_limits(tmp_path: Path) -> None:
    nested = archive({"b.zip": archive({"c.zip": archive({"d.exe": PROGRAM}), "e.exe": PROGRAM})})
    source, spool = io.BytesIO(nested), Spool(tmp_path, 1 << 30)
    text = analyze(source, "a.zip", spool, trust=trust(), limits=Limits(depth=2))
    assert "c.zip" not in text
    assert "e.exe" in text
    many = io.BytesIO(archive({str(number): b"" for number in range(9)}))
    with pytest.raises(ArtifactError, match="members"):
        analyze(many, "a.zip", spool, trust=trust(), limits=Limits(members=8))
    large = io.BytesIO(archive({"a.exe": PROGRAM}))
    with pytest.raises(ArtifactError, match=r"Nothing in it can be signed\. a\.exe cannot be read"):
        analyze(large, "a.zip", spool, trust=trust(), limits=Limits(member_size=9))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_proposed_is_accepted(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    contents = [PROGRAM, published(), SCRIPT, b"", b"text", b"MZ", b"MSCF"]

    def files(depth: int) -> Mapping[str, bytes]:
        made: dict[str, bytes] = {}
        for _ in range(rng.randrange(1, 12)):
            folder = "".join(rng.choice(["", "a/", "B/", "c d/", "[e]/"]) for _ in range(2))
            extension = rng.choice([".exe", ".DLL", ".dll", ".ps1", ".txt", "", ".tar.gz", ".jar"])
            path = f"{folder}{rng.randrange(30)}f{extension}"
            content = rng.choice(contents)
            if depth < 3 and rng.random() < 0.25:
                content = archive(files(depth + 1))
            if not any(path.lower() == other.lower() for other in made):
                made[path] = content
        return made

    content = archive({**files(1), "must-be.exe": PROGRAM})
    assert proposed(content, tmp_path)


@pytest.mark.parametrize(
    "name", ["VSIXProject1.vsix", "sample1.cab", "minimal.appxbundle", "App1_1.0.3.0_x64.appx",
             "minimal.msi", "wineyes.exe", "fbx64.efi", "hello.jar", "minimal.1.0.0.nupkg",
             "nuget.versioning.8.0.0.nupkg", "dummy.cab", "minimal.msix"],
)  # fmt: skip
def test_samples(name: str, tmp_path: Path) -> None:
    content = sample(name).read_bytes()
    unjudged = trust(judges_chains=False)
    text = analyze(io.BytesIO(content), name, Spool(tmp_path, 1 << 30), trust=unjudged)
    plan = build_plan(
        io.BytesIO(content),
        name,
        parse_configuration(text.encode()).resolve({}),
        signing_time=0,
        spool=Spool(tmp_path, 1 << 30),
        trust=unjudged,
    )
    assert plan.root.has_work or "verify" in text
