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
from typing import ParamSpec, TypeVar

from starlette.requests import Request

from sealwright.connectors.blocking import BlockingClient
from sealwright.connectors.connector import RemoteError
from sealwright.connectors.outgoing import OutgoingPolicy
from sealwright.connectors.sign_on import Ceremony, SignOnClient
from sealwright.db import identity_providers, one_time_secrets
from sealwright.errors import UnauthenticatedError, UnavailableError
from sealwright.model.identifiers import is_slug, utc_now
from sealwright.model.identity_provider import IdentityProvider
from sealwright.model.one_time_secret import OneTimeSecret, Purpose
from sealwright.model.user import User
from sealwright.sign_on import admit
from sealwright.visible import missing
from sealwright.web.services import Services
from sealwright.web.throttle import Rate

_log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

_LIFE = dt.timedelta(minutes=10)
_FROM_ONE = Rate(60, 60)
_MAX_CODE = 4000


def redirect_url(services: Services) -> str:
    """Where identity providers send browsers back to."""
    return f"{services.settings.url}/login/callback"


async def begin(services: Services, request: Request, slug: str, following: str) -> tuple[str, str]:
    """Begin a log-in: the provider's address to go to, and the state for the cookie.

    Raises:
        NotFoundError: there is no such provider.
        UnavailableError: it is away.
    """
    address = request.client.host if request.client else ""
    await services.throttle.take(f"sign-on-from/{address}", _FROM_ONE)
    async with services.database.read() as tx:
        provider = await identity_providers.by_slug(tx, slug) if is_slug(slug) else None
    if provider is None or not provider.enabled:
        raise missing(slug, "identity provider")
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


async def finish(services: Services, request: Request, cookie: str) -> tuple[User, str]:
    """Take the provider's answer: who came in, and where they wanted to.

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
    return await admit(services.database, provider, found), str(kept.data["following"])


async def _client(services: Services, provider: IdentityProvider) -> SignOnClient:
    async with services.database.read() as tx:
        sealed = await identity_providers.credentials(tx, provider.id)
    opened = services.systems.vault().open(provider.id, sealed)
    hosts = services.settings.build_system_hosts
    policy = OutgoingPolicy(internal_hosts=hosts, internal_http=True)
    return SignOnClient(
        provider.issuer,
        provider.client_id,
        opened["client_secret"],
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
