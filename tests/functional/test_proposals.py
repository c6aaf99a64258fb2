"""Trying an artifact configuration on a sample, proposing it, and the answer."""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from tests.artifacts import CONFIGURATION, build_artifact
from tests.functional.test_web_pages import csrf, logged_in
from tests.functional.test_web_projects import post
from tests.web import PASSWORD, Web

from sealwright.db import projects, proposals
from sealwright.intake.passwords import hash_password
from sealwright.model.identifiers import utc_now
from sealwright.model.user import Role, User
from sealwright.trials import do_trial
from sealwright.workbench import Workbench
from sealwright.worker.bench import open_bench

WITH_PARAMETER = CONFIGURATION.replace(
    "  <zip-file>\n",
    '  <parameters><parameter name="inner" required="true"/></parameters>\n  <zip-file>\n',
    1,
).replace("inner.zip", "${inner}.zip")
ONE = CONFIGURATION.decode() if isinstance(CONFIGURATION, bytes) else CONFIGURATION


@pytest.fixture
async def bench(web: Web) -> AsyncIterator[Workbench]:
    async with open_bench(web.server.settings) as opened:
        yield opened


SIGNED = Path(__file__).parent.parent / "vectors" / "pe"


async def work(web: Web, bench: Workbench) -> None:
    """Do what a worker's loop does with the trial that waits."""
    for _ in range(100):
        now = utc_now()
        async with web.database.transaction() as tx:
            trial = await proposals.take_trial(tx, now, now)
        if trial is not None:
            await do_trial(bench, trial)
            return
        await asyncio.sleep(0.1)
    pytest.fail("there was no trial")


async def developer(web: Web) -> tuple[httpx.AsyncClient, User]:
    """Somebody who submits, and configures nothing."""
    user = await web.add_user(password_hash=await hash_password(PASSWORD), name="Dev")
    await web.change_policy(submitters=web.scene.policy.submitters | {user.id})
    return await logged_in(web, user), user


def sample(tmp_path: Path) -> bytes:
    """An artifact as a wheel is one, whose record is of the unsigned files."""
    made = build_artifact(tmp_path / "product.zip")
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr("product-1.0.dist-info/RECORD", "")
    return made.read_bytes()


async def test_tried_proposed_and_accepted_on_pages(
    web: Web, bench: Workbench, tmp_path: Path
) -> None:
    browser, _ = await developer(web)
    project = f"/projects/{web.scene.project.slug}"
    form = f"{project}/proposals/new"
    given = {
        "csrf": csrf((await browser.get(form)).text), "how": "preview-proposal", "slug": "initial",
        "name": "With <b>", "comment": "It lacks the tools", "xml": ONE.replace("\n", "\r\n"),
    }  # fmt: skip
    content = sample(tmp_path)
    answer, _ = await asyncio.gather(
        browser.post(
            f"{project}/trials/new", data=given, files={"sample": ("product.zip", content)}
        ),
        work(web, bench),
    )
    assert answer.status_code == 303, answer.text
    beside = answer.headers["location"]
    assert beside.startswith(f"{form}?")
    page = (await browser.get(beside)).text
    assert "Tried on product.zip" in page
    assert page.count(">would be signed<") == 3
    assert "RECORD keeps the digests of the unsigned files" in page
    for kept in ("With &lt;b&gt;", "It lacks the tools", ONE):
        assert html.unescape(kept) in html.unescape(page)
    assert await stored(web) == []  # the sample is gone
    trial = f"{project}/trials/{beside[-36:]}"
    page = (await browser.get(trial)).text
    assert "What would be signed" in page
    assert page.count(">would be signed<") == 3
    wrong = await browser.post(
        f"{project}/trials/new",
        data=given | {"xml": "<no/>"},
        files={"sample": ("product.zip", content)},
    )
    assert wrong.status_code == 422
    assert 'id="error-xml"' in wrong.text
    assert "Propose an artifact configuration" in wrong.text
    made = await post(
        browser, f"{project}/proposals/new", trial=trial[-36:], slug="initial", name="With <b>",
        comment="It lacks the tools", xml=ONE,
    )  # fmt: skip
    assert made.status_code == 303, made.text
    proposal = made.headers["location"]
    mine = (await browser.get(proposal)).text
    assert "Your answer" not in mine
    refused = await browser.post(f"{proposal}/accept", data={"csrf": csrf(mine)})
    assert refused.status_code == 403
    administrator = await logged_in(web)
    assert proposal in (await administrator.get("/")).text
    seen = (await administrator.get(proposal)).text
    assert "With &lt;b&gt;" in seen
    assert '<span class="added">' in seen
    assert seen.count(">would be signed<") == 3
    done = await post(administrator, f"{proposal}/accept", proposal, word="Good", is_default="true")
    assert done.status_code == 303, done.text
    assert html.escape("With <b>") in (await administrator.get(done.headers["location"])).text
    async with web.database.read() as tx:
        newest = await projects.find_configuration(
            tx, web.scene.organization.id, web.scene.project.id, "initial"
        )
    assert newest
    assert (newest.version, newest.xml, newest.is_default) == (2, ONE, True)
    assert "Good" in (await browser.get("/")).text  # the proposer hears of it
    again = await administrator.post(
        f"{proposal}/decline", data={"csrf": csrf((await administrator.get("/")).text)}
    )
    assert again.status_code == 409


async def test_a_configuration_is_previewed_beside_its_editor(
    web: Web, bench: Workbench, tmp_path: Path
) -> None:
    browser = await logged_in(web)
    project = f"/projects/{web.scene.project.slug}"
    editor = f"{project}/artifact-configurations/new"
    given = {
        "csrf": csrf((await browser.get(editor)).text), "how": "preview", "name": "Mine <b>",
        "slug": "mine", "xml": WITH_PARAMETER, "parameters": "inner = inner\n",
        "is_default": "true",
    }  # fmt: skip
    content = sample(tmp_path)
    begun, _ = await asyncio.gather(
        browser.post(
            f"{project}/trials/new", data=given, files={"sample": ("product.zip", content)}
        ),
        work(web, bench),
    )
    assert begun.status_code == 303, begun.text
    assert begun.headers["location"].startswith(f"{editor}?")
    page = (await browser.get(begun.headers["location"])).text
    assert page.count(">would be signed<") == 3
    assert "Mine &lt;b&gt;" in page
    assert "${inner}.zip" in page
    assert "inner=inner" in page
    assert "data-poll" not in page
    # a fault in the XML is told where it is, in the same form, and nothing is kept
    wrong = await browser.post(
        f"{project}/trials/new",
        data=given | {"xml": "<no/>"},
        files={"sample": ("product.zip", content)},
    )
    assert wrong.status_code == 422
    assert 'id="error-xml"' in wrong.text
    assert "line 1" in wrong.text
    assert 'value="mine"' in wrong.text
    many = await browser.post(
        f"{project}/trials/new",
        data=given | {"parameters": "9 wrong"},
        files={"sample": ("product.zip", content)},
    )
    assert many.status_code == 400
    assert await stored(web) == []


async def stored(web: Web) -> list[str]:
    prefix = f"trials/{web.scene.organization.id}"
    return [key async for key in web.store.list(prefix)]


async def test_a_configuration_is_made_from_a_sample(
    web: Web, bench: Workbench, tmp_path: Path
) -> None:
    client = await web.submitter()
    path = f"/api/v1/projects/{web.scene.project.slug}/trials"
    made = await client.post(path, files={"sample": ("product.zip", sample(tmp_path))})
    assert (made.status_code, made.json()["state"]) == (201, "waiting"), made.text
    await work(web, bench)
    trial = (await client.get(f"{path}/{made.json()['id']}?wait=5")).json()
    assert trial["state"] == "done", trial
    assert "<zip-file>" in trial["xml"]
    assert trial["plan"]["root"]["element"] == "zip-file"
    given = {"slug": "made", "name": "Made", "xml": trial["xml"], "trial": trial["id"]}
    proposals_path = f"/api/v1/projects/{web.scene.project.slug}/proposals"
    proposal = (await client.post(proposals_path, json=given)).json()
    assert (proposal["state"], proposal["trial_id"]) == ("open", trial["id"])
    other = await client.post(proposals_path, json=given | {"xml": ONE})
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    refused = await client.post(f"{proposals_path}/{proposal['id']}/accept", json={})
    assert refused.status_code == 403


async def test_what_cannot_be_tried_is_told_with_its_place(web: Web, bench: Workbench) -> None:
    client = await web.submitter()
    path = f"/api/v1/projects/{web.scene.project.slug}/trials"
    wrong = await client.post(path, data={"xml": "<a/>"}, files={"sample": ("a.zip", b"x" * 1000)})
    assert wrong.status_code == 422
    assert await stored(web) == []
    none = await client.post(path, data={"xml": ONE}, files={"sample": ("", b"")})
    assert none.status_code == 400
    hostile = await client.post(path, data={"xml": ONE}, files={"sample": ("a.zip", b"PK\x03\x04")})
    await work(web, bench)
    trial = (await client.get(f"{path}/{hostile.json()['id']}")).json()
    assert (trial["state"], trial["plan"]) == ("failed", None)
    assert trial["fault"]
    assert await stored(web) == []


async def test_what_was_made_of_a_sample_is_kept_where_it_cannot_be_applied(
    web: Web, bench: Workbench
) -> None:
    """Of a signed file comes a demand to verify it, and no roots are configured here."""
    user = await web.add_user(
        password_hash=await hash_password(PASSWORD), role=Role.PROJECT_ADMINISTRATOR
    )
    browser = await logged_in(web, user)
    path = f"/projects/{web.scene.project.slug}"
    signed = (SIGNED / "osslsigncode-sha256-page-hashes.exe").read_bytes()
    client = await web.client(user)
    begun = await client.post(f"/api/v1{path}/trials", files={"sample": ("signed.exe", signed)})
    await work(web, bench)
    page = await browser.get(f"{path}/trials/{begun.json()['id']}")
    assert "none are configured" in page.text
    assert "&lt;authenticode-verify/&gt;" in page.text
    mended = f"{path}/artifact-configurations/new?trial={begun.json()['id']}"
    assert f'href="{mended}"' in page.text
    assert "&lt;authenticode-verify/&gt;" in (await browser.get(mended)).text


async def test_two_answers_at_once_make_one_version(web: Web) -> None:
    client = await web.submitter()
    boss = await web.add_user(role=Role.PROJECT_ADMINISTRATOR)
    path = f"/api/v1/projects/{web.scene.project.slug}/proposals"
    proposal = await client.post(path, json={"slug": "app", "name": "App", "xml": ONE})
    assert proposal.status_code == 201, proposal.text
    administrator = await web.client(boss)
    one = f"{path}/{proposal.json()['id']}"
    answers = await asyncio.gather(
        *(administrator.post(f"{one}/accept", json={"word": "yes"}) for _ in range(4)),
        *(administrator.post(f"{one}/decline", json={"word": "no"}) for _ in range(4)),
    )
    codes = sorted(answer.status_code for answer in answers)
    assert await told(web) == {
        ("Proposal for Product: App", boss.id),
        (f"Proposal {(await client.get(one)).json()['state']}: App", web.scene.submitter.id),
    }
    assert codes == [200] + [409] * 7, [answer.text for answer in answers]
    decided = (await client.get(one)).json()
    async with web.database.read() as tx:
        versions = await projects.configurations(
            tx, web.scene.organization.id, web.scene.project.id
        )
    assert len([one for one in versions if one.slug == "app"]) == (
        1 if decided["state"] == "accepted" else 0
    )
    assert re.fullmatch("accepted|declined", decided["state"])


async def test_the_command_tries_and_proposes(web: Web, bench: Workbench, tmp_path: Path) -> None:
    file, product = tmp_path / "files.xml", build_artifact(tmp_path / "product.zip")
    file.write_text(ONE)
    token = await web.token(web.scene.submitter)
    command = [
        sys.executable, "-m", "sealwright", "propose", str(file), "--slug", "app", "--comment",
        "Tools", "--project", web.scene.project.slug, "--sample", str(product),
    ]  # fmt: skip
    environment = os.environ | {"SEALWRIGHT_URL": web.server.url, "SEALWRIGHT_TOKEN": token}
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=pipe, stderr=pipe
    )
    (output, complaints), _ = await asyncio.gather(child.communicate(), work(web, bench))
    assert child.returncode == 0, complaints
    lines = output.decode().splitlines()
    assert "Would be signed in product.zip:" in lines
    assert lines[-1].startswith(f"Proposed: {web.server.url}/projects/")
    async with web.database.read() as tx:
        [made] = await proposals.of_projects(tx, web.scene.organization.id, [web.scene.project.id])
    assert (made.slug, made.comment, made.xml) == ("app", "Tools", ONE)
    assert made.trial_id


async def told(web: Web) -> set[tuple[str, str]]:
    """Subjects and recipients of the letters of the test's organization."""
    statement = "SELECT payload, target_id FROM notifications WHERE organization_id = :id"
    async with web.database.read() as tx:
        rows = await tx.all(sa.text(statement).bindparams(id=web.scene.organization.id))
    letters = [(row["payload"], row["target_id"]) for row in rows]
    return {
        ((json.loads(text) if isinstance(text, str) else text)["subject"], who)
        for text, who in letters
    }
