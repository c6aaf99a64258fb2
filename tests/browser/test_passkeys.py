"""Passkeys in a real browser with a virtual authenticator: added, approved and logged in with."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from playwright.async_api import async_playwright

from sealwright.db import passkeys, requests
from sealwright.intake.passwords import hash_password
from sealwright.model.passkey import approval_challenge, relying_party
from sealwright.policy.passkeys import verify_assertion
from tests.browser.test_web_pages import chromium
from tests.valkey import Valkey
from tests.web import PASSWORD, opened, running


async def test_added_approved_and_logged_in_with(
    valkey: Valkey, sqlite_template: Path, tmp_path: Path
) -> None:
    file = tmp_path / "sealwright.sqlite3"
    shutil.copyfile(sqlite_template, file)
    # browsers have no passkeys for bare addresses: the server is called localhost here
    with running(valkey, f"sqlite:///{file}", external_name="localhost") as server:
        async with opened(server) as web, async_playwright() as playwright:
            user = await web.add_user(password_hash=await hash_password(PASSWORD))
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
                [approval] = await requests.decisions(tx, request["id"])
                [key] = await passkeys.of_user(tx, user.organization_id, user.id)
            found = await web.read(request["id"])
            challenge = approval_challenge(
                found.id, found.content_digest, found.policy_hash, user.id
            )
            assert approval.assertion is not None
            verify_assertion(approval.assertion, key, challenge, relying_party(url))

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
