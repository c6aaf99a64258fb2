"""The demo as its user runs it, with files of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.artifacts import build_artifact
from tests.shared import REPOSITORY, tool

CONFIGURATION = """<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <zip-file>
    <pe-file path="*.exe" max-matches="unbounded"><authenticode-sign/></pe-file>
  </zip-file>
</artifact-configuration>
"""
#: the demo runs what test_end_to_end.py measures
pytestmark = pytest.mark.untraced

PROMISED = {
    "url", "organization_id", "project_slug", "signing_policy_slug", "release_policy_slug",
    "artifact_configuration_slug", "submitter_token", "administrator", "ca_file",
}  # fmt: skip


def environment(folder: Path, **wanted: str) -> dict[str, str]:
    tool("osslsigncode")
    keep = {name: value for name, value in os.environ.items() if not name.startswith("SEALWRIGHT")}
    return keep | {"DATA": str(folder / "data"), "OUT": str(folder / "signed.zip")} | wanted


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("demo")
    build_artifact(made / "app.zip", programs=3)
    (made / "app.xml").write_text(CONFIGURATION)
    return made


def test_demo_that_is_kept_and_interrupted(folder: Path) -> None:
    wanted = environment(
        folder, ARTIFACT=str(folder / "app.zip"), CONFIGURATION=str(folder / "app.xml"), KEEP="1"
    )
    demo = subprocess.Popen(
        [sys.executable, REPOSITORY / "demo" / "run.py"],
        env=wanted, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    said: list[str] = []
    assert demo.stdout
    for line in demo.stdout:
        said.append(line)
        if line.startswith("Running until"):
            break
    text = "".join(said)
    try:
        assert text.count("✓ osslsigncode") == 3, text
        known = json.loads((folder / "data" / "demo.json").read_text())
        assert set(known) >= PROMISED
        assert (folder / "data" / "demo.json").stat().st_mode & 0o077 == 0
        assert Path(known["ca_file"]).read_text().count("BEGIN CERTIFICATE") == 2
        approve_a_release(known, folder / "app.zip")
    finally:
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) in (0, 130)


def approve_a_release(known: dict[str, Any], artifact: Path) -> None:
    """Go on with what the demo left: a release that waits for its administrator."""
    api = f"{known['url']}/api/v1"
    ci = {"Authorization": f"Bearer {known['submitter_token']}"}
    submitted = httpx.post(
        f"{api}/signing-requests", headers=ci, timeout=60,
        data={"project": known["project_slug"], "signing_policy": known["release_policy_slug"],
              "artifact_configuration": known["artifact_configuration_slug"]},
        files={"artifact": ("app.zip", artifact.read_bytes())},
    )  # fmt: skip
    assert submitted.status_code == 201, submitted.text
    request = submitted.json()
    assert request["state"] == "WaitingForApproval"
    path = f"{api}/signing-requests/{request['id']}"
    assert httpx.post(f"{path}/approve", headers=ci, json={}, timeout=60).status_code == 403
    session = httpx.post(f"{api}/sessions", json=known["administrator"], timeout=60).json()
    administrator = {"Authorization": f"Bearer {session['token']}"}
    approved = httpx.post(f"{path}/approve", headers=administrator, json={}, timeout=60)
    assert approved.is_success, approved.text
    deadline = time.monotonic() + 60
    while request["state"] != "Completed" and time.monotonic() < deadline:
        request = httpx.get(f"{path}?wait=30", headers=ci, timeout=60).json()
    assert request["state"] == "Completed", request["reason"]


@pytest.mark.parametrize(
    ("artifact", "configuration", "says"),
    [
        (None, CONFIGURATION.replace("*.exe", "*.dll"), "line 3"),
        (None, CONFIGURATION.replace("authenticode-sign", "authenticode-sing"), "line 3"),
        (b"not a ZIP", CONFIGURATION, "bad.zip"),
    ],
    ids=["nothing matches", "unknown element", "no archive"],
)
def test_demo_with_a_wrong_file(
    artifact: bytes | None, configuration: str, says: str, folder: Path
) -> None:
    (folder / "bad.xml").write_text(configuration)
    file = folder / ("bad.zip" if artifact else "app.zip")
    if artifact:
        file.write_bytes(artifact)
    done = subprocess.run(
        [sys.executable, REPOSITORY / "demo" / "run.py"],
        env=environment(folder, ARTIFACT=str(file), CONFIGURATION=str(folder / "bad.xml")),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_with_half_of_what_it_needs(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "demo" / "run.py"],
        env=environment(folder, ARTIFACT=str(folder / "app.zip")),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "CONFIGURATION" in done.stderr
