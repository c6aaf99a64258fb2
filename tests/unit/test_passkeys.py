"""What authenticators send, verified: each fact changed singly is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from tests.authenticator import USER_PRESENT, Authenticator, from_text, text

from sealwright.errors import ForbiddenError
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.passkey import Assertion, Passkey, approval_challenge, relying_party
from sealwright.policy.passkeys import (
    check_counter,
    verify_assertion,
    verify_registration,
)

URL = "https://sign.example.com:8443"
RP = relying_party(URL)
CHALLENGE = secrets.token_bytes(32)
USER = new_id()


def authenticator(**fields: Any) -> Authenticator:
    return Authenticator(**{"origin": URL, "rp_id": "sign.example.com"} | fields)


def registered(device: Authenticator, challenge: bytes = CHALLENGE) -> Passkey:
    answer = device.register({"user": {"id": text(USER.encode())}, "challenge": text(challenge)})
    made = verify_registration(
        from_text(answer["response"]["clientDataJSON"]),
        from_text(answer["response"]["attestationObject"]),
        CHALLENGE,
        RP,
    )
    return Passkey(
        new_id(), new_id(), USER, "Key", made.credential_id, made.public_key, made.sign_count,
        utc_now(),
    )  # fmt: skip


def asserted(device: Authenticator, kind: str = "webauthn.get") -> Assertion:
    answer = device.sign({"challenge": text(CHALLENGE)}, kind)
    response = answer["response"]
    return Assertion(
        from_text(answer["rawId"]),
        from_text(response["clientDataJSON"]),
        from_text(response["authenticatorData"]),
        from_text(response["signature"]),
        from_text(response["userHandle"]),
    )


def test_a_passkey_is_registered_and_signs() -> None:
    device = authenticator(counter=4)
    passkey = registered(device)
    assert passkey.sign_count == 4
    device.counter = 5
    assert verify_assertion(asserted(device), passkey, CHALLENGE, RP) == 5


SPOILED: dict[str, tuple[dict[str, Any], str]] = {
    "origin": ({"origin": "https://sign.example.com"}, "another site"),
    "origin of a subdomain": ({"origin": "https://x.sign.example.com:8443"}, "another site"),
    "framed": ({"cross_origin": True}, "another site"),
    "relying party": ({"rp_id": "example.com"}, "another server"),
    "not present": ({"flags": 0x04}, "did not verify"),
    "not verified": ({"flags": USER_PRESENT}, "did not verify"),
    "credential": ({"credential_id": b"another"}, "another passkey"),
    "key": ({"key": ec.generate_private_key(ec.SECP256R1())}, "signature is wrong"),
    "user": ({"user_handle": new_id().encode()}, "another user"),
}


@pytest.mark.parametrize("fact", SPOILED)
def test_each_fact_of_an_assertion_counts(fact: str) -> None:
    device = authenticator()
    passkey = registered(device)
    changes, message = SPOILED[fact]
    spoiled = dataclasses.replace(device, **changes)
    with pytest.raises(ForbiddenError, match=message):
        verify_assertion(asserted(spoiled), passkey, CHALLENGE, RP)


@pytest.mark.parametrize("fact", ["origin", "framed", "relying party", "not verified"])
def test_each_fact_of_a_registration_counts(fact: str) -> None:
    changes, message = SPOILED[fact]
    with pytest.raises(ForbiddenError, match=message):
        registered(authenticator(**changes))


def test_another_challenge_purpose_or_removed() -> None:
    device = authenticator()
    passkey = registered(device)
    with pytest.raises(ForbiddenError, match="another challenge"):
        verify_assertion(asserted(device), passkey, secrets.token_bytes(32), RP)
    with pytest.raises(ForbiddenError, match="another challenge"):
        registered(authenticator(), challenge=secrets.token_bytes(32))
    with pytest.raises(ForbiddenError, match="another purpose"):
        verify_assertion(asserted(device, "webauthn.create"), passkey, CHALLENGE, RP)
    removed = dataclasses.replace(passkey, removed_at=utc_now())
    with pytest.raises(ForbiddenError, match="was removed"):
        verify_assertion(asserted(device), removed, CHALLENGE, RP)


def test_a_counter_that_does_not_grow() -> None:
    passkey = registered(authenticator(counter=7))
    check_counter(passkey, 8)
    check_counter(registered(authenticator()), 0)
    for counter in (0, 6, 7):
        with pytest.raises(ForbiddenError, match="cloned"):
            check_counter(passkey, counter)


@pytest.mark.parametrize(
    "public_key",
    [
        b"",
        b"\xff" * 20,
        bytes.fromhex("a10326"),  # a key without a curve
        bytes.fromhex("a2012603390100"),  # RS256 without a modulus
        bytes.fromhex("a30103033901002041ff"),  # a modulus of one byte
        bytes.fromhex("a1033901ff"),  # an algorithm that is not taken
        b"\x9f" * 5000,
    ],
)
def test_keys_that_are_none(public_key: bytes) -> None:
    device = authenticator()
    passkey = dataclasses.replace(registered(device), public_key=public_key)
    with pytest.raises(ForbiddenError):
        verify_assertion(asserted(device), passkey, CHALLENGE, RP)


@given(part=st.sampled_from(["client_data", "authenticator_data", "signature"]), data=st.data())
def test_whatever_a_browser_sends_is_refused_or_verified(part: str, data: st.DataObject) -> None:
    device = authenticator()
    passkey = registered(device)
    good = asserted(device)
    value: bytes = getattr(good, part)
    position = data.draw(st.integers(0, 10_000)) % len(value)
    changed = bytes([value[position] ^ data.draw(st.integers(1, 255))])
    spoiled = value[:position] + changed + value[position + 1 :]
    with pytest.raises(ForbiddenError):
        verify_assertion(dataclasses.replace(good, **{part: spoiled}), passkey, CHALLENGE, RP)
    with pytest.raises(ForbiddenError):
        verify_registration(data.draw(st.binary(max_size=200)), b"x", CHALLENGE, RP)


def test_a_challenge_is_of_everything_that_is_approved() -> None:
    facts: list[Callable[[], str]] = [new_id, lambda: "a" * 64, lambda: "b" * 64, new_id]
    values = [make() for make in facts]
    challenges = {approval_challenge(*values)}
    for position in range(len(values)):
        other = [*values]
        other[position] = hashlib.sha256(values[position].encode()).hexdigest()
        challenges.add(approval_challenge(*other))
    assert len(challenges) == len(values) + 1
