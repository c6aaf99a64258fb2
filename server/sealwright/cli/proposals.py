"""Proposing an artifact configuration to a project that one may not configure."""

from __future__ import annotations

from pathlib import Path

import click

from sealwright.cli.frame import EXIT_REFUSED, EXIT_UNAVAILABLE, emit_json, json_option
from sealwright.cli.requests import server_options
from sealwright.client import Client, Json
from sealwright.errors import InvalidInputError

_WAIT_SECONDS = 300.0


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--project", required=True, help="Slug or id.")
@click.option("--slug", required=True, help="Of the configuration that it is a version of, or new.")
@click.option("--title", help="For people.  [default: the slug]")
@click.option("--comment", default="", help="Why it should change.")
@click.option(
    "--sample",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Try it on this file first; what would be signed goes with the proposal.",
)
@json_option
@server_options
def propose(
    file: Path,
    project: str,
    slug: str,
    title: str | None,
    comment: str,
    sample: Path | None,
    as_json: bool,  # noqa: FBT001 - a flag of the command
    url: str,
    token: str,
    patience: float,
) -> None:
    """Propose the artifact configuration in FILE to whoever configures the project."""
    try:
        xml = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        message = f"{file.name} is not UTF-8."
        raise InvalidInputError(message, advice="Save it as UTF-8.") from None
    with Client(url, token, patience=patience) as client:
        trial = client.try_sample(project, xml, sample, _WAIT_SECONDS) if sample else None
        if trial and trial["state"] != "done":
            _tell_trial(trial)
        body: Json = {"slug": slug, "name": title or slug, "xml": xml, "comment": comment}
        if trial:
            body["trial"] = trial["id"]
        made = client.post(f"projects/{project}/proposals", body)
    if as_json:
        emit_json(made)
        return
    if trial:
        click.echo(f"Would be signed in {trial['sample_name']}:")
        for path in _signed(trial["plan"]["root"]):
            click.echo(f"  {path}")
        for warning in trial["plan"].get("warnings", ()):
            click.echo(f"Warning: {warning}", err=True)
    click.echo(f"Proposed: {url.rstrip('/')}/projects/{project}/proposals/{made['id']}")


def _tell_trial(trial: Json) -> None:
    """End with what stopped the trial: what does not work is not proposed."""
    if trial["state"] != "failed":
        click.echo("The trial has not ended: is a worker running?", err=True)
        raise SystemExit(EXIT_UNAVAILABLE)
    parts = [trial["where"], trial["fault"], trial["advice"]]
    click.echo(" ".join(part for part in parts if part), err=True)
    raise SystemExit(EXIT_REFUSED)


def _signed(node: Json) -> list[str]:
    own = [node["path"]] if node["directives"] else []
    return own + [path for child in node["children"] for path in _signed(child)]


COMMANDS = [propose]
