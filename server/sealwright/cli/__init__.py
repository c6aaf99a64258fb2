"""The command line. Each module holds one group of commands; this one puts them together."""

from __future__ import annotations

from pathlib import Path

import click

from sealwright import __version__
from sealwright.cli.frame import Manual, Sealwright, Section

SECTIONS = (
    Section(
        "Server",
        "sealwright.cli.server",
        ("up", "web", "worker", "signer", "tsa", "db", "settings"),
    ),
    Section(
        "Administration",
        "sealwright.cli.administration",
        ("init", "setup-link", "user", "token"),
    ),
    Section("Certificates", "sealwright.cli.certificates", ("certificate",)),
    Section("Keys of GitHub Apps", "sealwright.cli.app_keys", ("app-key",)),
    Section("Trusted passkeys", "sealwright.cli.trust", ("trust",)),
    Section(
        "Signing requests", "sealwright.cli.requests", ("submit", "request", "approve", "deny")
    ),
    Section("Projects", "sealwright.cli.proposals", ("propose",)),
    Section("Without a server", "sealwright.cli.engine", ("sign", "verify", "plan", "analyze")),
    Section("Transparency log", "sealwright.cli.log", ("log",)),
)

EPILOG = """\b
Settings come from --config (TOML), then SEALWRIGHT_* variables, then options:
  SEALWRIGHT_CONFIG   settings file
  SEALWRIGHT_DATA     folder of the embedded server
  SEALWRIGHT_URL      server that 'submit', 'request' and others ask
  SEALWRIGHT_TOKEN    API token for it

\b
Exit status:
  0  done
  1  refused or failed; the message names the line or member at fault
  2  wrong usage or settings
  3  a part is unavailable; trying again may help

\b
Examples:
  sealwright up
  sealwright init --organization acme --email admin@example.com
  sealwright submit app.zip --project app --policy release --wait --output signed.zip
  sealwright verify signed.zip
"""


@click.group(
    cls=Manual,
    sections=SECTIONS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="sealwright")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="SEALWRIGHT_CONFIG",
    help="Settings file (TOML).",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that holds everything the embedded server keeps.",
)
@click.pass_context
def cli(context: click.Context, config: Path | None, data: Path | None) -> None:
    """Self-hosted, CI-native code signing.

    'sealwright up' runs the whole server from one command. CI jobs and people use 'submit'. 'sign',
    'verify', 'plan' and 'analyze' work on files without any server.
    """
    context.obj = Sealwright(config, data)


def main() -> None:
    """Run the command line; never returns."""
    cli(prog_name="sealwright")
