"""What waits for an endorsement says so: on pages, in answers, in what CI systems are told."""

from __future__ import annotations

import html
import json

import httpx
from tests.endorsing import Desk, Person, equip, trust
from tests.functional.test_web_pages import csrf, logged_in
from tests.functional.test_web_projects import post
from tests.web import PASSWORD, Web

from sealwright.certify import Wish, order
from sealwright.db import passkeys
from sealwright.db.outbox import Message
from sealwright.intake.passwords import hash_password
from sealwright.model.certificate import Operation
from sealwright.model.endorsement import EndorsementKind, order_terms
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.passkey import relying_party
from sealwright.model.user import Role
from sealwright.reporting.report import request_report

NOTE = "waits for an endorsement</strong> by {}"


async def officer_of(web: Web) -> Person:
    """An administrator whose passkey the signer trusts."""
    user = await web.add_user(
        name="Olive", password_hash=await hash_password(PASSWORD), role=Role.GLOBAL_ADMINISTRATOR
    )
    officer = await equip(web.database, user, relying_party(web.server.url))
    await trust(web.database, officer.passkey)
    return officer


async def title_of(web: Web, request_id: str, state: str) -> str:
    """What a CI system would be told."""
    now = utc_now()
    message = Message(
        web.scene.organization.id, "report", "x", new_id(), request_id, "queued", now, now,
        {"state": state},
    )  # fmt: skip
    async with web.database.read() as tx:
        report = await request_report(tx, message, web.server.url)
    assert report
    return report.title


async def test_policies_configurations_and_requests_say_that_they_wait(web: Web) -> None:
    await web.change_policy(quorum=1)
    before = await web.submit()
    api = await web.client(await web.add_user(role=Role.GLOBAL_ADMINISTRATOR))
    root = f"/projects/{web.scene.project.slug}"
    policy = f"{root}/signing-policies/{web.scene.policy.slug}"
    files = f"{root}/artifact-configurations"
    one = f"{files}/{web.scene.configuration.id}"

    async def awaited(path: str) -> object:
        return (await api.get(f"/api/v1{path}")).json()["awaits_endorsement_by"]

    async def needed(request_id: str) -> dict[str, object] | None:
        detail = (await api.get(f"/api/v1/signing-requests/{request_id}")).json()
        found: dict[str, object] | None = detail["needed_endorsement"]
        return found

    assert await awaited(policy) is await awaited(one) is await needed(before["id"]) is None
    officer = await officer_of(web)
    desk = Desk(web.database, web.scene, officer)
    browser = await logged_in(web, officer.user)
    for path, what in ((policy, "The policy"), (one, "Version 1")):
        assert await awaited(path) == ["Olive"]
        page = (await browser.get(path)).text
        assert f"{what} {NOTE.format('Olive')}" in page
        assert 'href="/endorsements"' in page
    for path in (f"{root}/signing-policies", files):
        assert "waits for an endorsement" in (await browser.get(path)).text
        [item] = (await api.get(f"/api/v1{path}")).json()["items"]
        assert item["awaits_endorsement_by"] == ["Olive"]
    waits = "The signing policy waits for an endorsement: nobody with a trusted passkey has"
    found = await needed(before["id"])
    assert found
    assert str(found["message"]).startswith(waits)
    assert found["by"] == ["Olive"]
    assert waits in (await browser.get(f"/signing-requests/{before['id']}")).text
    title = await title_of(web, before["id"], "WaitingForApproval")
    assert title.startswith(f"Waiting for approval (0 of 1). {waits}")

    await desk.endorse_policy(web.scene.policy)
    assert "configuration waits" in str(await needed(before["id"]))
    await desk.endorse_configuration(web.scene.configuration)
    assert await awaited(policy) is await awaited(one) is await needed(before["id"]) is None
    assert "waits for an endorsement" not in (await browser.get(policy)).text
    title = await title_of(web, before["id"], "WaitingForApproval")
    assert title == "Waiting for approval (0 of 1)"

    # whoever changes something is told at once; what was decided before waits no more once it is
    # endorsed: it has to be submitted again
    patch = {"timestamp_required": True}
    changed = await api.patch(f"/api/v1{policy}", json=patch)
    assert changed.json()["awaits_endorsement_by"] == ["Olive"]
    await web.change_policy(timestamp_required=True)
    assert await needed(before["id"]) is None, "the change has no effect yet"
    after = await web.submit()
    assert "it is not as it was endorsed" in str(await needed(after["id"]))
    await desk.endorse_policy(web.scene.policy, 2)
    assert await needed(after["id"]) is None
    assert "changed under endorsements" in str(await needed(before["id"]))
    again = "Requests decided before a policy or an artifact configuration changed under "
    shown = html.unescape((await browser.get(f"/signing-requests/{before['id']}")).text)
    assert f"{again}endorsements have to be submitted again." in shown
    assert "submitted again" in await title_of(web, before["id"], "WaitingForApproval")
    given = {"slug": web.scene.configuration.slug, "name": "Two"}
    xml = web.scene.configuration.xml
    added = await api.post(f"/api/v1{files}", json=given | {"xml": f"{xml}<!-- two -->"})
    assert added.json()["awaits_endorsement_by"] == ["Olive"], added.text
    assert await needed(after["id"]) is None, "the endorsed version still counts"
    made = await post(browser, f"{files}/new", **given, xml=f"{xml}<!-- three -->")
    assert NOTE.format("Olive") in (await browser.get(made.headers["location"])).text
    assert await awaited(f"{files}/{added.json()['id']}") is None, "there is a newer one"
    form = (await browser.get(f"{policy}/edit")).text
    fields = {
        "csrf": csrf(form), "name": "New", "certificate": web.scene.certificate.id, "quorum": "1",
        "approval_hours": "0", "approvers": sorted(web.scene.policy.approvers),
        "approver_mail": "each", "submitter_mail": "all",
    }  # fmt: skip
    saved = await browser.post(f"{policy}/edit", data=fields)
    assert saved.status_code == 303, saved.text
    told = (await browser.get(saved.headers["location"])).text
    assert "have to be submitted again once the change is endorsed" in told
    assert "That the policy is disabled can be endorsed" in told, "the form left it out"
    # the officer's passkey gone, somebody has to name another
    async with web.database.transaction() as tx:
        key = officer.passkey
        await passkeys.remove(tx, key.organization_id, key.user_id, key.id, utc_now())
    assert await awaited(made.headers["location"]) == []


async def test_an_order_says_that_it_waits(sqlite: Web) -> None:
    officer = await officer_of(sqlite)
    browser = await logged_in(sqlite, officer.user)
    tenant = sqlite.scene.organization.id
    asked = {"slug": "ordered", "subject": "CN=x", "key_type": "p-256"}
    async with sqlite.database.transaction() as tx:
        placed = await order(tx, Wish(tenant, Operation.REQUEST, "x", officer.user.id, asked))
    page = (await browser.get(f"/certificates/orders/{placed.id}")).text
    assert f"The order {NOTE.format('Olive')}" in page
    assert "once it is endorsed" in page
    api = await sqlite.client(officer.user)
    path = f"/api/v1/certificate-orders/{placed.id}"
    assert (await api.get(path)).json()["awaits_endorsement_by"] == ["Olive"]
    desk = Desk(sqlite.database, sqlite.scene, officer)
    await desk.endorse(EndorsementKind.ORDER, placed.id, order_terms(placed))
    assert (await api.get(path)).json()["awaits_endorsement_by"] is None
    assert "waits for an endorsement" not in (await browser.get(path)).text


async def test_the_page_endorses_and_says_why_not(sqlite: Web) -> None:
    officer = await officer_of(sqlite)
    browser = await logged_in(sqlite, officer.user)
    page = (await browser.get("/endorsements")).text
    assert sqlite.scene.policy.name in page
    assert sqlite.scene.configuration.xml in html.unescape(page)
    kind, subject = "signing-policy", sqlite.scene.policy.id
    waiting = {"kind": kind, "subject_id": subject, "version": "1"}
    listed = (await (await session_of(sqlite, officer)).get("/api/v1/endorsements")).json()
    [options] = [one["public_key"] for one in listed["items"] if one["subject_id"] == subject]
    signed = json.dumps(officer.device.sign(options))

    async def sent(**fields: str) -> httpx.Response:
        given = {"csrf": csrf(page), "credential": signed} | waiting | fields
        return await browser.post("/endorsements", data=given)

    for fields, status, told in (
        ({"credential": ""}, 400, "sent no passkey"),
        ({"credential": "{"}, 400, ""),
        ({"version": "one"}, 400, "not one of this page"),
        ({"version": "2"}, 409, "endorsed or changed meanwhile"),
        ({"kind": "x"}, 400, ""),
        ({"subject_id": new_id()}, 404, "Nothing of this kind waits"),
    ):
        answer = await sent(**fields)
        assert answer.status_code == status, (fields, answer.text)
        assert told in answer.text
        assert 'role="alert"' in answer.text
    assert (await sent(csrf="x")).status_code == 403
    assert (await sent()).headers["location"] == "/endorsements"
    after = (await browser.get("/endorsements")).text
    assert "It is endorsed." in after
    assert subject not in after
    other = await logged_in(sqlite)
    assert "Olive has to endorse these" in (await other.get("/endorsements")).text


async def session_of(web: Web, who: Person) -> httpx.AsyncClient:
    """A client of the person's."""
    return await web.client(who.user)
