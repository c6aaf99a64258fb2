"""What a leaf keeps only a salted hash of: who may be a person, and what a change was from and to.

The details lie beside the log and may be erased; the leaf's ``details`` member (an HMAC under a
salt that is erased with them) then tells nothing, and while they are there it proves them.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sealwright.db.log import Details
from sealwright.transparency.canonical import canonical
from sealwright.transparency.leaf import MIN_SALT, pseudonym

MEMBER = "details"  #: of the leaf's data
_MAX_TEXT = 4000  # characters of one value


@dataclass(frozen=True)
class Change:
    """What somebody changed, from where.

    Attributes:
        address: IP address of the caller; empty for a command line on the server itself.
        before: members of the entity as the API showed them, None where it was made just now.
        after: the same afterwards, None where it is gone.
    """

    address: str = ""
    before: Mapping[str, Any] | None = field(default=None)
    after: Mapping[str, Any] | None = field(default=None)

    def seal(self) -> Details:
        """The details to keep: of a change only the members that differ."""
        before, after = dict(self.before or {}), dict(self.after or {})
        if self.before is not None and self.after is not None:
            differing = {name for name in before.keys() | after.keys()
                         if before.get(name) != after.get(name)}  # fmt: skip
            before = {name: value for name, value in before.items() if name in differing}
            after = {name: value for name, value in after.items() if name in differing}
        members = {"address": self.address, "before": _plain(before), "after": _plain(after)}
        return Details(secrets.token_bytes(MIN_SALT), canonical(members).decode())


def commitment(details: Details) -> str:
    """What the leaf says of its details: lower-case hex of HMAC-SHA-256 under their salt."""
    return pseudonym(details.salt, details.text)


def fits(details: Details, committed: object) -> bool:
    """Whether these are the details that the leaf was written with."""
    return isinstance(committed, str) and hmac.compare_digest(commitment(details), committed)


def _plain(value: Any) -> Any:
    """`value` within canonical JSON's subset: numbers with a fraction and long texts as text."""
    if isinstance(value, Mapping):
        return {str(name)[:200]: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int):
        return value
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
