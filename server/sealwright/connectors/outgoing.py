"""The one outgoing HTTP client for every address that a user supplied.

A user who may name an address may try to make the server speak to its own network: to a metadata
service, a database, the loopback interface (server-side request forgery). So the address is checked
where it counts: each name is resolved here, every address it resolves to is judged, and the
connection goes to a judged address. Resolving again, as an HTTP library would, could give another
answer (DNS rebinding). TLS still verifies the name, and the Host header still carries it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import httpx

from sealwright.errors import InvalidInputError, TooLargeError, UnavailableError

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host name and port -> IP addresses as text. Raises OSError if there are none."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAX_URL = 4096
_MAX_ADDRESSES = 8
_MAX_HEADERS = 32
_MAX_HEADER_BYTES = 8192
_HOST = re.compile(rb"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")  # token, RFC 9110, 5.6.2
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_OUR_HEADERS = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade",
     "keep-alive", "expect", "range", "accept-encoding"}
) | {"proxy-connection", "proxy-authorization"}  # fmt: skip
_DEFAULT_HEADERS = {"User-Agent": "sealwright", "Accept": "*/*", "Accept-Encoding": "identity"}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052, 2.1
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # RFC 4291, 2.4: all that is assigned so far
_SHARED = ipaddress.IPv4Network("100.64.0.0/10")  # RFC 6598: carriers, and overlay networks
_REFUSED_NETWORKS = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocol assignments, RFC 6890; a metadata service
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4 relays, RFC 7526
    ipaddress.IPv4Network("168.63.129.16/32"),  # a cloud's metadata at a public address
    ipaddress.IPv4Network("100.100.100.200/32"),  # a cloud's metadata
    ipaddress.IPv6Network("fd00:ec2::/32"),  # a cloud's metadata
    ipaddress.IPv6Network("2001::/32"),  # Teredo, RFC 4380
    ipaddress.IPv6Network("2002::/16"),  # 6to4, RFC 3056
)


@dataclass(frozen=True)
class OutgoingPolicy:
    """Which addresses may be called.

    Attributes:
        hosts: host names that may be called, ``*.example.com`` for every name below that one; empty
            allows every public host.
        internal_hosts: exact host names (or IP addresses) that may besides be private or loopback,
            such as an artifact server in the own network. Link-local, multicast and metadata
            addresses stay refused.
        internal_networks: networks that every allowed host may besides be in, with the same
            exceptions. An address in one of them is an internal host.
        allow_http: also ``http:``; otherwise only ``https:``.
        internal_http: also ``http:``, but to internal hosts alone.
        redirects: how many to follow, each within scheme, host and port.
    """

    hosts: tuple[str, ...] = ()
    internal_hosts: tuple[str, ...] = ()
    internal_networks: tuple[str, ...] = ()
    allow_http: bool = False
    internal_http: bool = False
    redirects: int = 5


@dataclass(frozen=True)
class Timeouts:
    """Seconds: to connect, between two chunks, and for everything from connect to the last byte."""

    connect: float = 10.0
    idle: float = 30.0
    total: float = 60.0


@dataclass(frozen=True)
class OutgoingResponse:
    """A short answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def resolve_by_system(host: str, port: int) -> list[str]:
    """Ask the system's resolver, as every other program of this machine does."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


class OutgoingClient:
    """Calls addresses that users supplied. One for the process; close it at the end."""

    def __init__(
        self,
        policy: OutgoingPolicy,
        *,
        resolve: Resolver = resolve_by_system,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """
        Args:
            policy: what may be called.
            resolve: the resolver; its answers are judged, whoever gives them.
            tls: trust and client certificates; None trusts the bundled public authorities.
        """
        self._policy = policy
        # The transport alone, without httpx's client above it: that one keeps cookies from one
        # organization's call to the next, and logs whole URLs.
        self._transport = _JudgingTransport(policy, resolve, tls)
        # Its debug messages quote the headers of answers, cookies and signed addresses included.
        logging.getLogger("httpcore").setLevel(logging.INFO)

    async def __aenter__(self) -> OutgoingClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        timeouts: Timeouts = Timeouts(),
        follow: bool = True,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request and give the answer with its body unread, whatever its status.

        Redirects are followed for GET only, and not without `follow`: then they are the answer.
        Error messages name the host and nothing else of the URL: paths and queries often carry
        secrets.

        Raises:
            InvalidInputError: the URL, a header or a redirect is not allowed, or the host resolves
                to an address that is not.
            UnavailableError: no connection, a broken one, or out of time.
        """
        target = self.check(url)
        sent = _check_headers(headers or {})
        timeout = httpx.Timeout(timeouts.idle, connect=timeouts.connect)
        async with _explained(target.host, timeouts.total):
            for _ in range(self._policy.redirects + 1):
                request = httpx.Request(
                    method,
                    target,
                    headers=sent,
                    content=content,
                    extensions={"timeout": timeout.as_dict()},
                )
                response = await self._transport.handle_async_request(request)
                response.request = request
                try:
                    if method != "GET" or not follow or not response.has_redirect_location:
                        yield response
                        return
                    target = self._redirect(target, response.headers["Location"])
                finally:
                    await response.aclose()
        message = f"{target.host} redirects more than {self._policy.redirects} times."
        raise InvalidInputError(message, advice="Give the final address.")

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        timeouts: Timeouts = Timeouts(),
        limit: int = 64 * 1024,
        follow: bool = True,
    ) -> OutgoingResponse:
        """Send a request and read the whole answer, at most `limit` bytes.

        Raises:
            TooLargeError: the answer is longer.
            InvalidInputError, UnavailableError: see `stream`.
        """
        async with self.stream(
            method, url, headers=headers, content=content, timeouts=timeouts, follow=follow
        ) as response:
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > limit:
                    message = f"The answer is longer than {limit} bytes."
                    raise TooLargeError(message, where=response.url.host)
            return OutgoingResponse(response.status_code, dict(response.headers), bytes(body))

    def check(self, url: str) -> httpx.URL:
        """Judge a URL before it is saved or called; the host is not resolved yet.

        Raises:
            InvalidInputError: malformed, or its scheme or host is not allowed.
        """
        try:
            target = httpx.URL(url[: _MAX_URL + 1])
        except httpx.InvalidURL as error:
            message = "The URL is malformed."
            raise InvalidInputError(message) from error
        if len(url) > _MAX_URL or target.userinfo or target.fragment:
            message = "The URL is too long, or has a user name or a fragment."
            raise InvalidInputError(message, advice="Send credentials in a header.")
        if not _HOST.fullmatch(target.raw_host) or not 0 < (target.port or 443) < 65536:
            message = "The URL has no usable host or port."
            raise InvalidInputError(message, advice="Give an absolute URL.")
        policy = self._policy
        plain = policy.allow_http or (policy.internal_http and _is_internal_host(target, policy))
        schemes = ("https", "http") if plain else ("https",)
        if target.scheme not in schemes:
            message = f"The URL's scheme is {target.scheme[:20]!r}."
            raise InvalidInputError(message, advice=f"Use {' or '.join(schemes)}.")
        if not _may_call(target, policy):
            message = f"{target.host} is not among the hosts that this server may call."
            raise InvalidInputError(message, advice="Have the administrator add the host.")
        return target

    def _redirect(self, source: httpx.URL, location: str) -> httpx.URL:
        try:
            target = source.join(location)
        except httpx.InvalidURL as error:
            message = f"{source.host} redirects to a malformed address."
            raise InvalidInputError(message) from error
        if _origin(target) != _origin(source):
            message = f"{source.host} redirects to another host, {target.host[:253]}."
            raise InvalidInputError(message, advice="Give the final address.")
        return self.check(str(target))


class _JudgingTransport(httpx.AsyncBaseTransport):
    """Connects to an address that was resolved and judged, in the name of the host.

    Connections are not kept: the pool knows them by address, and one that was verified for a name
    must not serve another name at the same address.
    """

    def __init__(
        self, policy: OutgoingPolicy, resolve: Resolver, tls: ssl.SSLContext | None
    ) -> None:
        self._policy = policy
        self._resolve = resolve
        self._transport = httpx.AsyncHTTPTransport(
            verify=True if tls is None else tls,
            trust_env=False,
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=0),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        *alternatives, last = await self._judged(request.url)
        for address in alternatives:
            # Nothing of the request was sent yet, so that the next address may have it.
            with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._send(request, address)
        return await self._send(request, last)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _send(self, request: httpx.Request, address: str) -> httpx.Response:
        pinned = httpx.Request(
            request.method,
            request.url.copy_with(host=address),
            headers=request.headers,  # with the Host of the name
            stream=request.stream,
            extensions={
                **request.extensions,
                "sni_hostname": request.url.raw_host.decode("ascii"),
            },
        )
        return await self._transport.handle_async_request(pinned)

    async def _judged(self, url: httpx.URL) -> list[str]:
        port = url.port or (443 if url.scheme == "https" else 80)
        # The ASCII form: what is looked up is what TLS verifies.
        host = url.raw_host.decode("ascii")
        try:
            found = list(dict.fromkeys(await self._resolve(host, port)))[:_MAX_ADDRESSES]
        except (OSError, UnicodeError) as error:
            message = f"{url.host} cannot be resolved."
            raise UnavailableError(message, advice="Check the host name.") from error
        # One bad address condemns the name: its owner mixes them to get past such a check.
        if not found or not all(_is_allowed(address, url, self._policy) for address in found):
            message = f"{url.host} resolves to an address that this server may not call."
            advice = "Use a public host, or have the administrator allow this internal one."
            raise InvalidInputError(message, advice=advice)
        return found


def _is_internal_host(url: httpx.URL, policy: OutgoingPolicy) -> bool:
    """Whether the operator named the host itself, or a network that it is an address of."""
    name = _folded(url.host)
    if name in {_folded(internal) for internal in policy.internal_hosts}:
        return True
    address = _address(name)
    return address is not None and _is_in_network(address, policy)


def _may_call(url: httpx.URL, policy: OutgoingPolicy) -> bool:
    if not policy.hosts or _is_internal_host(url, policy):
        return True
    name = _folded(url.host)
    return any(
        name.endswith(_folded(allowed[1:]))
        if allowed.startswith("*.")
        else name == _folded(allowed)
        for allowed in policy.hosts
    )


def _is_allowed(text: str, url: httpx.URL, policy: OutgoingPolicy) -> bool:
    address = _address(text)
    if address is None or any(address in network for network in _REFUSED_NETWORKS):
        return False
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if _is_public(address):
        return True
    named = _is_internal_host(url, policy) or _is_in_network(address, policy)
    return named and _is_internal(address)


def _address(text: str) -> Address | None:
    """The address that packets end at; None where the text is none."""
    try:
        address: Address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return _embedded(address) or address
    return address


def _is_in_network(address: Address, policy: OutgoingPolicy) -> bool:
    return any(address in ipaddress.ip_network(one) for one in policy.internal_networks)


def _is_public(address: Address) -> bool:
    return address.is_global and (address.version == 4 or address in _GLOBAL_UNICAST)


def _is_internal(address: Address) -> bool:
    return address.is_private or address.is_loopback or address in _SHARED


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to this one end at."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _folded(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, _folded(url.host), url.port


def _check_headers(headers: Mapping[str, str]) -> httpx.Headers:
    """Give the headers to send; refuse those that would change the request's frame.

    Values are never quoted in an error: they may be secret.
    """
    size = sum(len(name) + len(value) for name, value in headers.items())
    if len(headers) > _MAX_HEADERS or size > _MAX_HEADER_BYTES:
        message = (
            f"There are more than {_MAX_HEADERS} headers or {_MAX_HEADER_BYTES} bytes of them."
        )
        raise InvalidInputError(message)
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            message = f"The header {name[:40]!r} has characters that headers cannot have."
            raise InvalidInputError(message)
        if name.lower() in _OUR_HEADERS:
            message = f"The header {name!r} cannot be set."
            raise InvalidInputError(message, advice="Leave it out.")
    sent = httpx.Headers(_DEFAULT_HEADERS)
    sent.update(headers)
    return sent


@contextlib.asynccontextmanager
async def _explained(host: str, seconds: float) -> AsyncIterator[None]:
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            yield
    except (httpx.TimeoutException, TimeoutError) as error:
        if isinstance(error, TimeoutError) and not deadline.expired():
            raise
        message = f"{host} did not answer in time."
        raise UnavailableError(message, advice="Try again later.") from error
    except (httpx.TransportError, ssl.SSLError) as error:
        reason = "its certificate was refused" if _is_certificate_error(error) else "it broke off"
        if isinstance(error, httpx.ConnectError) and reason == "it broke off":
            reason = "no connection"
        message = f"{host} cannot be reached: {reason}."
        raise UnavailableError(message, advice="Check the address and the server there.") from error


def _is_certificate_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
