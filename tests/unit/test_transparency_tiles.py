"""Tile paths, tile and bundle contents, and tiles as files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.transparency_sample import MemoryTiles, grow, leaf

from sealwright.errors import (
    ConflictError,
    InvalidInputError,
    UnavailableError,
    VerificationError,
)
from sealwright.transparency.folder import FolderTiles
from sealwright.transparency.merkle import MAX_SIZE, leaf_hash
from sealwright.transparency.sequencer import Head
from sealwright.transparency.tiles import (
    ENTRIES,
    MAX_TILE,
    WIDTH,
    Tile,
    TileHashes,
    decode_bundle,
    decode_tile,
    encode_bundle,
    encode_tile,
    new_tiles,
    read_hashes,
    read_leaves,
    tile_at,
)

TILE = "tile/0/000"


@given(
    st.builds(
        Tile, st.integers(ENTRIES, 6), st.integers(0, MAX_SIZE // WIDTH), st.integers(1, WIDTH)
    )
)
def test_a_path_names_one_tile(tile: Tile) -> None:
    assert Tile.parse(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001/x000",
        "tile/00/000",
        "tile/7/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/000\n",
        "tile/0/\u0660\u0660\u0660",
        "tile/0/../../checkpoint",
        "tile/0/" + "x999/" * 6 + "999",
        "tile/0/" + "x999/" * 5 + "999",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidInputError):
        Tile.parse(path)


def test_the_specifications_example() -> None:
    """C2SP tlog-tiles, "Partial Tiles": the tiles of a tree of 70,000 leaves, and of 256."""
    tiles = [tile for tile in new_tiles(0, 70_000) if tile.level != ENTRIES]
    at = {level: [t for t in tiles if t.level == level] for level in range(3)}
    assert len(at[0]) == 274
    assert at[0][-1] == Tile(0, 273, 112)
    assert at[1] == [Tile(1, 0), Tile(1, 1, 17)]
    assert at[2] == [Tile(2, 0, 1)]
    assert [t.path for t in new_tiles(0, 256)] == [
        "tile/entries/000",
        "tile/0/000",
        "tile/1/000.p/1",
    ]


def test_growth_lists_only_what_changes() -> None:
    assert new_tiles(300, 300) == []
    assert new_tiles(300, 301) == [Tile(ENTRIES, 1, 45), Tile(0, 1, 45)]
    for sizes in [(301, 300), (-1, 5), (0, MAX_SIZE + 1)]:
        with pytest.raises(InvalidInputError):
            new_tiles(*sizes)
    for level, index in [(0, 2), (0, -1), (1, 1), (2, 0)]:
        with pytest.raises(InvalidInputError):
            tile_at(level, index, 300)


@given(st.lists(st.binary(max_size=400), max_size=20))
def test_bundles_read_back(leaves: list[bytes]) -> None:
    content = encode_bundle(leaves)
    width = len(leaves)
    assert decode_bundle(content, width) == leaves
    wrong = [(content, width + 1), (content + b"\0", width)]
    if leaves:
        wrong += [(content, width - 1), (content[:-1], width)]
    for case in wrong:
        with pytest.raises(VerificationError):
            decode_bundle(*case)


def test_leaves_of_the_greatest_length() -> None:
    assert decode_bundle(encode_bundle([b"x" * 65_535]), 1) == [b"x" * 65_535]
    with pytest.raises(InvalidInputError):
        encode_bundle([b"x" * 65_536])


def test_tiles_read_back() -> None:
    hashes = [leaf_hash(b"%d" % n) for n in range(WIDTH)]
    assert decode_tile(encode_tile(hashes), WIDTH) == hashes
    for content in (encode_tile(hashes)[:-1], encode_tile(hashes) + b"\0", b""):
        with pytest.raises(VerificationError):
            decode_tile(content, WIDTH)


def test_a_partial_tile_that_is_gone_is_taken_from_the_full_one() -> None:
    store = MemoryTiles()
    grow(store, Head(), [leaf(n) for n in range(WIDTH)])
    assert read_leaves(store, Tile(ENTRIES, 0, 9)) == [leaf(n) for n in range(9)]
    assert read_hashes(store, Tile(0, 0, 9)) == [leaf_hash(leaf(n)) for n in range(9)]
    assert TileHashes(store, 9).node(0, 8) == leaf_hash(leaf(8))
    with pytest.raises(VerificationError) as caught:
        read_leaves(store, Tile(ENTRIES, 1))
    assert caught.value.where == "tile/entries/001"


def test_the_reader_keeps_few_tiles() -> None:
    store = MemoryTiles()
    grow(store, Head(), [b"%d" % n for n in range(100 * WIDTH)])
    reader = TileHashes(store, 100 * WIDTH)
    for index in range(100 * WIDTH):
        assert reader.node(0, index) == leaf_hash(b"%d" % index)
    assert len(reader._tiles) == 64


def test_folder_keeps_and_gives(tmp_path: Path) -> None:
    store = FolderTiles(tmp_path / "log")
    mask = os.umask(0o077)
    try:
        store.write(TILE, b"x" * MAX_TILE)
    finally:
        os.umask(mask)
    store.write(TILE, b"x" * MAX_TILE)
    assert store.read(TILE) == b"x" * MAX_TILE
    assert store.read("tile/0/001") is None
    assert store.read("tile/0/000.p/4") is None
    file = tmp_path / "log" / TILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [p.name for p in file.parent.iterdir()] == ["000"]


@pytest.mark.parametrize("path", [TILE, "tile/0/000.p/3", "tile/entries/x001/000"])
def test_folder_never_changes_a_tile(tmp_path: Path, path: str) -> None:
    store = FolderTiles(tmp_path)
    store.write(path, b"one")
    with pytest.raises(ConflictError) as caught:
        store.write(path, b"two")
    assert caught.value.where == path
    assert store.read(path) == b"one"
    assert [p.name for p in (tmp_path / path).parent.iterdir()] == [Path(path).name]


def test_folder_replaces_the_checkpoint(tmp_path: Path) -> None:
    store = FolderTiles(tmp_path)
    for content in (b"one", b"two"):
        store.write("checkpoint", content)
        assert store.read("checkpoint") == content
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


def test_folder_removes_partial_tiles_only(tmp_path: Path) -> None:
    store = FolderTiles(tmp_path)
    for path in ("tile/0/000.p/3", "tile/0/000.p/9", TILE, "tile/0/001.p/1"):
        store.write(path, b"x")
    store.remove_partials(TILE)
    store.remove_partials(TILE)
    assert store.read("tile/0/000.p/3") is None
    assert store.read(TILE) == store.read("tile/0/001.p/1") == b"x"
    with pytest.raises(InvalidInputError):
        store.remove_partials("tile/0/001.p/1")


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "tile/0/../../../x", "tile", ""])
def test_folder_knows_no_other_paths(tmp_path: Path, path: str) -> None:
    store = FolderTiles(tmp_path)
    with pytest.raises(InvalidInputError):
        store.read(path)
    with pytest.raises(InvalidInputError):
        store.write(path, b"x")
    with pytest.raises(InvalidInputError):
        store.remove_partials(path)


def test_folder_refuses_what_is_no_plain_file_of_fitting_size(tmp_path: Path) -> None:
    store = FolderTiles(tmp_path)
    (tmp_path / "tile/0/001").mkdir(parents=True)
    os.mkfifo(tmp_path / TILE)
    (tmp_path / "tile/0/002").write_bytes(b"x" * (MAX_TILE + 1))
    for path in (TILE, "tile/0/001", "tile/0/002"):
        with pytest.raises(VerificationError) as caught:
            store.read(path)
        assert caught.value.where == path
    with pytest.raises(InvalidInputError):
        store.write(TILE, b"x" * (MAX_TILE + 1))


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "tile").write_bytes(b"a file in the way")
    store = FolderTiles(tmp_path)
    with pytest.raises(UnavailableError, match="log folder"):
        store.write(TILE, b"x")
    assert store.read(TILE) is None


def test_folder_that_cannot_be_read_or_cleared(tmp_path: Path) -> None:
    store = FolderTiles(tmp_path)
    (tmp_path / "checkpoint").symlink_to("checkpoint")
    with pytest.raises(UnavailableError, match="symbolic links"):
        store.read("checkpoint")
    (tmp_path / f"{TILE}.p/3").mkdir(parents=True)
    with pytest.raises(UnavailableError):
        store.remove_partials(TILE)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    store = FolderTiles(tmp_path)
    store.write("tile/0/001", b"x")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnavailableError, match="No space left"):
        store.write(TILE, b"x")
    assert [p.name for p in (tmp_path / "tile/0").iterdir()] == ["001"]
