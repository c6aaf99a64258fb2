"""Windows Installer packages as containers: paths, reading, rebuilding, and refusing."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import keys
from tests.artifacts import launcher
from tests.artifacts_signed import sign_deeply
from tests.fakes.cabinets import File, Folder
from tests.fakes.cabinets import build as build_cabinet
from tests.fakes.compound_files import PATCH, Tree
from tests.fakes.installers import DIRECTORIES, Installed, Options, build, stream
from tests.rebuilding import rebuild
from tests.shared import sample
from tests.unit.test_msi import sign as sign_whole

from sealwright.errors import ArtifactError, InternalError, SealwrightError, VerificationError
from sealwright.signing.containers import msi as msi_module
from sealwright.signing.containers.cab import Cabinet
from sealwright.signing.containers.compound_file import CompoundFile
from sealwright.signing.containers.msi import MsiContainer
from sealwright.signing.containers.msi_database import Database
from sealwright.signing.formats import msi, pe

NOISE = random.Random(3).randbytes(70_000)
TEXT = b"".join(b"line %d of a text\n" % number for number in range(3000))
FILES = [
    Installed("app", "APP~1.EXE|application.exe", NOISE, hashed=True),
    Installed("lib", "lib.dll", TEXT, "BIN"),
    Installed("note", "note.txt", b"note", "ProgramFilesFolder", hashed=True),
    Installed("other", "other.txt", b"o" * 5000, "SAME", "#two.cab", hashed=True),
]
TRANSFORM: Tree = {"table": b"t" * 100, "large": b"l" * 5000}
OPTIONS = Options(binaries={"Tool": TEXT, "Icon.x": b"x"}, replaced={"1031.mst": TRANSFORM})
PACKAGE = build(FILES, OPTIONS)
PATHS = [
    "Example App/application.exe",
    "Example App/bin/lib.dll",
    "note.txt",
    "Example App/other.txt",
    "Binary/Icon.x",
    "Binary/Tool",
]


def opened(content: bytes) -> MsiContainer:
    return MsiContainer(io.BytesIO(content), 1000)


def contents(content: bytes) -> dict[str, bytes]:
    container = opened(content)
    found = {}
    for entry in container.entries():
        target = io.BytesIO()
        container.extract(entry, target)
        assert len(target.getvalue()) == entry.size
        found[entry.path] = target.getvalue()
    return found


def rebuilt(content: bytes, changed: dict[str, bytes]) -> bytes:
    container = opened(content)
    orders = {entry.path: entry.order for entry in container.entries()}
    streams = {orders[path]: io.BytesIO(new) for path, new in changed.items()}
    target = io.BytesIO()
    rebuild(container, target, streams)
    return target.getvalue()


def refused(content: bytes, reason: str) -> ArtifactError:
    with pytest.raises(ArtifactError, match=reason) as caught:
        contents(content)
    return caught.value


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("version", [3, 4])
def test_reading(version: int, long: bool) -> None:
    content = build(FILES, replace(OPTIONS, version=version, long=long, seed=version))
    assert list(contents(content)) == PATHS
    assert contents(content)["Binary/Tool"] == contents(content)["Example App/bin/lib.dll"] == TEXT


def test_what_is_changed_and_what_is_not() -> None:
    new = {"Example App/application.exe": b"shorter", "note.txt": NOISE, "Binary/Icon.x": TEXT}
    signed = sign_whole(PACKAGE)
    made = rebuilt(signed, new)
    assert contents(made) == contents(PACKAGE) | new
    assert made == rebuilt(PACKAGE, new) == rebuilt(made, new)
    assert msi.verify(io.BytesIO(made)) == []
    before, after = opened(signed), opened(made)
    assert before.fingerprint(None) == after.fingerprint(None)
    for entry, old in zip(after.entries(), before.entries(), strict=True):
        is_same = entry.path not in new
        assert (after.fingerprint(entry) == before.fingerprint(old)) is is_same
        assert after.fingerprint(entry, content=False) == before.fingerprint(old, content=False)
    package = CompoundFile(io.BytesIO(made))
    tables = Database(package)
    files = tables.table("File")
    assert dict(zip(files.texts("File"), files.integers("FileSize"), strict=True)) == {
        "app": 7,
        "lib": len(TEXT),
        "note": len(NOISE),
        "other": 5000,
    }
    hashes = tables.table("MsiFileHash")
    parts = [hashes.integers(f"HashPart{part}") for part in range(1, 5)]
    expected = [b"shorter", NOISE, b"o" * 5000]
    assert list(zip(*parts, strict=True)) == [
        struct.unpack("<4i", hashlib.md5(each).digest()) for each in expected
    ]
    patched = {stream(name, is_table=True) for name in ("File", "MsiFileHash")}
    patched |= {stream("files.cab"), stream("Binary.Icon.x")}
    for node in CompoundFile(io.BytesIO(PACKAGE)).root.children:
        name = node.name.decode("utf-16-le")
        twin = package.root.child(node.name)
        assert twin is not None
        if node.is_stream:
            same = twin.entry.size == node.entry.size and package.read(
                twin, 1 << 20
            ) == CompoundFile(io.BytesIO(PACKAGE)).read(node, 1 << 20)
            assert same is (name not in patched)


def test_a_merge_module() -> None:
    files = [replace(each, cabinet=None) for each in FILES]
    content = build([replace(each, cabinet="#m") for each in files], Options(is_module=True))
    assert list(contents(content)) == PATHS[:4]
    made = rebuilt(content, {"note.txt": TEXT})
    assert contents(made) == contents(content) | {"note.txt": TEXT}


def test_files_of_one_place_are_told_apart_by_their_keys() -> None:
    files = [
        Installed("x86", "app.exe", b"86"),
        Installed("x64", "APP.EXE", b"64"),
        Installed("one", "one.exe", b"1"),
    ]
    found = contents(build(files))
    assert found == {
        "Example App/@x86/app.exe": b"86",
        "Example App/@x64/APP.EXE": b"64",
        "Example App/one.exe": b"1",
    }


def test_a_patch_and_an_empty_package_have_no_members() -> None:
    assert contents(build(FILES, replace(OPTIONS, class_id=PATCH))) == {}
    assert contents(build([], Options(tables={"Media": (("DiskId i2",), [])}))) == {}
    without = {stream("_StringPool", is_table=True): None}
    assert contents(build(FILES, Options(replaced=without))) == {}


def test_long_strings_and_other_code_pages() -> None:
    table = (("Name s0",), [("x" * 70_000,), ("é",)])
    files = [Installed("a", "größe.txt", b"1")]
    for page in (1252, 65001):
        content = build(files, Options(tables={"Long": table}, code_page=page))
        assert contents(content) == {"Example App/größe.txt": b"1"}
        long = Database(CompoundFile(io.BytesIO(content))).table("Long")
        assert long.values("Name") == ["x" * 70_000, "é"]


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (Installed("a", "a.txt", b"a", cabinet="files.cab"), "external cabinet"),
        (Installed("a", "a.txt", b"a", cabinet=None), "beside the package"),
        (Installed("a", "a.txt", b"a", attributes=0x2000), "beside the package"),
        (Installed("a", "a.txt", b"a", size=2), "says 2 bytes; the cabinet holds 1"),
        (Installed("a", "a.txt", b"a", hashed=True, digest=bytes(16)), "MsiFileHash"),
    ],
)
def test_files_that_cannot_be_signed(file: Installed, reason: str) -> None:
    """They are errors only where they are meant, and stay as they are."""
    content = build([file, Installed("b", "b.txt", b"b", cabinet="#b.cab")])
    error = refused(content, reason)
    assert error.where == "Example App/a.txt"
    assert "Build the package again" in error.advice
    made = rebuilt(content, {"Example App/b.txt": b"new"})
    by_path = {each.path: each for each in opened(content).entries()}
    entry, other = by_path["Example App/a.txt"], by_path["Example App/b.txt"]
    assert opened(made).fingerprint(entry) == opened(content).fingerprint(entry)
    target = io.BytesIO()
    opened(made).extract(other, io.BytesIO())
    opened(made).extract(replace(other, size=3), target)
    assert target.getvalue() == b"new"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (Options(left_out=["a"]), 'missing in the cabinet "files.cab"'),
        (Options(replaced={stream("files.cab"): None}), "which is missing"),
        (Options(replaced={stream("files.cab"): b"MSCF"}), "cannot be opened"),
        (Options(replaced={stream("files.cab"): {"a": b""}}), "which is missing"),
    ],
)
def test_cabinets_that_cannot_be_opened(options: Options, reason: str) -> None:
    content = build([Installed("a", "a.txt", b"a")], options)
    refused(content, reason)
    assert opened(rebuilt(content, {})).fingerprint(None) == opened(content).fingerprint(None)


def table(name: str, *rows: tuple[str | int | None, ...]) -> Options:
    columns = {
        "Directory": ("Directory s72", "Directory_Parent S72", "DefaultDir l255"),
        "Component": ("Component s72", "Directory_ s72"),
        "Binary": ("Name s72", "Data v0"),
        "MsiFileHash": ("File_ s72", *(f"HashPart{part} i4" for part in range(1, 5))),
    }[name]
    return Options(tables={name: (columns, rows)}, binaries={"x": b"1"})


DEEP_FOLDERS = [(f"d{n}", f"d{n + 1}", "n" * 200) for n in range(99)]
ONE = [Installed("a", "a.txt", b"a")]
LOOP = [("INSTALLDIR", "BIN", "a"), ("BIN", "INSTALLDIR", "b")]


@pytest.mark.parametrize(
    ("files", "options", "reason"),
    [
        (ONE, table("Directory", *LOOP), "inside of itself"),
        (ONE, table("Directory", ("INSTALLDIR", "GONE", "a")), "missing, or inside"),
        (ONE, table("Directory"), "missing, or inside"),
        (ONE, table("Component"), "component of the file"),
        (ONE, table("Directory", ("R", None, "r"), ("INSTALLDIR", "R", "..")), "segment"),
        (ONE, table("Directory", ("R", None, "r"), ("INSTALLDIR", "R", "a\\b")), "backslash"),
        (ONE, table("Directory", ("R", None, "r"), ("INSTALLDIR", "R", "a/b")), "no name"),
        (ONE, table("Directory", ("R", None, "r"), ("INSTALLDIR", "R", None)), "no name"),
        (ONE, table("Directory", ("R", None, "r"), ("INSTALLDIR", "R", "C:")), ""),
        ([Installed("a", "..")], Options(), "segment"),
        ([Installed("a", "a/b")], Options(), "no name"),
        ([Installed("a", "x" * 256)], Options(), "no name"),
        (ONE, table("Directory", ("INSTALLDIR", "d0", "x"), ("d99", None, "root"), *DEEP_FOLDERS),
         "too long"),
        ([Installed("a", "x"), Installed("a", "y")], Options(), "one key|one name"),
        ([Installed("a", "x"), Installed("b", "x", folder="BIN"), Installed("c", "bin")],
         Options(), "file and a directory"),
        (ONE, table("Binary", ("a/b", 1)), "no path"),
        (ONE, table("Binary", ("x", 1), ("X", 1)), "Two members"),
        ([Installed("a", "tool", folder="B")],
         Options(binaries={"Tool": b"1"}, directories=[("R", None, "r"), ("B", "R", "Binary")]),
         "no path"),
        (ONE, table("MsiFileHash", ("a", 1, 2, 3, 4), ("a", 1, 2, 3, 4)), "about one file"),
        (ONE, Options(tables={"MsiFileHash": (("File_ s72",), [("a",)])}), 'no column "HashPart1"'),
        (ONE, Options(tables={"File": (("File s72",), [("a",)])}), 'no column "'),
        (ONE, Options(tables={"Odd": (("A i3",), [(1,)])}), ""),
        ([Installed("Tool", "t", b"1", cabinet="#Binary.Tool")], table("Binary", ("Tool", 1)),
         "One stream"),
        (ONE, Options(replaced={stream("File", is_table=True): {}}), "is a storage"),
        (ONE, Options(replaced={stream("File", is_table=True): b"odd"}), "impossible size"),
        (ONE, Options(replaced={stream("_StringPool", is_table=True): b"odd"}), "impossible size"),
        (ONE, Options(replaced={stream("_StringPool", is_table=True): bytes(4)}), "does not fit"),
        (ONE, Options(replaced={stream("_StringData", is_table=True): None}), "does not fit"),
        (ONE, Options(replaced={stream("_Tables", is_table=True): b"\xff\xff"}), "missing in"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(files: list[Installed], options: Options, reason: str) -> None:
    content = build(files, options)
    if reason:
        refused(content, reason)
    else:
        with contextlib.suppress(ArtifactError):
            contents(content)


def test_columns_must_be_numbered_and_known() -> None:
    for rows in ([("T", 2, "A", 0x0104)], [("T", 1, "A", 0x0103)]):
        columns = ("Table s64", "Number i2", "Name s64", "Type i2")
        content = build(ONE, Options(tables={"_Columns": (columns, rows)}))
        with pytest.raises(ArtifactError, match=r"numbered|impossible type|no column"):
            Database(CompoundFile(io.BytesIO(content))).table("T")


def test_sizes_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        pack = MsiContainer.pack
        patch.setattr(MsiContainer, "pack", lambda *given: replace(pack(*given), size=1 << 31))
        with pytest.raises(ArtifactError, match="too large for the column"):
            rebuilt(PACKAGE, {"note.txt": b""})

    def unchanged(cabinet: Cabinet, *arguments: object) -> None:
        *_, target = arguments
        cabinet.rebuild(target, {}, lambda _: (io.BytesIO(), 0))

    monkeypatch.setattr(msi_module, "_rebuild", unchanged)
    with pytest.raises(InternalError, match="contradicts itself"):
        rebuilt(PACKAGE, {"note.txt": b""})


def test_nothing_is_added_and_the_number_of_files_is_limited() -> None:
    with pytest.raises(ArtifactError, match="No file can be added"):
        rebuild(opened(PACKAGE), io.BytesIO(), added={"new.txt": b""})
    with pytest.raises(ArtifactError, match="more than 3 members"):
        MsiContainer(io.BytesIO(PACKAGE), 3)
    with pytest.raises(ArtifactError, match="more than 1 members"):
        MsiContainer(io.BytesIO(PACKAGE), 5)
    assert len(list(MsiContainer(io.BytesIO(PACKAGE), 6).entries())) == 6


def test_other_files_of_a_cabinet_must_stay_as_they_are() -> None:
    def package(hidden: bytes) -> bytes:
        cabinet = build_cabinet([Folder([File(b"a", b"a"), File(b"hidden", hidden)])])
        return build(ONE, Options(replaced={stream("files.cab"): cabinet}))

    content = package(b"one")
    surroundings = opened(content).fingerprint(None)
    assert opened(rebuilt(content, {"Example App/a.txt": TEXT})).fingerprint(None) == surroundings
    assert opened(package(b"two")).fingerprint(None) != surroundings
    twice = build_cabinet([Folder([File(b"a", b"a"), File(b"a", b"b")])])
    refused(build(ONE, Options(replaced={stream("files.cab"): twice})), "have this name")


@pytest.mark.parametrize("name", ["Media", "Component", "Directory", "Binary", "_StringData"])
def test_every_other_stream_counts_among_the_surroundings(name: str) -> None:
    node = stream(name, is_table=True)
    package = CompoundFile(io.BytesIO(PACKAGE))
    found = package.root.child(node.encode("utf-16-le"))
    assert found is not None
    content = package.read(found, 1 << 20)
    changed = build(FILES, replace(OPTIONS, replaced={node: content[:-1] + b"\xee"}))
    with contextlib.suppress(ArtifactError):
        assert opened(changed).fingerprint(None) != opened(PACKAGE).fingerprint(None)


def test_hashes_of_the_version_that_is_judged_are_checked() -> None:
    """Those of the version before were the planner's matter; their rows are compared."""
    odd = build([replace(FILES[0], digest=bytes(16)), *FILES[1:]], OPTIONS)
    for content, is_right in ((PACKAGE, True), (odd, False)):
        before, after = opened(odd), opened(content)
        after.follow(before)
        entry, *_ = before.entries()
        before.extract(entry, io.BytesIO())
        target = io.BytesIO()
        with (
            contextlib.nullcontext()
            if is_right
            else pytest.raises(ArtifactError, match="MsiFileHash")
        ):
            after.extract(entry, target)
            assert target.getvalue() == NOISE
        assert (after.fingerprint(entry) == before.fingerprint(entry)) is not is_right


# --- signing deeply -----------------------------------------------------------------------------

PROGRAM = launcher().read_bytes()
SIGN = "<authenticode-sign/>"
DEEP = (
    '<msi-file subject=""><directory path="Example App">'
    f'<pe-file path="*.exe">{SIGN}</pe-file><powershell-file path="@*/*.ps1" '
    f'max-matches="unbounded">{SIGN}</powershell-file></directory>'
    f'<pe-file path="Binary/Tool">{SIGN}</pe-file>{SIGN}</msi-file>'
).replace(' subject=""', "")
PROGRAMS = build(
    [
        Installed("app", "APP~1.EXE|application.exe", PROGRAM, hashed=True),
        Installed("one", "a.ps1", b"Write-Output 1\r\n", hashed=True),
        Installed("rest", "rest.txt", TEXT),
        Installed("two", "a.ps1", b"Write-Output 2\r\n", cabinet="#two.cab"),
    ],
    Options(binaries={"Tool": launcher("t64.exe").read_bytes()}, replaced={"1031.mst": TRANSFORM}),
)


def test_deep_signing(tmp_path: Path) -> None:
    signed, found = sign_deeply(PROGRAMS, DEEP, tmp_path)
    assert [each.path for each in found] == [
        "artifact!/Example App/application.exe",
        "artifact!/Example App/@one/a.ps1",
        "artifact!/Example App/@two/a.ps1",
        "artifact!/Binary/Tool",
        "artifact",
    ]
    (fact,) = msi.verify(io.BytesIO(signed))
    assert fact.signer == keys.pki().leaf("rsa-3072").der
    inside = contents(signed)
    for path in ("Example App/application.exe", "Binary/Tool"):
        assert len(pe.verify(io.BytesIO(inside[path]))) == 1
    assert inside["Example App/rest.txt"] == TEXT
    assert sign_deeply(PROGRAMS, DEEP, tmp_path)[0] == signed
    again, _ = sign_deeply(signed, DEEP, tmp_path)
    assert again == signed


def test_a_signed_package_is_not_repacked_around_changes(tmp_path: Path) -> None:
    signed = sign_whole(PROGRAMS)
    with pytest.raises(ArtifactError, match="signed already"):
        sign_deeply(signed, DEEP.replace(f"{SIGN}</msi-file>", "</msi-file>"), tmp_path)
    unsigned, _ = sign_deeply(PROGRAMS, DEEP.replace(f"{SIGN}</msi-file>", "</msi-file>"), tmp_path)
    assert msi.verify(io.BytesIO(unsigned)) == []


def test_outputs_are_refused_in_the_plan(tmp_path: Path) -> None:
    body = (
        '<msi-file><file path="Binary/Tool"><create-raw-signature '
        'output-file-name="${file.name}.sig"/></file></msi-file>'
    )
    with pytest.raises(ArtifactError, match="No file can be added") as caught:
        sign_deeply(PROGRAMS, body, tmp_path)
    assert caught.value.where.startswith("artifact!/Binary/Tool.sig")


def test_a_package_in_a_package(tmp_path: Path) -> None:
    outer = build(
        [Installed("inner", "inner.msi", PROGRAMS, hashed=True)], Options(version=4, long=True)
    )
    inner = DEEP.replace("<msi-file>", '<msi-file path="Example App/inner.msi">')
    signed, found = sign_deeply(outer, f"<msi-file>{inner}{SIGN}</msi-file>", tmp_path)
    assert len(found) == 6
    inside = contents(signed)["Example App/inner.msi"]
    assert inside == sign_deeply(PROGRAMS, DEEP, tmp_path)[0]


def test_what_others_made(tmp_path: Path) -> None:
    content = sample("dummy.msi").read_bytes()
    body = f'<msi-file><pe-file path="PFiles/dummy/*.dll">{SIGN}</pe-file>{SIGN}</msi-file>'
    signed, found = sign_deeply(content, body, tmp_path)
    assert len(found) == 2
    (library,) = contents(signed).values()
    assert len(pe.verify(io.BytesIO(library))) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"Example App/application.exe": PROGRAM},
        {"Example App/rest.txt": TEXT + b"!"},
        {"Binary/Tool": PROGRAM},
    ],
)
def test_a_wrong_result_is_refused(
    change: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = MsiContainer.rebuild

    def wrong(self: MsiContainer, target: io.BytesIO, *arguments: object) -> None:
        genuine(self, target, *arguments)  # type: ignore[arg-type] # passed on as they are
        target.seek(0)
        made = rebuilt(target.read(), change)
        target.seek(0)
        target.truncate()
        target.write(made)

    monkeypatch.setattr(MsiContainer, "rebuild", wrong)
    with monkeypatch.context() as patch:
        patch.setattr(MsiContainer, "rebuild", genuine)
        sign_deeply(PROGRAMS, DEEP, tmp_path)
    calls = iter([wrong, genuine, genuine])

    def once(self: MsiContainer, *arguments: object) -> None:
        next(calls, genuine)(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(MsiContainer, "rebuild", once)
    with pytest.raises(VerificationError, match=r"changed|signatures in the file"):
        sign_deeply(PROGRAMS, DEEP, tmp_path)


# --- any package --------------------------------------------------------------------------------

NAMES = st.text("abcdeé", min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.untraced
def test_any_change_gives_what_was_asked_for(data: st.DataObject) -> None:
    files = [
        Installed(
            f"key{number}",
            f"{number}.{data.draw(NAMES)}",
            data.draw(st.binary(max_size=100)) * data.draw(st.integers(1, 500)),
            data.draw(st.sampled_from([str(row[0]) for row in DIRECTORIES])),
            data.draw(st.sampled_from(["#a.cab", "#b", "external.cab"])),
            data.draw(st.booleans()),
        )
        for number in range(data.draw(st.integers(0, 6)))
    ]
    files.sort(key=lambda file: str(file.cabinet))
    options = Options(
        data.draw(st.sampled_from([3, 4])),
        data.draw(st.sampled_from([None, 1, 2])),
        data.draw(st.booleans()),
        binaries=data.draw(st.dictionaries(NAMES, st.binary(max_size=5000), max_size=3)),
    )
    content = build(files, options)
    container = opened(content)
    found = []
    for entry in container.entries():
        with contextlib.suppress(ArtifactError):
            container.extract(entry, io.BytesIO())
            found.append(entry.path)
    external = sum(file.cabinet == "external.cab" for file in files)
    assert len(found) == len(files) + len(options.binaries) - external
    new: dict[str, bytes] = {}
    if found:
        chosen = st.sampled_from(found)
        new = data.draw(st.dictionaries(chosen, st.binary(max_size=9000), max_size=4))
    made = rebuilt(content, new)
    after = opened(made)
    assert after.fingerprint(None) == container.fingerprint(None)
    for entry, twin in zip(container.entries(), after.entries(), strict=True):
        assert entry.path == twin.path
        if entry.path in new:
            target = io.BytesIO()
            after.extract(twin, target)
            assert target.getvalue() == new[entry.path]
        else:
            assert after.fingerprint(twin) == container.fingerprint(entry)
    assert rebuilt(made, {}) == made


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=40), st.integers(0, len(PROGRAMS)), st.booleans())
def test_never_more_than_a_refusal(noise: bytes, offset: int, cuts: bool) -> None:
    spoilt = PACKAGE[: offset % len(PACKAGE)] + noise
    spoilt += b"" if cuts else PACKAGE[len(spoilt) :]
    with contextlib.suppress(SealwrightError):
        container = opened(spoilt)
        for entry in container.entries():
            with contextlib.suppress(SealwrightError):
                container.extract(entry, io.BytesIO())
            container.fingerprint(entry)
        container.fingerprint(None)
        rebuild(container, io.BytesIO())
