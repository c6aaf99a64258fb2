"""Where the samples and tools beside the repository are, if they are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI") == "true"


def missing(reason: str) -> None:
    """Skip with the reason; in CI fail, since nothing may be skipped there."""
    if IN_CI:
        pytest.fail(f"{reason} (in CI nothing is skipped)")
    pytest.skip(reason)


def shared_dir() -> Path:
    """``$SEALWRIGHT_SHARED`` or the folder ``shared`` beside the repository."""
    folder = Path(os.environ.get("SEALWRIGHT_SHARED") or REPOSITORY.parent / "shared")
    if not (folder / "samples").is_dir():
        missing(f"no shared samples beside the repository ({folder.name}/samples)")
    return folder


def sample(name: str) -> Path:
    """One of the shared samples."""
    return shared_dir() / "samples" / name


def tool(name: str) -> str:
    """The path of a program on PATH; skips (fails in CI) where it is missing."""
    path = shutil.which(name)
    if path is None:
        missing(f"{name} is not installed")
    assert path is not None
    return path
