"""Finding requests: filters, words, pages by key, on both databases."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from tests.database import Scene, add_request, seed
from tests.functional.test_web_pages import logged_in
from tests.web import Web

from sealwright.db import Database, request_search, requests
from sealwright.db.request_search import RequestFilter
from sealwright.model.origin import Origin
from sealwright.model.request import SigningRequest, State, StoredArtifact

DIGEST = "ab" * 32


async def found(
    database: Database, scene: Scene, before: str | None = None, limit: int = 50, **wanted: object
) -> tuple[list[str], str | None]:
    async with database.read() as tx:
        page, cursor = await requests.search(
            tx,
            scene.organization.id,
            RequestFilter(**wanted),  # type: ignore[arg-type]
            before=before,
            limit=limit,
        )
    return [one.description for one in page], cursor


def artifact(name: str, sha256: str = "00" * 32) -> StoredArtifact:
    return StoredArtifact(f"key/{name}", name, 1, sha256)


async def test_each_filter_and_all_at_once(database: Database) -> None:
    scene, abroad = await seed(database), await seed(database)
    other = scene.approvers[0].id
    await add_request(database, scene, description="one", state=State.FAILED)
    await add_request(database, scene, description="two", submitted_by=other)
    await add_request(database, abroad, description="foreign")
    assert (await found(database, scene))[0] == ["two", "one"]
    assert (await found(database, scene, state=State.FAILED))[0] == ["one"]
    assert (await found(database, scene, submitted_by=other))[0] == ["two"]
    assert (await found(database, scene, signing_policy_id=scene.policy.id))[0] == ["two", "one"]
    assert (await found(database, scene, signing_policy_id=abroad.policy.id))[0] == []
    assert (await found(database, scene, project_ids=[]))[0] == []
    ids = [scene.project.id, abroad.project.id]
    assert (await found(database, scene, project_ids=ids))[0] == ["two", "one"]
    assert (await found(database, scene, project_ids=ids[1:]))[0] == []
    assert (await found(database, scene, project_ids=ids, state=State.FAILED, text="on"))[0] == [
        "one"
    ]
    now = dt.datetime.now(dt.UTC)
    minute = dt.timedelta(minutes=1)
    assert (await found(database, scene, submitted_from=now + minute))[0] == []
    assert (await found(database, scene, submitted_before=now - minute))[0] == []
    between = {"submitted_from": now - minute, "submitted_before": now + minute}
    assert (await found(database, scene, **between))[0] == ["two", "one"]


@pytest.mark.parametrize(
    "text",
    ["setup", "SETUP-1", "setup-1.2.exe", "exe", "c0ffee", DIGEST, DIGEST[:10], "nightly set",
     "straß", "(nightly)"],
)  # fmt: skip
async def test_words_are_found_by_their_beginning(database: Database, text: str) -> None:
    scene = await seed(database)
    await add_request(
        database, scene, description="Nightly (Straße) %_", input=artifact("Setup-1.2.exe", DIGEST),
        origin=Origin(commit="c0ffee" + "0" * 34),
    )  # fmt: skip
    await add_request(database, scene, description="other")
    hits, _ = await found(database, scene, text=text)
    assert len(hits) == (0 if text == "(nightly)" else 1)


async def test_what_changes_is_found_too(database: Database) -> None:
    scene = await seed(database)
    request = await add_request(database, scene, description="x")
    async with database.transaction() as tx:
        moved = await requests.amend(
            tx, request, request.updated_at, input=artifact("late.msi", DIGEST)
        )
        assert moved
        done = await requests.move(
            tx, moved, State.COMPLETED, request.updated_at, output=artifact("late.msi", "cd" * 32)
        )
        assert done
    for text in ("late", DIGEST, "cd" * 32):
        assert (await found(database, scene, text=text))[0] == ["x"]


async def test_a_common_word_is_looked_for_in_windows(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request is found once, whatever the window, and a page never looks beyond it."""
    monkeypatch.setattr(request_search, "_RARE", 2)
    monkeypatch.setattr(request_search, "_WINDOW", 4)
    scene = await seed(database)
    for number in range(11):
        kind = "wanted" if number < 3 else "other"
        await add_request(database, scene, description=f"{kind} common {number}")
    seen: list[str] = []
    before, pages = None, 0
    while True:
        page, before = await found(database, scene, before=before, text="want common", limit=2)
        seen += page
        pages += 1
        if before is None:
            break
    assert seen == [f"wanted common {number}" for number in (2, 1, 0)]
    assert pages > 2


def test_no_request_has_more_words_than_are_kept() -> None:
    text = " ".join(f"word{n}" for n in range(500))
    words = request_search.words_of(
        dataclasses.replace(_plain(), description=text + " " + "y" * 5000)
    )
    assert len(words) == 60
    assert max(map(len, words)) <= 64


def _plain() -> SigningRequest:
    from tests.database import certificate, configuration, organization, policy, project, user
    from tests.database import request as made

    tenant = organization()
    of = project(tenant.id)
    key = certificate(tenant.id)
    scene = Scene(tenant, user(tenant.id), (), key, of, configuration(of), policy(of, key.id))
    return made(scene)


async def test_the_page_filters_and_goes_on(sqlite: Web) -> None:
    for number in range(27):
        await sqlite.submit(description=f"Nightly {number}")
    browser = await logged_in(sqlite)
    project, me = sqlite.scene.project.slug, sqlite.scene.submitter.id
    path = f"/signing-requests?project={project}&state=&submitter={me}&text=nightly"
    page = (await browser.get(path)).text
    assert page.count('class="state ') == 25
    assert f"project={project}&amp;submitter={me}&amp;text=nightly&amp;cursor=" in page
    assert f'value="{project}" selected' in page
    assert sqlite.scene.policy.name in page  # offered once a project is chosen
    none = (await browser.get("/signing-requests?submitter=me")).text
    assert "No signing request is like that." in none
    for wrong in ("state=Nothing", "submitted_from=yesterday", "text=" + "x" * 300):
        answer = await browser.get(f"/signing-requests?{wrong}")
        assert "The filter was left out" in answer.text


async def test_the_api_filters(web: Web) -> None:
    made = await web.submit(description="needle")
    await web.submit(description="hay")
    client = await web.submitter()
    path = "/api/v1/signing-requests"
    today = dt.datetime.now(dt.UTC).date()
    for query in (
        {"text": "need"},
        {"text": "needle", "submitter": "me", "signing_policy": web.scene.policy.id},
        {"text": "needle", "submitted_from": str(today - dt.timedelta(days=1)),
         "submitted_to": str(today + dt.timedelta(days=1))},
    ):  # fmt: skip
        answer = (await client.get(path, params=query)).json()
        assert [one["id"] for one in answer["items"]] == [made["id"]]
    assert (await client.get(path, params={"submitted_to": "9999-12-31"})).status_code == 200
    assert (await client.get(path, params={"submitted_from": "0001-01-01"})).status_code == 200
