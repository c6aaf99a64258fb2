"""The embedded token: made once, whole, and for its owner alone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.softhsm import make_token

from sealwright.errors import ConfigurationError, InvalidInputError
from sealwright.keystores import softhsm
from sealwright.keystores.pins import read_pin


def test_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "token"
    first = softhsm.provide(folder, "release")
    pin = read_pin(folder / "pin")
    before = sorted(folder.rglob("*"))
    assert softhsm.provide(folder, "release") == first
    assert sorted(folder.rglob("*")) == before
    assert read_pin(folder / "pin") == pin
    assert pin != read_pin(folder / "so-pin")
    assert len(pin) == 32
    assert sorted(path.name for path in folder.parent.iterdir()) == ["token"]


def test_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "token"
    softhsm.provide(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("pin", "so-pin"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_is_seen_by_other_programs(tmp_path: Path) -> None:
    made = make_token(tmp_path / "token", "seen")
    shown = subprocess.run(
        ["pkcs11-tool", "--module", made.module, "--list-slots"],
        env={**os.environ, **made.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "seen" in shown.stdout
    assert "PIN initialized" in shown.stdout


def test_only_one_of_two_processes_makes_it(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from sealwright.keystores import softhsm;"
        "softhsm.provide(Path(sys.argv[1])); print((Path(sys.argv[1]) / 'pin').read_text())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "token")]
    racing = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    pins = {process.communicate()[0] for process in racing}
    assert [process.returncode for process in racing] == [0, 0, 0]
    assert len(pins) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["token"]


def test_does_not_take_another_folder(tmp_path: Path) -> None:
    folder = tmp_path / "token"
    folder.mkdir()
    (folder / "precious").write_text("data")
    with pytest.raises(ConfigurationError, match="not a token's"):
        softhsm.provide(folder)
    assert [path.name for path in folder.iterdir()] == ["precious"]


@pytest.mark.parametrize("label", ["", "x" * 33, "a\nb"])
def test_refuses_labels(tmp_path: Path, label: str) -> None:
    with pytest.raises(InvalidInputError):
        softhsm.provide(tmp_path / "token", label)
