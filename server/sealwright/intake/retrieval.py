"""Retrieval links: the client names where the artifact is, and Sealwright fetches it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

import httpx

from sealwright.config import Settings
from sealwright.connectors.outgoing import OutgoingClient, OutgoingPolicy, Timeouts
from sealwright.errors import InvalidInputError, UnavailableError
from sealwright.intake.upload import ReceivedFile, clean_file_name
from sealwright.storage.store import ArtifactWriter, check_sha256

_TIMEOUTS = Timeouts(connect=10.0, idle=60.0, total=3600.0)
_RETRY_STATUS = frozenset({408, 425, 429})


@dataclass(frozen=True)
class ArtifactRetrievalLink:
    """Where an artifact can be fetched.

    Attributes:
        url: its address; may hold a secret, so it is not part of the representation.
        file_name: what to call the file; empty takes the last part of the URL's path.
        sha256: what it must hash to, hexadecimal; None accepts what is there.
        headers: sent with the request, an ``Authorization`` for instance.
    """

    url: str = field(repr=False)
    file_name: str = ""
    sha256: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def retrieval_policy(settings: Settings) -> OutgoingPolicy:
    """Where artifacts may be fetched from, as the operator has decided."""
    given = settings.retrieval_internal_hosts
    return OutgoingPolicy(
        hosts=settings.retrieval_hosts,
        internal_hosts=tuple(one for one in given if "/" not in one),
        internal_networks=tuple(one for one in given if "/" in one),
        internal_http=True,
    )


def retrieval_timeouts(settings: Settings) -> Timeouts:
    """How long a download may take, as the operator has decided."""
    total = settings.retrieval_seconds
    return Timeouts(min(_TIMEOUTS.connect, total), min(_TIMEOUTS.idle, total), total)


def check_link(link: ArtifactRetrievalLink, client: OutgoingClient) -> None:
    """Refuse at submission what `retrieve` would refuse later without asking the network.

    Raises:
        InvalidInputError: the URL is not allowed, or the hash is malformed.
    """
    client.check(link.url)
    if link.sha256 is not None:
        check_sha256(link.sha256)


async def retrieve(
    link: ArtifactRetrievalLink,
    client: OutgoingClient,
    writer: ArtifactWriter,
    *,
    timeouts: Timeouts = _TIMEOUTS,
) -> ReceivedFile:
    """Fetch the artifact into the store.

    Args:
        link: where it is.
        client: decides what may be called.
        writer: bounds the size; committed or aborted when this returns or raises.
        timeouts: the total covers the whole download.

    Raises:
        InvalidInputError: the address is not allowed or does not give the artifact.
        VerificationError: the content does not have the link's hash.
        TooLargeError, ConflictError: from the writer.
        UnavailableError: the server is away or broke off; trying again may help.
    """
    try:
        async with client.stream(
            "GET", link.url, headers=link.headers, timeouts=timeouts
        ) as response:
            size = _require_content(response)
            async for chunk in response.aiter_raw():
                await writer.write(chunk)
        artifact = await writer.commit(sha256=link.sha256, size=size)
        name = link.file_name or unquote(response.url.path)
        return ReceivedFile(clean_file_name(name), artifact)
    finally:
        await asyncio.shield(writer.abort())


def _require_content(response: httpx.Response) -> int | None:
    """Give the announced size, None without one, if the answer carries the artifact as it is."""
    status = response.status_code
    where = response.url.host
    if status in _RETRY_STATUS or status >= 500:
        message = f"The artifact's server answered {status}."
        raise UnavailableError(message, advice="Try again later.", where=where)
    if status != 200:
        message = f"The artifact's server answered {status} instead of the artifact."
        advice = "Check that the link is right and has not expired, and that its headers authorize."
        raise InvalidInputError(message, advice=advice, where=where)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        message = "The artifact's server sent it compressed although this was not asked for."
        raise InvalidInputError(message, advice="Serve the file as it is.", where=where)
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None
