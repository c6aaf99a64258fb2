"""Temporary files: how many of them are in memory."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from sealwright.signing import spool
from sealwright.signing.spool import Spool


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_MEMORY", 100)


def test_files_that_are_written_at_a_time_count(tmp_path: Path) -> None:
    """They are as many as signatures that are waited for."""
    files = Spool(tmp_path, 1000)
    started = [files.start(30) for _ in range(5)]
    assert [isinstance(each, io.BytesIO) for each in started] == [True] * 3 + [False] * 2
    for each in started:
        files.abandon(each)
    assert not list(tmp_path.iterdir())


def test_what_a_file_has_counts_and_not_what_was_expected(tmp_path: Path) -> None:
    files = Spool(tmp_path, 1000)
    small = [files.create(lambda file: file.write(b"."), 90) for _ in range(10)]
    large = files.create(lambda file: file.write(bytes(91)), 91)
    assert isinstance(large.content, Path)
    for each in (*small, large):
        files.release(each)
    assert isinstance(files.start(100), io.BytesIO)
    assert files.used == 0
