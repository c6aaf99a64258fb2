"""Compound files: reading, refusing, writing."""

from __future__ import annotations

import contextlib
import io
import random
import struct
from array import array
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.compound_files import DIFAT, END, FAT, FREE, NONE, Layout, Tree, build

from sealwright.errors import ArtifactError, SealwrightError
from sealwright.signing.containers import compound_file, compound_records, compound_writer
from sealwright.signing.containers.compound_file import CompoundFile, Node
from sealwright.signing.containers.compound_writer import rewrite

NOISE = random.Random(1).randbytes(40_000)
TREE: Tree = {
    "large": NOISE,
    "exact": NOISE[:8192],
    "cutoff": NOISE[:4096],
    "below": NOISE[1:4096],
    "tiny": b"x",
    "empty": b"",
    "Sub": {"inner": NOISE[:5000], "deeper": {"mini": b"mini" * 40}, "void": {}},
    "b": b"B",
    "A": b"A",
}


def name(text: str) -> bytes:
    return text.encode("utf-16-le")


def contents(package: CompoundFile, node: Node | None = None) -> Tree:
    return {
        child.name.decode("utf-16-le"): package.read(child, 1 << 30)
        if child.is_stream
        else contents(package, child)
        for child in (node or package.root).children
    }


def opened(content: bytes) -> CompoundFile:
    return CompoundFile(io.BytesIO(content))


def rewritten(content: bytes, **streams: compound_writer.Content) -> bytes:
    target = io.BytesIO()
    rewrite(opened(content), target, {name(key): value for key, value in streams.items()})
    return target.getvalue()


def test_runs_of_sectors_of_every_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compound_file, "_LONG_RUN", 4)
    lengths = [*range(1, 18), 1, 4, 8]
    random.Random(2).shuffle(lengths)
    starts, at = {}, 0
    for number, length in enumerate(lengths):
        starts[number] = at
        at += length + number % 2  # every second run meets the one in front of it
    order = list(range(len(lengths)))[::-1]
    fat = array("I", [FREE] * at)
    for number, following in zip(order, [*order[1:], None], strict=True):
        first, length = starts[number], lengths[number]
        fat[first : first + length] = array("I", range(first + 1, first + length + 1))
        fat[first + length - 1] = END if following is None else starts[following]
    found = list(compound_file._runs(fat, starts[order[0]], at, "it"))
    assert found == [(starts[number], lengths[number]) for number in order]
    assert list(compound_file._runs(fat, starts[0], lengths[0], "it")) == [(0, lengths[0])]


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_streams_lie_anywhere(version: int, seed: int | None) -> None:
    layout = build(TREE, version, seed=seed, spare=9)
    package = opened(layout.content)
    assert contents(package) == TREE
    assert [node.name.decode("utf-16-le") for node in package.root.children][:2] == ["A", "b"]
    stream = package.root.child(name("large"))
    assert stream is not None
    with package.open(stream) as file:
        for position, size in ((0, 10), (511, 5000), (39_990, 100), (40_000, 1)):
            file.seek(position)
            assert file.read(size) == NOISE[position : position + size]
        file.seek(-3, io.SEEK_END)
        buffer = bytearray(10)
        assert file.readinto(buffer) == 3  # type: ignore[attr-defined] # it is a raw file
        assert bytes(buffer[:3]) == NOISE[-3:]
        with pytest.raises(ValueError, match="no position"):
            file.seek(-1)
    with pytest.raises(ArtifactError, match="more than 9"):
        package.read(stream, 9)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("seed", [None, 3])
def test_rewriting_depends_on_the_content_alone(version: int, seed: int | None) -> None:
    layout = build(TREE, version, seed=seed, spare=5 if seed else 0)
    made = rewritten(layout.content)
    package = opened(made)
    package.check_end()
    assert contents(package) == TREE
    assert made == rewritten(build(TREE, version).content) == rewritten(made)
    before, after = opened(layout.content).root.child(name("Sub")), package.root.child(name("Sub"))
    assert before is not None
    assert after is not None
    for field in ("class_id", "state", "created", "modified"):
        assert getattr(before.entry, field) == getattr(after.entry, field)
    assert any(before.entry.class_id)
    check_trees(made)


def check_trees(content: bytes) -> None:
    """Every storage's tree must be ordered, red-black, and found by the header's chain."""
    package = opened(content)
    size = package.sector_size
    sectors, sector = [], package.header.directory
    fat_start = struct.unpack_from("<I", content, 76)[0]
    fat = struct.unpack_from(f"<{size // 4}I", content, (fat_start + 1) * size)
    while sector != END:
        sectors.append(content[(sector + 1) * size : (sector + 2) * size])
        sector = fat[sector]
    table = b"".join(sectors)
    entries = [
        compound_records.DirectoryEntry.parse(table[at : at + 128], package.version)
        for at in range(0, len(table), 128)
    ]

    def blacks(number: int, parent_is_red: bool) -> int:
        if number == NONE:
            return 1
        entry = entries[number]
        is_red = entry.color == compound_records.RED
        assert not (is_red and parent_is_red)
        for lower, upper in ((entry.left, number), (number, entry.right)):
            if NONE not in (lower, upper):
                assert compound_records.order_of(entries[lower].name) < compound_records.order_of(
                    entries[upper].name
                )
        left, right = blacks(entry.left, is_red), blacks(entry.right, is_red)
        assert left == right
        return left + (not is_red)

    for entry in entries:
        if entry.kind in (1, 5):
            assert entry.child == NONE or entries[entry.child].color == compound_records.BLACK
            blacks(entry.child, parent_is_red=False)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7, 8, 20, 31, 32])
def test_directories_of_every_size_are_red_black_trees(count: int) -> None:
    tree: Tree = {f"stream {number}": bytes([number]) * number for number in range(count)}
    made = rewritten(build(tree).content)
    assert contents(opened(made)) == tree
    check_trees(made)


@pytest.mark.parametrize("version", [3, 4])
def test_streams_are_replaced_added_and_removed(version: int) -> None:
    def fill(file: BinaryIO) -> None:
        file.write(NOISE[:9000])
        file.seek(10)
        file.write(b"over")
        file.seek(0)
        assert file.read(14) == NOISE[:10] + b"over"

    target = io.BytesIO()
    rewrite(
        opened(build(TREE, version).content),
        target,
        {
            name("large"): b"small now",
            name("tiny"): NOISE[:6000],
            name("new"): fill,
            name("short"): lambda file: file.write(b"of a writer"),
        },
        [name("exact"), name("not there")],
    )
    expected = {
        **TREE,
        "large": b"small now",
        "tiny": NOISE[:6000],
        "new": NOISE[:10] + b"over" + NOISE[14:9000],
        "short": b"of a writer",
    }
    del expected["exact"]
    package = opened(target.getvalue())
    package.check_end()
    assert contents(package) == expected
    with pytest.raises(ArtifactError, match="too long"):
        rewritten(build(TREE).content, **{"n" * 32: b""})


def test_difat_sectors() -> None:
    """109 sectors of FAT reach as far as 7 MB; what is beyond needs a DIFAT."""
    tree: Tree = {"large": NOISE * 400}
    layout = build(tree, seed=5)
    assert struct.unpack_from("<I", layout.content, 72)[0] == 2
    assert contents(opened(layout.content)) == tree
    made = rewritten(layout.content)
    package = opened(made)
    package.check_end()
    assert package.header.difat_sectors == 2
    assert contents(package) == tree
    hidden = made + b"PK"
    with pytest.raises(ArtifactError, match="appended"):
        opened(hidden).check_end()


@pytest.mark.parametrize("sector", range(20))
def test_range_lock(sector: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sector that Windows locks stays empty, wherever in the file it is."""
    source = opened(build({"large": NOISE, "s": b"s", "t": NOISE[:4096]}, 4).content)
    for module in (compound_file, compound_writer):
        monkeypatch.setattr(module, "RANGE_LOCK", (sector + 1) * 4096 + 256)
    target = io.BytesIO()
    rewrite(source, target, {name("n"): b"n" * 9000})
    made = target.getvalue()
    package = opened(made)
    package.check_end()
    assert contents(package) == {"large": NOISE, "s": b"s", "t": NOISE[:4096], "n": b"n" * 9000}
    assert not made[(sector + 1) * 4096 : (sector + 2) * 4096].strip(b"\0")
    assert rewritten(made) == made


def test_files_beyond_the_limits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = build(TREE).content
    with pytest.raises(ArtifactError, match="more than 3 storages"):
        CompoundFile(io.BytesIO(content), 3)
    for module in (compound_file, compound_writer):
        monkeypatch.setattr(module, "_MAX_VERSION_3", len(content) + 2000)
    with pytest.raises(ArtifactError, match="2 GiB"):
        rewritten(content, more=NOISE)
    with pytest.raises(ArtifactError, match="2 GiB"):
        opened(content + bytes(3000))


def test_the_number_of_pieces_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    scattered = build(TREE, seed=1, spare=9).content
    tidy = rewritten(scattered)
    monkeypatch.setattr(compound_file, "_MAX_PIECES", 40)
    opened(tidy)
    with pytest.raises(ArtifactError, match="more than 40 pieces"):
        opened(scattered)


# --- what is refused ----------------------------------------------------------------------------

PLAIN = build(TREE)
LARGE, MINI = PLAIN.entries["large"], PLAIN.entries["below"]


def chain(layout: Layout, entry: int) -> list[int]:
    """The sectors of a stream."""
    found = [struct.unpack_from("<I", layout.content, entry + 116)[0]]
    while found[-1] != END:
        found.append(struct.unpack_from("<I", layout.content, layout.fat[found[-1]])[0])
    return found[:-1]


CHAIN = chain(PLAIN, LARGE)
OTHER = chain(PLAIN, PLAIN.entries["exact"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a compound file"),
        (PLAIN.content[:75], "not a compound file"),
        (b"PK\3\4" + PLAIN.content[4:], "not a compound file"),
        (PLAIN.content[:300], "cut off"),
        (PLAIN.content[:700], "does not fit|outside|ends before"),
        (PLAIN.patched(26, "<H", 5), "version 5"),
        (PLAIN.patched(28, "<H", 0xFEFF), "not defined"),
        (PLAIN.patched(30, "<H", 12), "not defined"),
        (PLAIN.patched(30, "<H", 63), "not defined"),
        (PLAIN.patched(32, "<H", 7), "mini stream has other sizes"),
        (PLAIN.patched(56, "<I", 8192), "mini stream has other sizes"),
        (PLAIN.patched(44, "<I", 0), "FAT of 0 sectors"),
        (PLAIN.patched(44, "<I", 0xFFFFFFFF), "does not fit"),
        (PLAIN.patched(76, "<I", 0x7FFFFFF), "outside"),
        (PLAIN.patched(80, "<I", 1), "more FAT sectors"),
        (PLAIN.patched(72, "<I", 1), "DIFAT"),
        (PLAIN.patched(60, "<I", 0x7FFFFFF), "mini FAT leads outside"),
        (PLAIN.patched(64, "<I", 7), "mini FAT has another length"),
        (PLAIN.patched(48, "<I", 0x7FFFFFF), "directory leads outside"),
        (PLAIN.patched(PLAIN.entries[""] + 66, "<B", 1), "no root"),
        (PLAIN.patched(PLAIN.entries[""] + 76, "<I", 0), "cycle"),
        (PLAIN.patched(PLAIN.entries[""] + 76, "<I", 9999), "outside"),
        (
            PLAIN.patched(PLAIN.entries[""] + 120, "<I", 64),
            "outside of the mini stream|more sectors",
        ),
        (PLAIN.patched(LARGE + 66, "<B", 7), "type 7"),
        (PLAIN.patched(LARGE + 66, "<B", 0), "unused entry"),
        (PLAIN.patched(LARGE + 64, "<H", 3), "impossible length"),
        (PLAIN.patched(LARGE + 64, "<H", 66), "impossible length"),
        (PLAIN.patched(LARGE + 64, "<H", 8), "impossible length"),
        (PLAIN.patched(LARGE + 68, "<I", 0), "cycle"),
        (PLAIN.patched(LARGE + 76, "<I", 1), "has members"),
        (PLAIN.patched(PLAIN.entries["b"], "<H", ord("A")), "one name"),
        (PLAIN.patched(PLAIN.entries["b"], "<H", ord("a")), "one name"),
        (PLAIN.patched(LARGE + 116, "<I", 0x7FFFFFF), "outside"),
        (PLAIN.patched(LARGE + 116, "<I", OTHER[0]), "sectors than its size|overlaps"),
        (PLAIN.patched(LARGE + 120, "<I", 0x7FFFFFF), "larger than the file"),
        (PLAIN.patched(LARGE + 120, "<I", 39_000), "more sectors"),
        (PLAIN.patched(LARGE + 120, "<I", 41_000), "fewer sectors"),
        (PLAIN.patched(MINI + 116, "<I", 0x7FFFFFF), "outside"),
        (PLAIN.patched(MINI + 120, "<I", 64), "mini sectors"),
        (PLAIN.patched(PLAIN.fat[CHAIN[5]], "<I", CHAIN[2]), "cycle|overlaps"),
        (PLAIN.patched(PLAIN.fat[CHAIN[-1]], "<I", OTHER[-1]), "more sectors|overlaps"),
        (PLAIN.patched(PLAIN.fat[CHAIN[5]], "<I", END), "fewer sectors"),
        (PLAIN.patched(PLAIN.fat[CHAIN[5]], "<I", FREE), "outside"),
        (PLAIN.patched(PLAIN.fat[CHAIN[5]], "<I", DIFAT), "outside"),
    ],
)
def test_malformed_files_are_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        opened(content)


def test_unmarked_fat_is_refused() -> None:
    sector = struct.unpack_from("<I", PLAIN.content, 76)[0]
    assert struct.unpack_from("<I", PLAIN.content, PLAIN.fat[sector])[0] == FAT
    with pytest.raises(ArtifactError, match="not marked"):
        opened(PLAIN.patched(PLAIN.fat[sector], "<I", FREE))


def test_storages_are_nested_only_so_deep() -> None:
    tree: Tree = {}
    for _ in range(70):
        tree = {"s": tree}
    with pytest.raises(ArtifactError, match="nested more than 64"):
        opened(build(tree).content)


def test_another_order_is_read_and_mended() -> None:
    """Not every writer sorts by upper case."""
    odd = PLAIN.patched(LARGE, "<H", ord("A"))
    expected = {{"large": "Aarge"}.get(key, key): value for key, value in TREE.items()}
    assert contents(opened(odd)) == expected
    check_trees(rewritten(odd))


def test_free_sectors_at_the_end_hide_nothing() -> None:
    with pytest.raises(ArtifactError, match="appended"):
        opened(PLAIN.content + b"\0" * 600 + b"PK\5\6").check_end()
    opened(PLAIN.content + b"\0" * 600).check_end()


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=40), st.integers(0, len(PLAIN.content)), st.booleans())
def test_never_more_than_a_refusal(noise: bytes, offset: int, cuts: bool) -> None:
    end = b"" if cuts else PLAIN.content[offset + len(noise) :]
    with contextlib.suppress(SealwrightError):
        package = opened(PLAIN.content[:offset] + noise + end)
        contents(package)
        target = io.BytesIO()
        rewrite(package, target, {})
        assert contents(opened(target.getvalue())) == contents(package)
