"""Temporary files: how many of them are in memory."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from sealwright.errors import ArtifactError
from sealwright.signing import spool
from sealwright.signing.spool import Spool


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_MEMORY", 100)


def test_files_count_from_their_first_byte_on(tmp_path: Path) -> None:
    """As many as signatures that are waited for are started before the first is written."""
    files = Spool(tmp_path, 1000)
    started = [files.start(30) for _ in range(5)]
    assert [isinstance(each, io.BytesIO) for each in started] == [True] * 5
    started[0].writelines([bytes(30), bytes(30)])
    started[0].seek(10)
    started[0].write(bytes(20))  # it does not grow
    assert isinstance(files.start(40), io.BytesIO)
    assert not isinstance(files.start(41), io.BytesIO)
    started[1].write(bytes(11))
    assert not isinstance(files.start(30), io.BytesIO)
    files.abandon(started[0])
    assert isinstance(files.start(89), io.BytesIO)


def test_what_has_grown_beyond_memory_goes_to_the_disk(tmp_path: Path) -> None:
    files = Spool(tmp_path, 1000)
    started = [files.start(30) for _ in range(5)]
    for number, each in enumerate(started):
        each.write(bytes([number]) * 30)
    made = [files.adopt(each) for each in started]
    assert [isinstance(each.content, bytes) for each in made] == [False] * 2 + [True] * 3
    for number, each in enumerate(made):
        with each.open() as content:
            assert content.read() == bytes([number]) * 30
    assert files.used == 150
    for each in made:
        files.release(each)
    assert (files.used, list(tmp_path.iterdir())) == (0, [])


def test_what_a_file_has_counts_and_not_what_was_expected(tmp_path: Path) -> None:
    files = Spool(tmp_path, 1000)
    small = [files.create(lambda file: file.write(b"."), 90) for _ in range(10)]
    large = files.create(lambda file: file.write(bytes(91)), 91)
    assert isinstance(large.content, Path)
    for each in (*small, large):
        files.release(each)
    assert isinstance(files.start(100), io.BytesIO)
    assert files.used == 0


def test_the_limit_holds_for_files_that_are_being_written(tmp_path: Path) -> None:
    files = Spool(tmp_path, 1000)
    first, second = files.start(400), files.start(400)
    assert files.used == 800
    with pytest.raises(ArtifactError, match="1000 bytes of temporary space"):
        files.start(201)
    first.write(bytes(500))  # a little more than was expected
    made = files.adopt(first)
    assert files.used == 900
    files.abandon(second)
    assert files.used == 500
    files.release(made)
    assert (files.used, list(tmp_path.iterdir())) == (0, [])
