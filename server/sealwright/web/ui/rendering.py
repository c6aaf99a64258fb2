"""Pages from templates: what every one of them shows, redirects with a message, errors."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from sealwright.errors import SealwrightError, UnauthenticatedError
from sealwright.logs import CONTEXT_ID
from sealwright.model.user import Principal
from sealwright.web import auth
from sealwright.web.problems import status_of
from sealwright.web.routes import Call
from sealwright.web.services import Services
from sealwright.web.ui.forms import Form
from sealwright.web.ui.navigation import current, may_open, sections
from sealwright.web.ui.static_files import address

_FLASH_SECONDS = 60
_MAX_FLASH = 500
_THEME_COOKIE = "sealwright-theme"
_THEMES = frozenset({"light", "dark"})
_TITLES = {
    403: "Not allowed", 404: "Not found", 429: "Too fast", 500: "The server failed",
    503: "Not available just now",
}  # fmt: skip
_INITIALS = {one.lower(): one for one in ("API", "CI", "EST", "ID", "OIDC", "SCIM", "URL", "XML")}


def _label(name: str) -> str:
    """``QueuedForProcessing`` and ``release-signing`` as people write them."""
    spaced = re.sub(r"(?<!^)[A-Z]", lambda letter: f" {letter[0].lower()}", str(name))
    words = re.sub(r"[-_]", " ", spaced[:1].upper() + spaced[1:]).split(" ")
    return " ".join(_INITIALS.get(word.lower(), word) for word in words)


def _environment() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent.parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["label"] = _label
    templates.globals["static"] = address
    templates.globals["show"] = templates.get_template("macros/show.html").module
    return templates


TEMPLATES = _environment()


def page(
    call: Call, template: str, shown: Mapping[str, Any] | None = None, status: int = 200
) -> HTMLResponse:
    """The page that `template` makes of `shown`.

    Every template has besides: ``user``, ``csrf``, ``navigation`` (sections that the user may
    open), ``account`` (whether there is an account page for the user), ``audits`` (whether the
    user may open the audit), ``here`` (path of the section that the page belongs to), ``flash``,
    an empty ``form``, and the macros of ``macros/forms.html`` and ``macros/show.html`` as ``forms``
    and ``show``.
    """
    principal = call.authorized.principal if call.authorized else None
    return _rendered(call.services, call.request, principal, template, shown or {}, status)


def redirect(call: Call, path: str, message: str = "") -> Response:
    """Answer a form that did its work: to the page at `path`, which shows `message` once."""
    response = RedirectResponse(path, 303)
    if message:
        token = auth.page_token(call.services, call.request)
        response.set_cookie(
            _flash_name(call.services),
            _sealed(message, token),
            max_age=_FLASH_SECONDS,
            path="/",
            secure=call.services.is_https,
            httponly=True,
            samesite="lax",
        )
    return response


def error_page(request: Request, error: SealwrightError) -> Response:
    """An error as a page; who is not logged in gets the form instead."""
    if isinstance(error, UnauthenticatedError):
        return RedirectResponse(f"/login?next={quote(_page_of(request), safe='/')}", 303)
    status = status_of(error)
    shown = {
        "title": _TITLES.get(status, "That did not work"),
        "message": "Try again later." if status == 500 else error.message,
        "advice": "" if status == 500 else error.advice,
        "reference": CONTEXT_ID.get() if status == 500 else "",
        "back": "" if request.method == "GET" else _page_of(request),
    }
    services: Services = request.app.state.services
    principal = getattr(request.state, "principal", None)
    return _rendered(services, request, principal, "error.html", shown, status)


def _page_of(request: Request) -> str:
    """The page that was asked for, or that has the form that was sent."""
    address = urlsplit(str(request.url))
    if request.method != "GET":
        try:
            address = urlsplit(request.headers.get("referer", ""))
        except ValueError:
            return "/"
        if address.netloc != request.headers.get("host"):
            return "/"
    return address.path + (f"?{address.query}" if address.query else "")


def _rendered(
    services: Services,
    request: Request,
    principal: Principal | None,
    template: str,
    shown: Mapping[str, Any],
    status: int,
) -> HTMLResponse:
    context: dict[str, Any] = {
        "user": None, "csrf": "", "navigation": (), "account": False, "flash": "",
        "audits": False, "here": "", "form": Form(), "theme": _theme(request),
    }  # fmt: skip
    if principal is not None:
        token = auth.page_token(services, request)
        found = sections(principal)
        context |= {
            "user": principal.user,
            "csrf": auth.csrf_token(token),
            "navigation": found.main,
            "account": found.account,
            "audits": may_open(principal, "ui.audit"),
            "here": current(request.url.path),
            "flash": _opened(request.cookies.get(_flash_name(services), ""), token),
        }
    # forms carry the session's CSRF token, so their macros are this page's
    macros = TEMPLATES.get_template("macros/forms.html").make_module({"csrf": context["csrf"]})
    context |= {"forms": macros} | dict(shown)
    response = HTMLResponse(TEMPLATES.get_template(template).render(context), status)
    if context["flash"]:
        response.delete_cookie(
            _flash_name(services), path="/", secure=services.is_https, httponly=True, samesite="lax"
        )
    return response


def _theme(request: Request) -> str:
    """The theme that this browser has chosen; empty: the system's. Its script keeps the cookie."""
    chosen = request.cookies.get(_THEME_COOKIE, "")
    return chosen if chosen in _THEMES else ""


def _flash_name(services: Services) -> str:
    return "__Host-sealwright-flash" if services.is_https else "sealwright-flash"


def _sealed(message: str, session_token: str) -> str:
    text = base64.urlsafe_b64encode(json.dumps(message[:_MAX_FLASH]).encode()).decode().rstrip("=")
    return f"{text}.{_mac(text, session_token)}"


def _opened(value: str, session_token: str) -> str:
    """The message of the cookie; nothing where another than this session's page wrote it."""
    text, _, mac = value.partition(".")
    if not text or not hmac.compare_digest(mac.encode(), _mac(text, session_token).encode()):
        return ""
    message: str = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return message


def _mac(text: str, session_token: str) -> str:
    key = f"sealwright flash {session_token}".encode()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
