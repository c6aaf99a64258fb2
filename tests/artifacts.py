"""Artifacts for end-to-end tests: real Windows programs, which come with pip, in archives."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pip._vendor.distlib

CONFIGURATION = """<?xml version="1.0" encoding="utf-8"?>
<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <zip-file>
    <pe-file path="*.exe" max-matches="unbounded"><authenticode-sign/></pe-file>
    <zip-file path="inner.zip">
      <pe-file path="app.exe"><authenticode-sign/></pe-file>
    </zip-file>
  </zip-file>
</artifact-configuration>
"""


def launcher(name: str = "w64.exe") -> Path:
    """A launcher: a real PE file of about 100 KB."""
    return Path(pip._vendor.distlib.__file__).parent / name


def build_artifact(target: Path, programs: int = 2) -> Path:
    """A ZIP archive with `programs` programs, another archive with one, and a text.

    `CONFIGURATION` signs `programs` + 1 of its files. No two have equal content.
    """
    content = launcher().read_bytes()
    names = ["app.exe", "tool.exe", *(f"more-{number}.exe" for number in range(programs - 2))]
    inner = target.with_suffix(".inner")
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("app.exe", launcher("t64.exe").read_bytes())
        made.writestr("data/readme.txt", "Inner\n")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for number, name in enumerate(names[:programs]):
            made.writestr(name, _distinct(content, number))
        made.write(inner, "inner.zip")
        made.writestr("readme.txt", "Hello\n")
    inner.unlink()
    return target


def _distinct(content: bytes, number: int) -> bytes:
    """The program with another DOS stub message, which no loader reads."""
    place = content.index(b"This program cannot")
    mark = f"No. {number:6d}".encode()
    return content[:place] + mark + content[place + len(mark) :]
