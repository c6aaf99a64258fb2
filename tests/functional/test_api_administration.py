"""Sessions, users, tokens, projects, configurations, policies, certificates, health."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from typing import Any

import pytest
from tests.database import CONFIGURATION, certificate
from tests.web import PASSWORD, Web

from sealwright.db import certificates
from sealwright.db import log as db_log
from sealwright.intake.passwords import hash_password
from sealwright.model.certificate import KeyType
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.user import Role, TokenKind, UserKind


async def administrator(web: Web) -> Any:
    return await web.client(await web.add_user(role=Role.GLOBAL_ADMINISTRATOR))


async def test_log_in_and_out(web: Web) -> None:
    user = await web.add_user(password_hash=await hash_password(PASSWORD))
    client = await web.client()
    assert user.email
    given = {"email": user.email.upper(), "password": PASSWORD}
    answer = await client.post("/api/v1/sessions", json=given)
    assert answer.status_code == 201, answer.text
    token = answer.json()["token"]
    assert token.startswith("swt_session_")
    client.headers["Authorization"] = f"Bearer {token}"
    me = (await client.get("/api/v1/me")).json()
    assert (me["id"], me["organization_id"]) == (user.id, user.organization_id)
    assert (await client.delete("/api/v1/sessions/current")).status_code == 204
    assert (await client.get("/api/v1/me")).status_code == 401


async def test_a_refused_log_in_tells_nothing(sqlite: Web) -> None:
    known = await sqlite.add_user(password_hash=await hash_password(PASSWORD))
    ci = await sqlite.add_user(kind=UserKind.CI)
    gone = await sqlite.add_user(password_hash=known.password_hash, active=False)
    client = await sqlite.client()
    answers = []
    for email, password in (
        (known.email, "wrong"),
        ("nobody@example.com", PASSWORD),
        (ci.email, PASSWORD),
        (gone.email, PASSWORD),
    ):
        answer = await client.post("/api/v1/sessions", json={"email": email, "password": password})
        body = answer.json()
        body.pop("request_id")
        answers.append((answer.status_code, body))
    assert answers[0][0] == 401
    assert all(answer == answers[0] for answer in answers)


async def test_log_ins_are_limited(sqlite: Web) -> None:
    client = await sqlite.client()
    given = {"email": f"{sqlite.scene.organization.slug}@example.com", "password": "x"}
    answers = await asyncio.gather(
        *(client.post("/api/v1/sessions", json=given) for _ in range(14))
    )
    codes = [answer.status_code for answer in answers]
    assert (codes.count(401), codes.count(429)) == (10, 4)
    limited = next(answer for answer in answers if answer.status_code == 429)
    assert limited.headers["retry-after"]


async def test_users_and_tokens(web: Web) -> None:
    client = await administrator(web)
    made = await client.post("/api/v1/users", json={"kind": "ci", "name": "Pipeline"})
    assert made.status_code == 201, made.text
    user = made.json()
    assert made.headers["location"].endswith(f"/api/v1/users/{user['id']}")
    path = f"/api/v1/users/{user['id']}/tokens"
    token = (await client.post(path, json={"name": "main"})).json()
    assert token["token"].startswith("swt_api_")
    listed = (await client.get(path)).json()["items"]
    assert [one["id"] for one in listed] == [token["id"]]
    assert "token" not in listed[0]
    assert "sha256" not in listed[0]
    pipeline = await web.client(Authorization=f"Bearer {token['token']}")
    assert (await pipeline.get("/api/v1/me")).json()["name"] == "Pipeline"
    assert (await client.delete(f"{path}/{token['id']}")).status_code == 204
    assert (await pipeline.get("/api/v1/me")).status_code == 401
    expired = await client.post(path, json={"name": "never", "expires_in_days": 0})
    assert expired.status_code == 400


async def test_pages_of_users_and_groups_leave_nobody_out(web: Web) -> None:
    client = await administrator(web)
    people = sorted([(await web.add_user()).id for _ in range(3)])
    made = {}
    for number in range(3):
        given = {"name": new_id(), "members": people[: number + 1]}
        made[(await client.post("/api/v1/groups", json=given)).json()["id"]] = given["members"]

    async def walk(kind: str) -> list[dict[str, Any]]:
        found, cursor, more = [], {}, True
        while more:
            answer = await client.get(f"/api/v1/{kind}", params={"limit": 2, **cursor})
            assert answer.status_code == 200, answer.text
            page = answer.json()
            assert 0 < len(page["items"]) <= 2
            found += page["items"]
            cursor, more = {"cursor": page["next_cursor"]}, page["next_cursor"] is not None
        return found

    listed = [one["id"] for one in await walk("users")]
    assert listed == sorted(listed)
    assert len(listed) == len(set(listed))
    assert set(people) < set(listed)
    assert {one["id"]: one["members"] for one in await walk("groups")} == made


async def test_interactive_users(sqlite: Web) -> None:
    client = await administrator(sqlite)
    given = {"kind": "interactive", "name": "Ada", "password": PASSWORD, "role": "global-reader"}
    without = await client.post("/api/v1/users", json=given)
    assert without.status_code == 400
    email = f"{sqlite.scene.organization.slug}@example.com"
    made = await client.post("/api/v1/users", json=given | {"email": email})
    assert made.status_code == 201, made.text
    assert "password" not in made.text
    twice = await client.post("/api/v1/users", json=given | {"email": email})
    assert (twice.status_code, twice.json()["code"]) == (409, "conflict")
    weak = given | {"email": "b@example.com", "password": "short"}
    assert (await client.post("/api/v1/users", json=weak)).status_code == 400
    path = f"/api/v1/users/{made.json()['id']}"
    off = await client.patch(path, json={"active": False, "name": "Ada L."})
    assert (off.json()["active"], off.json()["name"]) == (False, "Ada L.")


async def test_what_opens_doors_needs_a_recent_log_in(sqlite: Web) -> None:
    chief = await sqlite.add_user(role=Role.GLOBAL_ADMINISTRATOR)
    target = await sqlite.add_user()
    stale = utc_now() - dt.timedelta(hours=1)
    provider = {
        "slug": f"idp-{new_id()}", "name": "x", "issuer": "https://idp.example.com",
        "client_id": "x", "client_secret": "x", "domains": ["example.com"],
    }  # fmt: skip
    person = f"/api/v1/users/{target.id}"
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/api/v1/identity-providers", provider),
        ("PATCH", f"/api/v1/identity-providers/{provider['slug']}", {"name": "y"}),
        ("DELETE", f"/api/v1/identity-providers/{provider['slug']}", {}),
        ("POST", "/api/v1/scim-tokens", {"name": "x"}),
        ("POST", "/api/v1/users", {"kind": "ci", "name": "x", "role": "user-administrator"}),
        ("PATCH", person, {"role": "global-administrator"}),
    ]
    text = "Bearer {}".format
    token = text(await sqlite.token(chief))
    late = text(await sqlite.token(chief, authenticated_at=stale, kind=TokenKind.SESSION))
    recent = text(await sqlite.token(chief, authenticated_at=utc_now(), kind=TokenKind.SESSION))
    client = await sqlite.client()
    for method, path, body in calls:
        for who in (token, late):
            answer = await client.request(method, path, json=body, headers={"Authorization": who})
            assert answer.status_code == 403, path
            assert "/account/confirm" in answer.json()["advice"]
    harmless = await client.patch(person, json={"name": "New"}, headers={"Authorization": token})
    assert harmless.status_code == 200
    for method, path, body in calls:
        answer = await client.request(method, path, json=body, headers={"Authorization": recent})
        assert answer.is_success, answer.text


async def test_nobody_rises_by_themselves(sqlite: Web) -> None:
    chief = await sqlite.add_user(role=Role.GLOBAL_ADMINISTRATOR)
    clerk = await sqlite.add_user(role=Role.USER_ADMINISTRATOR)
    client = await sqlite.client(clerk)
    role = {"role": "global-administrator"}
    for answer in (
        await client.post("/api/v1/users", json={"kind": "ci", "name": "x"} | role),
        await client.patch(f"/api/v1/users/{sqlite.scene.submitter.id}", json=role),
        await client.patch(f"/api/v1/users/{chief.id}", json={"password": PASSWORD}),
        await client.post(f"/api/v1/users/{chief.id}/tokens", json={"name": "x"}),
        await client.post(f"/api/v1/users/{sqlite.scene.submitter.id}/tokens", json={"name": "x"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    admin = await sqlite.client(chief)
    for change in ({"role": "regular-user"}, {"active": False}):
        answer = await admin.patch(f"/api/v1/users/{chief.id}", json=change)
        assert answer.status_code == 409


async def test_projects_policies_and_configurations(web: Web) -> None:
    client = await administrator(web)
    project = {"slug": "app", "name": "App", "repository_url": "https://git.example.com/app"}
    assert (await client.post("/api/v1/projects", json=project)).status_code == 201
    assert (await client.post("/api/v1/projects", json=project)).status_code == 409
    path = "/api/v1/projects/app"
    assert (await client.patch(path, json={"name": "The app"})).json()["name"] == "The app"
    assert (await client.get(path)).json()["name"] == "The app"

    files = f"{path}/artifact-configurations"
    one = {"slug": "main", "name": "Main", "xml": CONFIGURATION}
    first = await client.post(files, json=one)
    assert first.status_code == 201, first.text
    assert (first.json()["version"], first.json()["is_default"]) == (1, True)
    second = (await client.post(files, json=one | {"name": "New"})).json()
    assert (second["version"], second["is_default"]) == (2, True)
    assert (await client.get(f"{files}/main")).json()["id"] == second["id"]
    old = (await client.get(f"{files}/{first.json()['id']}")).json()
    assert (old["version"], old["is_default"], old["xml"]) == (1, False, CONFIGURATION)
    assert len((await client.get(files)).json()["items"]) == 2

    policies = f"{path}/signing-policies"
    approver = web.scene.approvers[0].id
    policy = {
        "slug": "release", "name": "Release", "kind": "release-signing",
        "certificate": web.scene.certificate.slug, "quorum": 1, "approvers": [approver],
        "submitters": [web.scene.submitter.id],
    }  # fmt: skip
    made = await client.post(policies, json=policy)
    assert made.status_code == 201, made.text
    assert made.json()["certificate_id"] == web.scene.certificate.id
    for wrong, status in (
        ({"slug": "release"}, 409),
        ({"slug": "a", "quorum": 2}, 400),
        ({"slug": "a", "quorum": 0}, 403),
        ({"slug": "a", "approvers": ["nobody"]}, 400),
        ({"slug": "a", "certificate": "none"}, 404),
        ({"slug": "A b"}, 400),
    ):
        answer = await client.post(policies, json=policy | wrong)
        assert answer.status_code == status, answer.text
    changed = await client.patch(f"{policies}/release", json={"enabled": False})
    assert (changed.json()["enabled"], changed.json()["quorum"]) == (False, 1)
    async with web.database.read() as tx:
        actions = [e.action for e in await db_log.page(tx, web.scene.organization.id)]
    assert actions[:2] == ["signing_policy.updated", "signing_policy.created"]


async def test_an_invalid_configuration_names_its_place(sqlite: Web) -> None:
    client = await administrator(sqlite)
    path = f"/api/v1/projects/{sqlite.scene.project.slug}/artifact-configurations"
    xml = CONFIGURATION.replace("authenticode-sign", "autenticode-sign")
    answer = await client.post(path, json={"slug": "x", "name": "x", "xml": xml})
    body = answer.json()
    assert (answer.status_code, body["code"]) == (422, "artifact_configuration_invalid")
    assert "line 3" in body["where"]
    assert "autenticode-sign" in body["detail"]
    assert body["advice"] == 'Did you mean "authenticode-sign"?'
    evil = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'
    answer = await client.post(path, json={"slug": "x", "name": "x", "xml": evil})
    assert answer.status_code == 422
    assert "root:" not in answer.text


async def test_certificates(sqlite: Web) -> None:
    client = await administrator(sqlite)
    one = (await client.get("/api/v1/certificates")).json()["items"][0]
    assert one["pem"].startswith("-----BEGIN CERTIFICATE-----")
    assert "pkcs11" not in str(one)
    path = f"/api/v1/certificates/{one['id']}"
    assert (await client.patch(path, json={"state": "disabled"})).json()["state"] == "disabled"
    assert (await client.get(path)).json()["state"] == "disabled"


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"null", b'{"slug":"\\ud800","name":"x"}', b'{"slug":"a","name":"\\u0000"}',
     b'{"slug":"a","name":"x","more":1}', b"[" * 100_000, b'{"slug":1e999}'],
)  # fmt: skip
async def test_malformed_json_is_the_clients_fault(sqlite: Web, body: bytes) -> None:
    client = await administrator(sqlite)
    answer = await client.post(
        "/api/v1/projects", content=body, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input"), answer.text


async def test_bodies_are_bounded_and_typed(sqlite: Web) -> None:
    client = await administrator(sqlite)
    large = await client.post(
        "/api/v1/projects", content=b" " * 1_100_000, headers={"Content-Type": "application/json"}
    )
    assert (large.status_code, large.json()["code"]) == (413, "too_large")
    plain = await client.post("/api/v1/projects", content=b"{}", headers={"Content-Type": "text/x"})
    assert plain.status_code == 400


async def test_the_restriction_of_a_certificate_changes(sqlite: Web) -> None:
    organization, policy = sqlite.scene.organization.id, sqlite.scene.policy
    keeper = await sqlite.add_user(role=Role.CERTIFICATE_ADMINISTRATOR)
    used = f"/api/v1/certificates/{policy.certificate_id}"
    weak = dataclasses.replace(
        sqlite.scene.certificate, id=new_id(), slug="weak", key_type=KeyType.RSA_2048
    )
    waiting = certificate(
        organization, slug="next", certificate=b"", sha256="", replaces_id=policy.certificate_id
    )
    async with sqlite.database.transaction() as tx:
        await certificates.add(tx, weak)
        await certificates.add(tx, waiting)
    client = await sqlite.client(keeper)

    async def refused(path: str, told: str, *, release: bool = True) -> None:
        answer = await client.patch(path, json={"release": release, "name": "Not this"})
        assert answer.status_code == 403, answer.text
        assert told in answer.json()["detail"]
        kept = (await client.get(path)).json()
        assert (kept["release"], kept["name"] != "Not this") == (not release, True)

    await refused(f"/api/v1/certificates/{weak.id}", "is rsa-2048, which is too weak")
    await sqlite.change_policy(quorum=0)
    await refused(used, f"{sqlite.scene.project.slug}/{policy.slug}")
    await sqlite.change_policy(quorum=1, approvers=frozenset({sqlite.scene.approvers[0].id}))
    assert (await client.patch(used, json={"release": True})).json()["release"] is True
    held = (await client.get(f"/api/v1/certificates/{waiting.id}")).json()
    assert held["release"] is True, "what takes its place is as strict"

    await refused(used, "needs a log-in of the last 15 minutes", release=False)
    stale = utc_now() - dt.timedelta(hours=1)
    for proved, status in ((stale, 403), (utc_now(), 200)):
        session = await sqlite.token(keeper, authenticated_at=proved, kind=TokenKind.SESSION)
        headers = {"Authorization": f"Bearer {session}"}
        answer = await client.patch(used, json={"release": False}, headers=headers)
        assert answer.status_code == status, answer.text
    assert answer.json()["release"] is False

    chief = await administrator(sqlite)
    query = {"action": "certificate.updated"}
    found = (await chief.get("/api/v1/log-entries", params=query)).json()["items"]
    told = {(one["before"]["release"], one["after"]["release"]) for one in found}
    assert (len(found), told) == (3, {(False, True), (True, False)})
    assert {one["actor"] for one in found} == {f"user:{keeper.id}"}
