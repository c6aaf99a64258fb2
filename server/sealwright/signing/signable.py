"""Before anything is signed: whether files can take the signatures that are asked for, from this
signer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import BinaryIO

from sealwright.errors import ArtifactError, VerificationError
from sealwright.signing import algorithms, openpgp
from sealwright.signing.artifact import (
    Directive,
    Format,
    IdentifiedFormat,
    Identity,
    ParticularFormat,
)
from sealwright.signing.elements import OUTPUT_FILE_NAME
from sealwright.signing.parameters import FILE_NAME
from sealwright.signing.x509 import Certificate

_OPENPGP_DIRECTIVE = "create-gpg-signature"
_DER_SEQUENCE = b"\x30"  # an X.509 certificate is one
_OPENPGP_PACKET = b"\x80"  # the first bit of each is set (RFC 9580, 4.2)


def check_signable(
    file: BinaryIO,
    format_: Format,
    directives: Iterable[Directive],
    name: str,
    identity: Identity | None,
) -> None:
    """Tell what signing would refuse.

    Args:
        directives: those that make signatures.
        name: of the file.
        identity: who will sign, if that is known.

    Raises:
        ArtifactError: the file cannot be signed, or not by this signer.
    """
    for directive in directives:
        if OUTPUT_FILE_NAME not in directive.options and isinstance(format_, ParticularFormat):
            named = {**directive.options, FILE_NAME: name}
            format_.check_signable(file, replace(directive, options=named))
        if directive.options.get("append") == "true":
            _check_kept(file, format_)
        if identity is not None:
            _check_kind(directive, identity)
            if isinstance(format_, IdentifiedFormat):
                format_.check_signer(file, directive, identity.certificate)


def _check_kept(file: BinaryIO, format_: Format) -> None:
    """Signatures beside which another one is put have to verify afterwards as well."""
    try:
        format_.verify(file)
    except (ArtifactError, VerificationError) as error:
        message = f"A signature that is there, and would stay, does not verify: {error.message}"
        advice = (
            "Sign without append, which replaces it, or take the file from before it was signed."
        )
        raise ArtifactError(message, advice=advice) from error


def _check_kind(directive: Directive, identity: Identity) -> None:
    """X.509 certificates and OpenPGP keys make signatures of their own."""
    makes_openpgp = directive.name == _OPENPGP_DIRECTIVE
    is_x509 = identity.certificate.startswith(_DER_SEQUENCE)
    is_openpgp = identity.certificate[:1] >= _OPENPGP_PACKET
    if makes_openpgp and is_openpgp:
        openpgp.OpenPgpKey.parse(identity.certificate)
    elif not makes_openpgp and is_x509:
        algorithms.mechanism_of(Certificate.parse(identity.certificate))
    elif is_x509 or is_openpgp:
        found, other = "an X.509 certificate", "an OpenPGP key"
        if is_openpgp:
            found, other = other, found
        message = f"<{directive.name}> needs {other}, but the signer is {found}."
        advice = f"Sign with {other}, or change the configuration ({directive.where})."
        raise ArtifactError(message, advice=advice)
