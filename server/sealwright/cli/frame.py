"""What every command has: settings, errors as messages with an exit status, help in sections."""

from __future__ import annotations

import asyncio
import functools
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


class Manual(click.Group):
    """A group whose help lists the commands in sections, and whose errors are ours."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections: list[tuple[str, list[click.Command]]] = []

    def add_section(self, title: str, commands: Sequence[click.Command]) -> None:
        """Add commands under a heading."""
        self.sections.append((title, list(commands)))
        for command in commands:
            self.add_command(command)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        width = max(len(str(c.name)) for _, commands in self.sections for c in commands)
        for title, commands in self.sections:
            rows = [(str(c.name).ljust(width), c.get_short_help_str(100 - width)) for c in commands]
            with formatter.section(title):
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


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Write one JSON document instead of text."
)
