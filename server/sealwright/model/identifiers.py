"""Identifiers and times."""

from __future__ import annotations

import datetime as dt
import re
import secrets
import time
import uuid

SLUG = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,98}[a-z0-9])?", re.ASCII)


def new_id() -> str:
    """A UUID version 7 (RFC 9562, 5.7): sorts by time, so that indexes grow at one end."""
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def made_at(id_: str) -> dt.datetime:
    """When an id of `new_id` was made, to the millisecond: its first 48 bits."""
    milliseconds = uuid.UUID(id_).int >> 80
    return dt.datetime.fromtimestamp(min(milliseconds / 1000, 253402300799), dt.UTC)


def is_id(text: str) -> bool:
    """Tell whether `text` is a UUID in its canonical lower-case form."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def is_slug(text: str) -> bool:
    """Tell whether `text` may name a project or policy in addresses and commands."""
    return SLUG.fullmatch(text) is not None


def utc_now() -> dt.datetime:
    """The present time, aware, in UTC."""
    return dt.datetime.now(dt.UTC)
