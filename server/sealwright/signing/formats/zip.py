"""ZIP archives, which can be signed and verified as if they were Java archives."""

from __future__ import annotations

from typing import BinaryIO

from sealwright.signing.containers.zip import has_end_record, is_zip
from sealwright.signing.formats.jar import content_digest as content_digest  # noqa: PLC0414
from sealwright.signing.formats.jar import directives as directives  # noqa: PLC0414
from sealwright.signing.formats.jar import is_signature_member as is_signature_member  # noqa: PLC0414
from sealwright.signing.formats.jar import kept_attributes as kept_attributes  # noqa: PLC0414
from sealwright.signing.formats.jar import metadata as metadata  # noqa: PLC0414
from sealwright.signing.formats.jar import sign as sign  # noqa: PLC0414
from sealwright.signing.formats.jar import verify as verify  # noqa: PLC0414

name = "zip-file"


def recognize(file: BinaryIO) -> bool:
    """Whether it is an archive, behind a stub or not. Such a one cannot be signed itself."""
    return is_zip(file) or has_end_record(file)
