"""Retrieval links, from a real server into a real store."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.file_server import FileServer, file_server

from sealwright.connectors.outgoing import OutgoingClient, OutgoingPolicy, Timeouts
from sealwright.errors import (
    InvalidInputError,
    SealwrightError,
    TooLargeError,
    UnavailableError,
    VerificationError,
)
from sealwright.intake.retrieval import ArtifactRetrievalLink, check_link, retrieve
from sealwright.intake.upload import ReceivedFile
from sealwright.storage import ArtifactStore, open_store

HOST = "files.example"
KEY = "requests/acme/1/input"
MIB = 1024 * 1024
SECRET = "canary7f3a"


async def to_loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


@pytest.fixture
async def files() -> AsyncIterator[FileServer]:
    async with file_server() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[OutgoingClient]:
    policy = OutgoingPolicy(internal_hosts=(HOST,), allow_http=True)
    async with OutgoingClient(policy, resolve=to_loopback) as outgoing:
        yield outgoing


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return open_store(tmp_path.as_uri())


async def fetch(
    store: ArtifactStore, client: OutgoingClient, link: ArtifactRetrievalLink, limit: int = 4 * MIB
) -> ReceivedFile:
    writer = await store.put_stream(KEY, limit=limit)
    return await retrieve(link, client, writer, timeouts=Timeouts(1, 0.5, 2))


def require_nothing(store: ArtifactStore, folder: Path) -> None:
    assert store.local_path(KEY) is None
    assert list((folder / ".incoming").iterdir()) == []


async def test_an_artifact_is_fetched(
    files: FileServer, client: OutgoingClient, store: ArtifactStore
) -> None:
    data = bytes(3 * MIB)
    digest = hashlib.sha256(data).hexdigest()
    files.serve("/a/b%20c.msi?x=1", data)
    link = ArtifactRetrievalLink(
        f"http://{HOST}:{files.port}/a/b%20c.msi?x=1",
        sha256=digest.upper(),
        headers={"Authorization": "Bearer t"},
    )
    check_link(link, client)
    received = await fetch(store, client, link)
    assert received.file_name == "b c.msi"
    assert received.artifact == await store.stat(KEY)
    assert (received.artifact.size, received.artifact.sha256) == (len(data), digest)
    assert files.received[0].header("Authorization") == "Bearer t"
    assert files.received[0].header("Accept-Encoding") == "identity"


async def test_the_given_name_wins(
    files: FileServer, client: OutgoingClient, store: ArtifactStore
) -> None:
    files.serve("/", b"x")
    url = f"http://{HOST}:{files.port}/"
    assert (
        await fetch(store, client, ArtifactRetrievalLink(url, file_name="../setup.exe"))
    ).file_name == "setup.exe"


async def test_a_chunked_answer(
    files: FileServer, client: OutgoingClient, store: ArtifactStore
) -> None:
    files.answers["/x"] = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    link = ArtifactRetrievalLink(f"http://{HOST}:{files.port}/x")
    assert (await fetch(store, client, link)).artifact.size == 3


CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
CUT_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
PACKED = gzip.compress(b"abc", mtime=0)
GZIP = (
    f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(PACKED)}\r\n\r\n".encode()
    + PACKED
)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", InvalidInputError),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", InvalidInputError),
        (b"HTTP/1.1 204 No Content\r\n\r\n", InvalidInputError),
        (b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\nx", InvalidInputError),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", InvalidInputError),
        (b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n", UnavailableError),
        (b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n", UnavailableError),
        (CUT, UnavailableError),
        (CUT_CHUNK, UnavailableError),
        (GZIP, InvalidInputError),
    ],
)
async def test_answers_that_are_not_the_artifact(
    files: FileServer,
    client: OutgoingClient,
    store: ArtifactStore,
    tmp_path: Path,
    answer: bytes,
    error: type[SealwrightError],
) -> None:
    files.answers["/x"] = answer
    with pytest.raises(error):
        await fetch(store, client, ArtifactRetrievalLink(f"http://{HOST}:{files.port}/x"))
    require_nothing(store, tmp_path)


async def test_wrong_hash_too_large_stalled(
    files: FileServer, client: OutgoingClient, store: ArtifactStore, tmp_path: Path
) -> None:
    async def stalled(writer: asyncio.StreamWriter) -> None:
        writer.write(CUT)
        await writer.drain()
        await asyncio.sleep(5)

    files.serve("/x", bytes(2 * MIB))
    files.answers["/stalled"] = stalled
    url = f"http://{HOST}:{files.port}"
    with pytest.raises(VerificationError):
        await fetch(store, client, ArtifactRetrievalLink(url + "/x", sha256="0" * 64))
    with pytest.raises(InvalidInputError):
        await fetch(store, client, ArtifactRetrievalLink(url + "/x", sha256="junk"))
    with pytest.raises(TooLargeError):
        await fetch(store, client, ArtifactRetrievalLink(url + "/x"), limit=MIB)
    with pytest.raises(UnavailableError, match="in time"):
        await fetch(store, client, ArtifactRetrievalLink(url + "/stalled"))
    require_nothing(store, tmp_path)


async def test_links_are_refused_at_submission(client: OutgoingClient) -> None:
    for link in [
        ArtifactRetrievalLink("file:///etc/passwd"),
        ArtifactRetrievalLink(f"https://{HOST}/", sha256="abc"),
    ]:
        with pytest.raises(InvalidInputError):
            check_link(link, client)


async def test_secrets_of_a_link_stay_out_of_errors_and_logs(
    files: FileServer,
    client: OutgoingClient,
    store: ArtifactStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    path = f"/{SECRET}?token={SECRET}"
    headers = {"Authorization": SECRET}
    messages: list[str] = []
    for status in ("200 OK", "404 Not Found", "302 Found"):
        files.serve(path, b"x", status, f"Location: http://evil.example/{SECRET}\r\n")
        link = ArtifactRetrievalLink(f"http://{HOST}:{files.port}{path}", headers=headers)
        messages.append(repr(link))
        try:
            await fetch(store, client, link)
        except SealwrightError as error:
            messages.append(f"{error} {error!r}")
    refused = ArtifactRetrievalLink(f"http://{HOST}/", headers={"A": f"{SECRET}\n"})
    with pytest.raises(InvalidInputError) as caught:
        await fetch(store, client, refused)
    messages += [str(caught.value), *(record.getMessage() for record in caplog.records)]
    assert len(files.received) == 3
    assert [message for message in messages if SECRET in message] == []
