"""Canonical JSON and the entries made of it."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.transparency_sample import START, event, leaf

from sealwright.errors import InvalidInputError, TooLargeError
from sealwright.transparency.canonical import MAX_DEPTH, MAX_INTEGER, canonical, parse_canonical
from sealwright.transparency.leaf import (
    MAX_LEAF,
    Event,
    LeafEntry,
    format_time,
    parse_time,
    pseudonym,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_canonical_json_reads_back_and_is_plain_json(value: Any) -> None:
    raw = canonical(value)
    assert parse_canonical(raw) == value
    assert json.loads(raw) == value


@pytest.mark.parametrize(
    "raw",
    [
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":-0}',
        b'{"a":01}',
        b'{"a":NaN}',
        b'{"a":9007199254740992}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\\u0041"}',
        b'{"a":"\\u001F"}',
        b'{"a":"\\/"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b"",
        b"{",
        b"[" * 60_000,
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b"null null",
    ],
)
def test_any_other_form_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInputError):
        parse_canonical(raw)


@pytest.mark.parametrize(
    "value", [1.5, b"x", {1: 2}, {"a": {1, 2}}, "\ud800", {"\ud800": 1}, 2**53]
)
def test_values_without_canonical_form_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError):
        canonical(value)


def test_leaf_has_exactly_this_form() -> None:
    entry = LeafEntry(
        7, Event(START, "signer", "signature.made", data={"intent_id": "i", "ä": [1]})
    )
    assert (
        entry.encode()
        == (
            '{"action":"signature.made","actor":"signer","data":{"intent_id":"i","ä":[1]},'
            '"organization":null,"policy_hash":null,"request":null,"sequence":7,'
            '"time":"2026-01-02T03:04:05.000006Z"}'
        ).encode()
    )
    assert LeafEntry.parse(entry.encode()) == entry


def test_pending_event_reads_back_and_takes_its_place_later() -> None:
    pending = event(3, digest="ab")
    assert Event.parse(pending.encode()) == pending
    assert LeafEntry.parse(LeafEntry(12, Event.parse(pending.encode())).encode()).sequence == 12


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sequence", "1"),
        ("sequence", True),
        ("sequence", -1),
        ("sequence", None),
        ("time", "2026-01-02T03:04:05Z"),
        ("time", "2026-01-02T03:04:05.000006+00:00"),
        ("time", "2026-02-30T03:04:05.000006Z"),
        ("time", "20260102T030405.000006Z"),
        ("time", 5),
        ("actor", ""),
        ("actor", "x" * 257),
        ("actor", None),
        ("action", "Signed"),
        ("action", "signed"),
        ("action", "signature.made\n"),
        ("request", 4),
        ("policy_hash", "AB" * 32),
        ("policy_hash", "ab" * 31),
        ("data", []),
        ("extra", 1),
    ],
)
def test_malformed_entries_are_refused(name: str, value: Any) -> None:
    members = json.loads(leaf(1)) | {name: value}
    with pytest.raises(InvalidInputError):
        LeafEntry.parse(canonical(members))


@pytest.mark.parametrize("name", ["sequence", "time", "actor", "action", "request", "data"])
def test_entries_lacking_a_member_are_refused(name: str) -> None:
    members = json.loads(leaf(1))
    del members[name]
    with pytest.raises(InvalidInputError):
        LeafEntry.parse(canonical(members))


@pytest.mark.parametrize("raw", [b"[]", b"null", b'"text"', b"7"])
def test_an_entry_is_an_object(raw: bytes) -> None:
    with pytest.raises(InvalidInputError, match="not a JSON object"):
        LeafEntry.parse(raw)


def test_an_accepted_event_fits_whatever_its_sequence() -> None:
    spare = MAX_LEAF - len(LeafEntry(MAX_INTEGER, event(1, text="")).encode())
    largest = event(1, text="x" * spare)
    largest.encode()
    assert len(LeafEntry(MAX_INTEGER, largest).encode()) == MAX_LEAF
    with pytest.raises(TooLargeError):
        event(1, text="x" * (spare + 1)).encode()
    with pytest.raises(TooLargeError):
        LeafEntry(MAX_INTEGER, event(1, text="x" * (spare + 1))).encode()


def test_longer_leaves_are_refused_before_they_are_read() -> None:
    with pytest.raises(InvalidInputError, match="65535"):
        LeafEntry.parse(b" " * (MAX_LEAF + 1))


def test_times_are_utc_with_microseconds() -> None:
    east = datetime(2026, 1, 2, 4, 4, 5, tzinfo=timezone(timedelta(hours=1)))
    assert format_time(east) == "2026-01-02T03:04:05.000000Z"
    assert parse_time("2026-01-02T03:04:05.000000Z") == east
    with pytest.raises(InvalidInputError, match="time zone"):
        Event(datetime(2026, 1, 2), "a", "b.c")  # noqa: DTZ001


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_reads_back(time: datetime) -> None:
    assert parse_time(format_time(time)) == time


def test_pseudonym_is_keyed_by_the_salt() -> None:
    salt, other = b"s" * 32, b"t" * 32
    name = pseudonym(salt, "ann@example.com")
    assert name == hmac.new(salt, b"ann@example.com", hashlib.sha256).hexdigest()
    assert name != pseudonym(other, "ann@example.com")
    with pytest.raises(InvalidInputError):
        pseudonym(b"short", "ann@example.com")
