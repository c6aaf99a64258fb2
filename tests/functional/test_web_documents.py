"""The documentation on the server: what pages name is there, links lead on, and nothing runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.functional.test_web_pages import logged_in
from tests.shared import REPOSITORY
from tests.web import Web

from sealwright.web.ui import documents
from sealwright.web.ui.documents import document, names

_TEMPLATES = REPOSITORY / "server" / "sealwright" / "web"


def test_every_page_is_there_and_its_links_lead_somewhere() -> None:
    assert {"api", "pipelines/github", "decisions/0001-record-decisions"} <= names()
    ids = {name: set(re.findall(r' id="([^"]+)"', document(name).body)) for name in names()}
    for name in names():
        found = document(name)
        assert found.title
        assert "<h1" not in found.body, name
        assert not re.search(r"<(script|img|iframe)|\sstyle=|\son\w+=", found.body), name
        for target in re.findall(r'href="(/docs/[^"]+)"', found.body):
            path, _, fragment = target.removeprefix("/docs/").partition("#")
            assert path in ids, (name, target)
            assert not fragment or fragment in ids[path], (name, target)
    for file in (*_TEMPLATES.rglob("*.html"), *_TEMPLATES.rglob("ui/*.py")):
        for path, fragment in re.findall(r'href="/docs/([\w/-]+)#?([\w-]*)"', file.read_text()):
            assert path in ids, file
            assert not fragment or fragment in ids[path], file


def test_what_is_hostile_is_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x.md").write_text(
        "# T `x`\n\n<script>alert(1)</script> [a](javascript:alert(1)) ![p](q.png) [b](../../etc)\n"
        "[c](x.md#t) [d](https://example.com/)\n"
    )
    monkeypatch.setattr(documents, "FOLDER", tmp_path)
    for cached in (names, document):
        cached.cache_clear()
    try:
        found = document("x")
    finally:
        for cached in (names, document):
            cached.cache_clear()
    assert found.title == "T x"
    assert "&lt;script&gt;" in found.body
    assert "javascript:" not in re.sub(r"<p>.*?\[a\]\(javascript:alert\(1\)\)", "", found.body)
    assert re.findall(r'href="([^"]+)"', found.body) == [
        "/docs",
        "/docs/x#t",
        "https://example.com/",
    ]
    assert "<img" not in found.body


async def test_pages_of_the_documentation(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    listed = (await browser.get("/docs")).text
    assert 'href="/docs/pipelines/github"' in listed
    page = await browser.get("/docs/signer")
    assert '<h2 id="trusted-passkeys">' in page.text
    assert page.text.count("<h1>") == 1
    assert (await browser.get("/docs/signer.md")).status_code == 200
    for wrong in ("nothing", "../pyproject", "decisions/..%2f..%2fetc%2fpasswd"):
        assert (await browser.get(f"/docs/{wrong}")).status_code == 404, wrong
    overview = (await browser.get(f"/projects/{sqlite.scene.project.slug}")).text
    for path in re.findall(r'href="/docs/([\w/-]+)"', overview):
        assert path in names()
    stranger = await sqlite.client()
    assert (await stranger.get("/docs")).headers["location"].startswith("/login")
