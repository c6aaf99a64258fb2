"""What cannot be signed is said by the plan, before anybody approves anything."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from tests import app_packages, pe_images
from tests.artifacts import launcher
from tests.fakes.cabinets import File, Folder
from tests.fakes.cabinets import build as build_cabinet
from tests.fakes.installers import Installed
from tests.fakes.installers import build as build_installer
from tests.toy import archive, configuration

from sealwright.errors import ArtifactError
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.engine import verify_file
from sealwright.signing.plan import build_plan
from sealwright.signing.spool import Spool

SIGN = "<authenticode-sign/>"
DETACHED = "<create-cms-signature output-file-name='x.p7'/>"
OTHERS = build_cabinet([Folder([File(b"a", b"a")], reserve=b"mine")])
GAPS = pe_images.image(subsystem=10, gap=512)
APP = app_packages.package({"app.exe": launcher().read_bytes()})
QUANTUM = build_cabinet([Folder([File(b"a.exe", b"a")], 0x0472)])


def planned(content: bytes, body: str, folder: Path) -> None:
    parsed = parse_configuration(configuration(body)).resolve({})
    build_plan(io.BytesIO(content), "a", parsed, signing_time=0, spool=Spool(folder, 1 << 30))


@pytest.mark.parametrize(
    ("content", "body", "reason", "advice"),
    [
        (OTHERS, f"<cab-file>{SIGN}</cab-file>", "reserved areas", "without them"),
        (GAPS, f"<pe-file>{SIGN}</pe-file>", "gaps between its sections", "Link it"),
        (
            APP,
            f'<appx-file><file path="app.exe">{DETACHED}</file></appx-file>',
            "No file can be added",
            "ZIP archive",
        ),
        (
            APP,
            f'<zip-file><pe-file path="app.exe">{SIGN}</pe-file></zip-file>',
            "block map would be wrong",
            "Use <appx-file>",
        ),
        (
            QUANTUM,
            f'<cab-file><pe-file path="a.exe">{SIGN}</pe-file></cab-file>',
            "is compressed by Quantum",
            "make the cabinet with MSZIP",
        ),
    ],
    ids=["cabinet", "efi", "added", "index", "quantum"],
)
def test_the_plan_refuses(
    content: bytes, body: str, reason: str, advice: str, tmp_path: Path
) -> None:
    inside = "<zip-file>" + body.replace("-file>", '-file path="in">', 1) + "</zip-file>"
    for data, meant in ((content, body), (archive({"in": content}), inside)):
        with pytest.raises(ArtifactError, match=reason) as caught:
            planned(data, meant, tmp_path)
        assert advice in caught.value.advice


@pytest.mark.parametrize(
    ("content", "body"),
    [
        (OTHERS, '<cab-file path="in"/>'),
        (GAPS, '<pe-file path="in"/>'),
        (APP, f'<appx-file path="in"><pe-file path="app.exe">{SIGN}</pe-file></appx-file>'),
        (APP, '<zip-file path="in"><pe-file path="app.exe"/></zip-file>'),
        (QUANTUM, f'<cab-file path="in">{SIGN}</cab-file>'),
    ],
    ids=["cabinet", "efi", "app", "archive", "quantum"],
)
def test_what_only_stays_is_not_refused(content: bytes, body: str, tmp_path: Path) -> None:
    other = f'<file path="other">{DETACHED}</file>'
    planned(archive({"in": content, "other": b""}), f"<zip-file>{body}{other}</zip-file>", tmp_path)


def test_files_outside_of_an_installer_do_not_end_the_search(tmp_path: Path) -> None:
    file = tmp_path / "a.msi"
    file.write_bytes(
        build_installer(
            [
                Installed("a", "a.txt", b"a", cabinet="files.cab"),
                Installed("b", "b.exe", launcher().read_bytes(), cabinet="#b.cab"),
                Installed("c", "c.txt", b"c", cabinet=None),
            ]
        )
    )
    closed: list[str] = []
    assert verify_file(file, closed=closed.append) == []
    assert sorted(closed) == ["a.msi!/Example App/a.txt", "a.msi!/Example App/c.txt"]
