"""Plain ASGI middleware: request ids and the access log, the Host list, security headers."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sealwright.config import Settings
from sealwright.logs import CONTEXT_ID
from sealwright.web.problems import problem_response

_log = logging.getLogger("sealwright.access")
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # same-origin, not no-referrer: under that a browser calls our own forms of origin "null"
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
HSTS = "max-age=63072000; includeSubDomains"


class RequestIds:
    """Names each request, and logs it once: method, path without query, status, duration."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        started = time.perf_counter()
        status = 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        reset = CONTEXT_ID.set(request_id)
        try:
            await self._app(scope, receive, named)
        finally:
            facts = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "milliseconds": round((time.perf_counter() - started) * 1000, 1),
                "client": (scope.get("client") or ("",))[0],
            }
            _log.info("request", extra=facts)
            CONTEXT_ID.reset(reset)


class KnownHosts:
    """Answers only under the server's own names (DNS rebinding, poisoned links)."""

    def __init__(self, app: ASGIApp, allowed: frozenset[str]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            hosts = Headers(scope=scope).getlist("host")
            if len(hosts) != 1 or _host_name(hosts[0]) not in self._allowed:
                response = problem_response(
                    "misdirected",
                    "This server is not known by that host name.",
                    advice="Use its configured address, or add the name to allowed_hosts.",
                )
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


class SecurityHeaders:
    """Sets the headers on every answer that has not chosen its own."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        self._headers = dict(SECURITY_HEADERS)
        if https:
            self._headers["Strict-Transport-Security"] = HSTS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, secured)


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """The names that the server answers to: the configured ones, else its address's. A server on
    the loopback interface answers to all names of that."""
    names = {name.lower() for name in settings.allowed_hosts}
    if not names:
        names = {urlsplit(settings.url).hostname or settings.host}
    if settings.host in _LOOPBACK:
        names |= _LOOPBACK
    return frozenset(names)


def _host_name(header: str) -> str:
    """The name without the port; an IPv6 address without its brackets."""
    try:
        parts = urlsplit(f"//{header}")
        well_formed = parts.netloc == header and "@" not in header
        return (parts.hostname or "") if well_formed else ""
    except ValueError:
        return ""
