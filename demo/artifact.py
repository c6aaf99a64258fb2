"""The demo's artifact: real Windows programs of others, one wheel of them still inside a ZIP."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
#: every member gets this time, so that the same programs make the same artifact
MEMBER_TIME = (2026, 1, 1, 0, 0, 0)

CONFIGURATION = """\
<?xml version="1.0" encoding="utf-8"?>
<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <zip-file>
    <pe-file path="launchers/*.exe" max-matches="unbounded">
      <authenticode-sign hash-algorithm="sha256" description="Sealwright demo"/>
    </pe-file>
    <zip-file path="wheels/*.whl" min-matches="0" max-matches="unbounded">
      <pe-file path="**/*.pyd" max-matches="unbounded">
        <authenticode-sign hash-algorithm="sha384"/>
      </pe-file>
    </zip-file>
    <file path="README.txt">
      <create-cms-signature output-file-name="${file.name}.p7s" output-encoding="pem"/>
      <create-raw-signature output-file-name="${file.name}.sig"/>
    </file>
  </zip-file>
</artifact-configuration>
"""


def build(folder: Path) -> tuple[Path, Path]:
    """Make ``release.zip`` and ``release.xml`` in `folder`; returns their paths.

    The programs come from the wheels that ``wheels.lock`` names by hash. Where the package registry
    is out of reach, the launchers that pip itself carries have to do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wheels = _wheels(folder / "wheels")
    members: dict[str, bytes] = {"README.txt": b"Programs of others, signed by a demo.\n"}
    for wheel in wheels:
        if not wheel.name.startswith("setuptools"):
            members[f"wheels/{wheel.name}"] = wheel.read_bytes()
            continue
        with zipfile.ZipFile(wheel) as archive:
            members |= {
                f"launchers/{Path(name).name}": archive.read(name)
                for name in archive.namelist()
                if name.endswith(".exe")
            }
    if not wheels:
        members |= {f"launchers/{path.name}": path.read_bytes() for path in _pip_launchers()}
    artifact = folder / "release.zip"
    with zipfile.ZipFile(artifact, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(name, MEMBER_TIME), content, zipfile.ZIP_DEFLATED)
    configuration = folder / "release.xml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    return artifact, configuration


def _wheels(folder: Path) -> list[Path]:
    if not folder.is_dir() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            folder,
        ]
        command += ["--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
        command += ["--platform", "win_amd64", "--implementation", "cp", "--python-version", "3.12"]
        command += ["--requirement", HERE / "wheels.lock"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            print("The demo's wheels cannot be fetched; taking pip's own launchers instead.")
    return sorted(folder.glob("*.whl"))


def _pip_launchers() -> list[Path]:
    found = sorted(Path(sys.prefix).glob("lib/python*/site-packages/pip/_vendor/distlib/*.exe"))
    if not found:
        sys.exit("No Windows programs at hand. Give some: make demo ARTIFACT=... CONFIGURATION=...")
    return found
