"""Formats: files that can be signed. One module each, one line in `FORMATS`."""

from __future__ import annotations

from sealwright.signing.artifact import Format

FORMATS: tuple[Format, ...] = ()
