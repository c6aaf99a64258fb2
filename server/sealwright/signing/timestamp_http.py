"""HTTP to time stamp authorities: many small POSTs over a few connections that are kept open.

A general client's pool looks at every connection for every request; with dozens under way that was
most of what a worker did. Here a request takes whichever connection is free. Messages are parsed by
h11; TLS, its roots and the proxy variables of the environment are those of the other clients.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import time
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

import h11
import httpx

from sealwright.errors import TimestampError

MAX_RESPONSE = 64 << 10  #: bytes
_READ = 16 << 10
_MAX_HEAD = 16 << 10  # bytes of status line and headers
_IDLE_SECONDS = 5.0  # servers close what is idle for long, some after less than this
_LONGEST_PAUSE = 60.0
_PORTS = {"http": 80, "https": 443}
_OK = 200
_CROWDED = (429, 503)
_HEADERS = (
    ("Content-Type", "application/timestamp-query"),
    ("Accept", "application/timestamp-reply"),
    ("Accept-Encoding", "identity"),
    ("User-Agent", "sealwright"),
)


class CrowdedError(TimestampError):
    """The authority asks to be asked less: HTTP status 429 or 503.

    Attributes:
        pause: seconds that it wants to be left alone, as its ``Retry-After`` says (RFC 9110,
            10.2.3; a date is not heeded); 0: it does not say.
    """

    pause: float = 0.0


@dataclass(frozen=True)
class _Route:
    """How to get to an authority.

    Attributes:
        url: the authority's.
        host, port: to connect to: the authority's own, or the proxy's.
        tunnelled: through a proxy by CONNECT (RFC 9110, 9.3.6), as is done for https.
        target: of the request line (RFC 9112, 3.2).
        headers: that follow from the URLs.
        tunnel_headers: of the CONNECT request.
    """

    url: SplitResult
    host: str
    port: int
    tunnelled: bool
    target: str
    headers: tuple[tuple[str, str], ...]
    tunnel_headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def to(cls, address: str) -> _Route:
        """Raises TimestampError if there is no way to such an address."""
        url = _split(address, "The address")
        host, port = _place(url)
        name = url.netloc.rpartition("@")[2]
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = (("Host", name), *_credentials("Authorization", url))
        proxy_address = _proxy_for(url.scheme, host, port)
        if proxy_address is None:
            return cls(url, host, port, tunnelled=False, target=path, headers=headers)
        proxy = _split(proxy_address, "The proxy's address")
        if proxy.scheme != "http":
            message = f"Proxies are asked over http, not {proxy.scheme}."
            raise TimestampError(message)
        authorization = _credentials("Proxy-Authorization", proxy)
        if url.scheme == "https":
            return cls(
                url, *_place(proxy), tunnelled=True, target=path, headers=headers,
                tunnel_headers=(("Host", f"{_bracketed(host)}:{port}"), *authorization),
            )  # fmt: skip
        return cls(
            url, *_place(proxy), tunnelled=False, target=f"http://{name}{path}",
            headers=(*headers, *authorization),
        )  # fmt: skip


@dataclass(eq=False)
class _Connection:
    """One connection, and how far the exchange on it is."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    state: h11.Connection = field(
        default_factory=lambda: h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
    )
    idle_since: float = 0.0
    used: bool = False

    @property
    def is_fresh(self) -> bool:
        """Whether the other side is likely to be there still."""
        gone = self.reader.at_eof() or self.writer.is_closing()
        return not gone and time.monotonic() - self.idle_since < _IDLE_SECONDS

    async def event(self) -> h11.Event | type[h11.PAUSED]:
        """The next event of the reply."""
        while (event := self.state.next_event()) is h11.NEED_DATA:
            self.state.receive_data(await self.reader.read(_READ))
        assert event is not h11.NEED_DATA  # noqa: S101 - said for the type checker
        return event  # type: ignore[return-value]

    def close(self) -> None:
        self.writer.close()


class _StaleError(Exception):
    """A kept connection was closed by the other side before it answered anything."""


class TimestampHttp:
    """Connections to authorities, shared by all requests to them. Belongs to one event loop.

    Use as an asynchronous context manager. It does not bound how many connections there are: as
    many as requests are under way at once, and those are kept for a few seconds.

    Args:
        tls: how servers are verified; None: as httpx does, by certifi's roots or ``SSL_CERT_FILE``.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._routes: dict[str, _Route] = {}
        self._idle: dict[str, list[_Connection]] = defaultdict(list)

    async def __aenter__(self) -> TimestampHttp:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    async def post(self, url: str, body: bytes) -> bytes:
        """The body of the reply to a time stamp request, as it was sent: nothing is decompressed,
        no redirect is followed. Bound its time by `asyncio.timeout`.

        Raises:
            CrowdedError: status 429 or 503.
            TimestampError: another status than 200, more than `MAX_RESPONSE` bytes, not HTTP, or
                no connection.
        """
        try:
            route = self._routes.get(url) or self._routes.setdefault(url, _Route.to(url))
            connection = self._kept(url)
            if connection is not None:
                with contextlib.suppress(_StaleError):
                    return await self._exchange(connection, url, body)
            return await self._exchange(await self._connect(route), url, body)
        except (OSError, EOFError) as error:
            message = f"It cannot be reached: {type(error).__name__} {error}".strip()
            raise TimestampError(message) from error
        except (h11.ProtocolError, _StaleError) as error:
            message = f"It does not answer by HTTP: {error}".strip()
            raise TimestampError(message) from error

    def _kept(self, url: str) -> _Connection | None:
        """A connection that is open and free; those that have waited for too long are closed."""
        idle = self._idle[url]
        while idle:
            connection = idle.pop()
            if connection.is_fresh:
                return connection
            connection.close()
        return None

    async def _exchange(self, connection: _Connection, url: str, body: bytes) -> bytes:
        reusable = False
        try:
            received = await _converse(connection, self._routes[url], body)
            reusable = connection.state.our_state is connection.state.their_state is h11.DONE
        finally:
            if not reusable:
                connection.close()
        if not reusable:
            return received
        connection.state.start_next_cycle()
        connection.used = True
        connection.idle_since = time.monotonic()
        self._idle[url].append(connection)
        return received

    async def _connect(self, route: _Route) -> _Connection:
        host = route.url.hostname or ""
        is_tls = route.url.scheme == "https"
        if is_tls and self._tls is None:
            self._tls = httpx.create_ssl_context()
        if not is_tls:
            return _Connection(*await asyncio.open_connection(route.host, route.port))
        if not route.tunnelled:
            streams = await asyncio.open_connection(route.host, route.port, ssl=self._tls)
            return _Connection(*streams)
        reader, writer = await asyncio.open_connection(route.host, route.port)
        try:
            await _open_tunnel(_Connection(reader, writer), route)
            assert self._tls is not None  # noqa: S101 - made above
            await writer.start_tls(self._tls, server_hostname=host)
        except BaseException:
            writer.close()
            raise
        return _Connection(reader, writer)


async def _converse(connection: _Connection, route: _Route, body: bytes) -> bytes:
    """One request and its reply."""
    state = connection.state
    headers = [*route.headers, *_HEADERS, ("Content-Length", str(len(body)))]
    frame = state.send(h11.Request(method="POST", target=route.target, headers=headers))
    frame = (frame or b"") + (state.send(h11.Data(data=body)) or b"")
    state.send(h11.EndOfMessage())
    response = await _response(connection, frame)
    if response.status_code in _CROWDED:
        crowded = CrowdedError(f"It answered with HTTP status {response.status_code}.")
        crowded.pause = _retry_after(response)
        raise crowded
    if response.status_code != _OK:
        message = f"It answered with HTTP status {response.status_code}."
        raise TimestampError(message)
    received = bytearray()
    while isinstance(event := await connection.event(), h11.Data):
        received += event.data
        if len(received) > MAX_RESPONSE:
            message = f"Its reply is larger than {MAX_RESPONSE} bytes."
            raise TimestampError(message)
    return bytes(received)


async def _response(connection: _Connection, frame: bytes) -> h11.Response:
    """Send a request; status and headers of the reply."""
    try:
        connection.writer.write(frame)
        await connection.writer.drain()
        event = await connection.event()
    except (ConnectionError, h11.RemoteProtocolError):
        # asking again is harmless, and done once: the new connection has not been used
        if connection.used and not connection.state.trailing_data[0]:
            raise _StaleError from None
        raise
    while isinstance(event, h11.InformationalResponse):
        event = await connection.event()
    if not isinstance(event, h11.Response):
        message = "The connection was closed without an answer."
        raise h11.RemoteProtocolError(message)
    return event


async def _open_tunnel(connection: _Connection, route: _Route) -> None:
    """Have the proxy connect to the authority."""
    [(_, target), *_] = route.tunnel_headers
    request = h11.Request(method="CONNECT", target=target, headers=list(route.tunnel_headers))
    frame = connection.state.send(request) or b""
    connection.state.send(h11.EndOfMessage())
    response = await _response(connection, frame)
    if not _OK <= response.status_code < _OK + 100:
        message = f"The proxy answered with HTTP status {response.status_code}."
        raise TimestampError(message)


def _retry_after(response: h11.Response) -> float:
    value = dict(response.headers).get(b"retry-after", b"")
    return min(float(value), _LONGEST_PAUSE) if value.isdigit() else 0.0


def _split(address: str, what: str) -> SplitResult:
    try:
        url = urlsplit(address)
        port = url.port
    except ValueError as error:
        message = f"{what} is no URL: {error}."
        raise TimestampError(message) from error
    if url.scheme not in {*_PORTS, "socks5", "socks5h"} or not url.hostname or port == 0:
        message = f"{what} is no http or https URL."
        raise TimestampError(message)
    return url


def _place(url: SplitResult) -> tuple[str, int]:
    assert url.hostname is not None  # noqa: S101 - checked by `_split`
    return url.hostname, url.port or _PORTS.get(url.scheme, 0)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _credentials(header: str, url: SplitResult) -> tuple[tuple[str, str], ...]:
    """Basic authentication (RFC 7617) by what a URL says before its host."""
    if url.username is None:
        return ()
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return ((header, f"Basic {base64.b64encode(pair.encode()).decode()}"),)


def _proxy_for(scheme: str, host: str, port: int) -> str | None:
    """The proxy that ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` ask for."""
    proxies = urllib.request.getproxies_environment()
    address = proxies.get(scheme) or proxies.get("all")
    if not address:
        return None
    if urllib.request.proxy_bypass(f"{_bracketed(host)}:{port}"):
        return None
    return address if "://" in address else f"http://{address}"
