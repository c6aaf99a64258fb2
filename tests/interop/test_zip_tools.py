"""Archives of foreign tools are rebuilt, and foreign tools read what was rebuilt."""

from __future__ import annotations

import io
import subprocess
import zipfile
from pathlib import Path

import pytest
from tests.rebuilding import rebuild
from tests.shared import tool

from sealwright.signing.containers.zip import ZipContainer

NEW = b"new content, rather longer than before\n" * 100


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "app.bin").write_bytes(b"app" * 5000)
    (folder / "sub" / "größe.txt").write_text("größe")
    (folder / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "sub" / "run.sh").chmod(0o755)
    (folder / "sub" / "link").symlink_to("run.sh")
    return folder


def make(packer: str, tree: Path) -> Path:
    target = tree.parent / f"{packer.replace(' ', '-')}.zip"
    name = str(target)
    match packer:
        case "zip":
            run(tool("zip"), "-qry", name, ".", cwd=tree)
        case "zip streamed":
            with target.open("wb") as out:
                subprocess.run([tool("zip"), "-qr", "-", "."], cwd=tree, stdout=out, check=True)
        case "zip stored":
            run(tool("zip"), "-qr0", name, ".", cwd=tree)
        case "zip Zip64":
            run(tool("zip"), "-qr", "-fz", name, ".", cwd=tree)
        case "jar":
            run(tool("jar"), "cf", name, ".", cwd=tree)
        case "7z":
            run(tool("7z"), "a", "-tzip", "-mx=9", name, ".", cwd=tree)
    return target


@pytest.mark.parametrize("packer", ["zip", "zip streamed", "zip stored", "zip Zip64", "jar", "7z"])
def test_rebuilt_archives_are_read_by_others(packer: str, tree: Path, tmp_path: Path) -> None:
    source = make(packer, tree)
    result = tmp_path / "result.zip"
    with source.open("rb") as file:
        container = ZipContainer(file, 100)
        same = io.BytesIO()
        rebuild(container, same)
        assert same.getvalue() == source.read_bytes()
        order = next(entry.order for entry in container.entries() if entry.path == "app.bin")
        with result.open("x+b") as target:
            rebuild(container, target, {order: io.BytesIO(NEW)}, {"sub/ä.sig": b"sig"})
    run(tool("unzip"), "-tq", str(result), cwd=tmp_path)
    run(tool("7z"), "t", str(result), cwd=tmp_path)
    listed = run(tool("jar"), "tf", str(result), cwd=tmp_path).splitlines()
    with zipfile.ZipFile(result) as read, zipfile.ZipFile(source) as original:
        assert read.testzip() is None
        assert read.namelist() == [*original.namelist(), "sub/ä.sig"]
        assert len(listed) == len(read.namelist())
        assert read.read("app.bin") == NEW
    out = tmp_path / "out"
    out.mkdir()
    run(tool("unzip"), "-q", str(result), cwd=out)
    assert (out / "app.bin").read_bytes() == NEW
    assert (out / "sub" / "run.sh").stat().st_mode & 0o777 == 0o755 or packer == "jar"
    assert (out / "sub" / "link").is_symlink() == (packer in ("zip", "7z"))
    timed = (tree / "app.bin").stat().st_mtime - (out / "app.bin").stat().st_mtime
    assert abs(timed) <= 2 or packer in ("jar", "7z")
