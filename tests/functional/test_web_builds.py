"""Build systems, links, triggers and identities on pages."""

from __future__ import annotations

from tests.functional.test_api_permissions import ci_things
from tests.functional.test_web_pages import logged_in
from tests.functional.test_web_projects import post
from tests.web import PASSWORD, Web

from sealwright.db import build_systems
from sealwright.intake.passwords import hash_password
from sealwright.model.user import UserKind

TOKEN = "glpat-never-shown"


async def test_a_build_system_is_trusted_changed_and_keeps_its_secrets(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    assert "GitHub App" in (await browser.get("/build-systems/new?kind=github")).text
    given = {
        "kind": "gitlab", "slug": "our-gitlab", "name": "Our <b>GitLab</b>",
        "base_url": "https://gitlab.example.com", "web_url": "https://gitlab.example.com",
        "credential.token": TOKEN, "credential.webhook_secret": "s" * 32, "setting.oidc_issuer": "",
    }  # fmt: skip
    made = await post(browser, "/build-systems/new", **given)
    assert made.headers.get("location") == "/build-systems/our-gitlab", made.text
    page = (await browser.get("/build-systems/our-gitlab")).text
    assert "Our &lt;b&gt;GitLab&lt;/b&gt;" in page
    assert "token, webhook_secret" in page
    assert "/webhooks/" in page
    path = "/build-systems/our-gitlab/edit"
    assert TOKEN not in (await browser.get(path)).text
    changed = await post(
        browser, path, name="Ours", **{"setting.oidc_audience": "https://sign", "credential.x": ""}
    )
    assert changed.status_code == 303, changed.text
    async with sqlite.database.read() as tx:
        system = await build_systems.find(tx, sqlite.scene.organization.id, "our-gitlab")
        assert system
        sealed = await build_systems.sealed_credentials(tx, system.id)
    assert (system.name, system.enabled, system.settings) == (
        "Ours", False, {"oidc_audience": "https://sign"},
    )  # fmt: skip
    assert sorted(sealed) == ["token", "webhook_secret"]
    wrong = await post(browser, "/build-systems/new", **given | {"credential.token": ""})
    assert wrong.status_code >= 400
    assert 'class="note bad"' in wrong.text
    assert TOKEN not in wrong.text
    odd = await post(browser, "/build-systems/new", **given | {"setting.odd": "x"})
    assert odd.status_code == 400


async def test_links_triggers_and_people(sqlite: Web) -> None:
    scene = sqlite.scene
    robot = await sqlite.add_user(kind=UserKind.CI, email=None, name="Robot")
    await sqlite.change_policy(submitters=scene.policy.submitters | {robot.id})
    await ci_things(sqlite, scene, robot)
    browser = await logged_in(sqlite)
    path = f"/projects/{scene.project.slug}/builds"
    page = (await browser.get(path)).text
    assert "octo/app" in page
    assert "refs/heads/main" in page
    async with sqlite.database.read() as tx:
        system = await build_systems.find(tx, scene.organization.id, "github")
        (link,) = await build_systems.links(tx, scene.organization.id, project_id=scene.project.id)
        (first,) = await build_systems.find_triggers(
            tx, scene.organization.id, project_id=scene.project.id
        )
    assert system
    assert (await post(browser, f"{path}/triggers/{first.id}", path)).status_code == 303
    made = await post(
        browser, f"{path}/triggers", path, link=link.id, signing_policy=scene.policy.id,
        submitter=robot.id, refs="refs/tags/v*\nrefs/heads/main", artifact="dist*",
    )  # fmt: skip
    assert made.status_code == 303, made.text
    wrong = await post(
        browser, f"{path}/triggers", path, link=link.id, signing_policy=scene.policy.id,
        submitter=robot.id, refs="", artifact="dist*",
    )  # fmt: skip
    assert (wrong.status_code, 'id="error-refs"' in wrong.text) == (400, True)
    async with sqlite.database.read() as tx:
        found = await build_systems.find_triggers(
            tx, scene.organization.id, project_id=scene.project.id
        )
    assert {one.id: one.enabled for one in found}[first.id] is False
    assert ("refs/tags/v*", "refs/heads/main") in {one.refs for one in found}
    for submitter, expected in (("", None), (robot.id, robot.id)):
        moved = await post(browser, f"{path}/links/{link.id}", path, submitter=submitter)
        assert moved.status_code == 303, moved.text
        async with sqlite.database.read() as tx:
            present = await build_systems.get_link(tx, scene.organization.id, link.id)
        assert present
        assert present.submitter_id == expected
    person = await post(browser, f"{path}/links/{link.id}", path, submitter=scene.approvers[0].id)
    assert person.status_code == 400
    edit = f"{path}/triggers/{first.id}/edit"
    assert "refs/heads/main" in (await browser.get(edit)).text
    saved = await post(browser, edit, refs="refs/tags/w*", artifact="other*", definition="")
    assert saved.status_code == 303, saved.text
    lacking = await post(browser, edit, refs="refs/tags/w*", artifact="", definition="")
    assert (lacking.status_code, 'id="error-artifact"' in lacking.text) == (400, True)
    async with sqlite.database.read() as tx:
        found = await build_systems.find_triggers(
            tx, scene.organization.id, project_id=scene.project.id
        )
    [changed] = [one for one in found if one.id == first.id]
    assert (changed.refs, changed.artifact, changed.definition) == (("refs/tags/w*",), "other*", "")
    assert not changed.enabled
    used = await post(browser, f"{path}/links/{link.id}/delete", path)
    assert used.status_code == 409
    # the build system cannot be reached: the page says so and keeps what was typed
    away = await post(browser, f"{path}/links", path, build_system="github", repository="octo/two")
    assert away.status_code in {400, 403, 422, 503}
    assert 'value="octo/two"' in away.text
    people = "/build-systems/github"
    known = await post(
        browser, f"{people}/people", people, remote_user_id="4711", login="octo",
        user=scene.approvers[0].id,
    )  # fmt: skip
    assert known.status_code == 303, known.text
    page = (await browser.get(people)).text
    assert scene.approvers[0].name in page
    async with sqlite.database.read() as tx:
        identity = await build_systems.identity_of(tx, system.id, "4711")
    assert identity
    gone = await post(browser, f"{people}/people/{identity.id}/delete", people)
    assert gone.status_code == 303
    assert "octo</strong>" not in (await browser.get(people)).text


async def test_who_only_takes_part_sees_no_forms(sqlite: Web) -> None:
    user = await sqlite.add_user(password_hash=await hash_password(PASSWORD))
    await sqlite.change_policy(submitters=sqlite.scene.policy.submitters | {user.id})
    await ci_things(sqlite, sqlite.scene, user)
    browser = await logged_in(sqlite, user)
    for path in (f"/projects/{sqlite.scene.project.slug}/builds", "/build-systems/github"):
        page = (await browser.get(path)).text
        assert "<textarea" not in page
        assert "/edit" not in page
