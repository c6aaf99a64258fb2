"""ZIP archives, which can be signed and verified as if they were Java archives."""

from __future__ import annotations

from typing import BinaryIO

from sealwright.signing.containers.zip import has_end_record, is_zip
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

name = "zip-file"


def recognize(file: BinaryIO) -> bool:
    """Whether it is an archive, behind a stub or not. Such a one cannot be signed itself."""
    return is_zip(file) or has_end_record(file)
