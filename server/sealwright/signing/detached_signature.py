"""Signatures beside a file: detached CMS signatures (RFC 5652), detached OpenPGP signatures
(RFC 9580) and raw signature values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

from sealwright.errors import ArtifactConfigurationError
from sealwright.model.ascii_armor import armor
from sealwright.signing import algorithms, cms, cms_writing, openpgp, streams, timestamps
from sealwright.signing.advice import DIRECTIVE
from sealwright.signing.artifact import (
    Directive,
    Identity,
    Outcome,
    SignatureFact,
    SignatureRequest,
    SignGenerator,
)
from sealwright.signing.x509 import Certificate

#: Names of the side files where the configuration gives none; the engine knows ``${file.name}``.
DEFAULT_CMS_NAME = "${file.name}.p7s"
DEFAULT_RAW_NAME = "${file.name}.sig"
DEFAULT_OPENPGP_NAME = "${file.name}.asc"


def directives() -> Mapping[str, Mapping[str, tuple[str, ...] | None]]:
    """``create-cms-signature``, ``create-gpg-signature`` and ``create-raw-signature``."""
    signature: dict[str, tuple[str, ...] | None] = {
        "output-file-name": None,
        "hash-algorithm": algorithms.HASH_ALGORITHMS,
        "rsa-padding": ("pkcs1", "pss"),
    }
    return {
        "create-cms-signature": {**signature, "output-encoding": ("pem", "der")},
        "create-gpg-signature": {
            "output-file-name": None,
            "hash-algorithm": algorithms.HASH_ALGORITHMS,
            "output-encoding": ("ascii-armored", "binary"),
        },
        "create-raw-signature": signature,
    }


def content_digest(file: BinaryIO) -> bytes:
    """SHA-256 of the whole file: signing leaves it as it is."""
    return streams.digest_of(file, "sha256")


def sign(
    source: BinaryIO,
    directive: Directive,
    identity: Identity,
    target: BinaryIO,  # noqa: ARG001 - the file itself stays as it is
) -> SignGenerator:
    """Make a side file; the file itself is not touched."""
    if directive.name == "create-cms-signature":
        return _sign_cms(source, directive, identity)
    if directive.name == "create-gpg-signature":
        return _sign_openpgp(source, directive, identity)
    if directive.name == "create-raw-signature":
        return _sign_raw(source, directive, identity)
    message = f"No file beside another is made by {directive.name}."
    raise ArtifactConfigurationError(message, where=directive.where, advice=DIRECTIVE)


def verify(file: BinaryIO) -> list[SignatureFact]:  # noqa: ARG001 - signatures are beside it
    """A file as such carries no signature; see `verify_cms` for one beside it."""
    return []


def verify_cms(file: BinaryIO, signature: bytes) -> list[SignatureFact]:
    """Strictly verify a detached CMS signature, PEM or DER, over `file`.

    Raises:
        VerificationError: it does not verify.
        ArtifactError: it is malformed.
    """
    encoding = cms.from_pem(signature) if signature.startswith(b"-----") else signature
    data = cms.parse(encoding)
    signers = cms.verify(data, lambda hash_algorithm: streams.digest_of(file, hash_algorithm))
    facts = []
    for index, signer in enumerate(signers):
        stamp = timestamps.of_signer(signer, cms.TIMESTAMP_TOKEN)
        carried = (*data.certificates, *(stamp.certificates if stamp else ()))
        facts.append(
            SignatureFact(
                format="cms",
                hash_algorithm=signer.hash_algorithm,
                signer=signer.certificate.encoding,
                certificates=tuple(dict.fromkeys(entry.encoding for entry in carried)),
                timestamp=stamp.time if stamp else None,
                timestamp_signer=stamp.signer.encoding if stamp else None,
                index=index,
            )
        )
    return facts


def verify_detached(
    file: BinaryIO, directive: Directive, output: bytes, certificate: bytes
) -> list[SignatureFact]:
    """Check the side file that `directive` made; see `verify_cms` for one of unknown making."""
    if directive.name == "create-cms-signature":
        return verify_cms(file, output)
    if directive.name == "create-gpg-signature":
        found = openpgp.verify_document(file, output, openpgp.OpenPgpKey.parse(certificate))
        return [SignatureFact("openpgp", found, certificate)]
    hash_algorithm = algorithms.hash_algorithm_of(directive)
    signer = Certificate.parse(certificate)
    mechanism = algorithms.mechanism_of(signer, directive.options.get("rsa-padding") or "pkcs1")
    digest = streams.digest_of(file, hash_algorithm)
    algorithms.verify_value(signer, mechanism, hash_algorithm, digest, output)
    return [SignatureFact("raw", hash_algorithm, certificate)]


def _sign_cms(source: BinaryIO, directive: Directive, identity: Identity) -> SignGenerator:
    options = directive.options
    hash_algorithm = algorithms.hash_algorithm_of(directive)
    prepared = cms_writing.prepare(
        cms_writing.Content(cms.DATA, streams.digest_of(source, hash_algorithm)),
        hash_algorithm,
        identity,
        timestamp=cms_writing.timestamp_form(directive),
        rsa_padding=options.get("rsa-padding") or "pkcs1",
    )
    (result,) = yield [prepared.request]
    encoding = prepared.finish(result)
    if options.get("output-encoding") != "der":
        encoding = cms.to_pem(encoding)
    side_file = options.get("output-file-name") or DEFAULT_CMS_NAME
    return Outcome(f"CMS signature, {hash_algorithm}", {side_file: encoding}, replaced=False)


def _sign_openpgp(source: BinaryIO, directive: Directive, identity: Identity) -> SignGenerator:
    options = directive.options
    hash_algorithm = algorithms.hash_algorithm_of(directive)
    prepared = openpgp.prepare_document(
        openpgp.OpenPgpKey.parse(identity.certificate),
        source,
        hash_algorithm,
        identity.signing_time,
    )
    (result,) = yield [prepared.request]
    signature = prepared.finish(result)
    if options.get("output-encoding") != "binary":
        signature = armor("SIGNATURE", signature)
    side_file = options.get("output-file-name") or DEFAULT_OPENPGP_NAME
    return Outcome(f"OpenPGP signature, {hash_algorithm}", {side_file: signature}, replaced=False)


def _sign_raw(source: BinaryIO, directive: Directive, identity: Identity) -> SignGenerator:
    options = directive.options
    hash_algorithm = algorithms.hash_algorithm_of(directive)
    mechanism = algorithms.mechanism_of(
        Certificate.parse(identity.certificate), options.get("rsa-padding") or "pkcs1"
    )
    digest = streams.digest_of(source, hash_algorithm)
    (result,) = yield [SignatureRequest(digest, hash_algorithm, mechanism)]
    side_file = options.get("output-file-name") or DEFAULT_RAW_NAME
    return Outcome(
        f"raw signature, {hash_algorithm}", {side_file: result.signature}, replaced=False
    )
