"""The pages in a real browser: policies on scripts and forms hold, and the state is live."""

from __future__ import annotations

import shutil

import pytest
from playwright.async_api import Page, async_playwright

from sealwright.intake.passwords import hash_password
from tests.shared import missing
from tests.web import PASSWORD, Web


def chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        missing("chromium is not installed")
    return str(path)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
async def test_log_in_approve_and_watch(sqlite: Web, width: int, scheme: str) -> None:
    user = await sqlite.add_user(password_hash=await hash_password(PASSWORD))
    approvers = sqlite.scene.policy.approvers | {user.id}
    await sqlite.change_policy(quorum=1, approvers=approvers)
    request = await sqlite.submit(description="word " * 200, **{"origin[commit]": "f" * 200})
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        context = await browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        page = await context.new_page()
        faults: list[str] = []
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        address = f"{sqlite.server.url}/signing-requests/{request['id']}"
        await page.goto(address)
        await page.fill("input[name=email]", str(user.email))
        await page.fill("input[name=password]", PASSWORD)
        await page.click("button.primary")
        await page.wait_for_url(address)
        await check_width(page)
        await page.get_by_label("Comment").fill("Looks right")
        await page.get_by_role("button", name="Approve").click()
        await page.wait_for_selector(".state.QueuedForProcessing")
        await sqlite.complete(request["id"], results=3)
        await page.wait_for_selector(".state.Completed", timeout=3000)
        async with page.expect_download() as download:
            await page.locator("a.button.primary").click()
        assert (await download.value).suggested_filename == "a.exe"
        await check_width(page)
        for path in ("/signing-requests", "/log"):
            await page.goto(sqlite.server.url + path)
            await check_width(page)
        if width < 960:
            await page.get_by_role("button", name="Menu").click()
        await page.get_by_role("button", name="Log out").click()
        await page.wait_for_url("**/login")
        await browser.close()
    assert faults == []


async def check_width(page: Page) -> None:
    """Nothing reaches beyond the window."""
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
