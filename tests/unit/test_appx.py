"""App packages and bundles; what others signed: see vectors/appx/README.md."""

from __future__ import annotations

import base64
import io
import random
import re
import zipfile
import zlib
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import app_packages, keys
from tests.app_packages import (
    BLOCK,
    bundle,
    check_block_map,
    deflate_blocks,
    package,
    publisher_of,
)
from tests.artifacts import launcher
from tests.artifacts_signed import sign_deeply
from tests.fakes.hostile_archives import Member, build
from tests.rebuilding import rebuild
from tests.toy import configuration

from sealwright.errors import (
    ArtifactConfigurationError,
    ArtifactError,
    SealwrightError,
    VerificationError,
)
from sealwright.signing import algorithms, appx_publisher, formats, strict_xml
from sealwright.signing.artifact import Directive
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.containers.appx import SIGNATURE, AppxContainer
from sealwright.signing.containers.appx_block_map import BlockMap
from sealwright.signing.containers.appx_old_blocks import OldBlocks
from sealwright.signing.containers.zip import NewMember, ZipContainer
from sealwright.signing.formats.appx import APPX
from sealwright.signing.formats.msix import MSIX
from sealwright.signing.x509 import Certificate

FOLDER = Path(__file__).resolve().parent.parent / "vectors" / "appx"
SIGNTOOL = (FOLDER / "signtool-sha256.msix").read_bytes()
SMALL = {"a.bin": b"text", "b c/é.bin": b"x" * 70_000, "e.bin": b""}


def signed(content: bytes, kind: str = "rsa-3072", **options: str) -> bytes:
    target = io.BytesIO()
    named = {name.replace("_", "-"): value for name, value in options.items()}
    directive = Directive("authenticode-sign", named)
    identity = keys.pki().identity(kind, 1_700_000_000)
    keys.drive(
        APPX.sign(io.BytesIO(content), directive, identity, target), keys.pki().leaf(kind).key
    )
    return target.getvalue()


def names(content: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return opened.namelist()


def rebuilt(content: bytes, changed: dict[str, bytes]) -> bytes:
    container, target = AppxContainer(io.BytesIO(content), 99), io.BytesIO()
    new = {container.by_path[path].order: io.BytesIO(each) for path, each in changed.items()}
    rebuild(container, target, new, shard=lambda: AppxContainer(io.BytesIO(content), 99))
    return target.getvalue()


RSA = publisher_of("rsa-3072")


@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
def test_signed_and_verified(hash_algorithm: str) -> None:
    before = package(SMALL, publisher=publisher_of("p256"), stored=frozenset({"a.bin"}))
    after = signed(before, "p256", hash_algorithm=hash_algorithm, timestamp="rfc3161")
    (fact,) = APPX.verify(io.BytesIO(after))
    assert (fact.format, fact.hash_algorithm) == ("authenticode", hash_algorithm)
    assert fact.signer == keys.pki().leaf("p256").der
    assert fact.timestamp_signer == keys.pki().tsa.der
    assert check_block_map(after) == hash_algorithm
    assert names(after)[-1] == SIGNATURE
    assert APPX.content_digest(io.BytesIO(after)) == APPX.content_digest(io.BytesIO(before))
    with zipfile.ZipFile(io.BytesIO(after)) as opened:
        assert b'PartName="/AppxSignature.p7x"' in opened.read("[Content_Types].xml")
        assert opened.read(SIGNATURE)[:4] == b"PKCX"


def test_signing_again_replaces_and_repeating_gives_the_same_bytes() -> None:
    before = package(SMALL, publisher=RSA)
    once = signed(before, hash_algorithm="sha512")
    again = signed(once, hash_algorithm="sha512")
    assert again == once == signed(before, hash_algorithm="sha512")
    assert names(again).count(SIGNATURE) == 1
    other = signed(again, hash_algorithm="sha256")
    assert APPX.verify(io.BytesIO(other))[0].hash_algorithm == check_block_map(other) == "sha256"


def test_unchanged_members_are_the_same_bytes() -> None:
    before = package(SMALL, publisher=RSA)
    container, old = io.BytesIO(signed(before)), ZipContainer(io.BytesIO(before), 99)
    new = ZipContainer(container, 99)
    after = {entry.path: new.fingerprint(entry) for entry in new.entries()}
    kept = {entry.path: old.fingerprint(entry) for entry in old.entries()}
    assert {path for path in kept if after[path] != kept[path]} == {"[Content_Types].xml"}


@settings(max_examples=12, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,3}(/[a-zé %&+]{1,8})?\.bin", fullmatch=True),
        st.tuples(st.sampled_from([0, 1, 100, 65_535, 65_536, 65_537, 200_000]), st.booleans()),
        max_size=5,
    ),
    st.sampled_from(algorithms.HASH_ALGORITHMS),
)
def test_any_package_is_signed_deeply(content: dict[str, tuple[int, bool]], method: str) -> None:
    rng = random.Random(1)
    files = {path: rng.randbytes(size // 2) + bytes(size - size // 2)
             for path, (size, _) in content.items()}  # fmt: skip
    stored = frozenset(path for path, (_, is_stored) in content.items() if is_stored)
    before = package(files, publisher=RSA, stored=stored, method=method)
    check_block_map(before)
    container = AppxContainer(io.BytesIO(before), 99)
    changed = {
        entry.order: io.BytesIO(rng.randbytes(150_000) + b"new")
        for path, entry in container.by_path.items()
        if path in files and entry.order % 2
    }
    rebuilt = io.BytesIO()
    rebuild(container, rebuilt, changed, shard=lambda: AppxContainer(io.BytesIO(before), 99))
    assert check_block_map(rebuilt.getvalue()) == method
    alone = io.BytesIO()
    rebuild(container, alone, changed)
    assert alone.getvalue() == rebuilt.getvalue()
    after = signed(rebuilt.getvalue(), hash_algorithm=method)
    assert check_block_map(after) == method
    assert len(APPX.verify(io.BytesIO(after))) == 1


def test_blocks_between_changes_keep_their_bytes() -> None:
    rng = random.Random(3)
    old = b"".join(bytes(rng.choices(b"abcdefgh", k=65_536)) for _ in range(5))
    content = package({"app.exe": old, "b": b"b"}, publisher=RSA)
    blocks, sizes = deflate_blocks(old)
    ends = list(accumulate(sizes))
    kept = blocks[ends[0] : ends[-2]]
    new = b"header" + old[6:-9] + b"signature" * 3
    again = rebuilt(content, {"app.exe": new})
    assert kept in again
    assert blocks[: ends[0]] not in again
    assert check_block_map(again) == "sha256"
    assert rebuilt(content, {"app.exe": new}) == again


@pytest.mark.parametrize(
    "flush", [zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH, zlib.Z_FINISH], ids=["kept", "open", "end"]
)
def test_only_old_blocks_that_can_be_followed_are_kept(flush: int) -> None:
    old = random.Random(4).randbytes(40_000) + bytes(BLOCK - 40_000)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(old) + packer.flush(flush)
    rows = [Member(b"a", old, raw=block + b"\x03\x00" * (flush != zlib.Z_FINISH))]
    archive = io.BytesIO(build(rows))
    document = (
        '<BlockMap xmlns="http://schemas.microsoft.com/appx/2010/blockmap" '
        'HashMethod="http://www.w3.org/2001/04/xmlenc#sha256">'
        f'<File Name="a" Size="{len(old)}"><Block Size="{len(block)}"/></File></BlockMap>'
    )
    listed = BlockMap(strict_xml.parse(document.encode(), "map", 1000))
    container = ZipContainer(archive, 1)
    blocks = OldBlocks(archive, container, listed, {"a": next(container.entries())})
    assert blocks.find(0, 0, old) == (block if flush == zlib.Z_FULL_FLUSH else b"")
    for order, number, content in ((0, 0, old[1:]), (0, 1, old), (1, 0, old)):
        assert not blocks.find(order, number, content)


# --- refusing -----------------------------------------------------------------------------------


def test_every_changed_byte_is_refused() -> None:
    content = signed(package({"a.bin": b"text"}, publisher=RSA))
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        info, signature = opened.getinfo(SIGNATURE), opened.read(SIGNATURE)
    own = range(info.header_offset, info.header_offset + 60 + info.compress_size)
    free = set(range(info.header_offset + 4, info.header_offset + 14))  # versions, times
    directory = content.rindex(b"PK\x01\x02")
    free |= set(range(directory + 4, directory + 42))
    for position in range(0, len(content), 3):
        changed = bytearray(content)
        changed[position] ^= 0x01
        try:
            assert APPX.verify(io.BytesIO(changed))
        except SealwrightError:
            continue
        # Nothing covers the record of the signature itself, whose data may also be ambiguous.
        with zipfile.ZipFile(io.BytesIO(changed)) as opened:
            same = opened.read(SIGNATURE) == signature
        assert position in free or (same and position in own), position


def refused(content: bytes) -> str:
    """Why it is not signed, once it was opened, or why it is not opened."""
    with pytest.raises(ArtifactError) as caught:
        signed(content)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'LfhSize="35"', b'LfhSize="36"', "local header"),
        (b'Size="4" ', b'Size="5" ', "size differs"),
        (b'Name="a.bin"', b'Name="b.bin"', "does not list the file"),
        (b'HashMethod="http', b'HashMethod="ftp', "HashMethod"),
        (b'Hash="', b'Hash="A', "digests differs"),
        (b"</BlockMap>", b'<File Name="z" Size="0" LfhSize="31"/></BlockMap>', "not there"),
        (b"</BlockMap>", b'<File Name="a.bin" Size="4" LfhSize="35"/></BlockMap>', "twice"),
        (b"<File ", b"<!--", "well-formed"),
        (b"?>", b"?><!DOCTYPE x [<!ENTITY a 'a'>]>", "document type"),
    ],
)
def test_a_wrong_block_map(old: bytes, new: bytes, why: str) -> None:
    whole = {"a.bin": b"text", "AppxManifest.xml": app_packages.manifest(RSA)}
    text = app_packages.block_map(whole, frozenset(), "sha256")
    assert old in text
    wrong = text.replace(old, new, 1)
    content = package({"a.bin": b"text"}, publisher=RSA, replaced={"AppxBlockMap.xml": wrong})
    assert why in refused(content)


@pytest.mark.parametrize("change", [-1, 1, 10**8])
def test_lying_block_sizes(change: int) -> None:
    files = {"a.bin": random.Random(2).randbytes(70_000)}
    whole = {**files, "AppxManifest.xml": app_packages.manifest(RSA)}
    text = app_packages.block_map(whole, frozenset(), "sha256").decode()
    sizes = iter([change, -change if change < 2 else 0])
    wrong = re.sub(
        r'(?<=" )Size="(\d+)"/>',
        lambda match: f'Size="{int(match[1]) + next(sizes, 0)}"/>',
        text,
    )
    assert wrong != text
    replaced = {"AppxBlockMap.xml": wrong.encode()}
    assert "in the blocks" in refused(package(files, publisher=RSA, replaced=replaced))


def test_digests_of_whole_files() -> None:
    """A later version of the block map has them for files of several blocks."""
    content = b"x" * 70_000
    whole = base64.b64encode(algorithms.digest("sha256", content)).decode()
    files = {"a.bin": content}
    text = app_packages.block_map(
        {**files, "AppxManifest.xml": app_packages.manifest(RSA)}, frozenset(), "sha256"
    )
    later = "http://schemas.microsoft.com/appx/2021/blockmap"
    row = f'<b4:FileHash xmlns:b4="{later}" Hash="{whole}"/></File>'.encode()
    replaced = {"AppxBlockMap.xml": text.replace(b"</File>", row, 1)}
    before = package(files, publisher=RSA, replaced=replaced)
    assert len(APPX.verify(io.BytesIO(signed(before, hash_algorithm="sha384")))) == 1
    container, rebuilt = AppxContainer(io.BytesIO(before), 9), io.BytesIO()
    order = container.by_path["a.bin"].order
    rebuild(container, rebuilt, {order: io.BytesIO(b"y" * 80_000)})
    assert len(APPX.verify(io.BytesIO(signed(rebuilt.getvalue())))) == 1
    wrong = {"AppxBlockMap.xml": replaced["AppxBlockMap.xml"].replace(whole.encode(), b"AAAA")}
    assert "digest differs" in refused(package(files, publisher=RSA, replaced=wrong))


def test_manifests_behind_what_they_are_about() -> None:
    """Rebuilding needs the block map behind the files; packers put it there."""
    files = {"a.bin": b"text", "AppxManifest.xml": app_packages.manifest(RSA)}
    block_map = app_packages.block_map(files, frozenset(), "sha256")
    content = app_packages.archive(
        {"AppxBlockMap.xml": block_map, **files, "[Content_Types].xml": app_packages.TYPES},
        frozenset(),
    )
    assert len(APPX.verify(io.BytesIO(signed(content)))) == 1
    container = AppxContainer(io.BytesIO(content), 9)
    changed = {container.by_path["a.bin"].order: io.BytesIO(b"new")}
    with pytest.raises(ArtifactError, match="in front of"):
        rebuild(container, io.BytesIO(), changed)


def test_blocks_that_refer_back_are_refused() -> None:
    content = b"a phrase that comes again" * 6000
    good = package({"a.bin": content}, publisher=RSA)
    with zipfile.ZipFile(io.BytesIO(good)) as opened:
        rows = [Member(name.encode(), opened.read(name)) for name in opened.namelist()]
    assert "in the blocks" in refused(build(rows))  # deflated as one stream


def test_missing_and_double_members() -> None:
    for path in ("AppxManifest.xml", "AppxBlockMap.xml", "[Content_Types].xml"):
        content = package({"a.bin": b""}, publisher=RSA, replaced={path: None})
        assert f"does not have {'one of ' * (path == 'AppxManifest.xml')}{path}" in refused(content)
    for extra in ("a%2Ebin", "x/%2e%2e/y", "x%2Fy", "a%5Cb", "%FF"):
        content = package({"a.bin": b""}, publisher=RSA)
        target = io.BytesIO()
        ZipContainer(io.BytesIO(content), 9).rewrite(target, (), last=[NewMember(extra, b"")])
        assert "member" in refused(target.getvalue())
    target = io.BytesIO()
    ZipContainer(io.BytesIO(signed(package({}, publisher=RSA))), 9).rewrite(
        target, (), last=[NewMember("more.bin", b"")]
    )
    with pytest.raises(VerificationError, match="last member"):
        APPX.verify(target)


def test_encrypted_and_other_files() -> None:
    for magic in (b"EXPH", b"EXBH"):
        assert APPX.recognize(io.BytesIO(magic + bytes(100)))
        assert "encrypted" in refused(magic + bytes(100))
    assert not APPX.recognize(io.BytesIO(b"MZ"))
    assert not MSIX.recognize(io.BytesIO(build([Member(b"AppxManifest.xml", b"")])))
    assert formats.recognize(io.BytesIO(SIGNTOOL)) is APPX
    with pytest.raises(ArtifactConfigurationError):
        APPX.sign(io.BytesIO(), Directive("jar-sign"), keys.pki().identity(), io.BytesIO())
    with pytest.raises(ArtifactConfigurationError, match="append"):
        parse_configuration(
            configuration('<msix-file><authenticode-sign append="true"/></msix-file>')
        )


def test_xml_bombs_are_refused() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;">]><Types>&b;</Types>'
    wide = "<?xml version='1.0' encoding='utf-16'?><!DOCTYPE a []><a/>".encode("utf-16")
    deep = b"<a>" * 5000 + b"</a>" * 5000
    many = b"<a>" + b"<b/>" * 2_500_000 + b"</a>"
    with pytest.raises(ArtifactError, match="more elements"):
        strict_xml.parse(many, "", len(many))
    for each in (bomb, wide, deep, b"", b"\xff", b"<?xml version='1.0' encoding='none'?><a/>"):
        for path in ("AppxManifest.xml", "[Content_Types].xml", "AppxBlockMap.xml"):
            files = {"AppxManifest.xml": each} if path == "AppxManifest.xml" else {}
            text = app_packages.block_map(files, frozenset(), "sha256")
            replaced = {"AppxBlockMap.xml": text} if files else {}
            content = package({}, publisher=RSA, replaced={**replaced, path: each})
            assert path in refused(content)


# --- publisher ----------------------------------------------------------------------------------


def test_the_publisher_must_be_the_subject() -> None:
    why = refused(package({}, publisher="CN=Somebody else, C=US"))
    assert '"CN=Somebody else, C=US"' in why
    assert f'"{RSA}"' in why
    for wrong in ("O=Sealwright tests, CN=Signer rsa-3072", "CN=Signer rsa-3072"):
        assert "publisher" in refused(package({}, publisher=wrong))
    for text in ("nobody", "", "CN=a,,O=b", "CN", "X=1", "CN=a; O=b", "CN=&lt;a"):
        assert "distinguished name" in refused(package({}, publisher=text))


def test_another_signer_than_the_publisher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(appx_publisher, "is_publisher", lambda *_: True)
        content = signed(package({}, publisher=RSA), "p256")
    with pytest.raises(VerificationError, match="publisher in the manifest"):
        APPX.verify(io.BytesIO(content))


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ([("2.5.4.6", "US"), ("2.5.4.10", "A, B"), ("2.5.4.3", "C")], 'CN=C, O="A, B", C=US'),
        ([("2.5.4.8", "S"), ("2.5.4.3", 'say "x"')], 'CN="say ""x""", S=S'),
        ([("1.2.3.4", "x"), ("2.5.4.17", "1")], "PostalCode=1, OID.1.2.3.4=x"),
        ([("2.5.4.10", "O=O"), ("2.5.4.3", "é")], 'CN=é, O="O=O"'),
        ([("2.5.4.3", " a ")], 'CN=" a "'),
    ],
)  # fmt: skip
def test_names_as_windows_writes_them(attributes: list[tuple[str, str]], text: str) -> None:
    certificate = Certificate.parse(keys.named(attributes).der)
    assert appx_publisher.subject_text(certificate) == text
    assert appx_publisher.is_publisher(text, certificate)
    assert '"' in text or appx_publisher.is_publisher(text.replace(", ", ","), certificate)
    assert not appx_publisher.is_publisher(text + ", CN=x", certificate)


# --- what others made ---------------------------------------------------------------------------


def test_what_signtool_signed() -> None:
    (fact,) = MSIX.verify(io.BytesIO(SIGNTOOL))
    assert fact.hash_algorithm == "sha256"
    for position in range(0, len(SIGNTOOL), 401):
        changed = bytearray(SIGNTOOL)
        changed[position] ^= 0x40
        try:
            MSIX.verify(io.BytesIO(changed))
        except SealwrightError:
            continue
        pytest.fail(f"a change at {position} was not found")


# --- through the engine -------------------------------------------------------------------------


def inner() -> bytes:
    return package({"app.exe": launcher().read_bytes(), "a.bin": b"x"}, publisher=RSA)


def test_a_package_is_signed_deeply(tmp_path: Path) -> None:
    body = (
        '<appx-file><pe-file path="app.exe"><authenticode-sign/></pe-file>'
        '<authenticode-sign hash-algorithm="sha384"/></appx-file>'
    )
    output, found = sign_deeply(inner(), body, tmp_path)
    assert [each.path for each in found] == ["artifact!/app.exe", "artifact"]
    assert check_block_map(output) == "sha384"
    assert {one.path: one.change for one in found[1].members} == {
        "AppxSignature.p7x": "added",
        "AppxBlockMap.xml": "changed",
        "[Content_Types].xml": "changed",
    }
    again, _ = sign_deeply(output, body, tmp_path)
    assert len(APPX.verify(io.BytesIO(again))) == 1


def test_a_bundle_is_signed_deeply(tmp_path: Path) -> None:
    body = (
        '<zip-file><msix-file path="a.msixbundle"><appx-file path="a.appx">'
        '<pe-file path="app.exe"><authenticode-sign/></pe-file><authenticode-sign/></appx-file>'
        '<appx-file path="b.appx"><authenticode-sign/></appx-file><authenticode-sign/></msix-file>'
        "</zip-file>"
    )
    made = bundle(
        {"a.appx": inner(), "b.appx": package({"x.bin": b""}, publisher=RSA)}, publisher=RSA
    )
    check_block_map(made)
    output, found = sign_deeply(build([Member(b"a.msixbundle", made)]), body, tmp_path)
    assert len(found) == 4
    with zipfile.ZipFile(io.BytesIO(output)) as opened:
        content = opened.read("a.msixbundle")
    assert check_block_map(content) == "sha256"
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        for name in ("a.appx", "b.appx"):
            assert check_block_map(opened.read(name)) == "sha256"
    assert "lie in the bundle" in refused(_with_moved_package(made))


def _with_moved_package(content: bytes) -> bytes:
    """The bundle with something in front that its manifest does not know of."""
    target = io.BytesIO()
    ZipContainer(io.BytesIO(content), 99).rewrite(target, (), first=[NewMember("0.bin", b"")])
    return target.getvalue()


def test_members_of_the_signature_cannot_be_signed(tmp_path: Path) -> None:
    sign = "<create-cms-signature output-file-name='x'/>"
    for path in ("AppxBlockMap.xml", "[[]Content_Types].xml"):
        body = f'<appx-file><file path="{path}">{sign}</file><authenticode-sign/></appx-file>'
        with pytest.raises(ArtifactError, match="belongs to the signature"):
            sign_deeply(inner(), body, tmp_path)
    body = f'<appx-file><file path="a.bin">{sign}</file><authenticode-sign/></appx-file>'
    with pytest.raises(ArtifactError, match="No file can be added"):
        sign_deeply(inner(), body, tmp_path)


@pytest.mark.parametrize("element", ["msix-file", "zip-file"])
def test_a_signed_package_is_not_repacked(element: str, tmp_path: Path) -> None:
    body = f'<{element}><pe-file path="app.exe"><authenticode-sign/></pe-file></{element}>'
    with pytest.raises(ArtifactError, match="signed already"):
        sign_deeply(signed(inner()), body, tmp_path)


def test_the_code_integrity_catalog_is_covered(tmp_path: Path) -> None:
    catalog = (FOLDER.parent / "catalog" / "unsigned.cat").read_bytes()
    path = "AppxMetadata/CodeIntegrity.cat"
    target = io.BytesIO()
    ZipContainer(io.BytesIO(inner()), 9).rewrite(target, (), last=[NewMember(path, catalog)])
    body = (
        f'<msix-file><catalog-file path="{path}"><authenticode-sign/></catalog-file>'
        "<authenticode-sign/></msix-file>"
    )
    output, found = sign_deeply(target.getvalue(), body, tmp_path)
    assert [each.path for each in found] == [f"artifact!/{path}", "artifact"]
    check_block_map(output)
    position = _position_of(output, path)
    changed = bytearray(output)
    changed[position] ^= 1
    with pytest.raises(SealwrightError):
        APPX.verify(io.BytesIO(changed))


def _position_of(content: bytes, path: str) -> int:
    container = AppxContainer(io.BytesIO(content), 99)
    return container.zip.extent(container.by_path[path]).data + 20


def hostile() -> Iterator[bytes]:
    good = signed(package({"a.bin": b"text"}, publisher=RSA))
    rng = random.Random(5)
    for _ in range(150):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.getrandbits(8)
        yield bytes(data)
    for length in range(0, len(good), 211):
        yield good[:length]


def test_hostile_packages_raise_nothing_else() -> None:
    for content in hostile():
        try:
            APPX.verify(io.BytesIO(content))
        except SealwrightError:
            continue
