"""NuGet packages: author signatures (NuGet Package Signatures Technical Specification).

The signature is a CMS object in the member ``.signature.p7s``. It holds the digest of the
package as it is without that member, so that the signature can be taken out again without a trace.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Mapping
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric import rsa

from sealwright.errors import (
    ArtifactConfigurationError,
    ArtifactError,
    TimestampError,
    VerificationError,
)
from sealwright.signing import algorithms, cms, cms_writing, der, timestamps
from sealwright.signing.advice import CHANGED, DIRECTIVE, SIGN_ANEW, WEAK
from sealwright.signing.artifact import (
    Directive,
    Entry,
    Identity,
    Outcome,
    SignatureFact,
    SignGenerator,
)
from sealwright.signing.containers.zip import NewMember, ZipContainer, is_zip
from sealwright.signing.containers.zip_records import STORED
from sealwright.signing.streams import DigestWriter
from sealwright.signing.x509 import Certificate

name = "nupkg-file"

SIGNATURE = ".signature.p7s"
COMMITMENT_TYPE = "1.2.840.113549.1.9.16.2.16"
PROOF_OF_ORIGIN = "1.2.840.113549.1.9.16.6.1"  # the author's
PROOF_OF_RECEIPT = "1.2.840.113549.1.9.16.6.2"  # a repository's

_HASH_OIDS = {
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
_CONTENT = re.compile(rb"Version:1\n\n([0-9.]{1,64})-Hash:([A-Za-z0-9+/]{1,100}={0,2})\n\n")
_MANIFEST = ".nuspec"
_MIN_RSA_BITS = 2048
_RSA_SIGNATURES = {f"1.2.840.113549.1.1.{number}" for number in (11, 12, 13)}  # RFC 4055, 5
_MAX_SIGNATURE = 4 << 20
_MAX_MEMBERS = 65_534  # more would need Zip64, which NuGet does not accept


def recognize(file: BinaryIO) -> bool:
    """Whether it is a ZIP archive with a ``.nuspec`` in its root, or a malformed one."""
    if not is_zip(file):
        return False
    try:
        entries = ZipContainer(file, _MAX_MEMBERS).entries()
    except ArtifactError:
        return True  # what is wrong with it is said where it is opened
    paths = [entry.path for entry in entries]
    return any("/" not in path and path.lower().endswith(_MANIFEST) for path in paths)


def directives() -> Mapping[str, Mapping[str, tuple[str, ...] | None]]:
    """``nuget-sign``."""
    return {"nuget-sign": {"hash-algorithm": algorithms.HASH_ALGORITHMS}}


def metadata(file: BinaryIO) -> Mapping[str, str]:  # noqa: ARG001 - there is none
    """Packages have no metadata that can be restricted."""
    return {}


def is_signature_member(path: str) -> bool:
    """``.signature.p7s`` in the root alone."""
    return path == SIGNATURE


def member_role(path: str) -> str:  # noqa: ARG001 - there is but one
    """What of the signature it is."""
    return "signature of the package"


def is_signed(file: BinaryIO, paths: Collection[str]) -> bool:  # noqa: ARG001 - paths tell
    """Whether the member of the signature is there."""
    return SIGNATURE in paths


def kept_attributes(file: BinaryIO) -> bytes:  # noqa: ARG001 - there is nothing else in it
    """Empty: the signature's member holds nothing but the signature."""
    return b""


def content_digest(file: BinaryIO) -> bytes:
    """SHA-256 of the package as it is without its signature."""
    return _Package(file).digest("sha256")


def sign(
    source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
) -> SignGenerator:
    """Sign as the author; an author's signature that is there is replaced."""
    if directive.name != "nuget-sign":
        message = f"<{name}> knows no directive {directive.name}."
        raise ArtifactConfigurationError(message, where=directive.where, advice=DIRECTIVE)
    return _sign(source, directive, identity, target)


def check_signable(file: BinaryIO, directive: Directive) -> None:  # noqa: ARG001 - there is but one
    """See `artifact.ParticularFormat`."""
    _check_replaceable(_Package(file))


def check_signer(file: BinaryIO, directive: Directive, certificate: bytes) -> None:  # noqa: ARG001 - the key tells
    """See `artifact.IdentifiedFormat`."""
    _check_key(Certificate.parse(certificate))


def verify(file: BinaryIO) -> list[SignatureFact]:
    """The author's or repository's signature, then the repository's countersignature if any."""
    package = _Package(file)
    if package.signature is None:
        return []
    package.check_signature_member(package.signature)
    data = cms.parse(package.read(package.signature))
    primary = _primary(data, package)
    facts = [_fact("nuget", primary, data, 0)]
    value = primary.info.unsigned_value(cms.COUNTERSIGNATURE)
    if value is not None:
        facts.append(_fact("nuget-repository", _counter(value, primary, data), data, 1))
    return facts


class _Package:
    """A package that is open for reading."""

    def __init__(self, file: BinaryIO) -> None:
        self.container = ZipContainer(file, _MAX_MEMBERS)
        if self.container.has_zip64 or not is_zip(file):
            message = "The package uses Zip64, or something is in front of it: NuGet refuses that."
            raise ArtifactError(message, advice="Pack it with NuGet, below 4 GiB.")
        self.entries = list(self.container.entries())
        self.signature = next((each for each in self.entries if each.path == SIGNATURE), None)

    @property
    def removed(self) -> Collection[int]:
        """Members that do not count: the signature's."""
        return () if self.signature is None else (self.signature.order,)

    def digest(self, hash_algorithm: str) -> bytes:
        """Digest of the package without its signature."""
        writer = DigestWriter(hash_algorithm)
        self.container.rewrite(writer.file, self.removed)
        return writer.digest()

    def read(self, signature: Entry) -> bytes:
        if signature.size > _MAX_SIGNATURE:
            message = f"The signature has more than {_MAX_SIGNATURE} bytes."
            raise ArtifactError(message, where=SIGNATURE, advice=SIGN_ANEW)
        return self.container.read(signature)

    def check_signature_member(self, signature: Entry) -> None:
        """It is stored as it is, without flags and attributes."""
        if not self.container.is_plain(signature):
            message = "The signature's member is compressed, or has flags or attributes."
            raise VerificationError(message, where=SIGNATURE, advice=SIGN_ANEW)


# --- signing ------------------------------------------------------------------------------------


def _sign(
    source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
) -> SignGenerator:
    package = _Package(source)
    _check_replaceable(package)
    _check_key(Certificate.parse(identity.certificate))
    hash_algorithm = algorithms.hash_algorithm_of(directive)
    digest = base64.b64encode(package.digest(hash_algorithm)).decode()
    content = f"Version:1\n\n{_HASH_OIDS[hash_algorithm]}-Hash:{digest}\n\n".encode()
    commitment = der.sequence(der.object_identifier(PROOF_OF_ORIGIN))
    prepared = cms_writing.prepare(
        cms_writing.Content.embedded(cms.DATA, der.octet_string(content), hash_algorithm),
        hash_algorithm,
        identity,
        attributes=[cms.attribute(COMMITMENT_TYPE, commitment)],
        timestamp=cms_writing.timestamp_form(directive),
    )
    (result,) = yield [prepared.request]
    if result.timestamp_token is not None:
        _check_stamp(timestamps.read_token(result.timestamp_token).signer)
    member = NewMember(SIGNATURE, prepared.finish(result), STORED)
    package.container.rewrite(target, package.removed, last=[member])
    return Outcome(f"NuGet author signature, {hash_algorithm}")


def _check_replaceable(package: _Package) -> None:
    """An author's signature without a repository's may be replaced, valid or not."""
    for entry in package.entries:
        root = entry.path.partition("/")[0]
        if entry.path != SIGNATURE and root.lower() == SIGNATURE:
            message = "The member is in the place of the package's signature."
            raise ArtifactError(message, advice="Leave it out of the package.", where=entry.path)
    if package.signature is None:
        return
    data = cms.parse(package.read(package.signature))
    signer = data.signers[0]
    counter = signer.unsigned_value(cms.COUNTERSIGNATURE)
    if len(data.signers) != 1 or counter is not None or _commitment(signer) == PROOF_OF_RECEIPT:
        message = "The package has a repository's signature, which signing anew would destroy."
        advice = "Sign the package before it is published; take the one that the build made."
        raise ArtifactError(message, advice=advice, where=SIGNATURE)


def _is_accepted(certificate: Certificate) -> bool:
    key = certificate.public_key
    signed_with = certificate.loaded.signature_algorithm_oid.dotted_string
    is_rsa = isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS
    return is_rsa and signed_with in _RSA_SIGNATURES


def _check_stamp(authority: Certificate) -> None:
    if not _is_accepted(authority):
        message = (
            f"NuGet accepts no time stamps of {authority.name}: they are not made by RSA with at "
            f"least {_MIN_RSA_BITS} bits."
        )
        raise TimestampError(message, advice="Put an authority with such a key first.")


def _check_key(certificate: Certificate) -> None:
    if not _is_accepted(certificate):
        message = (
            f"NuGet accepts only RSA keys of at least {_MIN_RSA_BITS} bits, in certificates that "
            "are signed by RSA with SHA-2."
        )
        raise ArtifactError(message, advice="Choose a signing policy with such a certificate.")


# --- verifying ----------------------------------------------------------------------------------


def _commitment(info: cms.SignerInfo) -> str:
    """Object identifier of the commitment type (RFC 5126, 5.11.1); empty without one."""
    value = info.signed_value(COMMITMENT_TYPE)
    return der.read_oid(value.children().take(der.OBJECT_IDENTIFIER)) if value else ""


def _primary(data: cms.SignedData, package: _Package) -> cms.Signer:
    signers = cms.verify(data)
    if len(signers) != 1 or data.content_type != cms.DATA or data.version not in (1, 3):
        message = "A package has exactly one primary signature."
        raise VerificationError(message, advice=SIGN_ANEW)
    (signer,) = signers
    _check_signer(signer, (PROOF_OF_ORIGIN, PROOF_OF_RECEIPT))
    content = data.content
    match = _CONTENT.fullmatch(content.content) if content else None
    if match is None or match[1].decode() != _HASH_OIDS[signer.hash_algorithm]:
        message = "The signature's content is not that of a package signature of version 1."
        raise VerificationError(message, advice=SIGN_ANEW)
    if match[2] != base64.b64encode(package.digest(signer.hash_algorithm)):
        message = "The package is not the signed one: it has been changed."
        raise VerificationError(message, advice=CHANGED)
    return signer


def _counter(value: der.Element, primary: cms.Signer, data: cms.SignedData) -> cms.Signer:
    """The repository's countersignature (RFC 5652, 11.4) of an author's signature."""
    if _commitment(primary.info) != PROOF_OF_ORIGIN:
        message = "Only an author's signature can have a repository's countersignature."
        raise VerificationError(message, advice=SIGN_ANEW)
    signature = primary.info.signature
    signer = cms.verify_signer(
        cms.SignerInfo.parse(value),
        data.certificates,
        lambda hash_algorithm: algorithms.digest(hash_algorithm, signature),
        cms.DATA,  # which .NET names here, other than RFC 5652 has it
    )
    _check_signer(signer, (PROOF_OF_RECEIPT,))
    return signer


def _check_signer(signer: cms.Signer, commitments: Collection[str]) -> None:
    if (
        signer.hash_algorithm not in _HASH_OIDS
        or signer.signing_time is None
        or signer.info.signed_value(cms.SIGNING_CERTIFICATE_V2) is None
        or _commitment(signer.info) not in commitments
    ):
        message = (
            "The signature is made with a weak hash, or lacks its time, its certificate's "
            "identifier or the right commitment."
        )
        raise VerificationError(message, advice=WEAK)


def _fact(kind: str, signer: cms.Signer, data: cms.SignedData, index: int) -> SignatureFact:
    stamp = timestamps.of_signer(signer, cms.TIMESTAMP_TOKEN)
    carried: Iterable[Certificate] = (*data.certificates, *(stamp.certificates if stamp else ()))
    return SignatureFact(
        format=kind,
        hash_algorithm=signer.hash_algorithm,
        signer=signer.certificate.encoding,
        certificates=tuple(dict.fromkeys(entry.encoding for entry in carried)),
        timestamp=stamp.time if stamp else None,
        timestamp_signer=stamp.signer.encoding if stamp else None,
        index=index,
    )
