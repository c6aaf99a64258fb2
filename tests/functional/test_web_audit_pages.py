"""Pages of the audit, of outgoing webhooks and of the organization."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from tests.web import Web

from sealwright.model.user import Role
from sealwright.web.auth import csrf_token

EVIL = '"><script>alert(1)</script>'


class Browser:
    """A session's pages without a browser."""

    def __init__(self, client: httpx.AsyncClient, token: str) -> None:
        self.client = client
        self.token = token

    async def get(self, path: str) -> str:
        answer = await self.client.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
        assert "<script>alert" not in answer.text
        return answer.text

    async def post(self, path: str, **fields: Any) -> httpx.Response:
        return await self.client.post(path, data={"csrf": csrf_token(self.token)} | fields)


async def browser(web: Web, role: Role = Role.GLOBAL_ADMINISTRATOR) -> Browser:
    token = await web.token(await web.add_user(role=role))
    return Browser(await web.client(cookie=f"sealwright={token}"), token)


async def test_the_audit_shows_changes_and_proofs(sqlite: Web) -> None:
    pages = await browser(sqlite)
    path = f"/api/v1/projects/{sqlite.scene.project.slug}"
    client = await sqlite.client(await sqlite.add_user(role=Role.GLOBAL_ADMINISTRATOR))
    assert (await client.patch(path, json={"name": EVIL})).status_code == 200
    text = await pages.get("/audit?action=project.")
    assert "Project updated" in text
    assert "&lt;script&gt;" in text
    assert "127.0.0.1" in text
    of_project = await pages.get(f"/audit?project={sqlite.scene.project.id}")
    assert "Activity of the project" in of_project
    shown = await pages.get(re.findall(r'href="(/audit/[0-9]+)"', of_project)[0])
    assert "not proved" in shown  # there is no signer here, and so no tree
    exported = await pages.client.get("/audit/export?action=project.&format=json")
    assert [one["action"] for one in exported.json()] == ["project.updated"]


@pytest.mark.parametrize(
    "query",
    ["from=yesterday", "to=9999-12-31", "cursor=x", f"action={EVIL}", "project=none", "actor=x-y"],
)
async def test_an_odd_filter_harms_nothing(sqlite: Web, query: str) -> None:
    text = await (await browser(sqlite)).get(f"/audit?{query}")
    assert "<h1>" in text


async def test_an_entry_of_nowhere_is_missing(sqlite: Web) -> None:
    pages = await browser(sqlite)
    for name in ("x", "0", "99999999999999999999"):
        assert (await pages.client.get(f"/audit/{name}")).status_code == 404


async def test_a_webhook_is_made_changed_and_removed(sqlite: Web) -> None:
    pages = await browser(sqlite, Role.PROJECT_ADMINISTRATOR)
    all_of_it = f"/projects/{sqlite.scene.project.slug}/webhooks"
    assert "No address is told yet" in await pages.get(all_of_it)
    await pages.get(f"{all_of_it}/new")
    given = {"name": EVIL, "url": "https://hooks.example.com/x", "states": ["Completed", "Failed"],
             "enabled": "true", "authentication": "canary"}  # fmt: skip
    refused = await pages.post(f"{all_of_it}/new", **given | {"url": "http://example.com"})
    assert (refused.status_code, "HTTPS" in refused.text) == (400, True)
    made = await pages.post(f"{all_of_it}/new", **given)
    assert (made.status_code, "whsec_" in made.text) == (200, True)
    one = all_of_it + made.text.split(f'href="{all_of_it}', 2)[2].split('"')[0]
    text = await pages.get(one)
    assert "whsec_" not in text
    assert "canary" not in text
    await sqlite.fail((await sqlite.submit())["id"])
    assert "request.failed" in await pages.get(one)
    delivery = (await pages.get(one)).split("/deliveries/")[1].split("/")[0]
    assert (await pages.post(f"{one}/deliveries/{delivery}/redeliver")).status_code == 303
    assert (await pages.get(one)).count("request.failed") == 2
    changed = await pages.post(one, **given | {"name": "Pager", "enabled": ""})
    assert changed.status_code == 303
    text = await pages.get(all_of_it)
    assert "Pager" in text
    assert "disabled" in text
    assert (await pages.post(f"{one}/delete")).status_code == 303
    assert (await pages.client.get(one)).status_code == 404


async def test_the_organization_is_changed(sqlite: Web) -> None:
    pages = await browser(sqlite)
    assert "no mail server is configured" in await pages.get("/organization")
    given = {"name": EVIL, "artifact_days": "90", "details_days": "0"}
    assert (await pages.post("/organization", **given)).status_code == 303
    text = await pages.get("/organization")
    assert 'value="90"' in text
    refused = await pages.post("/organization", **given | {"artifact_days": "-1"})
    assert (refused.status_code, "greater than or equal to 0" in refused.text) == (400, True)
    reader = await browser(sqlite, Role.REGULAR_USER)
    assert "artifact_days" not in await reader.get("/organization")
    assert (await reader.post("/organization", **given)).status_code == 403


async def test_forms_of_others_are_refused(sqlite: Web) -> None:
    pages = await browser(sqlite)
    for path in ("/organization", f"/projects/{sqlite.scene.project.slug}/webhooks/new"):
        answer = await pages.client.post(path, data={"name": "x", "csrf": "forged"})
        assert answer.status_code == 403
