"""Asking a real clamd, and what pretends to be one."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvloop
from tests.clamd import EICAR, STREAM_MAX, ClamDaemon

from sealwright.connectors.clamd import Clamd
from sealwright.errors import ConfigurationError, SealwrightError, TooLargeError, UnavailableError


@pytest.fixture(scope="module")
def clamd() -> Iterator[ClamDaemon]:
    with ClamDaemon.run() as daemon:
        yield daemon


async def chunks(content: bytes, size: int = 1 << 20) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def zipped(content: bytes, levels: int = 1) -> bytes:
    for _ in range(levels):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("readme.txt", b"harmless")
            archive.writestr("inner", content)
        content = out.getvalue()
    return content


@pytest.mark.parametrize("wire", ["unix", "tcp"])
async def test_what_is_found(clamd: ClamDaemon, wire: str) -> None:
    daemon = Clamd(clamd.address if wire == "unix" else clamd.tcp_address)
    clean = await daemon.scan(chunks(os.urandom(STREAM_MAX - 1000)))
    assert clean.finding == ""
    assert clean.engine.startswith("ClamAV ")
    for content in (EICAR, zipped(EICAR), zipped(EICAR, 2)):
        for size in (1 << 20, 7):
            found = await daemon.scan(chunks(content, size))
            assert found.finding.startswith("Eicar-Test")
    marked = os.urandom(100_000) + b"sealwright malware marker" + os.urandom(100)
    assert (await daemon.scan(chunks(zipped(marked)))).finding.startswith("Marker-Test")
    assert (await daemon.scan(chunks(b""))).finding == ""


async def test_what_is_too_much(clamd: ClamDaemon) -> None:
    daemon = Clamd(clamd.address)
    with pytest.raises(TooLargeError, match="larger than the malware scanner takes") as caught:
        await daemon.scan(chunks(os.urandom(STREAM_MAX + (1 << 20)), 1 << 16))
    assert "StreamMaxLength" in caught.value.advice
    with pytest.raises(TooLargeError, match="Limits"):
        await daemon.scan(chunks(zipped(b"deep", 8)))
    assert (await daemon.scan(chunks(b"fine"))).finding == ""


async def test_a_daemon_that_is_away() -> None:
    for address in ("unix:/nowhere/clamd.sock", "tcp://127.0.0.1:1"):
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await Clamd(address).version()


REPLIES = [
    b"",
    b"stream: OK",
    b"stream: Can't allocate memory ERROR\0",
    b"nonsense\0",
    b"\xff" * 5000 + b"\0",
    b"stream: OK FOUND OK\0",
    b"stream: ok\0",
    b"x" * 100_000,
]


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_answer_in_the_middle_is_heard(
    factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    """clamd answers that it is too much, hangs up, and is written to meanwhile."""
    path = str(tmp_path / "clamd")

    def serve(listener: socket.socket) -> None:
        for _ in range(40):
            version, _ = listener.accept()
            with version:
                version.recv(100)
                version.sendall(b"ClamAV 0\0")
            scan, _ = listener.accept()
            with scan:
                scan.recv(1000)
                scan.sendall(b"INSTREAM size limit exceeded. ERROR\0")

    async def scan() -> None:
        for _ in range(40):
            with pytest.raises(TooLargeError, match="larger than the malware scanner takes"):
                await Clamd(f"unix:{path}").scan(chunks(bytes(1 << 20), 1 << 12))

    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as threads:
        listener.bind(path)
        listener.listen()
        listener.settimeout(20)
        serving = threads.submit(serve, listener)
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(scan())
        serving.result()


@pytest.mark.parametrize("reply", REPLIES, ids=range(len(REPLIES)))
async def test_no_answer_but_a_plain_one_lets_anything_pass(reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = await reader.readuntil(b"\0")
        if command == b"zVERSION\0":
            writer.write(b"ClamAV 0\0")
        else:
            await reader.readuntil(b"\0\0\0\0")
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(SealwrightError):
            await Clamd(f"tcp://127.0.0.1:{port}").scan(chunks(b"abc"))


@pytest.mark.parametrize(
    "address", ["", "clamd", "unix:clamd", "http://x", "tcp://", "tcp://x:99999", "tcp://x/y"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ConfigurationError):
        Clamd(address)
