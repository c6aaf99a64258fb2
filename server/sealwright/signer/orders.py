"""What is ordered of the signer through the database: keys, requests, chains, imports, renewals.

The web process cannot reach the signer, and what it writes is not believed: for each order the
signer reads user, role and organization with its own database role, decides again by the same
table of permissions, and holds every organization to a rate. Then it announces in the log what it
is about to do, does it, and records the result. An order is carried out once or not at all.

Never ordered here: keys of certification and time stamp authorities, and issuing with them. Those
are made by the operator, at the socket (`certificates`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import logging
from collections.abc import Mapping
from typing import Any

from sealwright.connectors.envelope import Envelope
from sealwright.db import Database, Transaction, certificate_orders, certificates, users
from sealwright.errors import (
    ForbiddenError,
    InternalError,
    InvalidInputError,
    SealwrightError,
    TooManyRequestsError,
    UnavailableError,
)
from sealwright.keystores.uri import Pkcs11Uri
from sealwright.model.certificate import CertificateOrder, Operation, OrderState
from sealwright.model.identifiers import is_id, new_id, utc_now
from sealwright.model.passkey import RelyingParty
from sealwright.model.signer_messages import mapping, optional_text, parse_bytes, text
from sealwright.model.user import Role
from sealwright.policy.permissions import PERMISSIONS, Access
from sealwright.signer.commission import Commission
from sealwright.signer.sessions import SessionPool
from sealwright.signer.trust import is_endorsed
from sealwright.signer.workshop import Workshop
from sealwright.transparency.record import organization_entry, record

#: Seconds between two looks for orders.
POLL_SECONDS = 0.25
#: What an organization may order in an hour: enough for people, too little to fill a token.
MAX_HOURLY = 120
#: A signer that took an order and has not settled it after so long is gone.
_ABANDONED = dt.timedelta(minutes=15)
#: An order that no signer can carry out, because none has its token.
_UNCLAIMED = dt.timedelta(days=1)

_ROUTES = {
    Operation.CREATE: "certificates.create",
    Operation.REQUEST: "certificates.create",
    Operation.INSTALL: "certificates.install",
    Operation.IMPORT: "certificates.import",
    Operation.RENEW: "certificates.renew",
    Operation.REVOKE: "certificates.revoke",
}
_log = logging.getLogger(__name__)


class Orders:
    """Takes orders and carries them out, one after another."""

    def __init__(
        self, database: Database, pool: SessionPool, token_uri: Pkcs11Uri, rp: RelyingParty
    ) -> None:
        """
        Args:
            rp: the server that the passkeys which endorse orders are for.
        """
        self._database = database
        self._rp = rp
        self._token_uri = token_uri
        self._envelope = Envelope()
        self._workshop = Workshop(database, pool, token_uri)

    async def open(self) -> None:
        """Publish the key that uploads with secrets are sealed to.

        Raises:
            UnavailableError: the database is away.
        """
        async with self._database.transaction() as tx:
            await certificate_orders.put_envelope(
                tx, _name(self._token_uri), self._envelope.public_key, utc_now()
            )

    async def forever(self) -> None:
        """Carry out what is ordered, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.round()
            except SealwrightError as error:
                _log.warning("orders are not carried out now: %s", error)
            except Exception:  # noqa: BLE001 (the next round may do better)
                _log.exception("orders are not carried out now")

    async def round(self) -> int:
        """Carry out every order that waits; how many.

        Raises:
            UnavailableError: the database is away.
        """
        now = utc_now()
        async with self._database.read() as tx:
            waiting = await certificate_orders.waiting(tx)
            abandoned = await certificate_orders.abandoned(tx, now - _ABANDONED)
        for order in abandoned:
            await self._settle(order, _interrupted())
        done = 0
        for order in waiting:
            if now - order.created_at > _UNCLAIMED:
                await self._settle(order, await self._why_unclaimed(order))
            elif await self._take(order):
                await self._settle(order, await self._carry_out(order))
                done += 1
        return done

    async def run(self, order: CertificateOrder, actor: str) -> str:
        """Carry out what the operator orders at the socket; the certificate's id."""
        return await self._workshop.run(Commission(order, actor, order.payload))

    async def _take(self, order: CertificateOrder) -> bool:
        async with self._database.transaction() as tx:
            if not await self._has_key(tx, order):
                return False
            if not await is_endorsed(tx, order, self._rp):
                return False
            return await certificate_orders.claim(tx, order, utc_now())

    async def _why_unclaimed(self, order: CertificateOrder) -> SealwrightError:
        async with self._database.read() as tx:
            endorsed = await is_endorsed(tx, order, self._rp)
        return _unclaimed() if endorsed else _unendorsed()

    async def _has_key(self, tx: Transaction, order: CertificateOrder) -> bool:
        """Whether what the order is about is on this signer's token."""
        if order.certificate_id is None:
            return True
        found = await certificates.get(tx, order.organization_id, order.certificate_id)
        if found is None:
            return True  # to be refused
        uri = Pkcs11Uri.parse(found.key_uri)
        ours = self._token_uri
        return (uri.token, uri.serial) == (ours.token, ours.serial)

    async def _carry_out(self, order: CertificateOrder) -> str | SealwrightError:
        """The certificate's id, or why there is none."""
        try:
            actor = await self._authorize(order)
            payload = order.payload
            if order.operation is Operation.IMPORT:
                payload = self._envelope.open(order.id, payload)
            return await self._workshop.run(Commission(order, actor, payload))
        except SealwrightError as error:
            _log.info("order %s: %s", order.id, error)
            return error
        except Exception:  # noqa: BLE001 (the last handler of an order)
            _log.exception("order %s failed", order.id)
            return InternalError("The signer failed.", advice="See the signer's own log.")

    async def _authorize(self, order: CertificateOrder) -> str:
        """Decide again who orders this, and whether they may; their name in the log.

        Raises:
            ForbiddenError, TooManyRequestsError
        """
        async with self._database.read() as tx:
            hour = utc_now() - dt.timedelta(hours=1)
            if await certificate_orders.made_since(tx, order.organization_id, hour) > MAX_HOURLY:
                message = f"More than {MAX_HOURLY} orders of the organization came in an hour."
                raise TooManyRequestsError(message, advice="Wait, and look who ordered them.")
            if order.requested_by is None:
                await _check_housekeeping(tx, order)
                return "system"
            known = await users.authority(tx, order.requested_by)
        if known is None or known[0] != order.organization_id or not _may(known[1], order):
            message = "Who ordered this may not, or not any more."
            raise ForbiddenError(message, advice="A certificate administrator may.")
        return f"user:{order.requested_by}"

    async def _settle(self, order: CertificateOrder, outcome: str | SealwrightError) -> None:
        now = utc_now()
        if isinstance(outcome, str):
            settled = dataclasses.replace(order, state=OrderState.DONE, result_id=outcome)
        else:
            settled = dataclasses.replace(
                order,
                state=OrderState.FAILED,
                code=outcome.code,
                reason=outcome.message[:2000],
                advice=outcome.advice[:2000],
            )
        async with self._database.transaction() as tx:
            await certificate_orders.settle(tx, settled, now)
            if settled.state is OrderState.FAILED:
                facts = {"order": order.id, "operation": order.operation.value}
                entry = organization_entry(
                    order.organization_id,
                    "certificate.refused",
                    actor="signer",
                    now=now,
                    data=facts | {"code": settled.code, "certificate": order.certificate_id},
                )
                await record(tx, entry)


def parse_order(arguments: Mapping[str, Any]) -> CertificateOrder:
    """Read what the operator orders at the socket.

    Raises:
        InvalidInputError: malformed.
    """
    organization_id = text(arguments, "organization_id")
    certificate_id = optional_text(arguments, "certificate_id")
    try:
        operation = Operation(text(arguments, "operation"))
    except ValueError:
        operation = None
    if operation is None or not all(is_id(one) for one in (organization_id, certificate_id) if one):
        message = "The order has no such operation, or an id in it is none."
        raise InvalidInputError(message)
    return CertificateOrder(
        id=new_id(),
        organization_id=organization_id,
        operation=operation,
        certificate_id=certificate_id,
        arguments=mapping(arguments, "arguments"),
        payload=parse_bytes(arguments.get("payload")),
        requested_by=None,
        created_at=utc_now(),
    )


async def _check_housekeeping(tx: Transaction, order: CertificateOrder) -> None:
    """Without a person behind it: only what an administrator has enrolled is renewed."""
    found = None
    if order.certificate_id is not None:
        found = await certificates.get(tx, order.organization_id, order.certificate_id)
    if (
        order.operation not in {Operation.RENEW, Operation.INSTALL}
        or found is None
        or found.enrolment_id is None
    ):
        message = "Only certificates with automatic enrolment are renewed without a person."
        raise ForbiddenError(message)


def _name(token: Pkcs11Uri) -> str:
    return f"{token.token or ''}/{token.serial or ''}"


def _may(role: Role, order: CertificateOrder) -> bool:
    row = PERMISSIONS[_ROUTES[order.operation]]
    return row is not None and row[role] is Access.ORGANIZATION


def _interrupted() -> SealwrightError:
    message = "The signer was interrupted while it carried this out."
    return UnavailableError(
        message, advice="Look whether the certificate is there; else repeat it."
    )


def _unendorsed() -> SealwrightError:
    message = "Nobody with a trusted passkey endorsed the order within a day."
    return ForbiddenError(message, advice="Order it again, and have it endorsed at /endorsements.")


def _unclaimed() -> SealwrightError:
    message = "No running signer has the token that holds this key."
    return UnavailableError(message, advice="Start the signer of that token, and order it again.")
