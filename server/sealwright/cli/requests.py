"""Signing requests on a server, over its API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sealwright.cli.frame import (
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    emit_json,
    json_option,
    pairs,
)
from sealwright.cli.progress import Display
from sealwright.client import Client, Json, Submission
from sealwright.errors import InvalidInputError, PasskeyRequiredError

F = TypeVar("F", bound=Callable[..., Any])

_ORIGIN = (
    "repository_url",
    "branch",
    "commit",
    "source_control",
    "build_url",
    "build_settings_file",
)


def server_options(function: F) -> F:
    """``--url``, ``--token`` and ``--patience``."""
    for option in (
        click.option(
            "--patience",
            type=click.FloatRange(0),
            default=60.0,
            show_default=True,
            help="Seconds to try again while the server is away.",
        ),
        click.option(
            "--token",
            envvar="SEALWRIGHT_TOKEN",
            show_envvar=True,
            required=True,
            help="API token. Better in the variable: arguments can be seen by other users.",
        ),
        click.option(
            "--url",
            envvar="SEALWRIGHT_URL",
            show_envvar=True,
            default="http://127.0.0.1:8080",
            show_default=True,
            help="Address of the server.",
        ),
    ):
        function = option(function)
    return function


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--project", help="Slug or id; not needed with a policy's id.")
@click.option("--policy", required=True, help="Slug or id of the signing policy.")
@click.option("--configuration", help="Artifact configuration.  [default: the project's]")
@click.option("--description", default="", help="For the people who approve it.")
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    callback=pairs,
    metavar="NAME=VALUE",
    help="Parameter of the artifact configuration; may be repeated.",
)
@click.option(
    "--origin",
    multiple=True,
    callback=pairs,
    metavar="NAME=VALUE",
    help=f"Where it comes from, as a claim: {', '.join(_ORIGIN)}.",
)
@click.option("--wait", is_flag=True, help="Wait until it is signed, failed, denied or canceled.")
@click.option(
    "--timeout",
    type=click.FloatRange(1),
    default=3600.0,
    show_default=True,
    help="Seconds to wait at most.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to put the signed artifact; implies --wait.",
)
@json_option
@server_options
def submit(
    file: Path,
    project: str | None,
    policy: str,
    configuration: str | None,
    description: str,
    parameters: dict[str, str],
    origin: dict[str, str],
    wait: bool,  # noqa: FBT001 - a flag of the command
    timeout: float,
    output: Path | None,
    as_json: bool,  # noqa: FBT001
    url: str,
    token: str,
    patience: float,
) -> None:
    """Have FILE signed by a server.

    Without --wait the request's id is written and the command ends. Exit status 3 says that the
    time was over and the request is still under way; 1 that it failed, was denied or canceled.

    \b
    Example:
      sealwright submit app.zip --project app --policy release --wait --output signed.zip
    """
    unknown = set(origin) - set(_ORIGIN)
    if unknown:
        message = f"{min(unknown)!r} is no fact about an origin."
        raise InvalidInputError(message, advice=f"There are {', '.join(_ORIGIN)}.")
    submission = Submission(project, policy, configuration, description, parameters, origin)
    display = Display(quiet=as_json)
    with Client(url, token, patience=patience) as client:
        with display.moving("Uploading", file.stat().st_size) as progress:
            request = client.submit(file, submission, progress)
        if wait or output:
            request = _wait(client, display, request["id"], timeout)
            if output and request["state"] == "Completed":
                _download(client, display, request, output)
    _tell(request, as_json=as_json)
    if wait or output:
        _exit_by(request)


@click.group()
def request() -> None:
    """Look at signing requests, decide on them, fetch their results."""


@request.command(name="show")
@click.argument("request_id")
@click.option("--wait", is_flag=True, help="Wait until its state is final.")
@click.option("--timeout", type=click.FloatRange(1), default=3600.0, show_default=True)
@json_option
@server_options
def request_show(
    request_id: str,
    wait: bool,  # noqa: FBT001
    timeout: float,
    as_json: bool,  # noqa: FBT001
    url: str,
    token: str,
    patience: float,
) -> None:
    """Show one request."""
    with Client(url, token, patience=patience) as client:
        found = (
            _wait(client, Display(quiet=as_json), request_id, timeout)
            if wait
            else client.get(f"signing-requests/{request_id}")
        )
    _tell(found, as_json=as_json)
    if wait:
        _exit_by(found)


@request.command(name="plan")
@click.argument("request_id")
@json_option
@server_options
def request_plan(
    request_id: str,
    as_json: bool,  # noqa: FBT001
    url: str,
    token: str,
    patience: float,
) -> None:
    """Show what is signed in the artifact of a request, or would be once it is approved."""
    with Client(url, token, patience=patience) as client:
        found = client.get(f"signing-requests/{request_id}/plan")
    if as_json:
        emit_json(found)
        return
    click.echo("Would be signed:" if found["ahead"] else "Signed by this plan:")
    _tell_planned(found["plan"]["root"], 1)
    for warning in found["plan"].get("warnings", ()):
        click.echo(f"Warning: {warning}", err=True)


def _tell_planned(node: Json, depth: int) -> None:
    done = ", ".join(each["name"] for each in node["directives"])
    name = node["member"] or node["path"]
    # names come out of the artifact: what moves a terminal's cursor is not written
    line = f"{name}  <{node['element']}>{'  ' + done if done else ''}"
    click.echo("  " * depth + "".join(c if c.isprintable() else "\ufffd" for c in line))
    for child in node["children"]:
        _tell_planned(child, depth + 1)


@request.command(name="download")
@click.argument("request_id")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="[default: its name]"
)
@server_options
def request_download(
    request_id: str, output: Path | None, url: str, token: str, patience: float
) -> None:
    """Fetch the signed artifact; its digest is checked."""
    with Client(url, token, patience=patience) as client:
        found = client.get(f"signing-requests/{request_id}")
        name = Path((found.get("output") or {}).get("file_name") or "signed").name
        target = output or Path(name)
        _download(client, Display(quiet=False), found, target)
    click.echo(target)


def _deciding(name: str, field: str, text: str) -> click.Command:
    """A command that posts one decision."""

    @click.command(name=name, help=text)
    @click.argument("request_id")
    @click.option(f"--{field}", "words", default="", help="Words for the record.")
    @json_option
    @server_options
    def decide(
        request_id: str,
        words: str,
        as_json: bool,  # noqa: FBT001
        url: str,
        token: str,
        patience: float,
    ) -> None:
        with Client(url, token, patience=patience) as client:
            found = client.post(f"signing-requests/{request_id}/{name}", {field: words})
        _tell(found, as_json=as_json)

    return decide


@request.command(name="approve")
@click.argument("request_id")
@click.option("--comment", default="", help="Words for the record.")
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=600.0,
    show_default=True,
    help="Seconds to wait for the passkey, where the policy wants one.",
)
@json_option
@server_options
def request_approve(
    request_id: str,
    comment: str,
    timeout: float,
    as_json: bool,  # noqa: FBT001
    url: str,
    token: str,
    patience: float,
) -> None:
    """Approve a request that waits for it.

    Where its policy counts only approvals by passkey, the page to approve on is written, and the
    command waits until you have. Exit status 3 says that the time was over before.
    """
    with Client(url, token, patience=patience) as client:
        try:
            found = client.post(f"signing-requests/{request_id}/approve", {"comment": comment})
        except PasskeyRequiredError as error:
            click.echo(f"{error.message} {error.advice}", err=True)
            me = client.get("me")["id"]
            with Display(quiet=as_json).waiting("Waiting for the passkey"):
                found = client.wait_for_decision(request_id, me, timeout)
            if not any(one["user"]["id"] == me for one in found["approvals"]):
                _tell(found, as_json=as_json)
                waits = found["state"] == "WaitingForApproval"
                click.get_current_context().exit(EXIT_UNAVAILABLE if waits else EXIT_REFUSED)
    _tell(found, as_json=as_json)


request.add_command(_deciding("deny", "comment", "Deny a request: it is not signed."))
request.add_command(_deciding("cancel", "reason", "Cancel a request that is not final."))


def _wait(client: Client, display: Display, request_id: str, timeout: float) -> Json:
    with display.waiting("Waiting") as label:
        return client.wait(
            request_id, timeout, lambda found: label(standing(found)), follow=display.shown
        )


def standing(found: Json) -> str:
    """State, and what it waits for or how far the worker has come: ``Processing: signing 120 of 242
    files``."""
    if found["state"] == "WaitingForEndorsement":
        return f"{found['state']}: {found['reason']}"
    progress = found.get("progress")
    if not progress:
        return str(found["state"])
    files = f" {progress['done']} of {progress['files']} files" if progress["files"] else ""
    return f"{found['state']}: {progress['stage']}{files}"


def _download(client: Client, display: Display, found: Json, target: Path) -> None:
    size = (found.get("output") or {}).get("size", 0)
    with display.moving("Downloading", size) as progress:
        client.download(found, target, progress)


def _tell(found: Json, *, as_json: bool) -> None:
    if as_json:
        emit_json(found)
        return
    click.echo(f"{found['id']}  {found['state']}")
    if found.get("reason"):
        click.secho(found["reason"], err=True, fg="red")
    if found.get("advice"):
        click.echo(found["advice"], err=True)


def _exit_by(found: Json) -> None:
    if found["state"] != "Completed":
        status = EXIT_REFUSED if found["is_final"] else EXIT_UNAVAILABLE
        click.get_current_context().exit(status)


COMMANDS = [submit, request, request.commands["approve"], request.commands["deny"]]
