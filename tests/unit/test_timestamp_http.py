"""Connections to time stamp authorities, over real sockets: kept, replaced, proxied, bounded."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from sealwright.errors import TimestampError
from sealwright.signing.timestamp_http import CrowdedError, TimestampHttp
from sealwright.signing.timestamp_window import TimestampWindow

_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nreply"


class _Server:
    """Answers each request with `reply`; notes connections and what was sent."""

    def __init__(self, reply: bytes = _REPLY, requests_each: int = 99) -> None:
        self.connections = 0
        self.heads: list[bytes] = []
        self._reply = reply
        self._requests_each = requests_each

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for _ in range(self._requests_each):
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                if not self.heads[-1].startswith(b"CONNECT"):
                    await reader.readexactly(3)
                writer.write(self._reply)
                await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            server.close()


async def test_connection_is_used_again() -> None:
    server = _Server()
    async with server.run() as place, TimestampHttp() as http:
        for _ in range(3):
            assert await http.post(f"http://{place}/tsa?x=1", b"ask") == b"reply"
        assert server.connections == 1
        await asyncio.gather(*(http.post(f"http://{place}/", b"ask") for _ in range(3)))
    assert server.connections == 4
    assert server.heads[0].startswith(b"POST /tsa?x=1 HTTP/1.1\r\nHost: " + place.encode())


async def test_connection_that_was_closed_meanwhile_is_replaced() -> None:
    server = _Server(requests_each=1)
    async with server.run() as place, TimestampHttp() as http:
        for _ in range(3):
            assert await http.post(f"http://{place}/", b"ask") == b"reply"
    assert server.connections == 3


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not answer by HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", "does not answer by HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + bytes(99_999), "larger than 65536"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "does not answer by HTTP"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "status 204"),
    ],
)
async def test_what_is_no_reply_is_refused(reply: bytes, said: str) -> None:
    server = _Server(reply, requests_each=1)
    async with server.run() as place, TimestampHttp() as http:
        with pytest.raises(TimestampError, match=said):
            await http.post(f"http://{place}/", b"ask")


async def test_crowded_authority_tells_for_how_long() -> None:
    server = _Server(b"HTTP/1.1 429 Wait\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
    async with server.run() as place, TimestampHttp() as http:
        with pytest.raises(CrowdedError, match="429") as caught:
            await http.post(f"http://{place}/", b"ask")
    assert caught.value.pause == 7


async def test_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = _Server()
    async with proxy.run() as place:
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@{place}")
        monkeypatch.setenv("no_proxy", "")
        async with TimestampHttp() as http:
            assert await http.post("http://tsa.example:81/a", b"ask") == b"reply"
    head = proxy.heads[0]
    assert head.startswith(b"POST http://tsa.example:81/a HTTP/1.1\r\nHost: tsa.example:81\r\n")
    assert b"Proxy-Authorization: Basic bWU6cEBzcw==" in head
    refusing = _Server(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
    async with refusing.run() as place:
        monkeypatch.setenv("https_proxy", place)
        async with TimestampHttp() as http:
            with pytest.raises(TimestampError, match="proxy answered with HTTP status 407"):
                await http.post("https://tsa.example/", b"ask")
    assert refusing.heads[0].startswith(b"CONNECT tsa.example:443 HTTP/1.1\r\n")


@pytest.mark.parametrize("address", ["ftp://tsa.example/", "http:///", "http://h:0/", "tsa"])
async def test_address_that_is_none(address: str) -> None:
    async with TimestampHttp() as http:
        with pytest.raises(TimestampError, match="no http or https URL"):
            await http.post(address, b"ask")


def test_window_opens_by_quick_replies_and_closes_by_half() -> None:
    window = TimestampWindow(32)
    assert window.size == 8
    for _ in range(40):
        window.answered(time.monotonic() - 0.1)
    assert window.size == 32
    began = time.monotonic()
    window.overrun(began)
    window.overrun(began)
    assert window.size == 16, "what was under way together counts once"
    for _ in range(10):
        window.answered(time.monotonic() - 3)
    assert window.size == 16, "replies that took long do not open it"
    for _ in range(20):
        window.answered(time.monotonic() - 0.1)
    assert window.size == 17, "slowly, since it was too wide before"
    for _ in range(9):
        window.overrun(time.monotonic() + 1)
    assert window.size == 1


async def test_places_are_bounded_and_given_back() -> None:
    window = TimestampWindow(1)
    inside = entered = 0

    async def hold() -> None:
        nonlocal inside, entered
        async with window.place():
            inside += 1
            entered += 1
            try:
                assert inside == 1
                await asyncio.sleep(0)
            finally:
                inside -= 1

    holders = [asyncio.create_task(hold()) for _ in range(20)]
    await asyncio.sleep(0)
    for task in holders[::3]:
        task.cancel()
    ended = await asyncio.gather(*holders, return_exceptions=True)
    assert {type(each) for each in ended} == {type(None), asyncio.CancelledError}
    assert entered >= 13, "a place whose holder was cancelled goes to the next"
    async with asyncio.timeout(10), window.place():
        assert inside == 0
