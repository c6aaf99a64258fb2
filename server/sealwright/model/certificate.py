"""A key on the token together with its certificate."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass

#: Days before the end of a certificate at which people are warned, once each.
WARNING_DAYS = (60, 30, 14, 7, 1)


class CertificateState(enum.StrEnum):
    """Whether an administrator lets the signer use the key."""

    ACTIVE = "active"
    DISABLED = "disabled"


class CertificateStatus(enum.StrEnum):
    """How a certificate stands: its state, and what time and its successors made of it."""

    PENDING = "pending"  # its request waits for a certification authority
    ACTIVE = "active"
    DISABLED = "disabled"
    EXPIRED = "expired"
    REPLACED = "replaced"  # a renewal took its place; what was decided before may still use it
    REVOKED = "revoked"  # an OpenPGP key that says of itself that it must not be trusted


class CertificateKind(enum.StrEnum):
    """What vouches for the key."""

    X509 = "x509"
    OPENPGP = "openpgp"  # `certificate` is an OpenPGP public key with its user id


class RevocationReason(enum.StrEnum):
    """Why an OpenPGP key is revoked (RFC 9580, 5.2.3.31). Whatever a compromised key has signed
    counts no more; of the others, what was signed before stays good."""

    UNSPECIFIED = "unspecified"
    SUPERSEDED = "superseded"
    COMPROMISED = "compromised"
    RETIRED = "retired"


class CertificateSource(enum.StrEnum):
    """Where key and certificate come from."""

    SELF_SIGNED = "self-signed"
    ISSUED = "issued"  # by a certification authority whose key is on the token as well
    REQUEST = "request"  # a PKCS #10 request that a certification authority answers
    IMPORT = "import"  # a PKCS #12 file: the key was made elsewhere
    ENROLMENT = "enrolment"  # a request that an EST server answers


class KeyType(enum.StrEnum):
    """Kinds of keys that the token signs with."""

    RSA_2048 = "rsa-2048"  # imported only
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    P256 = "p-256"
    P384 = "p-384"

    @property
    def is_rsa(self) -> bool:
        """Whether RSA mechanisms apply."""
        return self.value.startswith("rsa-")

    @property
    def bits(self) -> int:
        """Size of the modulus or of the curve's field."""
        return int(self.value.partition("-")[2])

    @property
    def is_strong(self) -> bool:
        """Whether it may sign releases: at least 128 bits of security (NIST SP 800-57, table 2)."""
        return self.bits >= (3072 if self.is_rsa else 256)


#: Kinds of keys that are generated on the token.
GENERATED_KEYS = (KeyType.RSA_3072, KeyType.RSA_4096, KeyType.P256, KeyType.P384)


class CertificateUsage(enum.StrEnum):
    """What a certificate is made for."""

    CODE_SIGNING = "code-signing"
    TIMESTAMPING = "timestamping"
    CA = "ca"


@dataclass(frozen=True)
class Certificate:
    """What the signer signs with.

    Attributes:
        state: the administrator's switch, off for good once the key is revoked; see `status`.
        key_uri: RFC 7512 URI of the private key (token and object id; never a PIN).
        certificate: DER of the leaf, or a binary OpenPGP public key; empty while it is pending.
        chain: DER of its issuers, the leaf's issuer first.
        sha256: hex SHA-256 of `certificate`; empty while it is pending.
        not_before, not_after: without meaning while it is pending.
        exposed: the private key was readable outside the token at some time.
        release: it is trusted by users: only policies with approvals, and only strong keys.
        csr: DER of the PKCS #10 request, where there was one.
        replaces_id: the certificate that it renews.
        replaced_by_id: the issued certificate that renews it.
        enrolment_id: the EST server that issues and renews it.
        revocation: an OpenPGP key's revocation signature, a packet; empty: it is not revoked.
        revocation_reason: a `RevocationReason`; empty where there is none.
    """

    id: str
    organization_id: str
    slug: str
    name: str
    state: CertificateState
    key_uri: str
    key_type: KeyType
    certificate: bytes
    chain: tuple[bytes, ...]
    sha256: str
    subject: str
    not_before: dt.datetime
    not_after: dt.datetime
    created_at: dt.datetime
    kind: CertificateKind = CertificateKind.X509
    source: CertificateSource = CertificateSource.SELF_SIGNED
    exposed: bool = False
    release: bool = False
    csr: bytes = b""
    replaces_id: str | None = None
    enrolment_id: str | None = None
    replaced_by_id: str | None = None
    revocation: bytes = b""
    revocation_reason: str = ""
    revoked_at: dt.datetime | None = None

    @property
    def is_pending(self) -> bool:
        """Whether it has not been issued yet."""
        return not self.certificate

    @property
    def is_revoked(self) -> bool:
        """Whether its key has revoked itself, which is for good."""
        return self.revoked_at is not None

    def status(self, now: dt.datetime) -> CertificateStatus:
        """How it stands at this time."""
        if self.is_revoked:
            return CertificateStatus.REVOKED
        if self.state is CertificateState.DISABLED:
            return CertificateStatus.DISABLED
        if self.is_pending:
            return CertificateStatus.PENDING
        if self.replaced_by_id is not None:
            return CertificateStatus.REPLACED
        return CertificateStatus.EXPIRED if now >= self.not_after else CertificateStatus.ACTIVE

    def days_left(self, now: dt.datetime) -> int | None:
        """Whole days until it expires, negative afterwards; None while it is pending."""
        return None if self.is_pending else (self.not_after - now).days

    def warning(self, now: dt.datetime) -> int | None:
        """The narrowest of `WARNING_DAYS` that it is within, where anybody should care; or None."""
        if self.status(now) not in {CertificateStatus.ACTIVE, CertificateStatus.EXPIRED}:
            return None
        left = self.not_after - now
        due = [days for days in WARNING_DAYS if left <= dt.timedelta(days=days)]
        return min(due, default=None)


def current(certificate: Certificate, others: Mapping[str, Certificate]) -> Certificate:
    """The certificate that stands for this one today: the last of its renewals that were issued."""
    seen = {certificate.id}
    while (following := certificate.replaced_by_id) and following not in seen:
        if following not in others:
            break
        certificate = others[following]
        seen.add(following)
    return certificate


class OrderState(enum.StrEnum):
    """How far the signer is with an order."""

    QUEUED = "queued"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self in {OrderState.DONE, OrderState.FAILED}


class Operation(enum.StrEnum):
    """What may be ordered of the signer."""

    CREATE = "create"  # key and self-signed certificate, or OpenPGP key
    REQUEST = "request"  # key and PKCS #10 request
    INSTALL = "install"  # the chain that was issued for a request
    IMPORT = "import"  # key and chain from a PKCS #12 file
    RENEW = "renew"  # a successor of a certificate
    REVOKE = "revoke"  # an OpenPGP key revokes itself


@dataclass(frozen=True)
class CertificateOrder:
    """What the web process or a worker wants the signer to do with keys.

    Attributes:
        certificate_id: of what is to be installed or renewed.
        arguments: texts, numbers and booleans by name; see `signer.orders`.
        payload: an uploaded file; a PKCS #12 file only sealed to the signer. Gone once it is done.
        requested_by: id of the user, or None where housekeeping wants it.
        result_id: the certificate that came of it.
        code, reason, advice: why it failed.
    """

    id: str
    organization_id: str
    operation: Operation
    certificate_id: str | None
    arguments: Mapping[str, str | int | bool]
    payload: bytes
    requested_by: str | None
    created_at: dt.datetime
    state: OrderState = OrderState.QUEUED
    claimed_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    result_id: str | None = None
    code: str = ""
    reason: str = ""
    advice: str = ""
