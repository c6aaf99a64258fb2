"""Passkeys over HTTP: challenges, registration, log-in, and what approving asks a passkey for."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import secrets
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from sealwright.db import Transaction, one_time_secrets, passkeys, users
from sealwright.errors import ConflictError, ForbiddenError, UnauthenticatedError
from sealwright.membership import Actor
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.one_time_secret import OneTimeSecret, Purpose
from sealwright.model.passkey import (
    Assertion,
    Passkey,
    RelyingParty,
    approval_challenge,
    relying_party,
)
from sealwright.model.request import SigningRequest
from sealwright.model.user import User, UserKind
from sealwright.policy.passkeys import (
    ALGORITHMS,
    challenge_of,
    check_counter,
    verify_assertion,
    verify_registration,
)
from sealwright.transparency.record import organization_entry, record
from sealwright.web.schemas.passkeys import PasskeyIn
from sealwright.web.services import Services
from sealwright.web.throttle import Rate

MAX_PASSKEYS = 20  #: of one user
_CHALLENGE_SECONDS = 300
_CHALLENGES_FROM_ONE = Rate(60, 60)
_RP_NAME = "Sealwright"


async def registration_options(services: Services, user: User) -> dict[str, Any]:
    """What `navigator.credentials.create` is to be given: a passkey that can be found without a
    user name, and that verifies its user."""
    rp = relying_party(services.settings.url)
    challenge = secrets.token_bytes(32)
    async with services.database.transaction() as tx:
        await _keep(tx, challenge, Purpose.PASSKEY_REGISTRATION, user.id)
        known = await passkeys.of_user(tx, user.organization_id, user.id)
    return {
        "rp": {"id": rp.id, "name": _RP_NAME},
        "user": {
            "id": _text(user.id.encode()),
            "name": user.email or user.name,
            "displayName": user.name,
        },
        "challenge": _text(challenge),
        "pubKeyCredParams": [{"type": "public-key", "alg": number} for number in ALGORITHMS],
        "timeout": _CHALLENGE_SECONDS * 1000,
        "excludeCredentials": _descriptors(known),
        "authenticatorSelection": {"residentKey": "required", "userVerification": "required"},
        "attestation": "none",
    }


async def register(services: Services, user: User, given: PasskeyIn, by: Actor) -> Passkey:
    """Add a passkey that answers a challenge of `registration_options`.

    Raises:
        ForbiddenError: the answer is not accepted.
        ConflictError: the passkey is somebody's already, or the user has too many.
    """
    now = utc_now()
    answer = given.credential.response
    challenge = challenge_of(answer.client_data)
    credential = verify_registration(
        answer.client_data, answer.attestation_object, challenge, _rp(services)
    )
    passkey = Passkey(
        new_id(),
        user.organization_id,
        user.id,
        given.name,
        credential.credential_id,
        credential.public_key,
        credential.sign_count,
        now,
    )
    async with services.database.transaction() as tx:
        await _take(tx, challenge, Purpose.PASSKEY_REGISTRATION, user.id, now)
        if await passkeys.by_credential(tx, passkey.credential_id):
            message = "This passkey is registered already."
            raise ConflictError(message)
        if len(await passkeys.of_user(tx, user.organization_id, user.id)) >= MAX_PASSKEYS:
            message = f"A user has at most {MAX_PASSKEYS} passkeys."
            raise ConflictError(message, advice="Remove one first.")
        await passkeys.add(tx, passkey)
        await _log(tx, user, "passkey.added", by.name, passkey)
    return passkey


async def remove(tx: Transaction, user: User, passkey_id: str, by: Actor) -> bool:
    """Let a passkey count no more; False where the user has no such one."""
    known = await passkeys.of_user(tx, user.organization_id, user.id)
    found = next((one for one in known if one.id == passkey_id), None)
    if found is None:
        return False
    await passkeys.remove(tx, user.organization_id, user.id, passkey_id, utc_now())
    await _log(tx, user, "passkey.removed", by.name, found)
    return True


async def log_in_options(services: Services, request: Request) -> dict[str, Any]:
    """What `navigator.credentials.get` is to be given by somebody of whom nothing is known.

    Raises:
        TooManyRequestsError: too many from this address.
    """
    address = request.client.host if request.client else ""
    await services.throttle.take(f"passkey-challenges-for/{address}", _CHALLENGES_FROM_ONE)
    challenge = secrets.token_bytes(32)
    async with services.database.transaction() as tx:
        await _keep(tx, challenge, Purpose.PASSKEY_LOG_IN, None)
    return _request_options(_rp(services), challenge, ())


async def authenticated_user(services: Services, assertion: Assertion) -> User:
    """The user whose passkey answers a challenge of `log_in_options`. It is used up.

    Raises:
        UnauthenticatedError: no such passkey, challenge or active user.
        ForbiddenError: the answer is not accepted.
    """
    now = utc_now()
    challenge = challenge_of(assertion.client_data)
    async with services.database.transaction() as tx:
        await _take(tx, challenge, Purpose.PASSKEY_LOG_IN, None, now)
        passkey = await passkeys.by_credential(tx, assertion.credential_id)
        user = await users.get(tx, passkey.organization_id, passkey.user_id) if passkey else None
        if passkey is None or user is None or not user.active or user.kind is UserKind.CI:
            message = "The passkey is nobody's."
            raise UnauthenticatedError(message, advice="Log in another way.")
        counter = verify_assertion(assertion, passkey, challenge, _rp(services))
        check_counter(passkey, counter)
        await passkeys.use(tx, passkey.id, counter, now)
    return user


def approval_options(
    services: Services, request: SigningRequest, user: User, known: Sequence[Passkey]
) -> dict[str, Any]:
    """What `navigator.credentials.get` is to be given so that its answer approves the request.

    The challenge is made from what is approved and kept nowhere: the answer approves this, by
    this user, and nothing else.
    """
    challenge = approval_challenge(request.id, request.content_digest, request.policy_hash, user.id)
    return _request_options(_rp(services), challenge, known)


def endorsement_options(
    services: Services, challenge: bytes, trusted: Sequence[Passkey]
) -> dict[str, Any]:
    """What `navigator.credentials.get` is to be given so that one of these passkeys endorses what
    the challenge is made from."""
    return _request_options(_rp(services), challenge, trusted)


def _rp(services: Services) -> RelyingParty:
    return relying_party(services.settings.url)


def _request_options(
    rp: RelyingParty, challenge: bytes, allowed: Sequence[Passkey]
) -> dict[str, Any]:
    return {
        "rpId": rp.id,
        "challenge": _text(challenge),
        "timeout": _CHALLENGE_SECONDS * 1000,
        "allowCredentials": _descriptors(allowed),
        "userVerification": "required",
    }


def _descriptors(known: Sequence[Passkey]) -> list[dict[str, str]]:
    return [{"type": "public-key", "id": _text(one.credential_id)} for one in known]


async def _keep(tx: Transaction, challenge: bytes, purpose: Purpose, user_id: str | None) -> None:
    now = utc_now()
    digest = hashlib.sha256(challenge).hexdigest()
    expires = now + dt.timedelta(seconds=_CHALLENGE_SECONDS)
    await one_time_secrets.add(tx, OneTimeSecret(digest, purpose, user_id, {}, expires, now))


async def _take(
    tx: Transaction, challenge: bytes, purpose: Purpose, user_id: str | None, now: dt.datetime
) -> None:
    digest = hashlib.sha256(challenge).hexdigest()
    found = await one_time_secrets.take(tx, digest, purpose, now)
    if found is None or found.user_id != user_id:
        message = "The passkey answers a challenge that is not open."
        raise ForbiddenError(message, advice="Try again: challenges are open for five minutes.")


async def _log(tx: Transaction, user: User, action: str, actor: str, passkey: Passkey) -> None:
    facts = {
        "user": user.id,
        "passkey": passkey.id,
        "credential_sha256": hashlib.sha256(passkey.credential_id).hexdigest(),
        "public_key_sha256": hashlib.sha256(passkey.public_key).hexdigest(),
    }
    await record(
        tx,
        organization_entry(user.organization_id, action, actor=actor, now=utc_now(), data=facts),
    )


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
