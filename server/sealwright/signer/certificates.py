"""Making a key on the token together with its certificate.

The key store's signature over a certificate is announced in the log before it is made, like every
other signature.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography import x509

from sealwright.db import Database, Transaction, organizations
from sealwright.db import certificates as db_certificates
from sealwright.errors import ConflictError, InvalidInputError, NotFoundError
from sealwright.keystores.pkcs11 import KeyInfo
from sealwright.keystores.uri import Pkcs11Uri
from sealwright.model.certificate import Certificate, CertificateState, CertificateUsage, KeyType
from sealwright.model.identifiers import is_id, is_slug, new_id, utc_now
from sealwright.model.mechanism import KeyAlgorithm
from sealwright.model.signer_messages import integer, optional_text, text
from sealwright.transparency.record import organization_entry, record

MAX_DAYS = 30 * 365
_MAX_NAME = 200
_MAX_LABEL = 64

#: Key type -> what the token is asked for.
ALGORITHMS = {
    KeyType.RSA_3072: KeyAlgorithm.RSA_3072,
    KeyType.RSA_4096: KeyAlgorithm.RSA_4096,
    KeyType.P256: KeyAlgorithm.EC_P256,
    KeyType.P384: KeyAlgorithm.EC_P384,
}


class KeyMaker(Protocol):
    """What is needed of a `SessionPool`."""

    async def generate_key(self, algorithm: KeyAlgorithm, label: str) -> KeyInfo:
        """Generate a key pair on the token."""
        ...

    async def self_signed_certificate(
        self, key_id: bytes, subject: str, validity: dt.timedelta, *, usage: CertificateUsage
    ) -> bytes:
        """Certify a key by itself."""
        ...

    async def certificate_authority(
        self, key_id: bytes, subject: str, validity: dt.timedelta
    ) -> bytes:
        """Certify a key by itself as a CA."""
        ...

    async def issue_certificate(
        self,
        issuer_key_id: bytes,
        issuer_certificate: bytes,
        *,
        public_key: bytes,
        subject: str,
        validity: dt.timedelta,
        usage: CertificateUsage,
    ) -> bytes:
        """Certify a key with a CA's."""
        ...


@dataclass(frozen=True)
class Order:
    """What is asked for. See `SignerClient.create_certificate`.

    Raises:
        InvalidInputError: a value is out of bounds.
    """

    organization_id: str
    slug: str
    name: str
    subject: str
    key_type: KeyType
    issuer_id: str | None
    validity: dt.timedelta
    usage: CertificateUsage

    @classmethod
    def parse(cls, arguments: Mapping[str, Any]) -> Order:
        """Read the arguments of the operation."""
        try:
            key_type = KeyType(text(arguments, "key_type"))
            _ = ALGORITHMS[key_type]
            usage = CertificateUsage(text(arguments, "usage"))
        except (ValueError, KeyError) as error:
            message = f"There is no such key type or usage: {error}."
            raise InvalidInputError(
                message,
                advice=f"Key types: {', '.join(ALGORITHMS)}; "
                f"usages: {', '.join(CertificateUsage)}.",
            ) from None
        return cls(
            text(arguments, "organization_id"),
            text(arguments, "slug"),
            text(arguments, "name"),
            text(arguments, "subject"),
            key_type,
            optional_text(arguments, "issuer"),
            dt.timedelta(days=integer(arguments, "valid_days", MAX_DAYS)),
            usage,
        )

    def __post_init__(self) -> None:
        if not is_id(self.organization_id) or not (self.issuer_id is None or is_id(self.issuer_id)):
            message = "The id of the organization or of the issuer is not one."
            raise InvalidInputError(message)
        if not is_slug(self.slug):
            message = f"{self.slug[:100]!r} cannot be the slug of a certificate."
            raise InvalidInputError(message, advice="Use lower-case letters, digits and '-._'.")
        if not 1 <= len(self.name) <= _MAX_NAME or not self.name.isprintable():
            message = f"A certificate's name needs 1 to {_MAX_NAME} printable characters."
            raise InvalidInputError(message)
        if self.usage is CertificateUsage.CA and self.issuer_id is not None:
            message = "A certification authority on the token is a root: it has no issuer."
            raise InvalidInputError(message, advice="Leave the issuer out.")
        if not self.validity:
            message = f"A certificate is valid for 1 to {MAX_DAYS} days."
            raise InvalidInputError(message)
        check_subject(self.subject)


async def create(database: Database, token: KeyMaker, token_uri: Pkcs11Uri, order: Order) -> str:
    """Generate the key, certify it, and record both; the certificate's id.

    A key whose certificate could not be recorded stays on the token, unused.

    Raises:
        InvalidInputError: the issuer cannot issue this.
        NotFoundError: there is no such organization or issuer.
        ConflictError: the slug is taken.
        KeyStoreError, UnavailableError
    """
    identifier = new_id()
    facts = {
        "certificate": identifier,
        "slug": order.slug,
        "subject": order.subject,
        "key_type": order.key_type.value,
        "usage": order.usage.value,
        "issuer": order.issuer_id,
    }
    async with database.transaction() as tx:
        issuer = await _check(tx, order)
        await _log(tx, order, "certificate.intended", facts)
    key = await token.generate_key(ALGORITHMS[order.key_type], order.slug[:_MAX_LABEL])
    der = await _certify(token, key, issuer, order)
    made = _certificate(identifier, key, der, issuer, token_uri, order)
    async with database.transaction() as tx:
        await _check(tx, order)
        await db_certificates.add(tx, made)
        key_uri = hashlib.sha256(made.key_uri.encode()).hexdigest()
        created = facts | {"sha256": made.sha256, "key_uri_sha256": key_uri}
        await _log(tx, order, "certificate.created", created)
    return identifier


async def _check(tx: Transaction, order: Order) -> Certificate | None:
    """Check the order against the database; the issuer, if it names one."""
    if await organizations.get(tx, order.organization_id) is None:
        message = f"There is no organization {order.organization_id[:40]!r}."
        raise NotFoundError(message)
    present = await db_certificates.every(tx, order.organization_id)
    if any(one.slug == order.slug for one in present):
        message = f"There is a certificate {order.slug} already."
        raise ConflictError(message, advice="Choose another slug; certificates are kept for good.")
    if order.issuer_id is None:
        return None
    issuer = next((one for one in present if one.id == order.issuer_id), None)
    if issuer is None:
        message = f"There is no certificate {order.issuer_id[:40]!r}."
        raise NotFoundError(message)
    _check_issuer(issuer, order.validity)
    return issuer


def _check_issuer(issuer: Certificate, validity: dt.timedelta) -> None:
    if issuer.state is not CertificateState.ACTIVE:
        message = f"The issuer {issuer.slug} is {issuer.state.value}."
        raise InvalidInputError(message)
    extensions = x509.load_der_x509_certificate(issuer.certificate).extensions
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = None
    if constraints is None or not constraints.ca:
        message = f"The certificate {issuer.slug} is not one of a certification authority."
        raise InvalidInputError(message, advice="Name a certificate of usage 'ca'.")
    if utc_now() + validity > issuer.not_after:
        message = f"The certificate would be valid for longer than its issuer {issuer.slug}."
        raise InvalidInputError(message, advice="Ask for a shorter validity.")


async def _certify(
    token: KeyMaker, key: KeyInfo, issuer: Certificate | None, order: Order
) -> bytes:
    if order.usage is CertificateUsage.CA:
        return await token.certificate_authority(key.id, order.subject, order.validity)
    if issuer is None:
        return await token.self_signed_certificate(
            key.id, order.subject, order.validity, usage=order.usage
        )
    return await token.issue_certificate(
        Pkcs11Uri.parse(issuer.key_uri).id or b"",
        issuer.certificate,
        public_key=key.public_key,
        subject=order.subject,
        validity=order.validity,
        usage=order.usage,
    )


def _certificate(
    identifier: str,
    key: KeyInfo,
    der: bytes,
    issuer: Certificate | None,
    token_uri: Pkcs11Uri,
    order: Order,
) -> Certificate:
    parsed = x509.load_der_x509_certificate(der)
    uri = Pkcs11Uri(token=token_uri.token, serial=token_uri.serial, id=key.id, type="private")
    return Certificate(
        id=identifier,
        organization_id=order.organization_id,
        slug=order.slug,
        name=order.name,
        state=CertificateState.ACTIVE,
        key_uri=str(uri),
        key_type=order.key_type,
        certificate=der,
        chain=(issuer.certificate, *issuer.chain) if issuer else (),
        sha256=hashlib.sha256(der).hexdigest(),
        subject=parsed.subject.rfc4514_string(),
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        created_at=utc_now(),
    )


async def _log(tx: Transaction, order: Order, action: str, data: Mapping[str, Any]) -> None:
    await record(
        tx,
        organization_entry(order.organization_id, action, actor="signer", now=utc_now(), data=data),
    )


def check_subject(subject: str) -> None:
    """Refuse before a key is generated for it what the key store would refuse afterwards."""
    try:
        rdns = x509.Name.from_rfc4514_string(subject).rdns
    except ValueError:
        rdns = []
    if not rdns:
        message = f"The subject {subject[:80]!r} is not a distinguished name."
        raise InvalidInputError(message, advice="Write it like 'CN=Example,O=Example Ltd,C=AT'.")
