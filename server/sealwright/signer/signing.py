"""Signing a batch: intend, sign, settle.

First a transaction decides (`grants`) and commits an intent and a log leaf for every signature.
Only then is the token asked. A second transaction records what it answered, and only what that
one has recorded is given out. Whatever dies in between leaves intents whose outcome is unknown:
they are settled as abandoned when their digest is asked for again, which is then intended anew.

So no signature exists without an earlier intent, and a digest that has a recorded signature gets
that one again instead of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sealwright.db import (
    Database,
    Transaction,
    approvals,
    certificates,
    endorsements,
    intents,
    passkeys,
    projects,
    requests,
)
from sealwright.db.intents import ABANDONED, INTENDED, MADE, REFUSED, Intent
from sealwright.errors import (
    ConfigurationError,
    KeyStoreError,
    SealwrightError,
    SignerRefusedError,
    UnavailableError,
)
from sealwright.keystores.faults import SignatureUncertainError
from sealwright.keystores.uri import Pkcs11Uri
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.passkey import RelyingParty
from sealwright.model.request import SigningRequest
from sealwright.model.signer_messages import DigestToSign
from sealwright.signer.grants import Grant, Record, Usage, permit
from sealwright.signer.wire import SignItem
from sealwright.transparency.leaf import (
    SIGNATURE_ABANDONED,
    SIGNATURE_INTENDED,
    SIGNATURE_MADE,
)
from sealwright.transparency.record import record, request_entry

ACTOR = "signer"
_log = logging.getLogger(__name__)
#: How often one call intends a digest anew whose outcome was lost.
_ROUNDS = 3
#: Pauses, in seconds, before what the token answered is written once more.
_SETTLE_PAUSES = (0.1, 0.5, 2.0)
_SWEEP = 500
#: Signatures that are intended and not settled, besides those of a single batch: what is lost with
#: this process. Enough for the token not to wait for the database.
_MOST_OPEN = 128

_LOST = "The outcome was lost with the process that waited for it."

Answer = bytes | SealwrightError


class Sessions(Protocol):
    """What is needed of a `SessionPool`."""

    async def sign_batch(self, items: Sequence[SignItem], owner: str = "") -> list[Answer]:
        """Sign; each item's signature, or why there is none. Owners take turns."""
        ...


@dataclass(frozen=True)
class _Batch:
    """What the first transaction committed: signatures that exist, and intents to carry out."""

    grant: Grant
    key_id: bytes
    made: Mapping[DigestToSign, bytes]
    intended: Mapping[DigestToSign, Intent]


class Signing:
    """Signs for requests, any number at the same time."""

    def __init__(self, database: Database, sessions: Sessions, rp: RelyingParty) -> None:
        """
        Args:
            rp: the server that approvers' passkeys are for.
        """
        self._database = database
        self._sessions = sessions
        self._rp = rp
        self._under_way: dict[tuple[str, DigestToSign], asyncio.Future[None]] = {}
        self._open = 0
        self._entering = asyncio.Lock()  # in the order of their coming, large and small
        self._settled = asyncio.Condition()

    async def sign(
        self, request_id: str, attempt: int, items: Sequence[DigestToSign]
    ) -> list[bytes]:
        """Give the signatures of `items`, in their order.

        Raises:
            SignerRefusedError: the record does not permit it.
            KeyStoreError, NotFoundError: the token refused; what it did sign is recorded.
            UnavailableError: the database or the token is away. Repeating the call is safe.
        """
        keys = {(request_id, item) for item in items}
        while busy := {self._under_way[key] for key in keys if key in self._under_way}:
            await asyncio.wait(busy)
        done = asyncio.get_running_loop().create_future()
        self._under_way |= dict.fromkeys(keys, done)
        try:
            distinct = tuple(dict.fromkeys(items))
            async with self._room(len(distinct)):
                made = await self._make(request_id, attempt, distinct)
        finally:
            for key in keys:
                del self._under_way[key]
            done.set_result(None)
        return [made[item] for item in items]

    @contextlib.asynccontextmanager
    async def _room(self, count: int) -> AsyncIterator[None]:
        """Wait until so many more may be open."""
        async with self._entering, self._settled:
            await self._settled.wait_for(lambda: not self._open or self._open + count <= _MOST_OPEN)
            self._open += count
        try:
            yield
        finally:
            self._open -= count
            async with self._settled:
                self._settled.notify_all()

    async def sweep(self) -> int:
        """Settle what finished requests have left open; how many intents that were.

        Raises:
            UnavailableError: the database does not answer.
        """
        swept = 0
        while True:
            async with self._database.transaction() as tx:
                busy = {request_id for request_id, _ in self._under_way}
                found = await intents.left_open(tx, _SWEEP)
                stale = [intent for intent in found if intent.request_id not in busy]
                for request_id in {intent.request_id for intent in stale}:
                    request = await requests.get_any(tx, request_id)
                    if request is not None:
                        mine = [intent for intent in stale if intent.request_id == request_id]
                        await _abandon(tx, request, mine)
            swept += len(stale)
            if len(stale) < _SWEEP:
                return swept

    async def _make(
        self, request_id: str, attempt: int, items: Sequence[DigestToSign]
    ) -> Mapping[DigestToSign, bytes]:
        for _ in range(_ROUNDS):
            batch = await self._intend(request_id, attempt, items)
            if not batch.intended:
                return batch.made
            answers = await self._ask(batch)
            made = await self._settle(batch.grant, batch.intended, answers)
            if len(made) == len(batch.intended):
                return {**batch.made, **made}
            _raise_first(answers)
        message = f"The token lost its answers {_ROUNDS} times."
        raise UnavailableError(message, advice="Check the token; every loss is in the log.")

    async def _intend(self, request_id: str, attempt: int, items: Sequence[DigestToSign]) -> _Batch:
        """Decide, and commit the intents. Nothing has been asked of the token when this raises."""
        async with self._database.transaction() as tx:
            await intents.lock(tx, request_id)
            now = utc_now()  # both may have taken long
            request = await requests.get_any(tx, request_id)
            if request is None:
                message = f"There is no signing request {request_id[:40]!r}."
                advice = "Check that signer and workers use one database."
                raise SignerRefusedError(message, advice=advice)
            made, stale = await _earlier(tx, request, items)
            fresh = [item for item in items if item not in made]
            seen = await _read_record(tx, request, len(stale))
            grant = permit(seen, attempt, items, fresh, now, self._rp)
            key_id = _key_id(grant.certificate.key_uri)
            intended = {
                item: Intent(
                    id=new_id(),
                    organization_id=request.organization_id,
                    request_id=request.id,
                    certificate_id=grant.certificate.id,
                    mechanism=item.mechanism.value,
                    hash_algorithm=item.hash_algorithm,
                    digest=item.digest,
                    state=INTENDED,
                    signature=None,
                    created_at=now,
                )
                for item in grant.fresh
            }
            await _abandon(tx, request, stale)
            await _record_intents(tx, grant, list(intended.values()))
        return _Batch(grant, key_id, made, intended)

    async def _ask(self, batch: _Batch) -> dict[DigestToSign, Answer]:
        asked = [
            SignItem(batch.key_id, item.mechanism, item.hash_algorithm, item.digest)
            for item in batch.intended
        ]
        answers = await self._sessions.sign_batch(asked, batch.grant.request.id)
        return dict(zip(batch.intended, answers, strict=True))

    async def _settle(
        self,
        grant: Grant,
        intended: Mapping[DigestToSign, Intent],
        answers: Mapping[DigestToSign, Answer],
    ) -> dict[DigestToSign, bytes]:
        """Record what the token answered; the signatures that are now on record.

        Repeated while the database is away, since what cannot be recorded is lost.
        """
        settled = {item: _outcome(intended[item], answers[item]) for item in intended}
        for pause in _SETTLE_PAUSES:
            try:
                return await self._record_outcomes(grant.request, settled, answers)
            except UnavailableError as error:
                _log.warning("signatures of %s not recorded yet: %s", grant.request.id, error)
            await asyncio.sleep(pause)
        return await self._record_outcomes(grant.request, settled, answers)

    async def _record_outcomes(
        self,
        request: SigningRequest,
        settled: Mapping[DigestToSign, Intent],
        answers: Mapping[DigestToSign, Answer],
    ) -> dict[DigestToSign, bytes]:
        async with self._database.transaction() as tx:
            stored = await intents.locked(tx, [intent.id for intent in settled.values()])
            # a commit whose answer was lost has been done already, or another signer gave up on us
            still_open = {
                item: intent
                for item, intent in settled.items()
                if intent.id in stored and stored[intent.id].state == INTENDED
            }
            await intents.settle(tx, list(still_open.values()))
            now = utc_now()
            await record(
                tx,
                *(
                    request_entry(
                        request,
                        SIGNATURE_MADE if intent.state == MADE else SIGNATURE_ABANDONED,
                        actor=ACTOR,
                        now=now,
                        data=_outcome_data(intent, answers[item]),
                    )
                    for item, intent in still_open.items()
                ),
            )
        return {
            item: intent.signature
            for item, intent in settled.items()
            if intent.signature is not None
            and intent.id in stored
            and (item in still_open or stored[intent.id].signature == intent.signature)
        }


async def _read_record(tx: Transaction, request: SigningRequest, stale: int) -> Record:
    """Read everything that the decision rests on. `stale` intents are about to be abandoned."""
    organization = request.organization_id
    decisions = await approvals.of_request(tx, request.id)
    keys = await passkeys.of_users(tx, organization, [one.user_id for one in decisions])
    counts = await intents.count(tx, request.id)
    return Record(
        request=request,
        policy=await projects.find_policy(tx, organization, None, request.signing_policy_id),
        certificate=await certificates.get(tx, organization, request.certificate_id),
        approvals=decisions,
        passkeys=keys,
        trust=await endorsements.of_request(tx, request, decisions, keys),
        usage=Usage(
            counted=counts.get(MADE, 0) + counts.get(INTENDED, 0) - stale,
            lost=counts.get(ABANDONED, 0) + stale,
        ),
    )


async def _earlier(
    tx: Transaction, request: SigningRequest, items: Sequence[DigestToSign]
) -> tuple[dict[DigestToSign, bytes], list[Intent]]:
    """Signatures that `items` have already, and intents whose outcome nobody waits for any more."""
    made: dict[DigestToSign, bytes] = {}
    stale: list[Intent] = []
    by_name = {(item.digest, item.hash_algorithm, item.mechanism.value): item for item in items}
    digests = list({item.digest for item in items})
    for intent in await intents.over(tx, request.id, digests):
        item = by_name.get((bytes(intent.digest), intent.hash_algorithm, intent.mechanism))
        if item is None or intent.certificate_id != request.certificate_id:
            continue
        if intent.state == INTENDED:
            stale.append(intent)
        elif intent.state == MADE and intent.signature is not None:
            made.setdefault(item, intent.signature)
    return made, stale


async def _record_intents(tx: Transaction, grant: Grant, new: Sequence[Intent]) -> None:
    if not new:
        return
    await intents.add(tx, new)
    key = hashlib.sha256(grant.certificate.key_uri.encode()).hexdigest()
    await record(
        tx,
        *(
            request_entry(
                grant.request,
                SIGNATURE_INTENDED,
                actor=ACTOR,
                now=intent.created_at,
                data={
                    "intent_id": intent.id,
                    "certificate": grant.certificate.sha256,
                    "key_uri_sha256": key,
                    "mechanism": intent.mechanism,
                    "hash_algorithm": intent.hash_algorithm,
                    "digest": intent.digest.hex(),
                    **grant.endorsed,
                },
            )
            for intent in new
        ),
    )


async def _abandon(tx: Transaction, request: SigningRequest, stale: Sequence[Intent]) -> None:
    """Settle intents whose outcome was lost."""
    await intents.settle(tx, [dataclasses.replace(intent, state=ABANDONED) for intent in stale])
    now = utc_now()
    entries = (
        request_entry(
            request,
            SIGNATURE_ABANDONED,
            actor=ACTOR,
            now=now,
            data={"intent_id": intent.id, "reason": _LOST, "possibly_signed": True},
        )
        for intent in stale
    )
    await record(tx, *entries)


def _outcome(intent: Intent, answer: Answer) -> Intent:
    if isinstance(answer, bytes):
        return dataclasses.replace(intent, state=MADE, signature=answer)
    state = ABANDONED if isinstance(answer, SignatureUncertainError) else REFUSED
    return dataclasses.replace(intent, state=state)


def _outcome_data(intent: Intent, answer: Answer) -> dict[str, str | bool]:
    if isinstance(answer, bytes):
        return {
            "intent_id": intent.id,
            "signature_sha256": hashlib.sha256(answer).hexdigest(),
        }
    return {
        "intent_id": intent.id,
        "reason": answer.message[:200],
        "possibly_signed": intent.state == ABANDONED,
    }


def _raise_first(answers: Mapping[DigestToSign, Answer]) -> None:
    """Raise the first error after which asking again is of no use, or not our business."""
    for answer in answers.values():
        if isinstance(answer, SealwrightError) and not isinstance(answer, SignatureUncertainError):
            raise answer


@functools.lru_cache(maxsize=256)
def _key_id(key_uri: str) -> bytes:
    try:
        key_id = Pkcs11Uri.parse(key_uri).id
    except ConfigurationError as error:
        raise KeyStoreError(error.message, advice=error.advice) from None
    if key_id is None:
        message = "The certificate's key has no id in its URI."
        raise KeyStoreError(message, advice="Register the certificate again with its key's id.")
    return key_id
