"""Any file: detached CMS signatures (RFC 5652) and raw signature values beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

from sealwright.signing.detached_signature import (
    content_digest,
    directives,
    sign,
    verify,
    verify_cms,
    verify_detached,
)

__all__ = [
    "content_digest",
    "directives",
    "metadata",
    "name",
    "recognize",
    "sign",
    "verify",
    "verify_cms",
    "verify_detached",
]

name = "file"


def recognize(file: BinaryIO) -> bool:  # noqa: ARG001 - nothing needs to be read
    """Every file is one."""
    return True


def metadata(file: BinaryIO) -> Mapping[str, str]:  # noqa: ARG001 - there is none
    """A file as such has no metadata."""
    return {}
