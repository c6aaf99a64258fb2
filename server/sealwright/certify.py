"""Having the signer do something with keys: an order in the database, and its outcome.

Neither the web process nor a worker reaches a key store. They write down what is wanted; the signer
reads it, decides again whether it may be, and does it (`signer.orders`).
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sealwright.connectors.envelope import seal
from sealwright.db import Database, Transaction, certificate_orders
from sealwright.errors import (
    ConflictError,
    NotFoundError,
    SealwrightError,
    TooLargeError,
    TooManyRequestsError,
    UnavailableError,
)
from sealwright.model.certificate import CertificateOrder, Operation, OrderState
from sealwright.model.identifiers import new_id, utc_now
from sealwright.transparency.record import organization_entry, record

MAX_UPLOAD = 256 * 1024  #: bytes of a chain or PKCS #12 file
MAX_OPEN = 50  #: orders of one organization that wait at once
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Wish:
    """What is wanted of the signer.

    Attributes:
        actor: who wants it, as the log names them.
        requested_by: the user's id; None: housekeeping.
        arguments: see `signer.workshop`.
        certificate_id: what is to be installed or renewed.
        payload: an uploaded chain.
    """

    organization_id: str
    operation: Operation
    actor: str
    requested_by: str | None
    arguments: Mapping[str, str | int | bool]
    certificate_id: str | None = None
    payload: bytes = b""


async def order(tx: Transaction, wish: Wish, *, sealed: bytes | None = None) -> CertificateOrder:
    """Write the order down, and in the log who wants it.

    Args:
        sealed: a secret that only the signer may read, such as `import_payload` gives; it is sealed
            here.

    Raises:
        TooManyRequestsError: too many orders of the organization wait.
        ConflictError: another order about the certificate waits.
        TooLargeError: the upload.
        UnavailableError: there is no signer to seal a secret to.
    """
    if max(len(wish.payload), len(sealed or b"")) > 2 * MAX_UPLOAD:
        message = f"An upload of more than {MAX_UPLOAD} bytes is not taken."
        raise TooLargeError(message, advice="Upload the certificates alone.")
    if await certificate_orders.opened(tx, wish.organization_id) >= MAX_OPEN:
        message = f"{MAX_OPEN} orders wait for the signer already."
        raise TooManyRequestsError(message, advice="See whether the signer runs.")
    if wish.certificate_id and await certificate_orders.is_ordered(tx, wish.certificate_id):
        message = "Another order about this certificate waits for the signer."
        raise ConflictError(message, advice="Wait for its outcome.")
    now, identifier = utc_now(), new_id()
    payload = wish.payload
    if sealed is not None:
        signer = await certificate_orders.envelope(tx)
        if signer is None:
            message = "No signer has been started yet: there is nobody to seal the file to."
            raise UnavailableError(message, advice="Start 'sealwright signer'.")
        payload = seal(signer[1], identifier, sealed)
    made = CertificateOrder(
        id=identifier,
        organization_id=wish.organization_id,
        operation=wish.operation,
        certificate_id=wish.certificate_id,
        arguments=dict(wish.arguments),
        payload=payload,
        requested_by=wish.requested_by,
        created_at=now,
    )
    await certificate_orders.add(tx, made)
    facts = {
        "order": made.id,
        "operation": made.operation.value,
        "certificate": made.certificate_id,
        "arguments": dict(made.arguments),
    }
    entry = organization_entry(
        made.organization_id, "certificate.ordered", actor=wish.actor, now=now, data=facts
    )
    await record(tx, entry)
    return made


def import_payload(content: bytes, password: str) -> bytes:
    """A PKCS #12 file and its password, for `order` to seal.

    Raises:
        TooLargeError
    """
    if len(content) > MAX_UPLOAD:
        message = f"The file has {len(content)} bytes; at most {MAX_UPLOAD} are taken."
        raise TooLargeError(message, advice="Export the key with its own chain alone.")
    fields = {"password": password, "content": base64.b64encode(content).decode()}
    return json.dumps(fields).encode()


async def wait_for(
    database: Database, organization_id: str, order_id: str, seconds: float
) -> CertificateOrder:
    """The order once it is settled, or as it is when the seconds are over.

    Raises:
        NotFoundError: there is no such order in the organization.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while True:
        async with database.read() as tx:
            found = await certificate_orders.get(tx, organization_id, order_id)
        if found is None:
            message = f"There is no order {order_id[:40]!r}."
            raise NotFoundError(message)
        if found.state.is_final or loop.time() >= ends:
            return found
        await asyncio.sleep(_POLL_SECONDS)


def check(settled: CertificateOrder) -> None:
    """Raise why the order failed, as the error that the signer had."""
    if settled.state is not OrderState.FAILED:
        return
    kinds = {kind.code: kind for kind in _family(SealwrightError)}
    kind = kinds.get(settled.code, SealwrightError)
    raise kind(settled.reason, advice=settled.advice)


def _family(kind: type[SealwrightError]) -> Iterator[type[SealwrightError]]:
    for subclass in kind.__subclasses__():
        yield from _family(subclass)
    yield kind
