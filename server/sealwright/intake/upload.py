"""Uploads of one file: the checks that every way in shares, and the plain-body upload."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from sealwright.errors import InvalidInputError
from sealwright.storage.store import ArtifactWriter, StoredArtifact, check_sha256

IDLE_SECONDS = 60.0
"""A client that sends nothing for so long has gone away."""

_MAX_NAME_BYTES = 200
_FORBIDDEN = re.compile(r'[<>:"|?*]')
# Win32 "Naming Files, Paths, and Namespaces": reserved with any extension, also with the
# superscript digits, because Windows folds those to ASCII.
_RESERVED = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])(?:\s*\..*)?", re.I
)


@dataclass(frozen=True)
class ReceivedFile:
    """A file that arrived whole and is in the artifact store.

    Attributes:
        file_name: as the client named it, made safe by `clean_file_name`.
        artifact: key, size and SHA-256.
    """

    file_name: str
    artifact: StoredArtifact


async def receive_raw(
    body: AsyncIterator[bytes],
    writer: ArtifactWriter,
    *,
    file_name: str,
    sha256: str | None = None,
    size: int | None = None,
    idle_seconds: float = IDLE_SECONDS,
) -> ReceivedFile:
    """Store a request's whole body as one artifact.

    Args:
        body: the chunks as they arrive.
        writer: where they go; committed or aborted when this returns or raises.
        file_name: the client's name for the file, as it sent it.
        sha256: the digest that the client announced, hexadecimal; None if it did not.
        size: the size that the client announced, in bytes; None if it did not.
        idle_seconds: longest wait for a chunk.

    Raises:
        InvalidInputError: nothing was sent, or not in time, or `sha256` is malformed.
        VerificationError: the content is not what the client announced.
        TooLargeError, UnavailableError, ConflictError: from the writer.
    """
    try:
        expected = None if sha256 is None else check_sha256(sha256)
        received = 0
        async for chunk in paced(body, idle_seconds):
            received += len(chunk)
            await writer.write(chunk)
        if not received and size != 0:
            message = "The request has no content."
            raise InvalidInputError(message, advice="Send the artifact as the request's body.")
        artifact = await writer.commit(sha256=expected, size=size)
        return ReceivedFile(clean_file_name(file_name), artifact)
    finally:
        await asyncio.shield(writer.abort())


async def paced(body: AsyncIterator[bytes], idle_seconds: float) -> AsyncIterator[bytes]:
    """Yield the chunks of `body`; raise InvalidInputError when one is longer in coming."""
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                chunk = await anext(body, None)
        except TimeoutError as error:
            message = f"The upload stalled: nothing arrived for {idle_seconds:g} seconds."
            raise InvalidInputError(message, advice="Send the request again.") from error
        if chunk is None:
            return
        yield chunk


def clean_file_name(name: str, *, default: str = "artifact") -> str:
    """A client's file name as one that every file system, header and page can carry.

    Keeps the last path component (of ``/`` and ``\\`` alike) in Unicode form NFC, without control,
    formatting (bidirectional overrides) and unassigned characters; replaces what Windows forbids by
    ``_``; defuses its device names; cuts to 200 bytes of UTF-8, keeping the extension. What has
    nothing left becomes `default`.
    """
    last = re.split(r"[/\\]", name[-4096:])[-1]
    visible = "".join(c for c in last if unicodedata.category(c)[0] != "C")
    tidy = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", visible)).strip().rstrip(". ")
    if not tidy:
        return default
    if _RESERVED.fullmatch(tidy):
        tidy = f"_{tidy}"
    return _shorten(tidy)


def _shorten(name: str) -> str:
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    suffix = PurePosixPath(name).suffix
    if len(suffix.encode()) > 32:
        suffix = ""
    room = _MAX_NAME_BYTES - len(suffix.encode())
    stem = name.removesuffix(suffix).encode()[:room].decode(errors="ignore")
    return stem.rstrip(". ") + suffix
