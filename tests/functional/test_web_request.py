"""One request's page: the tree of its artifact, origin, repetition, time line."""

from __future__ import annotations

import dataclasses
import html
import re

import pytest
from tests import artifact_plans
from tests.functional.test_web_pages import csrf, logged_in
from tests.web import PASSWORD, Web

from sealwright.db import file_results, requests
from sealwright.db.tables import signing_requests
from sealwright.intake.passwords import hash_password
from sealwright.model.identifiers import utc_now
from sealwright.model.origin import Origin, Proof
from sealwright.model.request import State
from sealwright.model.signed_member import Change, SignedMember


async def test_the_tree_shows_every_member_and_what_was_done(web: Web) -> None:
    browser = await logged_in(web)
    request = await web.submit()
    path = f"/signing-requests/{request['id']}"
    await artifact_plans.store(web, request["id"], artifact_plans.release(3), done=False)
    page = (await browser.get(path)).text
    assert page.count('<span class="file">') == 7
    assert page.count(">planned<") == 6  # the archive itself is not signed
    async with web.database.transaction() as tx:
        await file_results.put_results(
            tx, request["id"], list(artifact_plans.results(artifact_plans.release(3)))
        )
    page = (await browser.get(path)).text
    assert page.count(">signed<") == 6
    assert page.count(">repacked<") == 2
    assert ">planned<" not in page
    certificate = web.scene.certificate.name
    assert page.count(f"<code>authenticode-sign</code> with {certificate}") == 6
    # what the configuration does not name is in closed folders, which are opened when asked for
    assert "00000.html" not in page
    links = [html.unescape(one) for one in re.findall(r'data-more href="([^"]+)"', page)]
    parts = [(await browser.get(link)).text for link in links]
    unchanged = sum(len(re.findall(r"\d+\.html</span>[^/]*, unchanged", part)) for part in parts)
    assert unchanged == 38 + 5
    assert sum(part.count("written anew with the signature") for part in parts) == 1
    assert "empty/" in page


async def test_what_comes_with_signatures_is_among_the_members(web: Web) -> None:
    browser = await logged_in(web)
    request = await web.submit()
    plan = artifact_plans.release(1)
    await artifact_plans.store(web, request["id"], plan)
    members = (
        SignedMember("META-INF/MANIFEST.MF", 900, Change.CHANGED, "manifest"),
        SignedMember("META-INF/SIGNER.<b>", 901, Change.ADDED, "signature block"),
    )
    done = list(artifact_plans.results(plan))
    done[0] = dataclasses.replace(done[0], members=members)
    async with web.database.transaction() as tx:
        await file_results.put_results(tx, request["id"], done)
        await tx.change(
            signing_requests.update()
            .where(signing_requests.c.id == request["id"])
            .values(state=State.COMPLETED.value, finished_at=utc_now())
        )
    path = f"/signing-requests/{request['id']}"
    page = (await browser.get(path)).text
    assert re.search(r"SIGNER\.&lt;b&gt;</span>\s*<[^>]*>added by signing<", page)
    assert re.search(r"MANIFEST\.MF</span>\s*<[^>]*>written anew by signing<", page)
    assert "signature block, 901" in page
    client = await web.submitter()
    files = (await client.get(f"/api/v1{path}/files")).json()["items"]
    assert files[0]["members"][1] == {
        "path": "META-INF/SIGNER.<b>", "size": 901, "change": "added", "what": "signature block",
    }  # fmt: skip
    assert files[1]["members"] == []


async def test_members_that_are_not_listed_are_counted(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    request = await sqlite.submit()
    plan = artifact_plans.release(3)
    await artifact_plans.store(sqlite, request["id"], plan, listed=False)
    page = (await browser.get(f"/signing-requests/{request['id']}")).text
    assert page.count(">signed<") == 6
    assert "38 further members are not listed here" in page


async def test_a_large_tree_comes_in_parts(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    request = await sqlite.submit()
    path = f"/signing-requests/{request['id']}"
    await artifact_plans.store(sqlite, request["id"], artifact_plans.release(450))
    page = (await browser.get(path)).text
    seen = set(re.findall(r"\b\d{5}\.exe", page))
    while more := re.search(r'data-more href="([^"]+start=[^0"][^"]*)"', page):
        page = (await browser.get(html.unescape(more[1]))).text
        part = set(re.findall(r"\b\d{5}\.exe", page))
        assert not part & seen
        seen |= part
    assert len(seen) == 450
    for query in ({"of": "700"}, {"of": "0.9.9"}):
        assert (await browser.get(f"{path}/files", params=query)).status_code == 404
    for query in ({"start": "-1"}, {"start": "x"}, {"other": "1"}, {"of": "x"}, {"of": "1." * 900}):
        answer = await browser.get(f"{path}/files", params=query)
        assert answer.status_code in {400, 422}


@pytest.mark.parametrize(
    ("url", "linked"),
    [("https://git.example.com/a", True), ("javascript:alert(1)", False), ("git://x/y", False)],
)
async def test_addresses_of_the_origin_are_links_only_if_harmless(
    sqlite: Web, url: str, linked: bool
) -> None:
    browser = await logged_in(sqlite)
    request = await sqlite.submit()
    stored = await sqlite.read(request["id"])
    origin = Origin(
        verified=True, proof=Proof.RUN, repository_url=url, build_url=url, commit="c" * 40,
        checks=("branch", "repository"),
    )  # fmt: skip
    async with sqlite.database.transaction() as tx:
        assert await requests.amend(tx, stored, stored.updated_at, origin=origin)
    page = (await browser.get(f"/signing-requests/{stored.id}")).text
    assert (f'href="{url}"' in page) == linked
    assert "javascript:" not in re.sub(r">[^<]*<", "><", page)
    assert "run verified" in page
    assert "2 checks held" in page


async def test_retry_and_another_policy(web: Web) -> None:
    user = await web.add_user(password_hash=await hash_password(PASSWORD))
    await web.change_policy(submitters=web.scene.policy.submitters | {user.id})
    browser = await logged_in(web, user)
    request = await web.submit()
    path = f"/signing-requests/{request['id']}"
    await web.fail(request["id"])
    page = (await browser.get(path)).text
    token = csrf(page)
    again = await browser.post(f"{path}/retry", data={"csrf": token})
    assert again.status_code == 303
    following = (await browser.get(again.headers["location"])).text
    assert "This request repeats the one that failed." in following
    assert f'href="{path}"' in following
    wrong = await browser.post(f"{path}/resubmit", data={"csrf": token})
    assert wrong.status_code == 400
    assert 'id="error-signing_policy"' in wrong.text
    given = {"csrf": token, "signing_policy": web.scene.policy.slug, "description": "Once more"}
    made = await browser.post(f"{path}/resubmit", data=given)
    assert made.status_code == 303, made.text
    assert "Once more" in (await browser.get(made.headers["location"])).text
    unknown = await browser.post(f"{path}/resubmit", data=given | {"signing_policy": "other"})
    assert unknown.status_code == 404


async def test_the_time_line_names_people_and_leaves(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    request = await sqlite.submit()
    await sqlite.complete(request["id"])
    page = (await browser.get(f"/signing-requests/{request['id']}")).text
    line = page[page.index("Time line") :]
    for words in ("Submitted", "Queued", "A worker began", "Completed", "released"):
        assert words in line
    assert sqlite.scene.submitter.name in line
    assert dataclasses.asdict(sqlite.scene.submitter)["id"] not in line
