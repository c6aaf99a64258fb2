"""Java archives: JAR, WAR and EAR, and Android app bundles."""

from __future__ import annotations

from typing import BinaryIO

from sealwright.signing.containers.zip import is_zip
from sealwright.signing.jar_signature import (
    check_signable,
    content_digest,
    directives,
    is_signature_member,
    is_signed,
    kept_attributes,
    member_role,
    metadata,
    sign,
    verify,
)

__all__ = [
    "check_signable",
    "content_digest",
    "directives",
    "extensions",
    "is_signature_member",
    "is_signed",
    "kept_attributes",
    "member_role",
    "metadata",
    "name",
    "recognize",
    "sign",
    "verify",
]

name = "jar-file"
extensions = (".jar", ".war", ".ear", ".aab")


def recognize(file: BinaryIO) -> bool:
    """Whether it is a ZIP archive without a stub; a manifest need not be there yet."""
    return is_zip(file)
