"""Verifying what authenticators send. Pure; the web process and the signer both decide by it.

Source: Web Authentication Level 3, 7.1 (registration) and 7.2 (assertion). Attestation is not asked
for: which make of authenticator somebody has is not this server's to choose. User verification (PIN
or biometrics) always is.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from fido2 import cbor
from fido2.cose import ES256, RS256, CoseKey, EdDSA
from fido2.webauthn import AttestationObject, AuthenticatorData, CollectedClientData

from sealwright.errors import ForbiddenError
from sealwright.model.passkey import Assertion, Passkey, RelyingParty

#: COSE algorithms in the order of preference (RFC 9053, 2; RFC 8812, 2)
ALGORITHMS = (ES256.ALGORITHM, EdDSA.ALGORITHM, RS256.ALGORITHM)
MAX_CREDENTIAL_ID = 1023  # Web Authentication Level 3, 4
_MAX_BYTES = 16 * 1024
_MIN_MODULUS = 256  # bytes: RSA of 2048 bits
_MALFORMED = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    RecursionError,
    NotImplementedError,
    OverflowError,
    UnsupportedAlgorithm,
)


@dataclass(frozen=True)
class NewCredential:
    """What a registration brought: see `Passkey`."""

    credential_id: bytes
    public_key: bytes
    sign_count: int


def challenge_of(client_data: bytes) -> bytes:
    """The challenge that client data claims to answer; nothing of it is verified.

    Raises:
        ForbiddenError: it is malformed.
    """
    return _client_data(client_data).challenge


def verify_registration(
    client_data: bytes, attestation_object: bytes, challenge: bytes, rp: RelyingParty
) -> NewCredential:
    """Check what `navigator.credentials.create` gave.

    Raises:
        ForbiddenError: it is not for this server and challenge, was made without verifying the
            user, or has a key of a kind that is not taken.
    """
    _check_client_data(_client_data(client_data), "webauthn.create", challenge, rp)
    _check_size(attestation_object)
    try:
        data = AttestationObject(attestation_object).auth_data
        credential = data.credential_data
    except _MALFORMED:
        _refuse("what the authenticator sent is malformed")
    _check_authenticator_data(data, rp)
    if credential is None or not 0 < len(credential.credential_id) <= MAX_CREDENTIAL_ID:
        _refuse("it brings no credential")
    public_key = cbor.encode(dict(credential.public_key))
    _key(public_key)
    return NewCredential(credential.credential_id, public_key, data.counter)


def verify_assertion(
    assertion: Assertion, passkey: Passkey, challenge: bytes, rp: RelyingParty
) -> int:
    """Check what `navigator.credentials.get` gave against the passkey's public key.

    Returns:
        The authenticator's signature counter. What it tells of clones, `check_counter` decides.

    Raises:
        ForbiddenError: it is not by this passkey, for this server and challenge, or was made
            without verifying the user.
    """
    if passkey.removed_at is not None:
        _refuse("the passkey was removed")
    if not hmac.compare_digest(assertion.credential_id, passkey.credential_id):
        _refuse("it is by another passkey")
    if assertion.user_handle and assertion.user_handle != passkey.user_id.encode():
        _refuse("it is another user's")
    _check_client_data(_client_data(assertion.client_data), "webauthn.get", challenge, rp)
    _check_size(assertion.authenticator_data)
    _check_size(assertion.signature)
    try:
        data = AuthenticatorData(assertion.authenticator_data)
    except _MALFORMED:
        _refuse("what the authenticator sent is malformed")
    _check_authenticator_data(data, rp)
    signed = assertion.authenticator_data + hashlib.sha256(assertion.client_data).digest()
    try:
        _key(passkey.public_key).verify(signed, assertion.signature)
    except (InvalidSignature, *_MALFORMED):
        _refuse("its signature is wrong")
    return data.counter


def check_counter(passkey: Passkey, counter: int) -> None:
    """Refuse a counter that does not grow: two authenticators hold the same key (7.2, step 22).

    Raises:
        ForbiddenError: it does not.
    """
    if (counter or passkey.sign_count) and counter <= passkey.sign_count:
        _refuse("its counter went back: the authenticator may have been cloned")


def _client_data(text: bytes) -> CollectedClientData:
    _check_size(text)
    try:
        return CollectedClientData(text)
    except _MALFORMED:
        _refuse("what the browser sent is malformed")


def _check_client_data(
    data: CollectedClientData, kind: str, challenge: bytes, rp: RelyingParty
) -> None:
    if data.type != kind:
        _refuse("it was made for another purpose")
    if not hmac.compare_digest(data.challenge, challenge):
        _refuse("it answers another challenge")
    if data.origin != rp.origin or data.cross_origin is not False:
        _refuse("it was made on another site")


def _check_authenticator_data(data: AuthenticatorData, rp: RelyingParty) -> None:
    if data.rp_id_hash != hashlib.sha256(rp.id.encode()).digest():
        _refuse("it is for another server")
    if not data.is_user_present() or not data.is_user_verified():
        _refuse("the authenticator did not verify its user")


def _check_size(value: bytes) -> None:
    if not 0 < len(value) <= _MAX_BYTES:
        _refuse("a part of it is missing or too large")


def _key(public_key: bytes) -> CoseKey:
    try:
        fields = cbor.decode(public_key)
        if not isinstance(fields, dict) or fields.get(3) not in ALGORITHMS:
            _refuse("its key is of a kind that is not taken")
        if fields[3] == RS256.ALGORITHM and len(fields[-1].lstrip(b"\0")) < _MIN_MODULUS:
            _refuse("its key is too short")
        return CoseKey.parse(fields)
    except _MALFORMED:
        _refuse("its key is malformed")


def _refuse(reason: str) -> NoReturn:
    message = f"The passkey's answer is not accepted: {reason}."
    raise ForbiddenError(message, advice="Try again; if it stays, use another passkey.") from None
