"""OpenPGP keys on the token: certifying themselves and successors, and revoking themselves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Protocol

from sealwright.errors import ConflictError, SealwrightError
from sealwright.keystores.pkcs11 import KeyInfo
from sealwright.model.certificate import Certificate, RevocationReason
from sealwright.signer.sessions import SignItem
from sealwright.signing.artifact import SignatureResult
from sealwright.signing.openpgp import (
    OpenPgpKey,
    Prepared,
    certified_at,
    prepare_certification,
    prepare_endorsement,
    prepare_revocation,
    transferable,
)


class SigningPool(Protocol):
    """What is needed of a `SessionPool`."""

    async def sign_batch(self, items: Sequence[SignItem]) -> list[bytes | SealwrightError]:
        """Sign digests."""
        ...


async def new_key(
    token: SigningPool,
    info: KeyInfo,
    user_id: str,
    now: dt.datetime,
    validity: dt.timedelta,
    by: tuple[Certificate, KeyInfo] | None = None,
) -> bytes:
    """The transferable public key of a key that was made just now.

    Args:
        by: the key that it succeeds, which certifies it as well.

    Raises:
        InvalidInputError: it cannot be valid for so long.
        KeyStoreError, UnavailableError: the token.
    """
    key = OpenPgpKey.make(info.public_key, int(now.timestamp()))
    own = prepare_certification(key, user_id, key.created, int(validity.total_seconds()))
    certifications = await _signed(token, info, own)
    if by is not None:
        old, old_info = by
        endorsed = prepare_endorsement(
            OpenPgpKey.parse(old.certificate), key, user_id, int(now.timestamp())
        )
        certifications += await _signed(token, old_info, endorsed)
    return transferable(key, user_id, certifications)


async def extended(
    token: SigningPool,
    info: KeyInfo,
    old: Certificate,
    user_id: str,
    now: dt.datetime,
    validity: dt.timedelta,
) -> bytes:
    """The same key with another end, by a new certification of its own.

    Raises:
        ConflictError: the present certification was made this very second.
        InvalidInputError: it cannot be valid for so long.
        KeyStoreError, UnavailableError: the token.
    """
    key = OpenPgpKey.parse(old.certificate)
    if int(now.timestamp()) <= certified_at(old.certificate):
        # of two certifications of one second nobody can tell which counts
        message = f"The OpenPGP key {old.slug} has just been made."
        raise ConflictError(message, advice="Wait a second.")
    seconds = int((now + validity).timestamp()) - key.created
    prepared = prepare_certification(key, user_id, int(now.timestamp()), seconds)
    return transferable(key, user_id, await _signed(token, info, prepared))


async def revocation(
    token: SigningPool,
    info: KeyInfo,
    certificate: Certificate,
    reason: RevocationReason,
    comment: str,
    now: dt.datetime,
) -> bytes:
    """The revocation signature of a key over itself, as a packet.

    Raises:
        InvalidInputError: the comment is unusable.
        KeyStoreError, UnavailableError: the token.
    """
    key = OpenPgpKey.parse(certificate.certificate)
    return await _signed(
        token, info, prepare_revocation(key, reason, comment, int(now.timestamp()))
    )


async def _signed(token: SigningPool, info: KeyInfo, prepared: Prepared) -> bytes:
    asked = prepared.request
    item = SignItem(info.id, asked.mechanism, asked.hash_algorithm, asked.digest)
    [answer] = await token.sign_batch([item])
    if isinstance(answer, SealwrightError):
        raise answer
    return prepared.finish(SignatureResult(answer))
