"""Tokens, passwords and redaction."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import statistics
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwright.errors import InvalidInputError, UnauthenticatedError
from sealwright.intake.passwords import hash_password, password_fits
from sealwright.intake.tokens import new_token, token_hash
from sealwright.logs import JsonFormatter, redact
from sealwright.model.user import TokenKind

TOKEN = new_token(TokenKind.API)


def test_tokens_have_their_form() -> None:
    texts = {new_token(TokenKind.API) for _ in range(200)}
    assert len(texts) == 200
    for text in texts:
        assert text.startswith("swt_api_")
        assert len(text) == len("swt_api_") + 36
        assert token_hash(text) == hashlib.sha256(text.encode()).hexdigest()


@given(st.integers(0, 43), st.characters(codec="ascii", categories=["L", "N"]))
def test_one_changed_character_is_noticed(position: int, letter: str) -> None:
    text = new_token(TokenKind.SESSION)
    changed = text[:position] + letter + text[position + 1 :]
    if changed == text:
        return
    with pytest.raises(UnauthenticatedError):
        token_hash(changed)


@given(st.text(max_size=80))
def test_nothing_else_is_a_token(text: str) -> None:
    with pytest.raises(UnauthenticatedError):
        token_hash(text)


async def test_passwords() -> None:
    stored = await hash_password("a long enough password")
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert await password_fits(stored, "a long enough password")
    assert not await password_fits(stored, "a long enough passwore")
    assert not await password_fits("not a hash", "a long enough password")
    for bad in ("short", "x" * 1025, "é" * 600):
        with pytest.raises(InvalidInputError):
            await hash_password(bad)
        assert not await password_fits(stored, bad)


async def test_an_unknown_user_costs_as_much_as_a_known_one() -> None:
    stored = await hash_password("a long enough password")
    await password_fits(None, "warm")

    async def seconds(known: str | None) -> float:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            await password_fits(known, "a wrong password")
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    known, unknown = await seconds(stored), await seconds(None)
    assert 0.4 < known / unknown < 2.5


def test_passwords_work_in_any_event_loop() -> None:
    for _ in range(2):
        assert not asyncio.run(password_fits(None, "x"))


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"token {TOKEN} leaked", TOKEN),
        ("Authorization: Bearer abc.def-ghi", "abc.def"),
        ("Authorization: basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("pkcs11:token=x;pin-value=1234?", "1234"),
        ("postgresql://user:hunter2@host/db", "hunter2"),
        ("https://host/?password=hunter2&x=1", "hunter2"),
    ],
    ids=["token", "bearer", "basic", "pin", "password in a URL", "query"],
)
def test_redaction(text: str, secret: str) -> None:
    clean = redact(text)
    assert secret not in clean
    assert "[redacted]" in clean


def test_lines_are_json_and_clean() -> None:
    token = new_token(TokenKind.API)
    try:
        message = f"no {token}"
        raise ValueError(message)
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "x %s", (token,), sys.exc_info())
    record.extra = f"Bearer {token}"
    record.number = 5
    line = JsonFormatter().format(record)
    assert token not in line
    fields = json.loads(line)
    assert (fields["level"], fields["number"]) == ("error", 5)
    assert "ValueError" in fields["traceback"]
