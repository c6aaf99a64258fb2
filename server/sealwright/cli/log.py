"""Verifying the transparency log and its proofs, offline."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import click

from sealwright.cli.frame import emit_json, json_option
from sealwright.errors import InvalidInputError, UnavailableError, VerificationError
from sealwright.transparency.folder import FolderTiles
from sealwright.transparency.note import MAX_NOTE
from sealwright.transparency.proof import MAX_BUNDLE_TEXT, verify_bundle
from sealwright.transparency.tiles import CHECKPOINT_PATH
from sealwright.transparency.verify import verify_log

_LOG_FAILS = (
    "Fetch the folder again, to rule out a damaged copy. If it fails again, keep folder, database "
    'and saved checkpoints as they are: see "When something does not verify" in docs/log.md.'
)
_PROOF_FAILS = (
    "Fetch artifact and proof again, and compare the verifier key with its source. If it fails "
    'again, do not use the artifact: see "When something does not verify" in docs/log.md.'
)

key_option = click.option(
    "--key",
    required=True,
    metavar="VKEY",
    help="The log's verifier key, or a file that holds it; from a source that you trust.",
)


@click.group()
def log() -> None:
    """Verify the log of every signature, and proofs from it, without any server."""


@log.command(name="verify")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@key_option
@click.option(
    "--saved",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoint kept since earlier, which the log must continue.",
)
@json_option
def log_verify(
    folder: Path,
    key: str,
    saved: Path | None,
    as_json: bool,  # noqa: FBT001 - a flag of the command
) -> None:
    """Verify every leaf and tile of the log published in FOLDER.

    Fails on any change, deletion, insertion, swap or truncation. With --saved, not even the holder
    of the log's key can rewrite what that checkpoint covers.
    """
    tiles = FolderTiles(folder)
    checkpoint = tiles.read(CHECKPOINT_PATH)
    if checkpoint is None:
        message = f"{folder} holds no checkpoint."
        raise InvalidInputError(message, advice="Name the folder of setting log_export.")
    with _advising(_LOG_FAILS):
        report = verify_log(
            tiles,
            checkpoint,
            _key(key),
            saved_checkpoint=_bounded(saved, MAX_NOTE) if saved else None,
        )
    open_intents = [intent.sequence for intent in report.unmatched_intents]
    facts = {
        "origin": report.checkpoint.origin,
        "size": report.checkpoint.size,
        "root": report.checkpoint.root.hex(),
        "continues": report.saved.size if report.saved else None,
        "files": report.files,
        "unmatched_intents": open_intents,
    }
    if as_json:
        emit_json(facts)
        return
    click.echo(f"{facts['origin']}: {facts['size']} leaves verified, root {facts['root']}")
    if report.saved:
        click.echo(f"It continues the checkpoint of {report.saved.size} leaves.")
    if open_intents:
        click.echo(f"Intents to sign without a recorded outcome, by leaf: {open_intents}")


@log.group(name="proof")
def proof() -> None:
    """Proofs that an artifact was released."""


@proof.command(name="verify")
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--artifact",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The signed artifact that the proof is about.",
)
@key_option
@json_option
def proof_verify(
    bundle: Path,
    artifact: Path,
    key: str,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Check that the log records the release of an artifact, by its .tlog-proof file."""
    with artifact.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    with _advising(_PROOF_FAILS):
        fact = verify_bundle(_bounded(bundle, MAX_BUNDLE_TEXT), _key(key), sha256)
    event = fact.entry.event
    if as_json:
        emit_json(
            {
                "output": fact.output,
                "sha256": sha256,
                "leaf": fact.entry.sequence,
                "request": event.request,
                "policy_hash": event.policy_hash,
                "time": event.time,
                "checkpoint_size": fact.checkpoint.size,
            }
        )
        return
    when = event.time.isoformat(timespec="seconds")
    click.echo(f"{fact.output}: released {when} by request {event.request}")
    click.echo(f"Leaf {fact.entry.sequence} of {fact.checkpoint.origin}")


def _key(value: str) -> str:
    """The key itself, or the first line of the file of that name."""
    path = Path(value)
    if "+" in value or not path.is_file():
        return value.strip()
    return (_bounded(path, 4096).decode(errors="replace").splitlines() or [""])[0].strip()


def _bounded(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}."
        raise UnavailableError(message) from None
    if len(content) > limit:
        message = f"{path} is larger than {limit} bytes: it is something else."
        raise InvalidInputError(message)
    return content


@contextlib.contextmanager
def _advising(advice: str) -> Iterator[None]:
    """Whatever is found, what to do about it is the same."""
    try:
        yield
    except VerificationError as error:
        error.advice = f"{error.advice} {advice}".strip()
        raise


COMMANDS = [log]
