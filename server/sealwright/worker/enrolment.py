"""Having EST servers issue what waits for them, and renewing what they issued before its end."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random

from sealwright.certify import Wish, order
from sealwright.config import Settings
from sealwright.connectors.est import EstClient
from sealwright.connectors.vault import Vault
from sealwright.db import Database, certificate_orders, certificates, enrolment
from sealwright.errors import ConflictError, InvalidInputError, SealwrightError
from sealwright.model.certificate import Certificate, CertificateState, CertificateStatus, Operation
from sealwright.model.enrolment import Enrolment, EnrolmentServer
from sealwright.model.identifiers import utc_now
from sealwright.transparency.record import organization_entry, record

_log = logging.getLogger(__name__)
_ROUND_SECONDS = 10.0
_CLAIM = dt.timedelta(minutes=5)
_REFUSED = dt.timedelta(hours=1)
_FIRST_PAUSE = 30.0
_LONGEST_PAUSE = 3600.0


class Enroller:
    """Asks EST servers, in the name of nobody: see `signer.orders` for what that permits."""

    def __init__(self, settings: Settings, database: Database, vault: Vault) -> None:
        self._hosts = settings.build_system_hosts
        self._database = database
        self._vault = vault

    async def run(self) -> None:
        """Round after round."""
        while True:
            await asyncio.sleep(_ROUND_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            try:
                await self.renew(utc_now())
                await self.enrol(utc_now())
            except SealwrightError as error:
                _log.warning("cannot enrol certificates now: %s", error)

    async def renew(self, now: dt.datetime) -> int:
        """Order the renewal of what comes to its end; how many were ordered.

        Raises:
            UnavailableError: the database is away.
        """
        async with self._database.read() as tx:
            servers = {one.id: one for one in await enrolment.enabled(tx)}
        ordered = 0
        for organization_id in {one.organization_id for one in servers.values()}:
            async with self._database.read() as tx:
                present = await certificates.every(tx, organization_id)
            for certificate in present:
                server = servers.get(certificate.enrolment_id or "")
                if server and _is_due(certificate, present, server, now):
                    ordered += await self._order_renewal(certificate)
        return ordered

    async def enrol(self, now: dt.datetime) -> int:
        """Ask about every pending certificate that is due; how many were asked about.

        Raises:
            UnavailableError: the database is away.
        """
        async with self._database.read() as tx:
            due = await enrolment.due(tx, now)
        return sum([await self._attempt(certificate, one) for certificate, one in due])

    async def _order_renewal(self, certificate: Certificate) -> bool:
        wish = Wish(
            certificate.organization_id,
            Operation.RENEW,
            "worker",
            None,
            {"method": "enrolment", "new_key": True},
            certificate_id=certificate.id,
        )
        try:
            async with self._database.transaction() as tx:
                await order(tx, wish)
        except ConflictError:
            return False  # ordered already
        return True

    async def _attempt(self, certificate: Certificate, progress: Enrolment) -> bool:
        try:
            async with self._database.transaction() as tx:
                if await certificate_orders.is_ordered(tx, certificate.id):
                    return False
                if not await enrolment.claim(tx, progress, utc_now() + _CLAIM):
                    return False
        except ConflictError:
            return False  # another worker was quicker
        due, error = await self._ask(certificate, progress)
        async with self._database.transaction() as tx:
            await enrolment.settle(tx, certificate.id, due, error)
            if error and error != progress.error:
                entry = organization_entry(
                    certificate.organization_id,
                    "certificate.enrolment_failed",
                    actor="worker",
                    now=utc_now(),
                    data={"certificate": certificate.id, "attempt": progress.attempts + 1},
                )
                await record(tx, entry)
        return True

    async def _ask(
        self, certificate: Certificate, progress: Enrolment
    ) -> tuple[dt.datetime | None, str]:
        """When it is due again, and what went wrong."""
        now = utc_now()
        try:
            async with self._database.read(frozen=True) as tx:
                server = await enrolment.find(
                    tx, certificate.organization_id, certificate.enrolment_id or ""
                )
                sealed = await enrolment.sealed_credentials(tx, certificate.enrolment_id or "")
                before = None
                if certificate.replaces_id:
                    before = await certificates.get(
                        tx, certificate.organization_id, certificate.replaces_id
                    )
            if server is None or not server.enabled:
                return now + _REFUSED, "The EST server is disabled."
            credentials = self._vault.open(server.id, sealed)
            async with EstClient(server, credentials, self._hosts) as client:
                # the server re-enrols what it has issued itself (RFC 7030, 4.2.2)
                again = before is not None and before.enrolment_id == certificate.enrolment_id
                answer = await client.enrol(certificate.csr, again=again)
                if answer.retry_after:
                    return now + dt.timedelta(seconds=answer.retry_after), ""
                # the signer completes the chain from these; a root may come twice
                content = _pem(answer.content) + _pem(await client.authorities())
            await self._install(certificate, content)
        except InvalidInputError as error:
            _log.warning("%s: %s", certificate.slug, error)
            return now + _REFUSED, error.message
        except SealwrightError as error:
            _log.warning("%s: %s", certificate.slug, error)
            pause = min(_FIRST_PAUSE * 2 ** min(progress.attempts, 10), _LONGEST_PAUSE)
            return now + dt.timedelta(seconds=pause), error.message
        # should the signer refuse it, another attempt has to be made
        return now + _REFUSED, ""

    async def _install(self, certificate: Certificate, content: bytes) -> None:
        wish = Wish(
            certificate.organization_id,
            Operation.INSTALL,
            "worker",
            None,
            {},
            certificate_id=certificate.id,
            payload=content,
        )
        async with self._database.transaction() as tx:
            await order(tx, wish)


def _is_due(
    certificate: Certificate,
    present: list[Certificate],
    server: EnrolmentServer,
    now: dt.datetime,
) -> bool:
    if certificate.status(now) not in {CertificateStatus.ACTIVE, CertificateStatus.EXPIRED}:
        return False
    waits = any(
        one.replaces_id == certificate.id and one.state is CertificateState.ACTIVE
        for one in present
    )
    return not waits and certificate.not_after - now < dt.timedelta(days=server.renew_days)


def _pem(content: bytes) -> bytes:
    """A base64 body as one PEM block (RFC 7468, 8)."""
    lines = b"\n".join(content.split())
    return b"-----BEGIN PKCS7-----\n" + lines + b"\n-----END PKCS7-----\n"
