"""Catalogs: certificate trust lists that name digests of files, such as a driver's.

The list is the content of the SignedData itself (type 1.3.6.1.4.1.311.10.1); signing leaves it as
it is. Whether files are those that it names is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

from sealwright.errors import ArtifactConfigurationError, ArtifactError, VerificationError
from sealwright.signing import algorithms, authenticode, cms, der, streams
from sealwright.signing.advice import (
    CHANGED,
    DIRECTIVE,
    MAKE_ANEW,
    MAKE_SMALLER,
    SIGN_ANEW,
)
from sealwright.signing.artifact import (
    Directive,
    Identity,
    Outcome,
    SignatureFact,
    SignGenerator,
)

name = "catalog-file"

CERTIFICATE_TRUST_LIST = "1.3.6.1.4.1.311.10.1"

_MAX_SIZE = 64 << 20
_HEAD = 64
_SIGNED_DATA = der.object_identifier(cms.SIGNED_DATA)
_LIST = der.object_identifier(CERTIFICATE_TRUST_LIST)
_MAX_HASHES = 256  # octets of the digest algorithms in front of the content's type


def recognize(file: BinaryIO) -> bool:
    """Whether it begins as SignedData and soon names the type of a certificate trust list."""
    size = streams.size_of(file)
    file.seek(0)
    head = file.read(_HEAD + _MAX_HASHES)
    is_signed_data = head[:1] == b"\x30" and _SIGNED_DATA in head[:_HEAD]
    return size <= _MAX_SIZE and is_signed_data and _LIST in head


def directives() -> Mapping[str, Mapping[str, tuple[str, ...] | None]]:
    """``authenticode-sign`` and ``authenticode-verify``."""
    return {"authenticode-sign": authenticode.SIGN_OPTIONS, "authenticode-verify": {}}


def metadata(file: BinaryIO) -> Mapping[str, str]:  # noqa: ARG001 - there is none
    """Catalogs have no metadata."""
    return {}


def content_digest(file: BinaryIO) -> bytes:
    """SHA-256 of the certificate trust list."""
    return algorithms.digest("sha256", _parse(_read(file))[0])


def sign(
    source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
) -> SignGenerator:
    """See `artifact.Format`."""
    if directive.name == "authenticode-sign":
        return _sign(source, directive, identity, target)
    message = f"<{name}> knows no directive {directive.name}."
    raise ArtifactConfigurationError(message, where=directive.where, advice=DIRECTIVE)


def check_signable(file: BinaryIO, directive: Directive) -> None:  # noqa: ARG001 - all are alike
    """See `artifact.ParticularFormat`."""
    _parse(_read(file))


def verify(file: BinaryIO) -> list[SignatureFact]:
    """The signature and those nested in it; each must be over the same list."""
    encoding = _read(file)
    trust_list, is_signed = _parse(encoding)
    if not is_signed:
        return []

    def check(data: cms.SignedData) -> str:
        if data.content_type != CERTIFICATE_TRUST_LIST or data.content is None:
            message = "The signature does not hold a certificate trust list."
            raise VerificationError(message, advice=SIGN_ANEW)
        if data.content.encoding != trust_list:
            message = "A nested signature is over another certificate trust list."
            raise VerificationError(message, advice=CHANGED)
        return algorithms.read_digest_algorithm(data.signers[0].digest_algorithm)

    return authenticode.verify(encoding, check)


def _sign(
    source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
) -> SignGenerator:
    encoding = _read(source)
    trust_list, is_signed = _parse(encoding)
    hash_algorithm = algorithms.hash_algorithm_of(directive)
    appends = is_signed and directive.options.get("append") == "true"
    prepared = authenticode.prepare_content(
        CERTIFICATE_TRUST_LIST, trust_list, hash_algorithm, directive, identity
    )
    (result,) = yield [prepared.request]
    signature = prepared.finish(result)
    target.write(authenticode.append(encoding, signature) if appends else signature)
    target.flush()
    how = ", appended" if appends else ""
    return Outcome(summary=f"Authenticode, {hash_algorithm}{how}")


def _read(file: BinaryIO) -> bytes:
    size = streams.size_of(file)
    if size > _MAX_SIZE:
        message = f"The catalog has {size} bytes, more than {_MAX_SIZE}."
        raise ArtifactError(message, advice=MAKE_SMALLER)
    return streams.read_at(file, 0, size)


def _parse(encoding: bytes) -> tuple[bytes, bool]:
    """DER of the list, and whether anybody signed it: a new catalog has no signers yet."""
    info = der.single(encoding, der.SEQUENCE).children()
    is_signed_data = der.read_oid(info.take(der.OBJECT_IDENTIFIER)) == cms.SIGNED_DATA
    wrapper = info.take(der.context(0))
    info.finish()
    if not is_signed_data:
        message = "The file is no catalog: it is not CMS SignedData."
        raise ArtifactError(message, advice=MAKE_ANEW)
    body = der.single(wrapper.content, der.SEQUENCE).children()
    body.take(der.INTEGER)
    body.take(der.SET)
    content = body.take(der.SEQUENCE).children()
    content_type = der.read_oid(content.take(der.OBJECT_IDENTIFIER))
    held = content.take(der.context(0))
    content.finish()
    body.maybe(der.context(0))
    body.maybe(der.context(1))
    signers = body.take(der.SET)
    body.finish()
    if content_type != CERTIFICATE_TRUST_LIST:
        message = f"The file is no catalog: it holds content of type {content_type}."
        raise ArtifactError(message, advice=MAKE_ANEW)
    return der.single(held.content, der.SEQUENCE).encoding, bool(signers.content)
