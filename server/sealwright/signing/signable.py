"""Before anything is signed: whether files can take the signatures that are asked for, from this
signer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import BinaryIO

from sealwright.errors import ArtifactError
from sealwright.signing import cms, openpgp
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
_DER_SEQUENCE = b"\x30"  # an X.509 certificate is one; no OpenPGP packet begins with it


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
        if identity is not None:
            _check_kind(directive, identity)
            if isinstance(format_, IdentifiedFormat):
                format_.check_signer(file, directive, identity.certificate)


def _check_kind(directive: Directive, identity: Identity) -> None:
    """X.509 certificates and OpenPGP keys make signatures of their own."""
    is_x509 = identity.certificate.startswith(_DER_SEQUENCE)
    if directive.name != _OPENPGP_DIRECTIVE and is_x509:
        cms.mechanism_of(Certificate.parse(identity.certificate))
    elif directive.name == _OPENPGP_DIRECTIVE and not is_x509:
        openpgp.OpenPgpKey.parse(identity.certificate)
    else:
        found, other = "an X.509 certificate", "an OpenPGP key"
        if not is_x509:
            found, other = other, found
        message = (
            f"<{directive.name}> ({directive.where}) needs {other}, but the signer is {found}."
        )
        advice = (
            f"Submit under a signing policy with {other}, or change the artifact configuration."
        )
        raise ArtifactError(message, advice=advice)
