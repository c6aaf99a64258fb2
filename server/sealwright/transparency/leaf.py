"""What one leaf of the log says, and its bytes.

An `Event` is written, as a pending leaf, in the transaction that changes the state it tells of.
The sequencer gives it its place: a `LeafEntry`, whose canonical JSON is the leaf. Whatever names a
person is a `pseudonym`: erase the salt and the log no longer knows whom it meant, and verifies.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sealwright.errors import InvalidInputError, TooLargeError
from sealwright.transparency.canonical import JSON, MAX_INTEGER, canonical, parse_canonical

MAX_LEAF = 65_535  #: bytes; an entry bundle gives each leaf a 16-bit length
MAX_TEXT = 256  #: characters of actor, organization, request
MIN_SALT = 16  #: bytes

SIGNATURE_INTENDED = "signature.intended"  #: committed before the token is asked (data.intent_id)
SIGNATURE_MADE = "signature.made"  #: the token answered (data.intent_id)
SIGNATURE_ABANDONED = "signature.abandoned"  #: no usable answer, nothing released (data.intent_id)
ARTIFACT_RELEASED = "artifact.released"  #: data.outputs: [{"name": ..., "sha256": ...}, ...]

_ACTION = re.compile(r"[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,31}){1,3}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELDS = frozenset({"time", "actor", "action", "organization", "request", "policy_hash", "data"})
# A pending event gets a sequence later; what is accepted now must fit then.
_SEQUENCE_ROOM = len(f'"sequence":{MAX_INTEGER},')
#: The end of every pending leaf: its members are sorted, and every time is as long.
_TIME_ROOM = len('"time":"2026-01-02T03:04:05.000006Z"}')


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        time: when, in UTC; kept to the microsecond.
        actor: who, such as ``user:<pseudonym>``, ``ci:<token id>`` or ``signer``.
        action: what, lower-case words joined by dots, such as ``signature.made``.
        organization: id of the tenant, or None for the server's own events.
        request: id of the signing request, or None.
        policy_hash: lower-case hex SHA-256 of the policy snapshot that applied, or None.
        data: digests, origin facts, intent or result: canonical JSON's subset.

    Raises:
        InvalidInputError: a field is not of that form.
    """

    time: datetime
    actor: str
    action: str
    organization: str | None = None
    request: str | None = None
    policy_hash: str | None = None
    data: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.time.utcoffset() is None:
            message = "The time of an event has no time zone."
            raise InvalidInputError(message, advice="Use an aware datetime.")
        if not _ACTION.fullmatch(self.action):
            message = f"{self.action[:64]!r} is not the name of an action."
            raise InvalidInputError(message, advice="Use words joined by dots: signature.made.")
        for name in ("actor", "organization", "request"):
            _check_text(name, getattr(self, name))
        if self.policy_hash is not None and not _SHA256.fullmatch(self.policy_hash):
            message = "The policy hash of an event is not a lower-case hex SHA-256."
            raise InvalidInputError(message)

    def encode(self) -> bytes:
        """Give the canonical JSON without a sequence: the form of a pending leaf.

        Raises:
            TooLargeError: the leaf would exceed `MAX_LEAF`, whatever its sequence.
            InvalidInputError: `data` has no canonical form.
        """
        body = canonical(self._members())
        if len(body) + _SEQUENCE_ROOM > MAX_LEAF:
            message = f"The event takes {len(body)} bytes; a leaf holds at most {MAX_LEAF}."
            raise TooLargeError(message, advice="Log a digest of the data, or several events.")
        return body

    @classmethod
    def parse(cls, body: bytes) -> Event:
        """Read what `encode` wrote.

        Raises:
            InvalidInputError: not exactly that form.
        """
        return cls._from_members(_parse_object(body))

    def _members(self) -> dict[str, JSON]:
        return {
            "time": format_time(self.time),
            "actor": self.actor,
            "action": self.action,
            "organization": self.organization,
            "request": self.request,
            "policy_hash": self.policy_hash,
            "data": self.data,
        }

    @classmethod
    def _from_members(cls, members: Mapping[str, JSON]) -> Event:
        if members.keys() != _FIELDS:
            odd = ", ".join(sorted(members.keys() ^ _FIELDS))[:200]
            message = f"The entry lacks these members, or has them without need: {odd}."
            raise InvalidInputError(message)
        data = members["data"]
        if not isinstance(data, Mapping):
            message = "The entry's data is not an object."
            raise InvalidInputError(message)
        return cls(
            time=parse_time(_text(members, "time")),
            actor=_text(members, "actor"),
            action=_text(members, "action"),
            organization=_text_or_none(members, "organization"),
            request=_text_or_none(members, "request"),
            policy_hash=_text_or_none(members, "policy_hash"),
            data=data,
        )


@dataclass(frozen=True)
class LeafEntry:
    """An event with its place: `sequence` is the leaf's index in the tree, from 0."""

    sequence: int
    event: Event

    def __post_init__(self) -> None:
        if not 0 <= self.sequence <= MAX_INTEGER:
            message = f"{self.sequence} is not the sequence of a leaf."
            raise InvalidInputError(message)

    def encode(self) -> bytes:
        """Give the leaf: canonical JSON of at most `MAX_LEAF` bytes.

        Raises:
            TooLargeError, InvalidInputError: as `Event.encode`.
        """
        return self.of_body(self.event.encode())

    def of_body(self, body: bytes) -> bytes:
        """`encode`, from what `event` was parsed from: only the sequence is added.

        Raises:
            TooLargeError: the leaf would exceed `MAX_LEAF`.
        """
        # of all members, sorted by their names, only "time" comes after it
        leaf = b'%b"sequence":%d,%b' % (body[:-_TIME_ROOM], self.sequence, body[-_TIME_ROOM:])
        if len(leaf) > MAX_LEAF:
            message = f"The leaf takes {len(leaf)} bytes; at most {MAX_LEAF} fit."
            raise TooLargeError(message, advice="Log a digest of the data, or several events.")
        return leaf

    @classmethod
    def parse(cls, leaf: bytes) -> LeafEntry:
        """Read a leaf.

        Raises:
            InvalidInputError: not exactly the form that `encode` writes.
        """
        members = dict(_parse_object(leaf))
        sequence = members.pop("sequence", None)
        if not isinstance(sequence, int) or isinstance(sequence, bool):
            message = "The entry has no sequence."
            raise InvalidInputError(message)
        return cls(sequence, Event._from_members(members))


def pseudonym(salt: bytes, value: str) -> str:
    """Name a person without naming them: lower-case hex of HMAC-SHA-256 (RFC 2104).

    Args:
        salt: random, at least `MIN_SALT` bytes, one for each person, kept in the database only: who
            destroys it makes every pseudonym of that person meaningless.
        value: the personal datum, such as an e-mail address.

    Raises:
        InvalidInputError: the salt is too short to prevent guessing.
    """
    if len(salt) < MIN_SALT:
        message = f"The salt has {len(salt)} bytes; {MIN_SALT} are the least."
        raise InvalidInputError(message)
    return hmac.new(salt, value.encode(), hashlib.sha256).hexdigest()


def format_time(time: datetime) -> str:
    """Write an aware time as RFC 3339 in UTC with microseconds: ``2026-01-02T03:04:05.000006Z``."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_time(text: str) -> datetime:
    """Read exactly what `format_time` writes.

    Raises:
        InvalidInputError: any other form.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None or format_time(time) != text:
        message = f"{text[:40]!r} is not an RFC 3339 time in UTC with microseconds."
        raise InvalidInputError(message)
    return time


def _parse_object(raw: bytes) -> Mapping[str, JSON]:
    if len(raw) > MAX_LEAF:
        message = f"The entry takes {len(raw)} bytes; at most {MAX_LEAF} fit."
        raise InvalidInputError(message)
    value = parse_canonical(raw)
    if not isinstance(value, Mapping):
        message = "The entry is not a JSON object."
        raise InvalidInputError(message)
    return value


def _text(members: Mapping[str, JSON], name: str) -> str:
    value = members[name]
    if not isinstance(value, str):
        message = f"The entry's {name} is not a string."
        raise InvalidInputError(message)
    return value


def _text_or_none(members: Mapping[str, JSON], name: str) -> str | None:
    return None if members[name] is None else _text(members, name)


def _check_text(name: str, value: str | None) -> None:
    if value is not None and not 0 < len(value) <= MAX_TEXT:
        message = (
            f"The {name} of an event has {len(value)} characters; 1 to {MAX_TEXT} are allowed."
        )
        raise InvalidInputError(message)
