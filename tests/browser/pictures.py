"""Pictures of the pages for the README, taken of the running demo: ``make demo KEEP=1``, then
``.venv/bin/python -m tests.browser.pictures`` in another terminal (``DATA`` as for the demo).

It needs what ``make test`` installs, and writes to docs/pictures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.browser.test_web_pages import chromium

_ROOT = Path(__file__).parent.parent.parent
_FOLDER = _ROOT / "docs" / "pictures"
_DATA = Path.home() / ".local/share/sealwright-demo"


def main() -> None:
    """Take them all."""
    data = Path(os.environ.get("DATA") or _DATA)
    known = json.loads((data / "demo.json").read_text())
    _FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 700})
        page.emulate_media(color_scheme="light")
        _log_in(page, known)
        waiting = _submit(known, data / "artifact" / "release.zip")
        page.goto(f"{known['url']}/signing-requests?state=Completed")
        page.click("table a >> nth=0")
        page.screenshot(path=_FOLDER / "request.png")
        files = page.locator("section", has=page.get_by_role("heading", name="Files"))
        files.evaluate("element => window.scrollTo(0, element.offsetTop - 16)")
        page.screenshot(path=_FOLDER / "files.png")
        page.set_viewport_size({"width": 390, "height": 780})
        page.emulate_media(color_scheme="dark")
        page.goto(f"{known['url']}/signing-requests/{waiting}")
        page.screenshot(path=_FOLDER / "approval.png")
        browser.close()


def _log_in(page: Page, known: dict[str, Any]) -> None:
    page.goto(f"{known['url']}/login")
    page.fill("[name=email]", known["administrator"]["email"])
    page.fill("[name=password]", known["administrator"]["password"])
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: "/login" not in address)


def _submit(known: dict[str, Any], artifact: Path) -> str:
    """Hand the artifact in for a release, as a pipeline does; the id of the request that waits."""
    command = [
        sys.executable, "-m", "sealwright", "submit", str(artifact), "--json",
        "--project", known["project_slug"], "--policy", known["release_policy_slug"],
        "--description", "Version 5.1",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "SEALWRIGHT_URL": known["url"],
        "SEALWRIGHT_TOKEN": known["submitter_token"],
        "SEALWRIGHT_ORGANIZATION": known["organization_id"],
    }
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return str(json.loads(ran.stdout)["id"])


if __name__ == "__main__":
    main()
