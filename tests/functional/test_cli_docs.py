"""Commands, options and settings without a line of documentation fail."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import click
import pytest
from tests.shared import REPOSITORY

from sealwright.cli import SECTIONS, Section, cli
from sealwright.config import Settings


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands(cli))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_every_command_of_a_module_can_be_called(section: Section) -> None:
    made = {command.name for command in importlib.import_module(section.module).COMMANDS}
    assert made == set(section.names)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_command_is_documented(path: tuple[str, ...]) -> None:
    page = (REPOSITORY / "docs" / "cli.md").read_text()
    words = " ".join(path)
    assert f"`{words}`" in page or f"`{words} " in page


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_command_says_what_it_does(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden and option.help is None:
            names = "/".join(option.opts)
            assert names in ("--name", "--email", "--user-name", "--role", "--timeout", "--days",
                             "--usage", "--key-type", "--port", "--sessions"), names  # fmt: skip


@pytest.mark.parametrize("name", Settings.model_fields)
def test_setting_is_documented(name: str) -> None:
    assert f"| `{name}` |" in (REPOSITORY / "docs" / "settings.md").read_text()


def test_page_names_no_setting_that_is_gone() -> None:
    lines = (REPOSITORY / "docs" / "settings.md").read_text().splitlines()
    named = {line.split("`")[1] for line in lines if line.startswith("| `")}
    assert named == set(Settings.model_fields)
