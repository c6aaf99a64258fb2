"""Single sign-on over HTTP: to the identity provider and back.

The state is in the browser's cookie and, as a hash, in the database: an answer counts once, and
only in the browser that asked for it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from starlette.requests import Request

from sealwright.connectors.blocking import BlockingClient
from sealwright.connectors.connector import RemoteError
from sealwright.connectors.outgoing import OutgoingPolicy
from sealwright.connectors.sign_on import Ceremony, SignedOn, SignOnClient
from sealwright.db import identity_providers, one_time_secrets, sign_on_sessions
from sealwright.errors import (
    ConflictError,
    InvalidInputError,
    OriginError,
    SealwrightError,
    UnauthenticatedError,
    UnavailableError,
)
from sealwright.model.identifiers import is_slug, utc_now
from sealwright.model.identity_provider import IdentityProvider, SignOnSession
from sealwright.model.one_time_secret import OneTimeSecret, Purpose
from sealwright.model.user import User
from sealwright.sign_on import admit
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import missing
from sealwright.web.services import Services
from sealwright.web.throttle import Rate

_log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

_LIFE = dt.timedelta(minutes=10)
_FROM_ONE = Rate(60, 60)
_MAX_CODE = 4000
_LOG_OUTS = Rate(600, 600)
_MAX_LOGOUT_TOKEN = 16 * 1024
_LOGOUT_MEMORY = dt.timedelta(minutes=15)  #: longer than a logout token counts


def redirect_url(services: Services) -> str:
    """Where identity providers send browsers back to."""
    return f"{services.settings.url}/login/callback"


def logout_url(services: Services) -> str:
    """Where identity providers send browsers after a log-out."""
    return f"{services.settings.url}/login"


def back_channel_url(services: Services, provider: IdentityProvider) -> str:
    """Where an identity provider sends its logout tokens."""
    return f"{services.settings.url}/login/back-channel/{provider.slug}"


async def begin(services: Services, request: Request, slug: str, following: str) -> tuple[str, str]:
    """Begin a log-in: the provider's address to go to, and the state for the cookie.

    Raises:
        NotFoundError: there is no such provider.
        UnavailableError: it is away.
    """
    address = request.client.host if request.client else ""
    await services.throttle.take(f"sign-on-from/{address}", _FROM_ONE)
    provider = await _enabled(services, slug)
    ceremony = Ceremony(secrets.token_urlsafe(32))
    client = await _client(services, provider)
    target = await _asked(client.authorization_url, ceremony)
    now = utc_now()
    kept = OneTimeSecret(
        _digest(ceremony.state),
        Purpose.SINGLE_SIGN_ON,
        None,
        {"provider": provider.slug, "following": following},
        now + _LIFE,
        now,
    )
    async with services.database.transaction() as tx:
        await one_time_secrets.add(tx, kept)
    return target, ceremony.state


@dataclass(frozen=True)
class Arrival:
    """Who came in, and where they wanted to."""

    user: User
    following: str
    provider: IdentityProvider
    found: SignedOn


async def finish(services: Services, request: Request, cookie: str) -> Arrival:
    """Take the provider's answer.

    Raises:
        UnauthenticatedError: the answer is not to a log-in of this browser's, or is refused.
        ForbiddenError: the person may not come in this way.
        UnavailableError: the provider is away.
    """
    query = request.query_params
    state, code = query.get("state", ""), query.get("code", "")
    if not cookie or not hmac.compare_digest(state.encode(), cookie.encode()):
        raise _refusal()
    async with services.database.transaction() as tx:
        kept = await one_time_secrets.take(tx, _digest(state), Purpose.SINGLE_SIGN_ON, utc_now())
    if kept is None:
        raise _refusal()
    async with services.database.read() as tx:
        provider = await identity_providers.by_slug(tx, str(kept.data["provider"]))
    if provider is None or not provider.enabled:
        raise _refusal()
    if query.get("iss", provider.issuer) != provider.issuer:
        raise _refusal()  # another provider's answer, mixed in (RFC 9207)
    if not 0 < len(code) <= _MAX_CODE:
        message = "The identity provider did not let you in."
        raise UnauthenticatedError(message, advice="Begin the log-in anew.")
    client = await _client(services, provider)
    found = await _asked(client.redeem, code, Ceremony(state), provider.group_claim)
    user = await admit(services.database, provider, found)
    return Arrival(user, str(kept.data["following"]), provider, found)


async def remember(services: Services, arrival: Arrival, token_id: str) -> None:
    """Note where a session began, so that it can be ended there, and from there."""
    found = arrival.found
    session = SignOnSession(token_id, arrival.provider.id, found.subject, found.sid, utc_now())
    sealed = services.systems.vault().seal(token_id, {"id_token": found.id_token})
    async with services.database.transaction() as tx:
        await sign_on_sessions.add(tx, session, sealed)


async def forget(services: Services, token_id: str) -> tuple[str, str] | None:
    """Where to end the provider's session too, now that one of ours has ended: its name, and the
    address to go to. None: it began elsewhere, or the provider has no such place, or is away."""
    async with services.database.transaction() as tx:
        taken = await sign_on_sessions.take(tx, token_id)
        if taken is None:
            return None
        provider = await identity_providers.any_by_id(tx, taken[0].provider_id)
    if provider is None or not provider.enabled:
        return None
    try:
        hint = services.systems.vault().open(token_id, taken[1])["id_token"]
        client = await _client(services, provider)
        address = await _asked(client.logout_url, hint, logout_url(services))
    except SealwrightError as error:
        _log.warning("no log-out at %s: %s", provider.slug, error)
        return None
    return (provider.name, address) if address else None


async def end_sessions(services: Services, request: Request, slug: str, token: str) -> None:
    """End what the provider says has ended (Back-Channel Logout 1.0).

    Raises:
        NotFoundError: there is no such provider.
        InvalidInputError: the logout token is not valid, or was used before.
        UnavailableError: the provider is away.
    """
    address = request.client.host if request.client else ""
    await services.throttle.take(f"log-out-from/{address}", _LOG_OUTS)
    provider = await _enabled(services, slug)
    if not 0 < len(token) <= _MAX_LOGOUT_TOKEN:
        message = "There is no logout token."
        raise InvalidInputError(message)
    client = await _client(services, provider)
    try:
        ended = await _asked(client.logged_out, token)
    except (UnauthenticatedError, OriginError) as error:
        raise InvalidInputError(error.message) from None
    now = utc_now()
    used = OneTimeSecret(
        _digest(f"{provider.id} {ended.token_id}"), Purpose.LOGOUT_TOKEN, None, {},
        now + _LOGOUT_MEMORY, now,
    )  # fmt: skip
    try:
        async with services.database.transaction() as tx:
            await one_time_secrets.add(tx, used)
            number = await sign_on_sessions.end(tx, provider, ended.subject, ended.sid, now)
            facts = {"identity_provider": provider.id, "sessions": number}
            entry = organization_entry(
                provider.organization_id,
                "session.ended_elsewhere",
                actor=f"sign-on:{provider.slug}",
                now=now,
                data=facts,
            )
            await record(tx, entry)
    except ConflictError:
        message = "The logout token was used before."
        raise InvalidInputError(message) from None


async def _enabled(services: Services, slug: str) -> IdentityProvider:
    async with services.database.read() as tx:
        provider = await identity_providers.by_slug(tx, slug) if is_slug(slug) else None
    if provider is None or not provider.enabled:
        raise missing(slug, "identity provider")
    return provider


async def _client(services: Services, provider: IdentityProvider) -> SignOnClient:
    async with services.database.read() as tx:
        sealed = await identity_providers.credentials(tx, provider.id)
    opened = services.systems.vault().open(provider.id, sealed)
    hosts = services.settings.build_system_hosts
    policy = OutgoingPolicy(internal_hosts=hosts, internal_http=True)
    return SignOnClient(
        provider.issuer,
        provider.client_id,
        opened.get("client_secret", ""),
        redirect_url(services),
        BlockingClient(policy),
    )


async def _asked(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the provider from a thread.

    Raises:
        UnavailableError: it is away, or answers nothing usable.
    """
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    except RemoteError as error:
        _log.warning("an identity provider does not do: %s", error)
        message = "The identity provider does not answer as it should."
        raise UnavailableError(message, advice="Try again later.") from None


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()


def _refusal() -> UnauthenticatedError:
    message = "This is no answer to a log-in that this browser has begun."
    return UnauthenticatedError(message, advice="Begin the log-in anew.")
