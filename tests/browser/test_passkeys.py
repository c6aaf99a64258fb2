"""Passkeys in a real browser with a virtual authenticator: added, approved, endorsed and logged in
with."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Literal

from playwright.async_api import Page, async_playwright

from sealwright.certify import Wish, order
from sealwright.db import approvals, endorsements, passkeys
from sealwright.intake.passwords import hash_password
from sealwright.model.certificate import Operation
from sealwright.model.endorsement import EndorsementKind
from sealwright.model.passkey import Passkey, approval_challenge, relying_party
from sealwright.model.user import Role
from sealwright.policy.endorsements import newest
from sealwright.policy.passkeys import verify_assertion
from tests.browser.test_every_page import look
from tests.browser.test_web_pages import chromium
from tests.endorsing import trust
from tests.valkey import Valkey
from tests.web import PASSWORD, Web, opened, running


async def test_added_approved_and_logged_in_with(
    valkey: Valkey, sqlite_template: Path, tmp_path: Path
) -> None:
    file = tmp_path / "sealwright.sqlite3"
    shutil.copyfile(sqlite_template, file)
    # browsers have no passkeys for bare addresses: the server is called localhost here
    with running(valkey, f"sqlite:///{file}", external_name="localhost") as server:
        async with opened(server) as web, async_playwright() as playwright:
            user = await web.add_user(
                password_hash=await hash_password(PASSWORD), role=Role.GLOBAL_ADMINISTRATOR
            )
            approvers = web.scene.policy.approvers | {user.id}
            await web.change_policy(quorum=1, approvers=approvers, passkey_required=True)
            request = await web.submit()
            browser = await playwright.chromium.launch(
                executable_path=chromium(), args=["--no-sandbox"]
            )
            page = await (await browser.new_context()).new_page()
            faults: list[str] = []
            page.on("pageerror", lambda error: faults.append(str(error)))
            session = await page.context.new_cdp_session(page)
            await session.send("WebAuthn.enable")
            options = {
                "protocol": "ctap2", "transport": "internal", "hasResidentKey": True,
                "hasUserVerification": True, "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }  # fmt: skip
            await session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
            url = server.settings.url
            await page.goto(f"{url}/account")
            await page.fill("input[name=email]", str(user.email))
            await page.fill("input[name=password]", PASSWORD)
            await page.get_by_role("button", name="Log in", exact=True).click()
            await page.wait_for_url(f"{url}/account")

            await page.get_by_role("link", name="Add a passkey").click()
            await page.fill("input[name=name]", "Laptop")
            await page.get_by_role("button", name="Add passkey").click()
            await page.wait_for_url(f"{url}/account")
            assert "Laptop" in await page.content()

            await page.goto(f"{url}/signing-requests/{request['id']}")
            await page.get_by_role("button", name="Approve with your passkey").click()
            await page.wait_for_selector(".state.QueuedForProcessing")
            async with web.database.read() as tx:
                [approval] = await approvals.of_request(tx, request["id"])
                [key] = await passkeys.of_user(tx, user.organization_id, user.id)
            found = await web.read(request["id"])
            challenge = approval_challenge(
                found.id, found.content_digest, found.policy_hash, user.id
            )
            assert approval.assertion is not None
            verify_assertion(approval.assertion, key, challenge, relying_party(url))

            faults += await endorse_policy_and_order(web, page, key)

            await page.set_viewport_size({"width": 1280, "height": 800})
            await page.get_by_role("button", name="Log out").click()
            await page.wait_for_url(re.compile("/login"))
            await page.get_by_role("button", name="Log in with a passkey").click()
            await page.wait_for_url(lambda found: "/login" not in found)
            await page.goto(f"{url}/account")
            assert str(user.email) in await page.content()
            await (
                page.get_by_role("button", name="Remove", exact=False)
                .or_(page.locator("summary", has_text="Remove"))
                .first.click()
            )
            await page.locator("details.confirm button", has_text="Remove").click()
            await page.wait_for_selector("text=The passkey is removed.")
            assert faults == []
            await browser.close()


async def endorse_policy_and_order(web: Web, page: Page, key: Passkey) -> list[str]:
    """By page, at phone width, with the passkey that the operator named; what is wrong with it."""
    url, policy = web.server.settings.url, web.scene.policy
    asked = {"slug": "ordered", "subject": "CN=x", "key_type": "p-256"}
    wish = Wish(key.organization_id, Operation.REQUEST, "x", key.user_id, asked)
    async with web.database.transaction() as tx:
        placed = await order(tx, wish)
    await trust(web.database, key)
    paths = {
        "order": f"/certificates/orders/{placed.id}",
        "policy": f"/projects/{web.scene.project.slug}/signing-policies/{policy.slug}",
    }
    await page.set_viewport_size({"width": 390, "height": 800})
    for path in paths.values():
        await page.goto(url + path)
        await page.wait_for_selector("text=waits for an endorsement")
        await page.get_by_role("link", name="Endorsements", exact=True).click()
        await page.wait_for_url(f"{url}/endorsements")
    faults: list[str] = []
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme)
        faults += await look(page, f"endorsements in {scheme}", scheme)
    for name in (policy.name, "request a certificate"):
        section = page.locator("section", has=page.get_by_role("heading", name=name))
        await section.get_by_role("button", name="Endorse with your passkey").click()
        await page.wait_for_selector("text=It is endorsed.")
        assert await section.count() == 0
    rp = relying_party(url)
    found = {}
    async with web.database.read() as tx:
        anchors = await endorsements.anchors(tx, key.organization_id)
        for kind, subject in (
            (EndorsementKind.POLICY, policy.id), (EndorsementKind.ORDER, placed.id),
        ):  # fmt: skip
            made = await endorsements.of_subject(tx, key.organization_id, kind, subject)
            found[kind] = newest(made, anchors, rp)
    assert all(found.values()), "what the browser made holds"
    for path in paths.values():
        await page.goto(url + path)
        assert "waits for an endorsement" not in await page.inner_text("main")
    return faults
