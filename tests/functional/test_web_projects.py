"""Projects on pages: making, changing, who sees what, and snippets that hold the right names."""

from __future__ import annotations

import httpx
import yaml
from tests.functional.test_web_pages import csrf, logged_in
from tests.web import PASSWORD, Web

from sealwright.db import projects
from sealwright.intake.passwords import hash_password
from sealwright.model.project import Project
from sealwright.model.user import Role
from sealwright.web.ui.snippets import Place, snippets


async def stored(web: Web, slug: str) -> Project:
    async with web.database.read() as tx:
        found = await projects.find(tx, web.scene.organization.id, slug)
    assert found
    return found


async def post(
    browser: httpx.AsyncClient, path: str, csrf_of: str = "", **fields: object
) -> httpx.Response:
    """Send a page's form with the token of its page."""
    token = csrf((await browser.get(csrf_of or path)).text)
    return await browser.post(path, data={"csrf": token} | fields)


async def test_a_project_is_made_and_changed(web: Web) -> None:
    browser = await logged_in(web)
    reader = web.scene.approvers[0]
    given = {"slug": "new-product", "name": "New <b>product</b>", "readers": [reader.id],
             "repository_url": "https://git.example.com/new"}  # fmt: skip
    made = await post(browser, "/projects/new", **given)
    assert made.headers["location"] == "/projects/new-product", made.text
    page = (await browser.get("/projects/new-product")).text
    assert "New &lt;b&gt;product&lt;/b&gt;" in page
    assert reader.name in page
    assert 'needs an <a href="/projects/new-product/artifact-configurations">' in page
    assert (await stored(web, "new-product")).readers == {reader.id}
    path = "/projects/new-product/edit"
    form = (await browser.get(path)).text
    assert f'value="{reader.id}" checked' in form
    changed = await post(browser, path, name="Renamed", repository_url="")
    assert changed.status_code == 303
    project = await stored(web, "new-product")
    assert (project.name, project.repository_url, project.readers) == ("Renamed", "", frozenset())
    assert "Renamed" in (await browser.get("/projects")).text


async def test_faults_stand_beside_their_fields(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    for wrong, field in (
        ({"slug": "Not A Slug", "name": "X"}, "slug"),
        ({"slug": "x", "name": ""}, "name"),
        ({"slug": "x", "name": "X", "repository_url": "javascript:alert(1)"}, "repository_url"),
    ):
        answer = await post(browser, "/projects/new", **wrong)
        assert answer.status_code == 400
        assert f'id="error-{field}"' in answer.text
        assert f'value="{wrong["slug"]}"' in answer.text
    taken = await post(browser, "/projects/new", slug=sqlite.scene.project.slug, name="Again")
    assert taken.status_code == 409
    assert "There is a project" in taken.text
    unknown = await post(browser, "/projects/new", slug="y", name="Y", readers="nobody")
    assert unknown.status_code == 400


async def test_a_configurator_changes_the_name_alone(sqlite: Web) -> None:
    user = await sqlite.add_user(password_hash=await hash_password(PASSWORD))
    project = sqlite.scene.project
    administrator = await logged_in(sqlite)
    path = f"/projects/{project.slug}/edit"
    await post(administrator, path, name="Product", configurators=[user.id], repository_url="")
    browser = await logged_in(sqlite, user)
    form = (await browser.get(path)).text
    assert 'name="readers"' not in form
    answer = await post(browser, path, name="By the configurator", readers=[user.id])
    assert answer.status_code == 303
    changed = await stored(sqlite, project.slug)
    assert (changed.name, changed.readers) == ("By the configurator", frozenset())
    assert "New project" not in (await browser.get("/projects")).text
    stranger = await logged_in(
        sqlite,
        await sqlite.add_user(password_hash=await hash_password(PASSWORD), role=Role.REGULAR_USER),
    )
    assert (await stranger.get(f"/projects/{project.slug}")).status_code == 404
    assert f"/projects/{project.slug}" not in (await stranger.get("/projects")).text


async def test_snippets_hold_the_projects_own_names(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    page = (await browser.get(f"/projects/{sqlite.scene.project.slug}")).text
    scene = sqlite.scene
    for name in (scene.organization.id, scene.policy.slug, scene.configuration.slug):
        assert page.count(name) >= 3
    made = snippets(Place("https://sign.example.com", "id", "app", "release", "initial"))
    texts = {one.id: one.text for one in made}
    steps = yaml.safe_load(texts["github"])["sign"]["steps"][0]["with"]
    assert steps["github-artifact-id"] == "${{ needs.build.outputs.artifact-id }}"
    assert yaml.safe_load(texts["gitlab"])["include"][0]["inputs"]["project"] == "app"
    assert len(texts) == 6
