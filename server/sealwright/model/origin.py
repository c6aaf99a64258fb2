"""Where an artifact says it comes from, and what of that has been verified."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """The origin of an artifact.

    `verified` tells whether a trusted build system confirmed the facts. While it is False every
    value is a claim of the submitter: shown as such, and never enough for a policy that requires
    a verified origin.
    """

    verified: bool = False
    repository_url: str = ""
    branch: str = ""
    commit: str = ""
    source_control: str = ""
    build_url: str = ""
    build_settings_file: str = ""
