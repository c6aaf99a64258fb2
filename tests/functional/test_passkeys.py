"""Passkeys over the API: registered, logged in with, and asked for before an approval."""

from __future__ import annotations

import dataclasses
from typing import Any
from urllib.parse import urlsplit

import httpx
from tests.authenticator import Authenticator
from tests.web import PASSWORD, Web

from sealwright.db import approvals, passkeys, users
from sealwright.intake.passwords import hash_password
from sealwright.model.identifiers import utc_now
from sealwright.model.user import Role, TokenKind, User


def device(web: Web) -> Authenticator:
    url = web.server.url
    return Authenticator(origin=url, rp_id=urlsplit(url).hostname or "")


async def session(web: Web, user: User, **fields: Any) -> httpx.AsyncClient:
    """A client in a session whose user has just logged in."""
    token = await web.token(user, **{"authenticated_at": utc_now()} | fields)
    return await web.client(Authorization=f"Bearer {token}")


async def add_passkey(web: Web, user: User) -> Authenticator:
    client, made = await session(web, user), device(web)
    path = f"/api/v1/users/{user.id}/passkeys"
    options = (await client.post(f"{path}/options")).json()["public_key"]
    answer = await client.post(path, json={"name": "Laptop", "credential": made.register(options)})
    assert answer.status_code == 201, answer.text
    return made


async def test_logging_in_with_a_passkey(web: Web) -> None:
    user = web.scene.submitter
    made = await add_passkey(web, user)
    client = await web.client()
    options = (await client.post("/api/v1/sessions/passkey-options")).json()["public_key"]
    assert options["allowCredentials"] == []
    body = {"credential": made.sign(options)}
    answer = await client.post("/api/v1/sessions/passkey", json=body)
    assert answer.status_code == 201, answer.text
    logged_in = await web.client(Authorization=f"Bearer {answer.json()['token']}")
    assert (await logged_in.get("/api/v1/me")).json()["id"] == user.id
    again = await client.post("/api/v1/sessions/passkey", json=body)
    assert again.status_code == 403, "the challenge was used up"
    stranger = dataclasses.replace(made, credential_id=b"stranger")
    options = (await client.post("/api/v1/sessions/passkey-options")).json()["public_key"]
    answer = await client.post(
        "/api/v1/sessions/passkey", json={"credential": stranger.sign(options)}
    )
    assert answer.status_code == 401
    listed = (await logged_in.get(f"/api/v1/users/{user.id}/passkeys")).json()["items"]
    assert [one["name"] for one in listed] == ["Laptop"]
    assert listed[0]["last_used_at"] is not None
    gone = await logged_in.delete(f"/api/v1/users/{user.id}/passkeys/{listed[0]['id']}")
    assert gone.status_code == 204
    options = (await client.post("/api/v1/sessions/passkey-options")).json()["public_key"]
    answer = await client.post("/api/v1/sessions/passkey", json={"credential": made.sign(options)})
    assert answer.status_code == 403


async def test_only_who_has_just_logged_in_adds_one(sqlite: Web) -> None:
    user = sqlite.scene.submitter
    path = f"/api/v1/users/{user.id}/passkeys"
    stale = utc_now().replace(year=2020)
    for client in (await sqlite.submitter(), await session(sqlite, user, authenticated_at=stale)):
        answer = await client.post(f"{path}/options")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    client, made = await session(sqlite, user), device(sqlite)
    options = (await client.post(f"{path}/options")).json()["public_key"]
    body = {"name": "One", "credential": made.register(options)}
    other = sqlite.scene.approvers[0]
    seized = await (await session(sqlite, other)).post(
        f"/api/v1/users/{other.id}/passkeys", json=body
    )
    assert seized.status_code == 403, "the challenge is the other user's"
    options = (await client.post(f"{path}/options")).json()["public_key"]
    body = {"name": "One", "credential": made.register(options)}
    assert (await client.post(path, json=body)).status_code == 201
    options = (await client.post(f"{path}/options")).json()["public_key"]
    assert [one["id"] for one in options["excludeCredentials"]] == [body["credential"]["id"]]
    again = await client.post(path, json={"name": "One", "credential": made.register(options)})
    assert again.status_code == 409
    malformed = await client.post(path, json={"name": "One", "credential": {"response": {}}})
    assert malformed.status_code == 400


async def test_an_approval_by_passkey(web: Web) -> None:
    await web.change_policy(quorum=1, passkey_required=True)
    approver = web.scene.approvers[0]
    made = await add_passkey(web, approver)
    first, second = await web.submit(), await web.submit(b"another artifact")
    client = await web.client(approver)

    async def options(request: dict[str, Any]) -> dict[str, Any]:
        answer = await client.get(f"/api/v1/signing-requests/{request['id']}/approval-options")
        found: dict[str, Any] = answer.json()["public_key"]
        return found

    async def approve(request: dict[str, Any], credential: Any) -> httpx.Response:
        return await client.post(
            f"/api/v1/signing-requests/{request['id']}/approve", json={"credential": credential}
        )

    without = await approve(first, None)
    assert (without.status_code, without.json()["code"]) == (403, "passkey_required")
    page = f"{web.server.url}/signing-requests/{first['id']}"
    assert page in without.json()["advice"], "the answer says which page to open"
    elsewhere = await approve(first, made.sign(await options(second)))
    assert elsewhere.status_code == 403
    unverified = dataclasses.replace(made, flags=0x01)
    assert (await approve(first, unverified.sign(await options(first)))).status_code == 403
    other = await add_passkey(web, web.scene.approvers[1])
    assert (await approve(first, other.sign(await options(first)))).status_code == 403
    done = await approve(first, made.sign(await options(first)))
    assert done.status_code == 200, done.text
    assert done.json()["state"] == "QueuedForProcessing"
    assert done.json()["approvals"][0]["by_passkey"] is True
    async with web.database.read() as tx:
        (kept,) = await approvals.of_request(tx, first["id"])
        (key,) = await passkeys.of_user(tx, approver.organization_id, approver.id)
    assert kept.assertion is not None
    assert kept.assertion.credential_id == key.credential_id
    denied = await client.post(f"/api/v1/signing-requests/{second['id']}/deny")
    assert denied.json()["state"] == "Denied", "a denial needs no passkey"


async def test_a_password_change_ends_sessions(sqlite: Web) -> None:
    user = await sqlite.add_user(
        role=Role.REGULAR_USER, password_hash=await hash_password(PASSWORD)
    )
    client = await sqlite.client()
    body = {"email": user.email, "password": PASSWORD}
    session_token = (await client.post("/api/v1/sessions", json=body)).json()["token"]
    logged_in = await sqlite.client(Authorization=f"Bearer {session_token}")
    api = await sqlite.client(user)
    assert (await logged_in.get("/api/v1/me")).status_code == 200
    administrator = await sqlite.client(await sqlite.add_user(role=Role.GLOBAL_ADMINISTRATOR))
    changed = await administrator.patch(
        f"/api/v1/users/{user.id}", json={"password": "another long password"}
    )
    assert changed.status_code == 200
    assert (await logged_in.get("/api/v1/me")).status_code == 401
    assert (await api.get("/api/v1/me")).status_code == 200, "API tokens are revoked one by one"


async def test_a_session_that_is_not_used_ends(sqlite: Web) -> None:
    user = sqlite.scene.submitter
    old = utc_now().replace(year=2020)
    token = await sqlite.token(user, idle_seconds=60, last_used_at=old)
    client = await sqlite.client(Authorization=f"Bearer {token}")
    assert (await client.get("/api/v1/me")).status_code == 401
    token = await sqlite.token(user, idle_seconds=60, last_used_at=utc_now())
    client = await sqlite.client(Authorization=f"Bearer {token}")
    assert (await client.get("/api/v1/me")).status_code == 200
    async with sqlite.database.read() as tx:
        found = await users.tokens(tx, user.organization_id, user.id)
    assert {one.kind for one in found} == {TokenKind.API}
