"""Running the server: as a whole, or its parts one by one."""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sealwright import logs
from sealwright.cli.frame import Sealwright, asynchronous, pass_sealwright, serving
from sealwright.config import Settings

_COLORS = {"error": "red", "critical": "red", "warning": "yellow"}
#: fields of a log line that its text has a place for, or has no need of
_SHOWN = frozenset({"time", "level", "logger", "message", "traceback", "context_id"})


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="0: a free one.  [default: 8080]")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default=None,
    envvar="SEALWRIGHT_LOG_FORMAT",
    help="How the parts' log lines are written.  [default: text on a terminal]",
)
@pass_sealwright
@asynchronous
async def up(
    sealwright: Sealwright, host: str | None, port: int | None, log_format: str | None
) -> None:
    """Run the whole server from one command.

    Starts the web, worker and signer processes, and whatever the settings do not name elsewhere: a
    queue, a SoftHSM token and a test time stamp authority, all below the data folder. Brings the
    database up to date first. A part that dies is started again. Ctrl-C or SIGTERM stops all in
    order; everything is kept for the next start.
    """
    from sealwright.db.migrate import migrate
    from sealwright.supervisor import supervise

    settings = sealwright.settings(host=host, port=port)
    logs.configure(settings.log_level)
    emit = _emitter(log_format or ("text" if sys.stderr.isatty() else "json"))
    logging.getLogger().handlers[:] = [_Handler(emit)]
    await supervise(
        settings, prepare=lambda: migrate(settings.database), emit=emit, ready=_tell_ready
    )


async def _tell_ready(settings: Settings) -> None:
    click.echo(f"Sealwright is ready at {settings.url}", err=True)
    link = await _setup_link(settings)
    if link:
        click.echo(
            "Nobody can log in yet. Open this link, which works once, for a day:\n"
            f"  {link}\n"
            "or, in another terminal:\n"
            f"  sealwright --data {settings.data} init --organization NAME --email ADDRESS",
            err=True,
        )


async def _setup_link(settings: Settings) -> str:
    """A link to set the server up in the browser; empty where that has been done."""
    from sealwright.accounts import is_empty, setup_link
    from sealwright.db import Database

    database = Database(settings.database, pool_size=1)
    try:
        return await setup_link(database, settings.url) if await is_empty(database) else ""
    finally:
        await database.close()


class _Handler(logging.Handler):
    """Writes the supervisor's own lines in the form of its parts'."""

    def __init__(self, emit: Callable[[str, str], None]) -> None:
        super().__init__()
        self.setFormatter(logs.JsonFormatter())
        self._emit = emit

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        self._emit("up", self.format(record))


def _emitter(log_format: str) -> Callable[[str, str], None]:
    return _emit_json if log_format == "json" else _emit_text


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line) if line.startswith("{") else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _emit_json(part: str, line: str) -> None:
    fields = _parsed(line) or {"level": "info", "message": logs.redact(line)}
    click.echo(json.dumps({"part": part} | fields, ensure_ascii=False), err=True)


def _emit_text(part: str, line: str) -> None:
    fields = _parsed(line)
    label = click.style(f"{part:>7} | ", fg="cyan")
    if fields is None:
        click.echo(label + logs.redact(line), err=True)
        return
    color = _COLORS.get(str(fields.get("level", "")))
    extra = "".join(f" {name}={value}" for name, value in fields.items() if name not in _SHOWN)
    trace = f"\n{fields['traceback']}" if "traceback" in fields else ""
    message = click.style(str(fields.get("message", "")), fg=color)
    click.echo(f"{label}{message}{extra}{trace}", err=True)


@click.command()
@click.option("--fd", type=int, hidden=True, help="Listening socket that was inherited.")
@pass_sealwright
def web(sealwright: Sealwright, fd: int | None) -> None:
    """Run one web process: API and pages."""
    from sealwright.web.app import server

    settings = sealwright.settings()
    logs.configure(settings.log_level)
    _end_quietly()
    server(settings).run(sockets=None if fd is None else [socket.socket(fileno=fd)])


@click.command()
@pass_sealwright
@serving
async def worker(sealwright: Sealwright) -> None:
    """Run one worker: takes requests from the queue and has them signed.

    SIGTERM lets the requests under way finish for a while and gives the others back, so that
    another worker goes on with them.
    """
    from sealwright.worker import run

    settings = sealwright.settings()
    logs.configure(settings.log_level)
    await run(settings)


@click.command()
@pass_sealwright
@serving
async def signer(sealwright: Sealwright) -> None:
    """Run the signer: the only process that opens the token."""
    from sealwright.signer.service import serve

    settings = sealwright.settings()
    logs.configure(settings.log_level)
    await serve(settings)


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8081, show_default=True)
@click.option("--fd", type=int, hidden=True, help="Listening socket that was inherited.")
@pass_sealwright
@asynchronous
async def tsa(sealwright: Sealwright, port: int, fd: int | None) -> None:
    """Run the embedded time stamp authority: for tests only, trusted by nobody."""
    from sealwright.supervisor import test_tsa
    from sealwright.supervisor.parts import listen, tsa_folder

    settings = sealwright.settings()
    logs.configure(settings.log_level)
    folder = tsa_folder(settings)
    authority = test_tsa.provide(folder)
    listener = socket.socket(fileno=fd) if fd is not None else listen("127.0.0.1", port)
    if fd is None:
        click.echo(f"http://127.0.0.1:{listener.getsockname()[1]}/, root {folder / test_tsa.ROOT}")
    _end_quietly()
    await test_tsa.serve(authority, listener)


def _end_quietly() -> None:
    """Let a stop that was asked for be exit status 0: uvicorn stops on a signal, and then raises it
    once more for whoever handled it before."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


@click.group()
def db() -> None:
    """Look after the database."""


@db.command(name="migrate")
@pass_sealwright
@asynchronous
async def db_migrate(sealwright: Sealwright) -> None:
    """Bring the database to this version's schema; several processes may do so at once."""
    from sealwright.db.migrate import migrate

    await migrate(sealwright.settings().database)


@click.group(name="settings")
def settings_group() -> None:
    """Look at the settings."""


@settings_group.command(name="show")
@pass_sealwright
def settings_show(sealwright: Sealwright) -> None:
    """Write the settings as they take effect, defaults included. They hold no secrets but those
    in addresses, which are left out."""
    settings = sealwright.settings()
    for name in Settings.model_fields:
        value = getattr(settings, name)
        text = str(value) if isinstance(value, Path) else value
        click.echo(f"{name} = {logs.redact(json.dumps(text, default=str))}")


COMMANDS = [up, web, worker, signer, tsa, db, settings_group]
