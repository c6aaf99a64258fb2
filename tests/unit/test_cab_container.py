"""Cabinets as containers: reading, rebuilding, and refusing."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import keys
from tests.artifacts import launcher
from tests.artifacts_signed import sign_deeply
from tests.fakes.cabinets import (
    BLOCK,
    LZX,
    MSZIP,
    QUANTUM,
    STORED,
    Fields,
    File,
    Folder,
    build,
    compress,
)
from tests.rebuilding import rebuild
from tests.shared import sample
from tests.unit.test_cab import sign as sign_whole

from sealwright.errors import ArtifactError, SealwrightError
from sealwright.signing.containers import cab_layout, mszip
from sealwright.signing.containers.cab import Cabinet
from sealwright.signing.containers.cab_container import CabContainer
from sealwright.signing.containers.cab_data import FolderReader
from sealwright.signing.formats import cab, pe

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "cab"
NOISE = random.Random(5).randbytes(3 * BLOCK)
TEXT = b"".join(b"line %d of a text\n" % number for number in range(9000))
BASIC = build(
    [
        Folder([File(b"a\\one.txt", TEXT), File(b"two.bin", NOISE), File(b"empty")]),
        Folder([File(b"three", b"3" * BLOCK), File(b"four", TEXT)], STORED),
        Folder([File("fünf".encode(), b"5", attributes=0xA0), File(b"f\xfcnf2", b"55")]),
    ]
)


def opened(content: bytes) -> CabContainer:
    return CabContainer(io.BytesIO(content), 1000)


def contents(content: bytes) -> dict[str, bytes]:
    container = opened(content)
    found = {}
    for entry in container.entries():
        target = io.BytesIO()
        container.extract(entry, target)
        found[entry.path] = target.getvalue()
    return found


def rebuilt(
    content: bytes, changed: dict[int, bytes], added: dict[str, bytes] | None = None
) -> bytes:
    target = io.BytesIO()
    streams = {order: io.BytesIO(new) for order, new in changed.items()}
    rebuild(opened(content), target, streams, added)
    return target.getvalue()


def folder_data(content: bytes) -> list[bytes]:
    cabinet = Cabinet(io.BytesIO(content), 1000)
    return [content[each.data : each.end] for each in cabinet._folders]


def test_reading() -> None:
    assert contents(BASIC) == {
        "a/one.txt": TEXT,
        "two.bin": NOISE,
        "empty": b"",
        "three": b"3" * BLOCK,
        "four": TEXT,
        "fünf": b"5",
        "fünf2": b"55",
    }
    assert [entry.order for entry in opened(BASIC).entries()] == list(range(7))


def test_reading_in_any_order() -> None:
    container = opened(BASIC)
    entries = list(container.entries())
    for entry in [*reversed(entries), *entries, entries[1], entries[1]]:
        target = io.BytesIO()
        container.extract(entry, target)
        assert len(target.getvalue()) == entry.size


def test_the_list_of_files_may_be_in_another_order() -> None:
    shuffled = build([Folder([File(b"a", TEXT), File(b"b", NOISE)])], Fields(order=(1, 0)))
    assert list(contents(shuffled)) == ["a", "b"]
    assert rebuilt(shuffled, {}) == shuffled
    changed = rebuilt(shuffled, {0: b"new"})
    assert contents(changed) == {"a": b"new", "b": NOISE}
    assert changed.index(b"b\0") < changed.index(b"a\0")


def test_nothing_changed_is_the_same_file() -> None:
    assert rebuilt(BASIC, {}) == BASIC


def test_only_the_folder_of_a_changed_file_is_written_anew() -> None:
    changed = rebuilt(BASIC, {0: b"new" * 40_000})
    assert contents(changed) == contents(BASIC) | {"a/one.txt": b"new" * 40_000}
    before, after = folder_data(BASIC), folder_data(changed)
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, True]
    assert rebuilt(BASIC, {0: b"new" * 40_000}) == changed


def test_large_changed_files_get_a_folder_of_their_own() -> None:
    content = build(
        [Folder([File(b"%d" % number, TEXT if number % 2 else b"") for number in range(8)])]
    )
    changed = rebuilt(content, {1: NOISE * 2, 4: b"4", 5: NOISE * 3})
    cabinet = Cabinet(io.BytesIO(changed), 1000)
    assert [member.folder for member in cabinet.members] == [0, 0, 0, 1, 1, 2, 2, 3]
    assert contents(changed) == contents(content) | {"1": NOISE * 2, "4": b"4", "5": NOISE * 3}
    assert [member.order for member in cabinet.members] == list(range(8))


def records(content: bytes) -> list[list[bytes]]:
    """The CFDATA of each folder."""
    found: list[list[bytes]] = []
    for data in folder_data(content):
        found.append([])
        at = 0
        while at < len(data):
            end = at + 8 + int.from_bytes(data[at + 4 : at + 6], "little")
            found[-1].append(data[at:end])
            at = end
    return found


def test_what_a_large_changed_file_shares_with_its_old_version_keeps_its_blocks() -> None:
    files = [File(b"a", TEXT[:5000]), File(b"b", TEXT + NOISE), File(b"c", NOISE + TEXT)]
    content = build([Folder(files)])
    new = b"header" + (TEXT + NOISE)[6:] + b"signature" * 900
    changed = rebuilt(content, {1: new})
    assert contents(changed) == contents(content) | {"b": new}
    [before], after = records(content), records(changed)
    # the first has another content, the second can refer to it; the last holds the next file
    last = (5000 + len(TEXT + NOISE)) // BLOCK
    assert after[1][2:last] == before[2:last]
    # of the files behind it, all but the block that held its end, the next and the last
    assert after[2][2:] == before[last + 2 :]
    leads = [folder.lead for folder in Cabinet(io.BytesIO(changed), 10)._folders]
    assert leads == [0, 5000, (5000 + len(TEXT + NOISE)) % BLOCK]
    # signed again, nothing but the end changes
    again = rebuilt(changed, {1: new + b"!"})
    assert records(again)[1][:-1] == after[1][:-1]
    assert records(again)[2] == after[2]


def test_looking_for_old_blocks_decompresses_each_folder_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    big = TEXT + NOISE
    content = build([Folder([File(b"%d%d" % (n, m), big) for m in range(3)]) for n in range(2)])
    container, passes = opened(content), []
    pass_over = FolderReader.pass_over

    def counted(reader: FolderReader) -> None:
        passes.append(reader)
        pass_over(reader)

    monkeypatch.setattr(FolderReader, "pass_over", counted)
    for order in (5, 0, 4, 1, 3, 2):  # as signatures may come back
        container.pack(order, io.BytesIO(big + b"signed"), io.BytesIO())
    assert len(passes) == 2


def followed(before: bytes, after: bytes) -> dict[str, bytes]:
    """What `contents` gives for `after`, each file read behind its old version."""
    old, new = opened(before), opened(after)
    new.follow(old)
    found = {}
    for entry, twin in zip(new.entries(), old.entries(), strict=True):
        old.extract(twin, io.BytesIO())
        target = io.BytesIO()
        new.extract(entry, target)
        found[entry.path] = target.getvalue()
    return found


def test_blocks_in_common_are_decompressed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [File(b"a", TEXT[:5000]), File(b"b", TEXT + NOISE), File(b"c", NOISE + TEXT)]
    before = build([Folder(files)])
    new = b"header" + (TEXT + NOISE)[6:] + b"signature" * 900
    after = rebuilt(before, {1: new})
    decompress, inflated = mszip.decompress_block, []

    def counted(block: bytes, size: int, history: bytes) -> bytes:
        inflated.append(size)
        return decompress(block, size, history)

    monkeypatch.setattr(mszip, "decompress_block", counted)
    assert followed(before, after) == contents(before) | {"b": new}
    old, own = (sum(map(len, records(each))) for each in (before, after))
    assert len(inflated) < 2 * old + own // 2  # the old ones twice, by `contents` as well


def test_a_block_is_known_only_behind_the_same_content() -> None:
    """It refers to what is in front of it: the same bytes may mean something else."""
    one, other = (random.Random(seed).randbytes(BLOCK) for seed in (1, 2))
    rest = one[1000:] + bytes(1000)
    first, second = compress(one + rest, MSZIP)
    [changed] = compress(other, MSZIP)
    before = build([Folder([File(b"a", one + rest)])])
    after = build([Folder([File(b"a", one + rest)], blocks=[changed, second])])
    assert folder_data(after)[0].endswith(second[0])
    assert len(second[0]) < BLOCK // 8
    assert followed(before, after) == {"a": other + other[1000:] + bytes(1000)}
    damaged = build([Folder([File(b"a", one + rest)], blocks=[first, second], checksum=1)])
    with pytest.raises(ArtifactError, match="checksum"):
        followed(before, damaged)


@pytest.mark.parametrize("method", [STORED, LZX | 15 << 8])
def test_a_block_is_not_known_by_another_method(method: int) -> None:
    """The same bytes in a folder that says that they are compressed otherwise."""
    files = [File(b"a", TEXT)]
    after = build([Folder(files, method, blocks=compress(TEXT, MSZIP))])
    with pytest.raises(ArtifactError):
        followed(build([Folder(files)]), after)


def test_folders_in_common_are_compared_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    after = rebuilt(BASIC, {4: b"new"})
    old, new = opened(BASIC), opened(after)
    monkeypatch.setattr(mszip, "decompress_block", None)
    new.follow(old)
    for entry, twin in zip(new.entries(), old.entries(), strict=True):
        assert (new.fingerprint(entry) == old.fingerprint(twin)) is (entry.order != 4)
    moved = build([Folder([File(b"a", TEXT[1:]), File(b"b", TEXT[:1])])])
    same = build([Folder([File(b"a", TEXT), File(b"b")], blocks=compress(TEXT[1:] + TEXT[:1], 1))])
    monkeypatch.undo()
    old, new = opened(moved), opened(same)
    new.follow(old)
    for entry, twin in zip(new.entries(), old.entries(), strict=True):
        assert new.fingerprint(entry) != old.fingerprint(twin)


def test_files_behind_a_changed_one_keep_their_blocks() -> None:
    content = build([Folder([File(b"a", NOISE[:100]), File(b"b", TEXT), File(b"c", NOISE + TEXT)])])
    changed = rebuilt(content, {0: b"short"})
    assert contents(changed) == contents(content) | {"a": b"short"}
    assert records(changed)[1][2:] == records(content)[0][2:]


@pytest.mark.parametrize("kind", [STORED, MSZIP])
def test_the_order_of_packing_changes_nothing(kind: int) -> None:
    files = [File(b"%d" % number, TEXT[number:]) for number in range(6)]
    others = Folder([File(b"y", NOISE)], data_reserve=b"y")
    content = build([Folder(files, kind, data_reserve=b"x"), others])
    new = {1: NOISE * 2, 2: TEXT * 3, 4: b"short", 6: b""}
    container, parts, packed, places = opened(content), io.BytesIO(), {}, {}
    for order in (4, 2, 6, 1):
        places[order] = parts.tell()
        packed[order] = container.pack(order, io.BytesIO(new[order]), parts)
    assert [packed[order].size for order in sorted(new)] == [
        len(new[order]) for order in sorted(new)
    ]
    target = io.BytesIO()
    added = {"z": io.BytesIO(b"added")}
    container.rebuild(target, packed, lambda order: (parts, places[order]), added)
    assert target.getvalue() == rebuilt(content, new, {"z": b"added"})
    before = list(contents(content).items())
    after = {path: new.get(order, old) for order, (path, old) in enumerate(before)}
    assert contents(target.getvalue()) == after | {"z": b"added"}


def test_a_stored_folder_stays_stored() -> None:
    changed = rebuilt(BASIC, {4: NOISE + b"!"})
    assert contents(changed)["four"] == NOISE + b"!"
    cabinet = Cabinet(io.BytesIO(changed), 1000)
    assert [folder.kind for folder in cabinet._folders] == [MSZIP, STORED, MSZIP]


def test_fingerprints() -> None:
    changed = opened(rebuilt(BASIC, {1: b"new"}, {"sub/ö.sig": b"signature"}))
    before, after = opened(BASIC), changed
    assert before.fingerprint(None) == after.fingerprint(None)
    *kept, added = after.entries()
    for old, new in zip(before.entries(), kept, strict=True):
        same = old.order != 1
        assert (before.fingerprint(old) == after.fingerprint(new)) is same
        assert before.fingerprint(old, content=False) == after.fingerprint(new, content=False)
    assert (added.path, added.size) == ("sub/ö.sig", 9)
    assert after.fingerprint(added, content=False) == before.added_fingerprint("sub/ö.sig")


@pytest.mark.parametrize(
    "file",
    [
        File(b"a", b"1", attributes=0x21),
        File(b"A", b"1"),
        File(b"a", b"1", stamp=(0x58A6, 0x6001)),
        File(b"a", b"1", stamp=(0x58A5, 0x6000)),
    ],
)
def test_fingerprints_tell_attributes(file: File) -> None:
    (one, two) = (opened(build([Folder([each])])) for each in (File(b"a", b"1"), file))
    (first,), (second,) = one.entries(), two.entries()
    for content in (True, False):
        assert one.fingerprint(first, content=content) != two.fingerprint(second, content=content)


@pytest.mark.parametrize(
    ("folder", "fields"),
    [
        (Folder([File(b"a", b"1")], reserve=b"folder"), Fields()),
        (Folder([File(b"a", b"1")]), Fields(reserve=b"header")),
        (Folder([File(b"a", b"1")]), Fields(set_id=1)),
        (Folder([File(b"a", b"1")]), Fields(version=(2, 1))),
        (Folder([File(b"a", b"1")], data_reserve=b"d"), Fields()),
    ],
)
def test_reserved_areas_and_fields_are_kept(folder: Folder, fields: Fields) -> None:
    content = build([folder], fields)
    plain, odd = opened(build([Folder([File(b"a", b"1")])])), opened(content)
    (entry,) = odd.entries()
    changes = (plain.fingerprint(None), plain.fingerprint(entry, content=False))
    assert (odd.fingerprint(None), odd.fingerprint(entry, content=False)) != changes
    new = opened(rebuilt(content, {0: NOISE}))
    assert new.fingerprint(None) == odd.fingerprint(None)
    assert new.fingerprint(entry, content=False) == odd.fingerprint(entry, content=False)
    assert contents(rebuilt(content, {0: NOISE})) == {"a": NOISE}
    assert rebuilt(content, {}) == content


def test_blocks_keep_their_reserved_areas_as_long_as_they_are_the_same() -> None:
    marked = Folder([File(b"a", NOISE)], data_reserve=b"mark")
    content = build([marked, Folder([File(b"b", NOISE)], data_reserve=b"more")])
    assert contents(content) == {"a": NOISE, "b": NOISE}
    changed = rebuilt(content, {0: NOISE[:BLOCK] + NOISE})
    assert (changed.count(b"mark"), changed.count(b"more")) == (1, 3)


def test_long_folders_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cab_layout, "MAX_FOLDER", 4 * BLOCK)
    changed = rebuilt(BASIC, {0: NOISE, 2: TEXT[: 2 * BLOCK]}, {"x": b"x"})
    cabinet = Cabinet(io.BytesIO(changed), 1000)
    assert [member.folder for member in cabinet.members] == [0, 1, 2, 3, 3, 4, 4, 5]
    names = {"a/one.txt": NOISE, "empty": TEXT[: 2 * BLOCK], "x": b"x"}
    assert contents(changed) == contents(BASIC) | names
    before, after = opened(BASIC), opened(changed)
    for entry in before.entries():
        for content in (True, False)[entry.order in (0, 2) :]:
            same = before.fingerprint(entry, content=content)
            assert after.fingerprint(entry, content=content) == same
    with pytest.raises(ArtifactError, match="a cabinet holds"):
        rebuilt(BASIC, {0: bytes(5 * BLOCK)})


def test_names_of_an_installers_cabinet_are_keys() -> None:
    content = build([Folder([File(b"_A", b"1"), File(b"_a", b"2")])])
    cabinet = Cabinet(io.BytesIO(content), 10)
    assert [member.name for member in cabinet.members] == ["_A", "_a"]
    with pytest.raises(ArtifactError, match="the same to some systems"):
        opened(content)


def test_quantum_is_copied_but_not_read() -> None:
    files = [File(b"q", b"12345"), File(b"r", b"6")]
    odd = Folder(files, QUANTUM | 7 << 4, blocks=[(b"abc", 6)])
    content = build([odd, Folder([File(b"m", TEXT)])])
    container = opened(content)
    entry, *_ = container.entries()
    with pytest.raises(ArtifactError, match="Quantum") as caught:
        container.extract(entry, io.BytesIO())
    assert caught.value.where == "q"
    changed = rebuilt(content, {2: b"new"})
    assert folder_data(changed)[0] == folder_data(content)[0]
    assert opened(changed).fingerprint(entry) == container.fingerprint(entry)
    with pytest.raises(ArtifactError, match="Quantum"):
        rebuilt(content, {0: b"new"})


@pytest.mark.parametrize("name", ["gcab-blocks.cab", "gcab-stored.cab"])
def test_vectors(name: str) -> None:
    expected = json.loads((VECTORS / "expected.json").read_text(encoding="utf-8"))[name]
    content = (VECTORS / name).read_bytes()
    found = {path: hashlib.sha256(data).hexdigest() for path, data in contents(content).items()}
    assert found == expected["members"]
    assert rebuilt(content, {}) == content


# --- signing deeply -----------------------------------------------------------------------------

DEEP = (
    '<cab-file><pe-file path="bin/*.exe"><authenticode-sign/></pe-file>'
    "<authenticode-sign/></cab-file>"
)
PROGRAM = launcher().read_bytes()
PACKAGE = build([Folder([File(b"bin\\app.exe", PROGRAM), File(b"read.me", TEXT)])])


def test_deep_signing(tmp_path: Path) -> None:
    signed, found = sign_deeply(PACKAGE, DEEP, tmp_path)
    assert [each.path for each in found] == ["artifact!/bin/app.exe", "artifact"]
    assert len(cab.verify(io.BytesIO(signed))) == 1
    inside = contents(signed)
    assert inside["read.me"] == TEXT
    assert len(pe.verify(io.BytesIO(inside["bin/app.exe"]))) == 1
    assert sign_deeply(PACKAGE, DEEP, tmp_path)[0] == signed


def test_a_signed_cabinet_is_signed_deeply(tmp_path: Path) -> None:
    whole = sign_whole(PACKAGE)
    signed, _ = sign_deeply(whole, DEEP, tmp_path)
    (fact,) = cab.verify(io.BytesIO(signed))
    assert fact.signer == keys.pki().leaf("rsa-3072").der
    assert rebuilt(whole, {1: TEXT})[60:] != whole[60:]


def test_side_files(tmp_path: Path) -> None:
    body = (
        '<cab-file><file path="read.me"><create-raw-signature output-file-name="${file.name}.sig"/>'
        "</file></cab-file>"
    )
    signed, [found] = sign_deeply(PACKAGE, body, tmp_path)
    assert contents(signed).keys() == {"bin/app.exe", "read.me", "read.me.sig"}
    [member] = found.members
    assert (member.path, member.change) == ("read.me.sig", "added")
    assert member.size == len(contents(signed)["read.me.sig"])
    assert folder_data(signed)[0] == folder_data(PACKAGE)[0]


@pytest.mark.parametrize("name", ["dummy.cab", "sample1.cab", "sample3.cab", "sample4.cab"])
def test_real_cabinets(name: str) -> None:
    content = sample(name).read_bytes()
    assert rebuilt(content, {}) == content
    changed = rebuilt(content, {0: NOISE})
    inside = contents(content)
    assert contents(changed) == inside | {next(iter(inside)): NOISE}
    assert opened(changed).fingerprint(None) == opened(content).fingerprint(None)


# --- what is refused ----------------------------------------------------------------------------

A = File(b"a", TEXT)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a cabinet"),
        (BASIC[:40], "ends before|size"),
        (BASIC + b"x", "size"),
        (build([Folder([A])], Fields(flags=1)), "of a set"),
        (build([Folder([A])], Fields(flags=2)), "of a set"),
        (build([Folder([A])], Fields(number=1)), "of a set"),
        (build([Folder([A])], Fields(size=50)), "size"),
        (build([Folder([A])], Fields(files=45)), "list of files"),
        (build([Folder([A])], Fields(file_count=2)), "cut off"),
        (build([Folder([A, A])], Fields(file_count=1)), "between"),
        (build([Folder([A])], Fields(folder_count=0)), "does not follow"),
        (build([Folder([A])], Fields(folder_count=9999)), "does not follow"),
        (build([Folder([A, File(b"b")])], Fields(reserve=b"\0\0\x10\0" + bytes(12) + b"abcd")), ""),
        (build([Folder([A], data=0)]), "cut off|outside|impossible"),
        (build([Folder([A], data=0x7FFF_FFFF)]), "outside"),
        (build([Folder([A], gap=b"hidden")]), "between"),
        (build([Folder([A]), Folder([File(b"b", b"b")], gap=b"x")]), "other bytes"),
        (build([Folder([A], count=1)]), "longer or shorter|belong"),
        (build([Folder([A], count=0)]), "between|belong|cut off"),
        (build([Folder([A], count=0xFFFF)]), "more blocks|outside"),
        (build([Folder([A], method=4)]), "unknown compression"),
        (build([Folder([A], method=15)]), "unknown compression"),
        (build([Folder([File(b"a", TEXT, folder=1)])]), "not there"),
        (build([Folder([File(b"a", TEXT, folder=0xFFFD)])]), "not there"),
        (build([Folder([File(b"a", TEXT, folder=0xFFFF)])]), "not there"),
        (build([Folder([File(b"a", TEXT, size=len(TEXT) + 1)])]), "longer or shorter"),
        (build([Folder([File(b"a", TEXT, size=0)])]), "longer or shorter"),
        (build([Folder([File(b"a", TEXT, size=0xFFFF_FFFF)])]), "longer or shorter"),
        (build([Folder([File(b"a", TEXT, offset=1)])]), "longer or shorter"),
        (build([Folder([File(b"a", TEXT, offset=BLOCK)])]), "overlaps"),
        (build([Folder([File(b"a", offset=5)], blocks=compress(bytes(5), MSZIP))]), "longer or"),
        (build([Folder([File(b"a", b"1", offset=4)], QUANTUM, blocks=[(b"q", 5)])]), "overlaps"),
        (build([Folder([A, File(b"b", TEXT, offset=len(TEXT) + 1)])]), "overlaps"),
        (build([Folder([A, File(b"b", TEXT, offset=5)])]), "overlaps"),
        (build([Folder([A, File(b"b", b"", offset=5)])]), "overlaps"),
        (build([Folder([A, A])]), "have this name"),
        (build([Folder([A, File(b"A", b"")])]), "the same to some systems"),
        (build([Folder([A, File(b"A\\b", b"")])]), "file and a directory"),
        (build([Folder([File(b"x/y"), File(b"x\\y")])]), "the same to some systems"),
        (build([Folder([File(b"a" * 256)])]), "too long"),
        (build([Folder([File(b"\xff", attributes=0x80)])]), "encoding"),
        (build([Folder([File(b"\x81")])]), "encoding"),
        (build([Folder([File(b"a", b"1")], blocks=[(b"", 1)])]), "impossible"),
        (build([Folder([File(b"a", b"1")], blocks=[(b"x", 0)])]), "impossible"),
        (build([Folder([File(b"a", bytes(2))], STORED, blocks=[(b"x", 1)] * 2)]), "too short"),
        (build([Folder([File(b"a", bytes(32769))], STORED, blocks=[(b"x", 32769)])]), "impossible"),
    ],
)
def test_odd_cabinets_are_refused(content: bytes, reason: str) -> None:
    if not reason:
        assert contents(content)["a"] == TEXT
        return
    with pytest.raises(ArtifactError, match=reason):
        opened(content)


@pytest.mark.parametrize(
    "name",
    [
        b"..\\a",
        b"\\a",
        b"/a",
        b"c:\\a",
        b"C:a",
        b"a\\..\\b",
        b"a\\\\b",
        b".\\a",
        b"a\\",
        b"",
        b"a\nb",
    ],
)
def test_unsafe_names_are_refused(name: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"path|separator"):
        opened(build([Folder([File(name, b"x")])]))


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        (Folder([A], checksum=1), "checksum"),
        (Folder([File(b"a", b"123")], blocks=[(b"123", 3)]), "MSZIP mark"),
        (Folder([File(b"a", b"123")], blocks=[(b"CK\x07", 3)]), "malformed"),
        (Folder([File(b"a", b"123")], blocks=[(b"CK\x03\x00", 3)]), "longer or shorter"),
        (Folder([File(b"a", b"123")], blocks=[(b"CK\x01\x03\x00\xfc\xff123+", 3)]), "shorter"),
        (Folder([File(b"a", b"12")], blocks=[(b"CK\x01\x03\x00\xfc\xff123", 2)]), "shorter"),
        (Folder([File(b"a", b"1234")], blocks=[(b"CK\x01\x03\x00\xfc\xff123", 4)]), "shorter"),
        (Folder([File(b"a", b"1234")], STORED, blocks=[(b"123", 4)]), "two sizes"),
        (Folder([File(b"a", b"12", offset=2)], STORED, blocks=[(b"\0x12", 4)]), "in front of"),
        (Folder([File(b"a", b"2", offset=3)], blocks=compress(b"x\0\0002", MSZIP)), "in front of"),
    ],
)
def test_damaged_data_is_refused(folder: Folder, reason: str) -> None:
    container = opened(build([folder]))
    (entry,) = container.entries()
    with pytest.raises(ArtifactError, match=reason) as caught:
        container.extract(entry, io.BytesIO())
    assert caught.value.where == "a"


def test_blocks_without_checksum_are_read() -> None:
    assert contents(build([Folder([A], checksum=0)])) == {"a": TEXT}


def test_the_number_of_files_is_limited() -> None:
    with pytest.raises(ArtifactError, match="more than 2"):
        CabContainer(io.BytesIO(build([Folder([File(b"%d" % n) for n in range(3)])])), 2)


def test_an_output_does_not_replace_a_member() -> None:
    with pytest.raises(ArtifactError, match="would replace"):
        rebuilt(BASIC, {}, {"A/ONE.txt": b""})
    with pytest.raises(ArtifactError, match="too long"):
        rebuilt(BASIC, {}, {"x" * 300: b""})


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_change_gives_what_was_asked_for(data: st.DataObject) -> None:
    sizes = st.sampled_from([0, 1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 70_000, 5 * BLOCK])

    def content() -> bytes:
        size, start = data.draw(sizes), data.draw(st.integers(0, 20_000))
        return (NOISE if data.draw(st.booleans()) else TEXT)[start : start + size]

    names = iter(range(100))
    folders = [
        Folder(
            [File(b"%d" % next(names), content()) for _ in range(data.draw(st.integers(0, 3)))],
            data.draw(st.sampled_from([STORED, MSZIP])),
        )
        for _ in range(data.draw(st.integers(1, 3)))
    ]
    before = build(folders)
    expected = contents(before)
    paths = list(expected)

    def edited(old: bytes) -> bytes:
        at, more = data.draw(st.integers(0, len(old))), data.draw(st.integers(0, BLOCK))
        return old[:at] + b"!" + old[at + 1 :] + TEXT[:more]

    changed = {
        order: edited(expected[paths[order]]) if data.draw(st.booleans()) else content()
        for order in data.draw(st.sets(st.sampled_from(range(9))))
        if order < len(paths)
    }
    after = rebuilt(before, changed)
    assert contents(after) == expected | {paths[order]: new for order, new in changed.items()}
    assert rebuilt(after, {}) == after
    assert followed(before, after) == contents(after)
    old, new = opened(before), opened(after)
    if data.draw(st.booleans()):
        new.follow(old)
    for entry in old.entries():
        same = old.fingerprint(entry) == new.fingerprint(entry)
        assert same is (entry.order not in changed or changed[entry.order] == expected[entry.path])


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 400), st.booleans())
def test_never_more_than_a_refusal(noise: bytes, offset: int, cuts: bool) -> None:
    small = build([Folder([File(b"a", TEXT[:500]), File(b"b", b"b")]), Folder([A], STORED)])
    spoilt = small[:offset] + noise + (b"" if cuts else small[offset + len(noise) :])
    with contextlib.suppress(SealwrightError):
        assert contents(rebuilt(spoilt, {0: b"new"}))
