"""Signed notes, their keys, and checkpoints."""

from __future__ import annotations

import base64
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.transparency_sample import KEY, VKEY

from sealwright.errors import InvalidInputError, VerificationError
from sealwright.transparency.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from sealwright.transparency.merkle import EMPTY_ROOT, MAX_SIZE
from sealwright.transparency.note import (
    SigningKey,
    VerifierKey,
    decode_base64,
    open_note,
    sign_note,
)

TEXT = "hello\n\nworld\n"


def test_the_specifications_example() -> None:
    """C2SP signed-note, "Verifier keys": the example."""
    vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    note = (
        "This is an example message.\n\n\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6T"
        "fXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
    )
    assert open_note(note, VerifierKey.parse(vkey)) == "This is an example message.\n"
    assert VerifierKey.parse(vkey).encode() == vkey


def test_keys_read_back() -> None:
    key = SigningKey.generate("log.example.com/x")
    assert SigningKey.parse(key.encode()) == key
    assert VerifierKey.parse(key.verifier.encode()) == key.verifier
    assert key != SigningKey.generate("log.example.com/x")


def test_no_secret_shows_itself() -> None:
    secret = KEY.encode().rpartition("+")[2]
    assert repr(KEY) == f"SigningKey(name={KEY.name!r})"
    for broken in (KEY.encode()[:-4], KEY.encode().replace("+log", "+dog"), secret):
        with pytest.raises(InvalidInputError) as caught:
            SigningKey.parse(broken)
        assert secret[:20] not in str(caught.value)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "log",
        VKEY[:-1],
        VKEY + "=",
        VKEY.replace("log", "dog"),
        VKEY.replace("+AQ", "+BQ"),
        VKEY.upper(),
        f" {VKEY}",
        f"{VKEY}\n",
        VKEY.replace(KEY.verifier.key_id.hex(), "00000000"),
    ],
)
def test_malformed_verifier_keys(vkey: str) -> None:
    assert vkey != VKEY
    with pytest.raises(InvalidInputError):
        VerifierKey.parse(vkey)


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\u00a0b", "a\nb", "a\x01", "\ud800", "x" * 256]
)
def test_names_that_no_key_can_have(name: str) -> None:
    with pytest.raises(InvalidInputError):
        SigningKey.generate(name)
    with pytest.raises(InvalidInputError):
        VerifierKey(name, bytes(32))


def test_keys_have_one_size() -> None:
    with pytest.raises(InvalidInputError):
        VerifierKey("a", bytes(31))
    with pytest.raises(InvalidInputError):
        SigningKey("a", bytes(33))


def test_text_may_have_empty_lines() -> None:
    note = sign_note(TEXT, KEY)
    assert open_note(note, KEY.verifier) == TEXT
    assert open_note(note.encode(), KEY.verifier) == TEXT


@pytest.mark.parametrize("text", ["", "no newline", "tab\there\n", "a\r\n"])
def test_texts_that_are_not_signed(text: str) -> None:
    with pytest.raises(InvalidInputError):
        sign_note(text, KEY)


def test_others_signatures_are_tolerated_and_do_not_count() -> None:
    witness = SigningKey.generate("witness.example.org/w1")
    theirs, ours = (sign_note(TEXT, key).rpartition("\n\n")[2] for key in (witness, KEY))
    assert open_note(f"{TEXT}\n{theirs}{ours}", KEY.verifier) == TEXT
    assert open_note(f"{TEXT}\n{ours}{theirs}", KEY.verifier) == TEXT
    with pytest.raises(VerificationError, match="0 signatures"):
        open_note(f"{TEXT}\n{theirs}", KEY.verifier)
    with pytest.raises(VerificationError, match="2 signatures"):
        open_note(f"{TEXT}\n{ours}{ours}", KEY.verifier)
    with pytest.raises(VerificationError, match="more than 100"):
        open_note(f"{TEXT}\n{theirs * 100}{ours}", KEY.verifier)


@pytest.mark.parametrize(
    "note", [b"\xff", b"", b"\n\n", b"a\n\n\n", b"x" * 1_000_001, "\ud800\n\n\u2014 a AAAAAAAA\n"]
)
def test_what_is_no_note(note: str | bytes) -> None:
    with pytest.raises(VerificationError):
        open_note(note, KEY.verifier)


@given(st.binary(max_size=80))
def test_base64_has_one_form(raw: bytes) -> None:
    text = base64.b64encode(raw).decode()
    assert decode_base64(text) == raw
    for other in {f"{text}=", text.rstrip("="), f"{text}\n", f" {text}"} - {text}:
        with pytest.raises(ValueError, match=r".*"):
            decode_base64(other)


def test_base64_with_unused_bits_set() -> None:
    assert decode_base64("AA==") == b"\0"
    with pytest.raises(ValueError, match="canonical"):
        decode_base64("AB==")


def test_checkpoints_read_back() -> None:
    for checkpoint in (
        Checkpoint(KEY.name, 0, EMPTY_ROOT),
        Checkpoint(KEY.name, MAX_SIZE, bytes(32)),
        Checkpoint(KEY.name, 5, bytes(32), ("one", "two")),
    ):
        assert open_checkpoint(sign_checkpoint(checkpoint, KEY), KEY.verifier) == checkpoint


def test_checkpoint_has_exactly_this_text() -> None:
    assert Checkpoint("log.example.com/x", 20852163, b"\xff" * 32).text == (
        "log.example.com/x\n20852163\n//////////////////////////////////////////8=\n"
    )


GOOD = Checkpoint(KEY.name, 5, bytes(32))


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "another.example.com"},
        {"size": -1},
        {"size": MAX_SIZE + 1},
        {"root": bytes(31)},
        {"extensions": ("",)},
        {"extensions": ("two\nlines", "")},
    ],
)
def test_checkpoints_that_are_not_signed(change: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        sign_checkpoint(dataclasses.replace(GOOD, **change), KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        GOOD.text.replace("\n5\n", "\n05\n"),
        GOOD.text.replace("\n5\n", "\n+5\n"),
        GOOD.text.replace("\n5\n", "\n\u0665\n"),
        GOOD.text.replace("\n5\n", f"\n{MAX_SIZE + 1}\n"),
        GOOD.text.replace("AA=", "AB="),
        GOOD.text.replace("AAAA", "", 1),
        GOOD.text.replace(KEY.name, "another.example.com"),
        GOOD.text + "\nafter an empty line\n",
        "\n".join(GOOD.text.split("\n")[:2]) + "\n",
        "\n5\n" + GOOD.text.split("\n")[2] + "\n",
    ],
)
def test_signed_notes_that_are_no_checkpoint(text: str) -> None:
    assert text != GOOD.text
    with pytest.raises(VerificationError):
        open_checkpoint(sign_note(text, KEY), KEY.verifier)
