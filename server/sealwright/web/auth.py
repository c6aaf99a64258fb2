"""Who is calling: bearer tokens, and the session cookie of the pages."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import hashlib
import hmac
from collections import OrderedDict
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from sealwright.db import users
from sealwright.errors import ForbiddenError, UnauthenticatedError
from sealwright.intake.passwords import password_fits
from sealwright.intake.tokens import new_token, token_hash
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.user import ApiToken, Principal, Role, TokenKind, TokenScope, User, UserKind
from sealwright.transparency.details import Change
from sealwright.transparency.record import organization_entry, record
from sealwright.web.services import Services
from sealwright.web.throttle import Rate

API_SESSION = dt.timedelta(hours=1)
PAGE_SESSION = dt.timedelta(hours=12)
PAGE_IDLE = dt.timedelta(hours=2)  #: a page's session that was not used for so long ends
FRESH = dt.timedelta(minutes=15)  #: for so long a log-in counts for what asks for a recent one
_MAX_AGENT = 200
_LOG_INS_OF_ONE = Rate(10, 10)
_LOG_INS_FROM_ONE = Rate(100, 60)  # a whole office may come from one address
_IDENTITIES_FROM_ONE = Rate(120, 120)  # hosted runners share addresses, and a matrix is many jobs
_TOUCH_AFTER = dt.timedelta(minutes=10)
_MAX_TOUCHED = 10_000


class LastUse:
    """When tokens were last noted as used, so that not every request writes to the database."""

    def __init__(self) -> None:
        self._noted: OrderedDict[str, dt.datetime] = OrderedDict()

    def is_due(self, token_id: str, now: dt.datetime) -> bool:
        """Tell whether the use is to be noted, and count it as noted."""
        noted = self._noted.get(token_id)
        if noted is not None and now - noted < _TOUCH_AFTER:
            return False
        self._noted[token_id] = now
        self._noted.move_to_end(token_id)
        if len(self._noted) > _MAX_TOUCHED:
            self._noted.popitem(last=False)
        return True


async def authenticate(services: Services, request: Request, *, cookie: bool) -> Principal:
    """Find out who calls.

    Args:
        cookie: take the session cookie (pages) instead of the ``Authorization`` header (API): so
            no page of another site can use the API in a user's name.

    Raises:
        UnauthenticatedError: no credential, or one that is unknown, expired or revoked.
    """
    text = page_token(services, request) if cookie else bearer(request)
    digest = token_hash(text)
    now = utc_now()
    async with services.database.read() as tx:
        found = await users.by_token(tx, digest, now)
    if found is None:
        message = "The token is unknown, expired or revoked."
        raise UnauthenticatedError(message, advice="Log in, or make a new token.")
    user, token = found
    last_use: LastUse = request.app.state.last_use
    if last_use.is_due(token.id, now):
        async with services.database.transaction() as tx:
            await users.touch_token(tx, token.id, now)
    address = request.client.host if request.client else ""
    return Principal(
        user,
        token.id,
        address,
        token.request_id,
        token.scope,
        token.project_id,
        token.authenticated_at,
        token.kind,
    )


async def throttle_identities(services: Services, request: Request) -> None:
    """Bound how often one address may come with an identity token. Until the CI system has been
    asked nothing is known of who calls, and asking costs calls to it.

    Raises:
        TooManyRequestsError: too often.
    """
    address = request.client.host if request.client else ""
    await services.throttle.take(f"identity-token-from/{address}", _IDENTITIES_FROM_ONE)


async def log_in(
    services: Services, request: Request, email: str, password: str, lifetime: dt.timedelta
) -> tuple[User, str, ApiToken]:
    """Check a password and make a session token: the user, the token's text and its record.

    Raises:
        UnauthenticatedError: no such user, or another password: which, the answer does not tell.
        TooManyRequestsError: too many attempts for this user or from this address.
    """
    address = request.client.host if request.client else ""
    await services.throttle.take(f"log-in/{email.strip().lower()}", _LOG_INS_OF_ONE)
    await services.throttle.take(f"log-in-from/{address}", _LOG_INS_FROM_ONE)
    async with services.database.read() as tx:
        user = await users.by_email(tx, email)
    usable = user is not None and user.active and user.kind is UserKind.INTERACTIVE
    fits = await password_fits(user.password_hash if user and usable else None, password)
    if user is None or not fits:
        message = "The address or the password is wrong."
        raise UnauthenticatedError(message)
    text, token = await begin_session(services, request, user, lifetime, "password")
    return user, text, token


async def check_password(services: Services, request: Request, user: User, password: str) -> None:
    """Check the password of a user who is logged in.

    Raises:
        ForbiddenError: it is another one, or the user has none.
        TooManyRequestsError: too many attempts for this user or from this address.
    """
    address = request.client.host if request.client else ""
    await services.throttle.take(f"log-in/{(user.email or user.id).lower()}", _LOG_INS_OF_ONE)
    await services.throttle.take(f"log-in-from/{address}", _LOG_INS_FROM_ONE)
    if not await password_fits(user.password_hash, password):
        message = "The password is wrong."
        raise ForbiddenError(message)


async def begin_session(
    services: Services, request: Request, user: User, lifetime: dt.timedelta, method: str
) -> tuple[str, ApiToken]:
    """Make a session of a user who has just proved who they are by `method`: the token's text and
    its record. An earlier session of the browser's is none of this one's."""
    text, token = make_token(user, TokenKind.SESSION, "log-in", lifetime)
    agent = request.headers.get("user-agent", "")
    token = dataclasses.replace(
        token,
        idle_seconds=int(PAGE_IDLE.total_seconds()) if lifetime == PAGE_SESSION else None,
        authenticated_at=token.created_at,
        address=(request.client.host if request.client else "")[:64],
        agent="".join(filter(str.isprintable, agent))[:_MAX_AGENT],
    )
    entry = organization_entry(
        user.organization_id,
        "session.created",
        actor=f"user:{user.id}",
        now=token.created_at,
        data={"token": token.id, "method": method, "user": user.id},
        change=Change(token.address),
    )
    async with services.database.transaction() as tx:
        await users.add_token(tx, token)
        await record(tx, entry)
    return text, token


def check_fresh(principal: Principal) -> None:
    """Demand a session whose user proved who they are just now.

    Raises:
        ForbiddenError: an API token, or a log-in that is too long ago.
    """
    proved = principal.authenticated_at
    if proved is None or utc_now() - proved > FRESH:
        minutes = int(FRESH.total_seconds()) // 60
        message = f"This needs a log-in of the last {minutes} minutes."
        raise ForbiddenError(
            message, advice="Confirm who you are at /account/confirm; an API token does not do."
        )


def check_fresh_for_role(principal: Principal, role: Role, before: Role | None = None) -> None:
    """Demand a fresh session of who gives somebody a role that administers.

    Args:
        before: the role so far; None: of a new user.

    Raises:
        ForbiddenError: as `check_fresh`.
    """
    if role is not before and role not in {Role.REGULAR_USER, Role.GLOBAL_READER}:
        check_fresh(principal)


def make_token(
    user: User,
    kind: TokenKind,
    name: str,
    lifetime: dt.timedelta | None,
    request_id: str | None = None,
    *,
    scope: TokenScope = TokenScope.FULL,
    project_id: str | None = None,
) -> tuple[str, ApiToken]:
    """A new token for the user: its text, which is shown once, and what is kept of it."""
    text = new_token(kind)
    now = utc_now()
    expires = now + lifetime if lifetime else None
    token = ApiToken(
        id=new_id(),
        organization_id=user.organization_id,
        user_id=user.id,
        kind=kind,
        name=name,
        sha256=token_hash(text),
        expires_at=expires,
        revoked_at=None,
        created_at=now,
        request_id=request_id,
        scope=scope,
        project_id=project_id,
    )
    return text, token


def page_token(services: Services, request: Request) -> str:
    """The session token of the page's cookie.

    Raises:
        UnauthenticatedError: there is none.
    """
    text = request.cookies.get(_cookie_name(services))
    if not text:
        message = "Nobody is logged in."
        raise UnauthenticatedError(message, advice="Log in.")
    return text


def set_session(services: Services, response: Response, token: str) -> None:
    """Give the browser its session. ``Lax``, so that a link in a commit check arrives logged in."""
    response.set_cookie(
        _cookie_name(services),
        token,
        max_age=int(PAGE_SESSION.total_seconds()),
        path="/",
        secure=services.is_https,
        httponly=True,
        samesite="lax",
    )


def clear_session(services: Services, response: Response) -> None:
    """Take the browser's session away."""
    response.delete_cookie(
        _cookie_name(services), path="/", secure=services.is_https, httponly=True, samesite="lax"
    )


def csrf_token(session_token: str) -> str:
    """What a form of this session must carry. Derived, so nothing has to be kept for it."""
    mac = hmac.digest(session_token.encode(), b"sealwright csrf", hashlib.sha256)
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def check_csrf(services: Services, request: Request, given: str) -> None:
    """Let only this session's own forms through.

    Raises:
        ForbiddenError: the form's token is not this session's, or another site sent it.
    """
    check_same_site(request)
    expected = csrf_token(page_token(services, request))
    if not hmac.compare_digest(expected.encode(), given.encode()):
        message = "The form is not one of this session's."
        raise ForbiddenError(message, advice="Load the page again and repeat.")


def check_same_site(request: Request) -> None:
    """Refuse a form that another site sent, as far as the browser tells.

    Fetch metadata cannot be forged by a page, but comes only over HTTPS and from this machine;
    elsewhere ``Origin`` tells.

    Raises:
        ForbiddenError: it did.
    """
    site = request.headers.get("sec-fetch-site")
    if site is None:
        origin = request.headers.get("origin")
        own = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    else:
        own = site in {"same-origin", "none"}
    if not own:
        message = "The form was sent by another site."
        raise ForbiddenError(message, advice="Open this server's own page.")


def bearer(request: Request) -> str:
    """The token of the ``Authorization`` header.

    Raises:
        UnauthenticatedError: there is none.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        message = "The request carries no token."
        raise UnauthenticatedError(message, advice="Send Authorization: Bearer <token>.")
    return token.strip()


def _cookie_name(services: Services) -> str:
    # the prefix makes browsers insist on Secure, Path=/ and no Domain (RFC 6265bis, 4.1.3.2)
    return "__Host-sealwright" if services.is_https else "sealwright"
