"""The pages in a real browser: policies on scripts and forms hold, and the state is live."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.async_api import Dialog, Page, async_playwright

from sealwright.intake.passwords import hash_password
from sealwright.model.user import Role, User
from tests import artifact_plans
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
        plan = artifact_plans.release(3)
        await artifact_plans.store(sqlite, request["id"], plan, done=False)
        await sqlite.complete(request["id"], results=3)
        await page.wait_for_selector(".state.Completed")
        # a folder that holds nothing to sign is fetched when it is opened
        assert "00037.html" not in await page.content()
        await page.locator("summary", has_text="docs/en/").last.click()
        await page.wait_for_selector("text=00000.html")
        await check_width(page)
        async with page.expect_download() as download:
            await page.locator("a.button.primary").click()
        assert (await download.value).suggested_filename == "a.exe"
        await check_width(page)
        for path in ("/signing-requests", "/log"):
            await page.goto(sqlite.server.url + path)
            await check_width(page)
        if width < 960:
            await page.get_by_role("button", name="Menu").click()
        ground = "getComputedStyle(document.body).colorScheme"
        other = "dark" if scheme == "light" else "light"
        await page.get_by_label("Theme").select_option(other)
        assert await page.evaluate(ground) == other
        await page.reload()
        assert await page.evaluate(ground) == other
        if width < 960:
            await page.get_by_role("button", name="Menu").click()
        await page.get_by_label("Theme").select_option("")
        assert await page.evaluate(ground) == "light dark"
        await page.get_by_role("button", name="Log out").click()
        await page.wait_for_url("**/login")
        await browser.close()
    assert faults == []


async def test_the_keyboard_alone_does_the_whole_job(sqlite: Web, tmp_path: Path) -> None:
    """Log in, submit, approve, follow, download, audit, log out, with Tab, letters, Enter and
    Escape; the focus can be seen, is not lost, and what changes is told."""
    user = await sqlite.add_user(
        password_hash=await hash_password(PASSWORD), role=Role.GLOBAL_ADMINISTRATOR
    )
    policy = sqlite.scene.policy
    await sqlite.change_policy(
        quorum=1, approvers=policy.approvers | {user.id}, submitters=policy.submitters | {user.id}
    )
    request = await sqlite.submit()
    mine = tmp_path / "mine.exe"
    mine.write_bytes(b"x")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        await page.goto(sqlite.server.url)
        await page.keyboard.type(str(user.email))  # the first field has the focus
        await page.keyboard.press("Tab")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await page.wait_for_selector("text=Waits for me")

        await tab_to(page, "Submit files")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#artifact")
        while await page.evaluate("document.activeElement.id") != "artifact":
            await page.keyboard.press("Tab")
        await page.set_input_files("#artifact", mine)  # the browser's own dialog
        await tab_to(page, "Submit")
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".state.WaitingForApproval")
        await tab_to(page, "Cancel this request")
        await page.keyboard.press("Enter")
        await tab_to(page, "Yes, cancel it")
        await page.keyboard.press("Escape")
        assert await focused(page) == "Cancel this request"
        assert await page.locator("details.confirm[open]").count() == 0

        await page.goto(sqlite.server.url)
        await page.keyboard.press("Tab")
        assert await focused(page) == "Skip to content"
        await page.keyboard.press("Enter")
        await tab_to(page, "a.exe")
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/signing-requests/{request['id']}")
        await tab_to(page, "")
        assert await page.evaluate("document.activeElement.name") == "comment"
        await page.keyboard.type("Looks right")
        await tab_to(page, "Approve")
        shape = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert shape == "solid"
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".state.QueuedForProcessing")

        await tab_to(page, "Download unsigned")  # it is there before and after the change
        await sqlite.complete(request["id"])
        await page.wait_for_selector(".state.Completed")
        told = page.locator("#told")
        await page.wait_for_function("document.getElementById('told').textContent != ''")
        assert await told.inner_text() == "a.exe: Completed"
        assert await focused(page) == "Download unsigned"
        async with page.expect_download() as download:
            await tab_to(page, "Download signed")
            await page.keyboard.press("Enter")
        assert (await download.value).suggested_filename == "a.exe"
        await tab_to(page, "Activity")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("text=Activity of the signing request")
        while await page.evaluate("document.activeElement.name") != "action":
            await page.keyboard.press("Tab")
        await page.keyboard.press("ArrowDown")  # the next choice is not yet meant
        await tab_to(page, "Filter")
        assert "action=activity." not in page.url
        await page.keyboard.press("Enter")
        await page.wait_for_url("**action=activity.*")
        await tab_to(page, "Log out")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/login")
        await browser.close()


async def test_what_was_typed_outlives_the_session(sqlite: Web) -> None:
    """The session ends while a form is filled in: after the log-in the form is there again, with
    all but the secrets, and only for the same user."""
    hashed = await hash_password(PASSWORD)
    user = await sqlite.add_user(password_hash=hashed, role=Role.GLOBAL_ADMINISTRATOR)
    other = await sqlite.add_user(password_hash=hashed, role=Role.GLOBAL_ADMINISTRATOR)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        page = await browser.new_page()
        form = f"{sqlite.server.url}/build-systems/new?kind=gitlab"
        await page.goto(form)
        await log_in(page, user)
        await page.wait_for_url(form)  # with its query
        for again in (user, other):
            await page.fill("[name=name]", "Our GitLab")
            await page.fill("[name=slug]", "ours")
            await page.fill("[name='credential.token']", "glpat-secret")
            await page.context.clear_cookies()
            await page.click("main button.primary")
            await page.wait_for_url(lambda address: "/login?next=" in address)
            stored = await page.evaluate("JSON.stringify(sessionStorage)")
            assert "Our GitLab" in stored
            assert "glpat-secret" not in stored
            await log_in(page, again)
            await page.wait_for_url(form)
            name = await page.input_value("[name=name]")
            assert name == ("Our GitLab" if again is user else "")
            assert await page.input_value("[name='credential.token']") == ""
        assert await page.evaluate("sessionStorage.length") == 0

        await page.goto(
            f"{sqlite.server.url}/projects/new"
        )  # a slug follows its name until it is typed
        await page.fill("[name=name]", "Our Prödukt, 2")
        assert await page.input_value("[name=slug]") == "our-produkt-2"
        await page.fill("[name=slug]", "ours")
        await page.fill("[name=name]", "Another")
        assert await page.input_value("[name=slug]") == "ours"
        await browser.close()


async def log_in(page: Page, user: User) -> None:
    """Fill in the log-in form and send it."""
    await page.fill("input[name=email]", str(user.email))
    await page.fill("input[name=password]", PASSWORD)
    await page.keyboard.press("Enter")


async def focused(page: Page) -> str:
    """The text of what has the focus."""
    return str(await page.evaluate("document.activeElement.textContent.trim()"))


async def tab_to(page: Page, text: str) -> None:
    """Press Tab until what has this text has the focus; with no text, until a field has it."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        is_field = await page.evaluate("document.activeElement.matches('input')")
        if (await focused(page) == text) if text else is_field:
            return
    pytest.fail(f"the keyboard does not reach {text!r}")


async def test_files_are_uploaded_with_progress(sqlite: Web, tmp_path: Path) -> None:
    """Several at once, each a request of its own; what is refused says why."""
    user = await sqlite.add_user(password_hash=await hash_password(PASSWORD))
    await sqlite.change_policy(submitters=sqlite.scene.policy.submitters | {user.id})
    files = [tmp_path / name for name in ("one.exe", "two.exe")]
    for file in files:
        file.write_bytes(b"x" * 300_000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        page = await browser.new_page()
        await page.goto(f"{sqlite.server.url}/submit")
        await log_in(page, user)
        await page.wait_for_url("**/submit")
        await page.set_input_files("#artifact", files)
        await page.click("form[data-upload] button")
        await page.wait_for_selector("#uploads li:nth-child(2) a")
        assert await page.locator("#uploads a").count() == 2
        kept = await sqlite.stored_keys()

        # somebody leaves in the middle, who is warned; the connection breaks; it is sent again
        files[0].write_bytes(b"y" * 4_000_000)
        warned: list[str] = []
        page.on("dialog", lambda dialog: _leave(dialog, warned))
        devices = await page.context.new_cdp_session(page)
        await devices.send("Network.enable")
        line = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 4e5}
        await devices.send("Network.emulateNetworkConditions", line)
        await page.set_input_files("#artifact", files[:1])
        await page.click("form[data-upload] button")
        await page.wait_for_selector(r"#uploads >> text=/[1-9]\d? %/")
        await page.reload()
        assert warned == ["beforeunload"]
        await devices.send("Network.emulateNetworkConditions", line | {"uploadThroughput": -1})
        await page.route("**/submit", lambda route: route.abort("connectionreset"))
        await page.set_input_files("#artifact", files[:1])
        await page.click("form[data-upload] button")
        await page.wait_for_selector("#uploads .error:has-text('The connection broke')")
        await page.unroute("**/submit")
        await page.click("form[data-upload] button")
        await page.wait_for_url("**/signing-requests/*")
        assert len(await sqlite.stored_keys()) == len(kept) + 1

        await page.goto(f"{sqlite.server.url}/submit")
        await sqlite.change_policy(enabled=False)
        await page.set_input_files("#artifact", files[:1])
        await page.click("form[data-upload] button")
        await page.wait_for_selector("#uploads .error")
        assert "disabled" in (await page.locator("#uploads .error").inner_text())
        await browser.close()


async def _leave(dialog: Dialog, warned: list[str]) -> None:
    warned.append(dialog.type)
    await dialog.accept()


async def test_tabs_that_are_not_seen_hold_nobody_up(sqlite: Web) -> None:
    """A browser opens six connections to a server: what follows a request gives its own back."""
    user = await sqlite.add_user(
        password_hash=await hash_password(PASSWORD), role=Role.GLOBAL_READER
    )
    request = await sqlite.submit()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        context = await browser.new_context()
        page = await context.new_page()
        address = f"{sqlite.server.url}/signing-requests/{request['id']}"
        await page.goto(address)
        await log_in(page, user)
        await page.wait_for_url(address)
        tabs = [page, *[await context.new_page() for _ in range(7)]]
        for tab in tabs[1:]:
            await show(tabs[0], seen=False)  # a browser without windows hides no tab by itself
            await tab.goto(address)
            await show(tab, seen=False)
        await sqlite.complete(request["id"])
        assert await page.locator(".state.QueuedForProcessing").count() == 1
        await show(page, seen=True)
        await page.wait_for_selector(".state.Completed")

        waits = await sqlite.submit()
        await page.goto(f"{sqlite.server.url}/signing-requests/{waits['id']}")
        await show(page, seen=False)
        await context.clear_cookies()
        await show(page, seen=True)
        await page.get_by_role("link", name="Log in, and go on here").click()
        await log_in(page, user)
        await page.wait_for_url(f"**/{waits['id']}")
        await browser.close()


async def show(page: Page, *, seen: bool) -> None:
    """Bring a tab to the front, or behind others."""
    await page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        not seen,
    )


async def check_width(page: Page) -> None:
    """Nothing reaches beyond the window."""
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
