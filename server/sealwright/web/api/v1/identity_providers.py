"""Identity providers of the organization: single sign-on by OpenID Connect."""

from __future__ import annotations

import dataclasses

from starlette.responses import Response

from sealwright.db import Transaction, identity_providers
from sealwright.errors import ConflictError
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.identity_provider import IdentityProvider
from sealwright.transparency.record import organization_entry, record
from sealwright.visible import is_name, missing
from sealwright.web.answers import json_answer, no_content
from sealwright.web.auth import check_fresh
from sealwright.web.routes import Answer, Call, Endpoint
from sealwright.web.schemas.identity_providers import (
    IdentityProviderIn,
    IdentityProviderOut,
    IdentityProviderPatch,
    IdentityProvidersOut,
)
from sealwright.web.sign_on import back_channel_url, logout_url, redirect_url
from sealwright.web.views import fields_of


async def listing(call: Call) -> Response:
    """All of them."""
    async with call.services.database.read() as tx:
        found = await identity_providers.every(tx, call.grant.organization_id)
        items = [await _out(tx, call, one) for one in found]
    return json_answer(IdentityProvidersOut(items=items))


async def get(call: Call) -> Response:
    """One of them."""
    async with call.services.database.read() as tx:
        return json_answer(await _out(tx, call, await find(tx, call)))


async def create(call: Call) -> Response:
    """Trust one more."""
    made = await add(call, await call.json(IdentityProviderIn))
    async with call.services.database.read() as tx:
        return json_answer(await _out(tx, call, made), 201)


async def update(call: Call) -> Response:
    """Change one. Its issuer stays: another one is another provider."""
    changed = await change(call, await call.json(IdentityProviderPatch))
    async with call.services.database.read() as tx:
        return json_answer(await _out(tx, call, changed))


async def delete(call: Call) -> Response:
    """Trust it no more. Its users stay."""
    await remove(call)
    return no_content()


async def add(call: Call, given: IdentityProviderIn) -> IdentityProvider:
    """Insert one with its sealed secret.

    Raises:
        ForbiddenError: the caller's log-in is too long ago.
        ConflictError: its slug is taken.
    """
    check_fresh(call.grant.principal)
    fields = {name: getattr(given, name) for name in IdentityProviderIn.model_fields}
    secret = fields.pop("client_secret")
    provider = IdentityProvider(
        id=new_id(),
        organization_id=call.grant.organization_id,
        created_at=utc_now(),
        **fields,
    )
    sealed = call.services.systems.vault().seal(
        provider.id, {"client_secret": secret} if secret else {}
    )
    async with call.services.database.transaction() as tx:
        if await identity_providers.by_slug(tx, provider.slug):
            message = f"The slug {provider.slug!r} is taken."
            raise ConflictError(message, advice="Slugs are unique on the whole server.")
        await identity_providers.add(tx, provider, sealed)
        await _log(tx, call, "identity_provider.created", None, await _out(tx, call, provider))
    return provider


async def change(call: Call, patch: IdentityProviderPatch) -> IdentityProvider:
    """Change the one that the path names.

    Raises:
        ForbiddenError: the caller's log-in is too long ago.
        NotFoundError: missing or foreign.
    """
    check_fresh(call.grant.principal)
    changes = patch.model_dump(exclude_none=True)
    secret = changes.pop("client_secret", None)
    async with call.services.database.transaction() as tx:
        before = await find(tx, call)
        told = await _out(tx, call, before)
        after = dataclasses.replace(before, **changes)
        sealed = None
        if secret is not None:
            kept = {"client_secret": secret} if secret else {}
            sealed = call.services.systems.vault().seal(before.id, kept)
        await identity_providers.update(tx, after, sealed)
        await _log(tx, call, "identity_provider.updated", told, await _out(tx, call, after))
    return after


async def remove(call: Call) -> IdentityProvider:
    """Remove the one that the path names.

    Raises:
        ForbiddenError: the caller's log-in is too long ago.
        NotFoundError: missing or foreign.
    """
    check_fresh(call.grant.principal)
    async with call.services.database.transaction() as tx:
        provider = await find(tx, call)
        told = await _out(tx, call, provider)
        await identity_providers.remove(tx, provider)
        await _log(tx, call, "identity_provider.deleted", told, None)
    return provider


async def find(tx: Transaction, call: Call) -> IdentityProvider:
    """The one that the path names.

    Raises:
        NotFoundError: missing or foreign.
    """
    wanted = call.path("provider")
    found = None
    if is_name(wanted):
        found = await identity_providers.find(tx, call.grant.organization_id, wanted)
    if found is None:
        raise missing(wanted, "identity provider")
    return found


async def has_secret(tx: Transaction, provider: IdentityProvider) -> bool:
    """Whether it is a confidential client."""
    return "client_secret" in await identity_providers.credentials(tx, provider.id)


async def _out(tx: Transaction, call: Call, provider: IdentityProvider) -> IdentityProviderOut:
    return IdentityProviderOut.model_validate(
        fields_of(provider)
        | {
            "domains": list(provider.domains),
            "has_client_secret": await has_secret(tx, provider),
            "redirect_url": redirect_url(call.services),
            "logout_url": logout_url(call.services),
            "back_channel_logout_url": back_channel_url(call.services, provider),
        }
    )


async def _log(
    tx: Transaction,
    call: Call,
    action: str,
    before: IdentityProviderOut | None,
    after: IdentityProviderOut | None,
) -> None:
    one = after or before
    change = call.change(before, after)
    entry = organization_entry(
        call.grant.organization_id,
        action,
        actor=call.grant.actor,
        now=utc_now(),
        data={"identity_provider": one.id if one else ""},
        change=change,
    )
    await record(tx, entry)


_PATH = "/api/v1/identity-providers"
_ONE = f"{_PATH}/{{provider}}"

ENDPOINTS = (
    Endpoint(
        "identity_providers.list",
        "GET",
        _PATH,
        listing,
        "List identity providers",
        (Answer(200, "All", IdentityProvidersOut),),
    ),
    Endpoint(
        "identity_providers.create",
        "POST",
        _PATH,
        create,
        "Add an identity provider",
        (Answer(201, "Added", IdentityProviderOut),),
        {"application/json": IdentityProviderIn},
    ),
    Endpoint(
        "identity_providers.get",
        "GET",
        _ONE,
        get,
        "Read an identity provider",
        (Answer(200, "The identity provider", IdentityProviderOut),),
    ),
    Endpoint(
        "identity_providers.update",
        "PATCH",
        _ONE,
        update,
        "Change an identity provider",
        (Answer(200, "Changed", IdentityProviderOut),),
        {"application/json": IdentityProviderPatch},
    ),
    Endpoint(
        "identity_providers.delete",
        "DELETE",
        _ONE,
        delete,
        "Remove an identity provider",
        (Answer(204, "Removed"),),
    ),
)
