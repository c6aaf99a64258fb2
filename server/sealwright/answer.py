"""Answers what the engine asks for while it signs: signatures, and time stamps over them.

Everything asked for is answered the same way again in a later attempt: the signer keeps the
signatures that it has made for a request, and the tokens are kept here. So the same artifact, plan
and answers give the same bytes, and nothing is signed twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sealwright.db import Database, timestamp_tokens
from sealwright.errors import TimestampError, UnavailableError
from sealwright.model.identifiers import utc_now
from sealwright.model.request import SigningRequest
from sealwright.queueing import lease
from sealwright.signing.artifact import SignatureRequest, SignatureResult, TimestampForm
from sealwright.signing.pending_signatures import PendingSignature
from sealwright.signing.signature_value import stamped_value
from sealwright.signing.signer_client import SignerClient
from sealwright.signing.timestamp_client import TimestampClient

_log = logging.getLogger(__name__)
T = TypeVar("T")

#: how long one step is repeated within an attempt while a part is away
PATIENCE_SECONDS = 30.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


@dataclass(frozen=True)
class Answerer:
    """Answers for one attempt."""

    request: SigningRequest
    database: Database
    signer: SignerClient
    timestamps: TimestampClient | None

    async def answer_pending(self, batch: Sequence[PendingSignature]) -> list[SignatureResult]:
        """`answer`, as a format child asks it."""
        return await self.answer([pending.request for pending in batch])

    async def answer(self, batch: Sequence[SignatureRequest]) -> list[SignatureResult]:
        """The results of one batch, in its order.

        Raises:
            SignerRefusedError: the signer does not permit it.
            KeyStoreError: the token does not work.
            TimestampError: no authority gave acceptable tokens.
            UnavailableError: a part is away, and stayed away.
            LeaseLostError: another attempt has taken the request over.
        """
        request = self.request
        signatures = await patiently(
            "signing", lambda: self.signer.sign(request.id, request.attempt, batch)
        )
        values = [stamped_value(*each) for each in zip(batch, signatures, strict=True)]
        wanted: dict[str, dict[str, bytes]] = {}
        for item, value in zip(batch, values, strict=True):
            if item.timestamp is TimestampForm.RFC3161:
                by_imprint = wanted.setdefault(item.hash_algorithm, {})
                by_imprint[imprint(value)] = value
        tokens: dict[str, bytes] = {}
        for hash_algorithm, by_imprint in wanted.items():
            tokens |= await self._stamp(by_imprint, hash_algorithm)
        return [
            SignatureResult(
                signature,
                tokens[imprint(value)] if item.timestamp is TimestampForm.RFC3161 else None,
            )
            for item, signature, value in zip(batch, signatures, values, strict=True)
        ]

    async def _stamp(
        self, signatures: Mapping[str, bytes], hash_algorithm: str
    ) -> dict[str, bytes]:
        """Tokens by imprint: kept ones first, then new ones, kept before they are used."""
        imprints = list(signatures)
        async with self.database.read() as tx:
            kept = await timestamp_tokens.some(tx, self.request.id, imprints)
        missing = [name for name in imprints if name not in kept]
        if not missing:
            return kept
        client = self.timestamps
        if client is None:
            message = (
                "The artifact configuration wants time stamps, and no authority is configured."
            )
            raise TimestampError(message, advice="Configure timestamp_authorities.")
        made = await client.stamp([signatures[name] for name in missing], hash_algorithm)
        async with self.database.transaction() as tx:
            await lease.require(tx, self.request)
            # another batch may have stamped an equal signature meanwhile: the first token wins
            kept |= await timestamp_tokens.some(tx, self.request.id, missing)
            new = {
                name: token for name, token in zip(missing, made, strict=True) if name not in kept
            }
            await timestamp_tokens.put(tx, self.request.id, new, utc_now())
        return kept | new


def imprint(signature: bytes) -> str:
    """What a token is kept under: the hex SHA-256 of the signature."""
    return hashlib.sha256(signature).hexdigest()


async def patiently(what: str, call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call that does no harm when repeated, for as long as its part is away.

    Raises:
        UnavailableError: it stayed away for `PATIENCE_SECONDS`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    pause = _FIRST_PAUSE
    while True:
        try:
            return await call()
        except UnavailableError as error:
            if loop.time() + pause > deadline:
                raise
            _log.info("%s: %s Trying again in %.1f s.", what, error.message, pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
