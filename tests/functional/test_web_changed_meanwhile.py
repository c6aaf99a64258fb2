"""Two who change the same at once: the second is told what changed, and nothing is lost unseen."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import httpx
from tests.functional.test_api_permissions import things_of
from tests.functional.test_passkeys import session
from tests.functional.test_web_pages import logged_in
from tests.web import PASSWORD, Web

from sealwright.intake.passwords import hash_password
from sealwright.model.identifiers import new_id
from sealwright.model.user import Role, UserKind

MARK = "Somebody else has changed this since you opened it"


class Forms(HTMLParser):
    """What each form of a page would send as it is."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self._select = self._area = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = {name: value or "" for name, value in attrs}
        name, value = about.get("name", ""), about.get("value", "")
        if tag == "form":
            self.forms.append({})
        elif tag == "select":
            self._select = name
        elif tag == "option" and "selected" in about:
            self.forms[-1][self._select] = value
        elif tag == "textarea":
            self._area, self.forms[-1][name] = name, ""
        elif tag == "input" and name:
            if about.get("type") != "checkbox":
                self.forms[-1][name] = value
            elif "checked" in about:
                self.forms[-1].setdefault(name, []).append(value)

    def handle_data(self, data: str) -> None:
        if self._area:
            self.forms[-1][self._area] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":  # whose first line end is none (HTML, 13.2.6.4.7)
            text = self.forms[-1][self._area]
            self.forms[-1][self._area], self._area = text.removeprefix("\n"), ""


def filled(page: str, field: str = "seen") -> dict[str, Any]:
    """The page's first form that has the field."""
    return next(one for one in Forms(page).forms if field in one)


async def test_who_saves_an_old_page_is_told_what_changed(sqlite: Web) -> None:
    robot = await sqlite.add_user(kind=UserKind.CI, email=None)
    known = await things_of(sqlite, sqlite.scene, robot)
    browser = await logged_in(sqlite)
    project = f"/projects/{known.project}"
    for page, field in (
        (f"{project}/edit", "name"),
        (f"{project}/signing-policies/{known.policy}/edit", "name"),
        (f"{project}/builds/triggers/{known.trigger}/edit", "artifact"),
        (f"{project}/webhooks/{known.webhook}", "name"),
        (f"/users/{known.user}", "name"),
        (f"/groups/{known.group}", "name"),
        (f"/build-systems/{known.build_system}/edit", "name"),
        (f"/identity-providers/{known.provider}", "name"),
        (f"/enrolment-servers/{known.enrolment_server}", "name"),
        ("/organization", "name"),
    ):
        before = filled((await browser.get(page)).text)
        theirs = await browser.post(page, data=before | {field: f"Theirs {page[-4:]}"})
        assert theirs.status_code == 303, (page, theirs.text)
        mine = before | {field: "Mine"}
        refused = await browser.post(page, data=mine)
        assert refused.status_code == 409, (page, refused.text)
        assert MARK in refused.text, page
        assert f"it is now: Theirs {page[-4:]}." in refused.text, page
        again = filled(refused.text)
        assert again[field] == "Mine", "what was typed is kept"
        assert again["seen"] != before["seen"]
        assert (await browser.post(page, data=again)).status_code == 303, page
        assert filled((await browser.get(page)).text)[field] == "Mine"


async def test_old_buttons_of_a_certificate_and_old_versions_are_told(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    page = f"/certificates/{sqlite.scene.certificate.slug}"

    async def button(name: str, value: str, of: str) -> httpx.Response:
        fields = next(one for one in Forms(of).forms if one.get(name) == value)
        return await browser.post(f"{page}/edit", data=fields)

    old = (await browser.get(page)).text
    assert (await button("state", "disabled", old)).status_code == 303
    refused = await button("release", "true", old)
    assert refused.status_code == 409
    assert MARK in refused.text
    assert "it is now: disabled." in refused.text
    assert (await button("state", "active", refused.text)).status_code == 303

    files = f"/projects/{sqlite.scene.project.slug}/artifact-configurations"
    form = f"{files}/new?from={sqlite.scene.configuration.id}"
    before = filled((await browser.get(form)).text, "follows")
    del before["sample"]
    before.pop("parameters")
    other = before | {"xml": f"{sqlite.scene.configuration.xml}<!-- theirs -->"}
    assert (await browser.post(f"{files}/new", data=other)).status_code == 303
    mine = before | {"xml": f"{sqlite.scene.configuration.xml}<!-- mine -->"}
    refused = await browser.post(f"{files}/new", data=mine)
    assert refused.status_code == 409
    assert "Somebody else has added version 2" in refused.text
    again = filled(refused.text, "follows")
    del again["sample"]
    again.pop("parameters")
    assert "mine" in again["xml"]
    assert (await browser.post(f"{files}/new", data=again)).status_code == 303


async def test_stored_secrets_are_taken_away(sqlite: Web) -> None:
    admin = await sqlite.add_user(
        role=Role.GLOBAL_ADMINISTRATOR, password_hash=await hash_password(PASSWORD)
    )
    api, browser = await session(sqlite, admin), await logged_in(sqlite, admin)

    async def made(path: str, **given: Any) -> dict[str, Any]:
        answer = await api.post(f"/api/v1/{path}", json=given)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def saved(page: str, **more: Any) -> None:
        answer = await browser.post(page, data=filled((await browser.get(page)).text) | more)
        assert answer.status_code == 303, answer.text

    async def read(path: str) -> dict[str, Any]:
        found: dict[str, Any] = (await api.get(f"/api/v1/{path}")).json()
        return found

    slug = f"sso-{new_id()}"
    one = await made(
        "identity-providers", slug=slug, name="SSO", issuer="https://idp.invalid", client_id="x",
        client_secret="canary-secret", domains=["example.com"],
    )  # fmt: skip
    assert one["has_client_secret"]
    await saved(f"/identity-providers/{slug}")
    assert (await read(f"identity-providers/{slug}"))["has_client_secret"], (
        "an empty field keeps it"
    )
    await saved(f"/identity-providers/{slug}", public="true")
    assert not (await read(f"identity-providers/{slug}"))["has_client_secret"]
    assert "Take the secret away" not in (await browser.get(f"/identity-providers/{slug}")).text
    patch = await api.patch(f"/api/v1/identity-providers/{slug}", json={"client_secret": "again"})
    assert patch.json()["has_client_secret"]
    patch = await api.patch(f"/api/v1/identity-providers/{slug}", json={"client_secret": ""})
    assert not patch.json()["has_client_secret"]

    slug = f"gitlab-{new_id()}"
    await made(
        "build-systems", slug=slug, name="GitLab", kind="gitlab",
        base_url="https://gitlab.invalid", web_url="https://gitlab.invalid",
        credentials={"token": "t", "webhook_secret": "w", "status_check_secret": "s"},
    )  # fmt: skip
    await saved(f"/build-systems/{slug}/edit", taken="webhook_secret")
    assert (await read(f"build-systems/{slug}"))["credentials"] == ["status_check_secret", "token"]
    taken = {"credentials": {"status_check_secret": ""}}
    patch = await api.patch(f"/api/v1/build-systems/{slug}", json=taken)
    assert patch.json()["credentials"] == ["token"]

    project = f"projects/{sqlite.scene.project.slug}"
    hook = await made(
        f"{project}/outgoing-webhooks",
        name="Hook",
        url="https://hooks.example.com",
        authentication="Basic x",
    )
    path = f"{project}/outgoing-webhooks"

    async def sends_header() -> bool:
        return bool((await read(path))["items"][0]["has_authentication"])

    assert await sends_header()
    await saved(f"/{project}/webhooks/{hook['id']}", unauthenticated="true")
    assert not await sends_header()
    patch = await api.patch(f"/api/v1/{path}/{hook['id']}", json={"authentication": "Basic y"})
    assert patch.json()["has_authentication"]
    patch = await api.patch(f"/api/v1/{path}/{hook['id']}", json={"authentication": ""})
    assert not patch.json()["has_authentication"]
