"""Carrying out an order: announce it in the log, let the token do it, record what came of it.

Everything is checked before a key is made and again before it is recorded. A key whose certificate
could not be recorded stays on the token, unused.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime as dt
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwright.db import Database, Transaction, certificates, organizations
from sealwright.db import enrolment as enrolment_servers
from sealwright.errors import (
    ConflictError,
    InternalError,
    InvalidInputError,
    KeyStoreError,
    NotFoundError,
)
from sealwright.keystores.pkcs11 import KeyInfo
from sealwright.keystores.uri import Pkcs11Uri
from sealwright.model.certificate import (
    GENERATED_KEYS,
    Certificate,
    CertificateKind,
    CertificateSource,
    CertificateState,
    CertificateUsage,
    KeyType,
    Operation,
)
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.mechanism import KeyAlgorithm
from sealwright.signer import openpgp_keys
from sealwright.signer.certificates import ALGORITHMS, check_subject
from sealwright.signer.chains import IssuedChain, complete_chain, parse_certificates
from sealwright.signer.commission import Commission, Names
from sealwright.signer.sessions import SessionPool
from sealwright.signer.unpack import Unpacked, unpack_chain, unpack_pkcs12
from sealwright.signing.openpgp import check_user_id
from sealwright.transparency.record import organization_entry, record

_MAX_LABEL = 64
_KEY_TYPES = {algorithm.value: key_type for key_type, algorithm in ALGORITHMS.items()} | {
    "rsa-2048": KeyType.RSA_2048
}


class Workshop:
    """Does what is ordered, on one token."""

    def __init__(self, database: Database, token: SessionPool, token_uri: Pkcs11Uri) -> None:
        self._database = database
        self._token = token
        self._token_uri = token_uri
        self._work: Mapping[Operation, Callable[[Commission], Awaitable[str]]] = {
            Operation.CREATE: self._create,
            Operation.REQUEST: self._request,
            Operation.INSTALL: self._install,
            Operation.IMPORT: self._import,
            Operation.RENEW: self._renew,
            Operation.REVOKE: self._revoke,
        }

    async def run(self, commission: Commission) -> str:
        """Carry it out; the id of the certificate that it is about or that came of it.

        Raises:
            InvalidInputError, ConflictError, NotFoundError: it cannot be done as ordered.
            KeyStoreError, UnavailableError: token or database.
        """
        return await self._work[commission.order.operation](commission)

    async def _create(self, commission: Commission) -> str:
        """A key on the token that certifies itself."""
        if commission.text("kind") == CertificateKind.OPENPGP.value:
            return await self._create_openpgp(commission)
        draft = self._draft(commission, CertificateSource.SELF_SIGNED)
        validity = commission.days()
        await self._announce(commission, draft)
        key = await self._generate(draft)
        der = await self._token.self_signed_certificate(
            key.id, draft.subject, validity, usage=CertificateUsage.CODE_SIGNING
        )
        made = _issued(self._with_key(draft, key), der, ())
        return await self._record(commission, made, "certificate.created")

    async def _create_openpgp(self, commission: Commission) -> str:
        """A key on the token that certifies its own user id."""
        user_id = commission.text("subject")
        check_user_id(user_id)
        validity = commission.days()
        draft = dataclasses.replace(
            self._blank(commission, Names.of(commission), CertificateSource.SELF_SIGNED),
            kind=CertificateKind.OPENPGP,
            key_type=commission.key_type(),
            subject=user_id,
            release=commission.flag("release"),
        )
        await self._announce(commission, draft)
        info = await self._generate(draft)
        now = utc_now().replace(microsecond=0)
        content = await openpgp_keys.new_key(self._token, info, user_id, now, validity)
        made = _certified(self._with_key(draft, info), content, now, now + validity)
        return await self._record(commission, made, "certificate.created")

    async def _request(self, commission: Commission) -> str:
        """A key on the token, and a request to a certification authority."""
        enrolment = commission.text("enrolment_id") or None
        source = CertificateSource.ENROLMENT if enrolment else CertificateSource.REQUEST
        draft = dataclasses.replace(self._draft(commission, source), enrolment_id=enrolment)
        await self._check_enrolment(commission, enrolment)
        await self._announce(commission, draft)
        key = await self._generate(draft)
        csr = await self._token.certificate_signing_request(key.id, draft.subject)
        made = dataclasses.replace(self._with_key(draft, key), csr=csr)
        return await self._record(commission, made, "certificate.requested")

    async def _install(self, commission: Commission) -> str:
        """What a certification authority issued for a request of ours."""
        async with self._database.read() as tx:
            pending = await _find(tx, commission)
            known = await _authorities(tx, commission.organization_id)
        _check_pending(pending)
        unpacked = await unpack_chain(commission.payload)
        chain = complete_chain(
            parse_certificates(unpacked.certificates),
            _key_of_request(pending),
            utc_now(),
            known,
        )
        issued = _issued(pending, chain.leaf_der, chain.issuer_ders)
        async with self._database.transaction() as tx:
            await self._log(tx, commission, "certificate.issued", issued)
            if not await certificates.install(tx, issued):
                message = f"The certificate {pending.slug} has been issued meanwhile."
                raise ConflictError(message)
        return issued.id

    async def _import(self, commission: Commission) -> str:
        """A key that was made elsewhere, with its chain."""
        password, content = _import_payload(commission.payload)
        unpacked = await unpack_pkcs12(content, password)
        key = unpacked.key or b""
        async with self._database.read() as tx:
            known = await _authorities(tx, commission.organization_id)
        chain = _imported_chain(unpacked, known)
        names = Names.of(commission)
        key_type = _key_type_of(chain.leaf)
        release = commission.flag("release")
        if release and not key_type.is_strong:
            message = f"A key of type {key_type} is too weak for a release certificate."
            raise InvalidInputError(message, advice="Import it as one for tests.")
        draft = dataclasses.replace(
            self._blank(commission, names, CertificateSource.IMPORT),
            key_type=key_type,
            subject=chain.leaf.subject.rfc4514_string(),
            exposed=True,
            release=release,
        )
        await self._announce(commission, draft)
        info = await self._token.import_key(key, names.slug[:_MAX_LABEL])
        made = _issued(self._with_key(draft, info), chain.leaf_der, chain.issuer_ders)
        return await self._record(commission, made, "certificate.imported")

    async def _renew(self, commission: Commission) -> str:
        """A successor: for the same key or a new one, at once or by a request."""
        async with self._database.read() as tx:
            old = await _find(tx, commission)
            present = await certificates.every(tx, commission.organization_id)
        _check_renewable(old, present)
        if old.kind is CertificateKind.OPENPGP:
            return await self._renew_openpgp(commission, old, {one.slug for one in present})
        method = commission.text("method") or _method_of(old)
        source = _RENEWALS.get(method)
        enrolment = None
        if source is CertificateSource.ENROLMENT:
            enrolment = commission.text("enrolment_id") or old.enrolment_id or ""
            await self._check_enrolment(commission, enrolment)
        if source is None:
            message = f"A certificate is not renewed by {method[:20]!r}."
            raise InvalidInputError(message, advice=f"Use one of {', '.join(_RENEWALS)}.")
        slug = commission.text("slug") or _next_slug(old.slug, {one.slug for one in present})
        names = Names(slug, commission.text("name") or old.name)
        draft = dataclasses.replace(
            self._blank(commission, names, source),
            key_type=old.key_type,
            subject=commission.text("subject") or old.subject,
            exposed=old.exposed,
            release=old.release,
            replaces_id=old.id,
            enrolment_id=enrolment,
        )
        check_subject(draft.subject)
        validity = commission.days()
        await self._announce(commission, draft)
        if commission.flag("new_key"):
            if draft.key_type not in GENERATED_KEYS:
                draft = dataclasses.replace(draft, key_type=KeyType.RSA_3072)
            key = await self._generate(draft)
        else:
            key = await self._key(old)
        draft = self._with_key(draft, key)
        if source is CertificateSource.SELF_SIGNED:
            der = await self._token.self_signed_certificate(
                key.id, draft.subject, validity, usage=CertificateUsage.CODE_SIGNING
            )
            return await self._record(commission, _issued(draft, der, ()), "certificate.created")
        csr = await self._token.certificate_signing_request(key.id, draft.subject)
        made = dataclasses.replace(draft, csr=csr)
        return await self._record(commission, made, "certificate.requested")

    async def _renew_openpgp(
        self, commission: Commission, old: Certificate, taken: set[str]
    ) -> str:
        """The same key with a later end, or another key that the old one certifies."""
        user_id = commission.text("subject") or old.subject
        check_user_id(user_id)
        method = commission.text("method") or CertificateSource.SELF_SIGNED.value
        if method != CertificateSource.SELF_SIGNED.value:
            message = f"An OpenPGP key is not renewed by {method[:20]!r}."
            raise InvalidInputError(message, advice="It certifies itself: leave the method out.")
        slug = commission.text("slug") or _next_slug(old.slug, taken)
        draft = dataclasses.replace(
            self._blank(
                commission,
                Names(slug, commission.text("name") or old.name),
                CertificateSource.SELF_SIGNED,
            ),
            kind=CertificateKind.OPENPGP,
            key_type=old.key_type,
            subject=user_id,
            exposed=old.exposed,
            release=old.release,
            replaces_id=old.id,
        )
        validity = commission.days()
        old_key = await self._key(old)
        await self._announce(commission, draft)
        now = utc_now().replace(microsecond=0)
        if commission.flag("new_key"):
            draft = dataclasses.replace(draft, exposed=False)
            key = await self._generate(draft)
            content = await openpgp_keys.new_key(
                self._token, key, user_id, now, validity, by=(old, old_key)
            )
        else:
            key = old_key
            content = await openpgp_keys.extended(self._token, key, old, user_id, now, validity)
        made = _certified(self._with_key(draft, key), content, now, now + validity)
        return await self._record(commission, made, "certificate.created")

    async def _revoke(self, commission: Commission) -> str:
        """An OpenPGP key says of itself that it is not to be trusted; all certificates of the key
        are disabled for good."""
        async with self._database.read() as tx:
            found = await _find(tx, commission)
        reason = commission.reason()
        comment = commission.text("comment")
        if found.kind is not CertificateKind.OPENPGP:
            message = f"{found.slug} is no OpenPGP key: its authority revokes it."
            raise InvalidInputError(message, advice="Disable it here, and tell the authority.")
        if found.is_revoked:
            message = f"The OpenPGP key {found.slug} is revoked already."
            raise ConflictError(message)
        key = await self._key(found)
        async with self._database.transaction() as tx:
            await self._log(tx, commission, "certificate.revocation_intended", found)
        now = utc_now().replace(microsecond=0)
        packet = await openpgp_keys.revocation(self._token, key, found, reason, comment, now)
        async with self._database.transaction() as tx:
            for identifier in await certificates.revoke(tx, found, packet, reason.value, now):
                one = await certificates.get(tx, found.organization_id, identifier)
                if one is not None:
                    await self._log(tx, commission, "certificate.revoked", one)
        return found.id

    async def _check_enrolment(self, commission: Commission, server_id: str | None) -> None:
        if server_id is None:
            return
        async with self._database.read() as tx:
            if not await enrolment_servers.exists(tx, commission.organization_id, server_id):
                message = "There is no such EST server, or it is disabled."
                raise NotFoundError(message)

    def _draft(self, commission: Commission, source: CertificateSource) -> Certificate:
        """What is ordered, before there is a key."""
        names = Names.of(commission)
        subject = commission.text("subject")
        check_subject(subject)
        return dataclasses.replace(
            self._blank(commission, names, source),
            key_type=commission.key_type(),
            subject=subject,
            release=commission.flag("release"),
        )

    def _blank(
        self, commission: Commission, names: Names, source: CertificateSource
    ) -> Certificate:
        now = utc_now()
        return Certificate(
            id=new_id(),
            organization_id=commission.organization_id,
            slug=names.slug,
            name=names.name,
            state=CertificateState.ACTIVE,
            key_uri="",
            key_type=KeyType.RSA_3072,
            certificate=b"",
            chain=(),
            sha256="",
            subject="",
            not_before=now,
            not_after=now,
            created_at=now,
            kind=CertificateKind.X509,
            source=source,
        )

    def _with_key(self, draft: Certificate, key: KeyInfo) -> Certificate:
        uri = Pkcs11Uri(
            token=self._token_uri.token, serial=self._token_uri.serial, id=key.id, type="private"
        )
        return dataclasses.replace(
            draft,
            key_uri=str(uri),
            key_type=_KEY_TYPES[key.algorithm],
            exposed=draft.exposed or key.exposed,
        )

    async def _generate(self, draft: Certificate) -> KeyInfo:
        algorithm: KeyAlgorithm = ALGORITHMS[draft.key_type]
        return await self._token.generate_key(algorithm, draft.slug[:_MAX_LABEL])

    async def _key(self, certificate: Certificate) -> KeyInfo:
        """The certificate's own key, which must be on the token."""
        key_id = Pkcs11Uri.parse(certificate.key_uri).id
        for key in await self._token.list_keys():
            if key.id == key_id:
                return key
        message = f"The key of the certificate {certificate.slug} is not on the token."
        raise KeyStoreError(message, advice="Renew it with a new key.")

    async def _announce(self, commission: Commission, draft: Certificate) -> None:
        """Check the order against the database, and log what is about to be done."""
        async with self._database.transaction() as tx:
            await _check_free(tx, draft)
            await self._log(tx, commission, "certificate.intended", draft)

    async def _record(self, commission: Commission, made: Certificate, action: str) -> str:
        async with self._database.transaction() as tx:
            await _check_free(tx, made)
            await certificates.add(tx, made)
            await self._log(tx, commission, action, made)
        return made.id

    async def _log(
        self, tx: Transaction, commission: Commission, action: str, certificate: Certificate
    ) -> None:
        facts = commission.facts() | {
            "certificate": certificate.id,
            "slug": certificate.slug,
            "kind": certificate.kind.value,
            "source": certificate.source.value,
            "subject": certificate.subject,
            "key_type": certificate.key_type.value,
            "exposed": certificate.exposed,
            "release": certificate.release,
            "replaces": certificate.replaces_id,
            "revocation_reason": certificate.revocation_reason or None,
            "sha256": certificate.sha256 or None,
            "key_uri_sha256": (
                hashlib.sha256(certificate.key_uri.encode()).hexdigest()
                if certificate.key_uri
                else None
            ),
        }
        entry = organization_entry(
            commission.organization_id, action, actor="signer", now=utc_now(), data=facts
        )
        await record(tx, entry)


#: How a certificate may be renewed -> where its successor comes from.
_RENEWALS = {
    source.value: source
    for source in (
        CertificateSource.SELF_SIGNED,
        CertificateSource.REQUEST,
        CertificateSource.ENROLMENT,
    )
}


def _method_of(old: Certificate) -> str:
    if old.enrolment_id is not None:
        return CertificateSource.ENROLMENT.value
    if old.source is CertificateSource.SELF_SIGNED:
        return CertificateSource.SELF_SIGNED.value
    return CertificateSource.REQUEST.value


def _check_renewable(old: Certificate, present: list[Certificate]) -> None:
    if old.is_revoked:
        message = f"The OpenPGP key {old.slug} is revoked, which is for good."
        raise ConflictError(message, advice="Make another key, and let policies use it.")
    if old.is_pending:
        message = f"The certificate {old.slug} has not been issued yet."
        raise ConflictError(message, advice="Upload the chain that was issued for it.")
    if old.replaced_by_id is not None:
        message = f"The certificate {old.slug} was renewed already."
        raise ConflictError(message, advice="Renew its successor.")
    for one in present:
        waits = one.replaces_id == old.id and one.state is CertificateState.ACTIVE
        if waits and one.is_pending:
            message = f"The renewal {one.slug} of {old.slug} waits for its chain."
            raise ConflictError(message, advice="Upload the chain, or disable that one first.")


def _next_slug(slug: str, taken: set[str]) -> str:
    """``release`` -> ``release-2`` -> ``release-3``."""
    base, _, number = slug.rpartition("-")
    if not base or not number.isdecimal() or len(number) > 4:
        base, number = slug, "1"
    following = int(number) + 1
    while f"{base[:90]}-{following}" in taken:
        following += 1
    return f"{base[:90]}-{following}"


async def _find(tx: Transaction, commission: Commission) -> Certificate:
    found = None
    if commission.order.certificate_id is not None:
        found = await certificates.get(
            tx, commission.organization_id, commission.order.certificate_id
        )
    if found is None:
        message = "There is no such certificate."
        raise NotFoundError(message)
    return found


async def _authorities(tx: Transaction, organization_id: str) -> list[x509.Certificate]:
    """Certification authorities in the chains that the organization has."""
    present = await certificates.every(tx, organization_id)
    ders = dict.fromkeys(der for one in present for der in one.chain)
    return parse_certificates(ders)


async def _check_free(tx: Transaction, draft: Certificate) -> None:
    if await organizations.get(tx, draft.organization_id) is None:
        message = f"There is no organization {draft.organization_id[:40]!r}."
        raise NotFoundError(message)
    for one in await certificates.every(tx, draft.organization_id):
        if one.slug == draft.slug:
            message = f"There is a certificate {draft.slug} already."
            raise ConflictError(
                message, advice="Choose another slug; certificates are kept for good."
            )
        if draft.sha256 and one.id == draft.replaces_id and one.replaced_by_id is not None:
            message = f"The certificate {one.slug} has been renewed meanwhile."
            raise ConflictError(message)


def _check_pending(certificate: Certificate) -> None:
    if not certificate.is_pending:
        message = f"The certificate {certificate.slug} was issued already."
        raise ConflictError(message, advice="Renew it to get a new one; the old one is kept.")
    if certificate.state is not CertificateState.ACTIVE:
        message = f"The certificate {certificate.slug} is disabled."
        raise ConflictError(message, advice="Enable it first.")


def _key_of_request(pending: Certificate) -> bytes:
    """DER of the SubjectPublicKeyInfo in the request that we made."""
    try:
        request = x509.load_der_x509_csr(pending.csr)
    except ValueError:
        message = f"The certificate {pending.slug} is pending without a request."
        raise InternalError(message) from None
    return request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _imported_chain(unpacked: Unpacked, known: list[x509.Certificate]) -> IssuedChain:
    """The chain of the certificate that the file says is its key's; that it is has the token to
    say, by the public key that it computes."""
    found = parse_certificates(unpacked.certificates)
    public = found[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return complete_chain(found, public, utc_now(), known)


def _key_type_of(leaf: x509.Certificate) -> KeyType:
    key = leaf.public_key()
    size = getattr(key, "key_size", 0)
    name = f"rsa-{size}" if hasattr(key, "public_numbers") and not hasattr(key, "curve") else ""
    curve = getattr(getattr(key, "curve", None), "name", "")
    name = {"secp256r1": "p-256", "secp384r1": "p-384"}.get(curve, name)
    try:
        return KeyType(name)
    except ValueError:
        message = "The key is neither RSA of 2048, 3072 or 4096 bits nor on P-256 or P-384."
        raise InvalidInputError(message, advice="Import a key of one of these kinds.") from None


def _import_payload(payload: bytes) -> tuple[str, bytes]:
    """Password and file, as `import_payload` packed them."""
    try:
        fields = json.loads(payload)
        password, content = fields["password"], base64.b64decode(fields["content"], validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error):
        password, content = None, b""
    if not isinstance(password, str):
        message = "The import holds no password and file."
        raise InvalidInputError(message)
    return password, content


def _certified(
    draft: Certificate, content: bytes, not_before: dt.datetime, not_after: dt.datetime
) -> Certificate:
    """The draft with its OpenPGP key."""
    return dataclasses.replace(
        draft,
        certificate=content,
        sha256=hashlib.sha256(content).hexdigest(),
        not_before=not_before,
        not_after=not_after,
    )


def _issued(draft: Certificate, der: bytes, chain: tuple[bytes, ...]) -> Certificate:
    """The draft with its certificate."""
    parsed = x509.load_der_x509_certificate(der)
    return dataclasses.replace(
        draft,
        certificate=der,
        chain=chain,
        sha256=hashlib.sha256(der).hexdigest(),
        subject=parsed.subject.rfc4514_string(),
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
    )
