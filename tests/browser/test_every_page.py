"""Every page that exists, in both themes: axe finds nothing, nothing is too wide, no script runs,
also where one stands in every text that can be given (`plants`).

With ``SEALWRIGHT_SCREENSHOTS=folder`` a picture of each page is kept there.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import ConsoleMessage, Page, async_playwright

from tests.browser import plants
from tests.browser import world as worlds
from tests.browser.test_web_pages import chromium
from tests.web import PASSWORD, Web

_TEXTS = """document.body.textContent
    + [...document.querySelectorAll("input, textarea")].map(one => one.value).join(" ")"""
#: what is in order need not be described
_EVERYTHING = {"resultTypes": ["violations"]}
_CONTRAST = _EVERYTHING | {"runOnly": {"type": "rule", "values": ["color-contrast"]}}


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.untraced
async def test_every_page(sqlite: Web, width: int, scheme: str) -> None:
    world = await worlds.make(sqlite)
    faults: list[str] = []
    garden = plants.Garden()
    if scheme == "dark":
        garden = await plants.plant(world)
        faults += garden.faults
        assert len(garden.planted) > 100, sorted(garden.refused)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        context = await browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        page = await context.new_page()
        page.on("console", lambda message: faults.extend(_complaint(page, message)))
        page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
        page.on("dialog", lambda dialog: faults.append(f"{page.url}: {dialog.message}"))
        visited, shown = 0, set[int]()
        for name, path, status in await world.outside():
            faults += await visit(page, name, sqlite.server.url + path, scheme, status)
            visited += 1
        await page.goto(f"{sqlite.server.url}/login")
        await page.fill("input[name=email]", str(world.administrator.email))
        await page.fill("input[name=password]", PASSWORD)
        await page.click("button.primary")
        await page.wait_for_url(lambda address: "/login" not in address)
        for name, path in [*world.paths(), ("ui.link_proven", await _back(page, world))]:
            faults += await visit(page, name, sqlite.server.url + path, scheme)
            shown |= plants.numbers_in(await page.evaluate(_TEXTS))
            visited += 1
        faults += await visit(page, "error", f"{sqlite.server.url}/projects/none", scheme, 404)
        await browser.close()
    assert not faults, "\n".join(faults)
    assert visited > 5
    # what a later call or form wrote over, and secrets, are on no page
    assert len(shown & garden.planted.keys()) >= len(garden.planted) // 3, [
        where for number, where in garden.planted.items() if number not in shown
    ]


async def visit(page: Page, name: str, url: str, scheme: str, status: int = 200) -> list[str]:
    """Open the page; what is wrong with it."""
    answer = await page.goto(url)
    assert answer is not None
    if answer.status != status:
        return [f"{name}: {answer.status} at {url}"]
    return await look(page, name, scheme)


async def look(page: Page, name: str, scheme: str) -> list[str]:
    """What is wrong with the page that is open."""
    # in light everything, in dark what differs there: the colours
    faults = await _axe(page, name, _EVERYTHING if scheme == "light" else _CONTRAST)
    faults += await _shape(page, name)
    size = page.viewport_size
    assert size is not None
    await _picture(page, f"{name}-{size['width']}-{scheme}")
    return faults


async def _back(page: Page, world: worlds.World) -> str:
    """The way back from the build system, without having been there."""
    off = await page.context.request.get(world.web.server.url + world.proof, max_redirects=0)
    target = urlsplit(off.headers["location"])
    [state] = parse_qs(target.query)["state"]
    [back] = parse_qs(target.query)["redirect_uri"]
    return f"{urlsplit(back).path}?{urlencode({'state': state, 'code': 'x'})}"


def _complaint(page: Page, message: ConsoleMessage) -> list[str]:
    """Errors and warnings, such as what the security policy stopped; no advice, and not that a page
    itself came with the status of a failure."""
    if message.text.startswith("Failed to load") and message.location["url"] == page.url:
        return []
    return [f"{page.url}: {message.text}"] if message.type in {"error", "warning"} else []


async def _axe(page: Page, name: str, options: object) -> list[str]:
    found = await Axe().run(page, options=options)  # type: ignore[arg-type]
    return [
        f"{name}: axe {one['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
        for one in found.response["violations"]
        for node in one["nodes"]
    ]


async def _shape(page: Page, name: str) -> list[str]:
    faults = []
    if not await page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
        wide = await page.evaluate(
            "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right >"
            " innerWidth + 1).slice(0, 3).map(e => e.outerHTML.slice(0, 120))"
        )
        faults.append(f"{name}: too wide: {wide}")
    counts = {what: await page.locator(what).count() for what in ("h1", "main")}
    return [*faults, *(f"{name}: {count} {what}" for what, count in counts.items() if count != 1)]


async def _picture(page: Page, name: str) -> None:
    folder = os.environ.get("SEALWRIGHT_SCREENSHOTS")
    if folder:
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
