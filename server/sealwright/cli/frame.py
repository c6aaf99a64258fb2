"""What every command has: settings, errors as messages with an exit status, help in sections."""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from sealwright import config
from sealwright.config import Settings
from sealwright.errors import (
    ConfigurationError,
    SealwrightError,
    TimestampError,
    TooManyRequestsError,
    UnavailableError,
)

EXIT_REFUSED, EXIT_USAGE, EXIT_UNAVAILABLE = 1, 2, 3
T = TypeVar("T")


@dataclass(frozen=True)
class Sealwright:
    """What the options before the command say."""

    config: Path | None
    data: Path | None

    def settings(self, **overrides: Any) -> Settings:
        """The settings.

        Raises:
            ConfigurationError: they are not valid.
        """
        return config.load(self.config, data=self.data, **overrides)


pass_sealwright = click.make_pass_decorator(Sealwright)


@dataclass(frozen=True)
class Section:
    """Commands under one heading of the help, in `COMMANDS` of one module. The module is imported
    when one of them is asked for: a part of the server starts faster without the others' imports.
    """

    title: str
    module: str
    names: tuple[str, ...]

    def command(self, name: str) -> click.Command:
        """The command of that name."""
        commands: Sequence[click.Command] = importlib.import_module(self.module).COMMANDS
        return next(command for command in commands if command.name == name)


class Manual(click.Group):
    """A group whose help lists the commands in sections, and whose errors are ours."""

    def __init__(self, *args: Any, sections: Sequence[Section], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Names in the order of the sections."""
        return [name for section in self.sections for name in section.names]

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """The command, imported now."""
        found = next((section for section in self.sections if name in section.names), None)
        return found.command(name) if found else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        width = max(map(len, self.list_commands(ctx)))
        for section in self.sections:
            commands = [section.command(name) for name in section.names]
            rows = [
                (str(one.name).ljust(width), one.get_short_help_str(100 - width))
                for one in commands
            ]
            with formatter.section(section.title):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; our errors become a message and an exit status."""
        try:
            return super().invoke(ctx)
        except SealwrightError as error:
            report(error)
            ctx.exit(exit_status(error))
        except BrokenPipeError:
            # the reader of our output has gone; nobody is left to tell
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(EXIT_REFUSED)


def exit_status(error: SealwrightError) -> int:
    """The exit status for an error."""
    if isinstance(error, ConfigurationError):
        return EXIT_USAGE
    if isinstance(error, UnavailableError | TimestampError | TooManyRequestsError):
        return EXIT_UNAVAILABLE
    return EXIT_REFUSED


def report(error: SealwrightError) -> None:
    """Tell of an error on standard error: what is wrong, where, and what to do."""
    place = f"{error.where}: " if error.where else ""
    click.secho(f"Error: {place}{error.message}", err=True, fg="red")
    if error.advice:
        click.echo(error.advice, err=True)


def emit_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def asynchronous(function: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., T]:
    """Let an asynchronous function be a command."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> T:
        return asyncio.run(function(*args, **kwargs))

    return run


def serving(function: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., T]:
    """Let an asynchronous function be a command that serves: on uvloop, which takes a fraction of
    the processor time of asyncio's own event loop, and is not worth loading for a short command."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> T:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(function(*args, **kwargs))

    return run


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Write one JSON document instead of text."
)


def pairs(_context: click.Context, parameter: click.Parameter, values: Any) -> dict[str, str]:
    """NAME=VALUE options as a dictionary."""
    split = [value.partition("=") for value in values]
    for name, equals, _ in split:
        if not name or not equals:
            message = f"{name!r} is not of the form NAME=VALUE."
            raise click.BadParameter(message, param=parameter)
    return {name: value for name, _, value in split}
