"""The container image, the compose file and the systemd units agree with the program.

No engine runs here: what is checked is that the commands, settings and volumes they name exist.
"""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from tests.shared import REPOSITORY

from sealwright.cli import cli
from sealwright.config import Settings

DEPLOY = REPOSITORY / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
VARIABLES = {f"SEALWRIGHT_{name.upper()}" for name in Settings.model_fields} | {"SEALWRIGHT_CONFIG"}


def assert_command(words: list[str]) -> None:
    """Every word names a (sub)command, down to one that runs."""
    command, rest = resolve(words)
    assert not rest, words
    assert not isinstance(command, click.Group), words


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the first words name, and the words after those."""
    command: click.Command = cli
    rest = list(words)
    while rest and isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest[0])
        assert found, words
        command = found
        rest.pop(0)
    return command, rest


def unit(path: Path) -> configparser.RawConfigParser:
    parsed = configparser.RawConfigParser(strict=False)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(path)
    return parsed


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_run_commands_that_exist(path: Path) -> None:
    service = unit(path)["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert program == "/opt/sealwright/bin/sealwright"
    assert_command(words)
    assert service["NoNewPrivileges"] == "true"
    for name in re.findall(r"SEALWRIGHT_\w+", path.read_text()):
        assert name in VARIABLES


def test_units_require_units_that_exist() -> None:
    names = {path.name for path in UNITS}
    for path in UNITS:
        for wanted in unit(path)["Unit"].get("Requires", "").split():
            assert wanted in names


def test_only_the_signer_sees_token_and_pin() -> None:
    for part in ("web", "worker"):
        service = unit(DEPLOY / "systemd" / f"sealwright-{part}.service")["Service"]
        assert "/var/lib/sealwright/token" in service["InaccessiblePaths"]


def test_compose_runs_commands_with_settings_that_exist(compose: dict[str, Any]) -> None:
    ours = {n: s for n, s in compose["services"].items() if s.get("image") == "sealwright"}
    assert set(ours) == {"migrate", "signer", "web", "worker"}
    for service in ours.values():
        assert_command(service["command"])
        for name in service["environment"]:
            assert name in VARIABLES | {"PGPASSFILE"}
        for volume in service.get("volumes", ()):
            assert volume.split(":")[0] in compose["volumes"]


def test_compose_gives_the_token_to_the_signer_alone(compose: dict[str, Any]) -> None:
    holders = [
        name
        for name, service in compose["services"].items()
        if any(volume.startswith("token:") for volume in service.get("volumes", ()))
    ]
    assert holders == ["signer"]


def test_compose_shares_sockets_and_keys_with_those_alone_who_need_them(
    compose: dict[str, Any],
) -> None:
    def holders(volume: str) -> set[str]:
        return {
            name
            for name, service in compose["services"].items()
            if any(one.startswith(f"{volume}:") for one in service.get("volumes", ()))
        }

    assert holders("run") == {"signer", "worker"}, "the web process asks for no signature"
    assert holders("apps") == {"signer", "web", "worker"}
    assert holders("secrets") == {"web", "worker"}
    made = (DEPLOY / "Dockerfile").read_text()
    folders = {one.split(":")[1] for s in compose["services"].values() if s.get("image") ==
               "sealwright" for one in s.get("volumes", ()) if "token" not in one}  # fmt: skip
    for folder in folders:
        name = folder.removeprefix("/var/lib/sealwright/")
        assert re.search(rf"\s{re.escape(name)}(\s|$)", made), f"{folder} would be root's"


def test_image_installs_locked_dependencies_and_runs_a_command_that_exists() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert "--require-hashes --no-deps -r requirements/runtime.lock" in text
    assert re.search(r"^USER sealwright$", text, re.MULTILINE)
    command = re.search(r'^CMD \["(\w+)"\]$', text, re.MULTILINE)
    assert command
    assert_command([command.group(1)])
    for name in re.findall(r"SEALWRIGHT_\w+", text):
        assert name in VARIABLES
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for part in source.split():
            assert (REPOSITORY / part).exists(), part


def test_readme_shows_commands_that_exist() -> None:
    text = (REPOSITORY / "README.md").read_text()
    for line in re.findall(r"^    sealwright (.+?)(?: \\)?$", text, re.MULTILINE):
        words = [word for word in shlex.split(line.rstrip("& \\")) if word != "--json"]
        command, rest = resolve(words)
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= known, line
