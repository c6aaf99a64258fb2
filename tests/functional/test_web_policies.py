"""Artifact configurations and signing policies on pages."""

from __future__ import annotations

import hashlib
import html
import re

from tests import database as rows
from tests import keys
from tests.functional.test_web_pages import logged_in
from tests.functional.test_web_projects import post
from tests.web import PASSWORD, Web

from sealwright.db import certificates, projects
from sealwright.intake.passwords import hash_password
from sealwright.model.certificate import Certificate
from sealwright.model.project import SigningPolicy
from sealwright.web.ui.artifact_configurations import difference

XML = """<?xml version="1.0" encoding="utf-8"?>
<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <zip-file>
    <pe-file path="{}"><authenticode-sign/></pe-file>
  </zip-file>
</artifact-configuration>
"""


async def policy_of(web: Web, slug: str) -> SigningPolicy:
    async with web.database.read() as tx:
        found = await projects.find_policy(
            tx, web.scene.organization.id, web.scene.project.id, slug
        )
    assert found
    return found


async def test_versions_are_added_compared_and_faults_placed(web: Web) -> None:
    browser = await logged_in(web)
    path = f"/projects/{web.scene.project.slug}/artifact-configurations"
    given = {"slug": "app", "name": "App", "xml": XML.format("a.exe").replace("\n", "\r\n")}
    first = await post(browser, f"{path}/new", **given)
    assert first.status_code == 303, first.text
    shown = (await browser.get(first.headers["location"])).text
    assert "Version 1" in shown
    assert XML.format("a.exe") in html.unescape(shown)  # line ends are as they were typed
    again = (await browser.get(f"{path}/new?from={first.headers['location'][-36:]}")).text
    assert 'value="app"' in again
    second = await post(browser, f"{path}/new", **given | {"xml": XML.format("b.exe")})
    page = (await browser.get(second.headers["location"])).text
    assert "From version 1 to version 2" in page
    for kind, name in (("removed", "a.exe"), ("added", "b.exe")):
        part = re.search(rf'<span class="{kind}">(.*?)\n</span>', page, re.DOTALL)
        assert part
        assert name in part[1]
    wrong = await post(
        browser, f"{path}/new", **given | {"xml": XML.replace("authenticode-sign", "sign-it")}
    )
    assert wrong.status_code == 422
    assert re.search(r'id="error-xml">line 4, column \d+', wrong.text)
    assert "sign-it" in wrong.text
    listed = (await browser.get(path)).text
    assert listed.count("<tr>") == 3  # the heading, what was there, and this
    missing = await browser.get(f"{second.headers['location']}?compare=x")
    assert missing.status_code == 404


def test_differences_are_lines_with_their_kind() -> None:
    found = difference("a\nb\nc", "a\nx\nc")
    assert found == [
        ("place", "@@ -1,3 +1,3 @@"), ("same", "a"), ("removed", "b"), ("added", "x"),
        ("same", "c"),
    ]  # fmt: skip
    assert difference("a", "a") == []


async def test_a_policy_is_made_and_changed_with_every_option(web: Web) -> None:
    browser = await logged_in(web)
    scene = web.scene
    path = f"/projects/{scene.project.slug}/signing-policies"
    given = {
        "slug": "release", "name": "Release <i>", "kind": "test-signing",
        "certificate": scene.certificate.id, "submitters": [scene.submitter.id],
        "approvers": [one.id for one in scene.approvers], "quorum": "2", "approval_hours": "48",
        "timestamp_required": "true", "origin_required": "true", "enabled": "true",
        "branches": "main\n release/* \n\n", "tags": "v*", "events": ["push"],
        "definitions": ".github/workflows/release.yml", "no_reruns": "true", "caller_proof": "true",
        "rulesets": "pull_request\npull_request.required_approving_review_count = 2",
    }  # fmt: skip
    made = await post(browser, f"{path}/new", **given)
    assert made.status_code == 303, made.text
    policy = await policy_of(web, "release")
    rules = policy.origin_rules
    assert (policy.quorum, policy.approval_hours, policy.timestamp_required) == (2, 48, True)
    assert not policy.hash_signing_allowed
    assert (rules.branches, rules.tags, rules.events) == (("main", "release/*"), ("v*",), ("push",))
    assert dict(rules.rulesets) == {
        "pull_request": "", "pull_request.required_approving_review_count": "2",
    }  # fmt: skip
    page = (await browser.get(f"{path}/release")).text
    assert "Release &lt;i&gt;" in page
    assert "No re-runs." in page
    form = html.unescape((await browser.get(f"{path}/release/edit")).text)
    assert "main\nrelease/*" in form
    assert 'value="push" checked' in form
    less = {
        "name": "Less", "certificate": scene.certificate.id, "quorum": "0", "approval_hours": "0",
        "submitters": [scene.submitter.id],
    }  # fmt: skip
    changed = await post(browser, f"{path}/release/edit", **less)
    assert changed.status_code == 303, changed.text
    policy = await policy_of(web, "release")
    assert (policy.name, policy.quorum, policy.enabled) == ("Less", 0, False)
    assert policy.approvers == frozenset()
    assert not policy.origin_rules.branches
    assert "The policy is disabled" in (await browser.get(f"{path}/release")).text


async def test_a_policy_that_cannot_be_is_refused_beside_its_fields(sqlite: Web) -> None:
    browser = await logged_in(sqlite)
    scene = sqlite.scene
    path = f"/projects/{scene.project.slug}/signing-policies/new"
    fine = {"slug": "x", "name": "X", "kind": "test-signing", "quorum": "0", "approval_hours": "0",
            "certificate": scene.certificate.id}  # fmt: skip
    for wrong, field in (
        ({"quorum": "many"}, "quorum"),
        ({"certificate": ""}, "certificate"),
        ({"branches": "[x"}, "branches"),
        ({"events": ["pull_request"]}, "events"),
    ):
        answer = await post(browser, path, **fine | wrong)
        assert (answer.status_code, f"error-{field}" in answer.text) == (400, True), wrong
    too_many = await post(browser, path, **fine | {"quorum": "3"})
    assert too_many.status_code in {400, 422}
    assert 'class="note bad"' in too_many.text
    unknown = await post(browser, path, **fine | {"certificate": "none"})
    assert unknown.status_code == 404
    root = await _root(sqlite)
    assert root.name not in (await browser.get(path)).text
    refused = await post(browser, path, **fine | {"certificate": root.id})
    assert refused.status_code == 403
    assert "is a certification authority" in refused.text


async def _root(web: Web) -> Certificate:
    """A certification authority's certificate, as what issues others on the token has it."""
    der = keys.issue("Root", keys.new_key("p256"), None, authority=True).der
    digest = hashlib.sha256(der).hexdigest()
    organization = web.scene.organization.id
    made = rows.certificate(
        organization, slug="root", name="The root", certificate=der, sha256=digest
    )
    async with web.database.transaction() as tx:
        await certificates.add(tx, made)
    return made


async def test_who_only_takes_part_changes_nothing(sqlite: Web) -> None:
    user = await sqlite.add_user(password_hash=await hash_password(PASSWORD))
    await sqlite.change_policy(submitters=sqlite.scene.policy.submitters | {user.id})
    browser = await logged_in(sqlite, user)
    project = f"/projects/{sqlite.scene.project.slug}"
    for part in ("", "/artifact-configurations", "/signing-policies"):
        page = (await browser.get(project + part)).text
        assert "/new" not in re.sub("/(proposals|trials)/new", "", page)
        assert "/edit" not in page
    for part in ("/artifact-configurations/new", "/signing-policies/new", "/edit"):
        assert (await browser.get(project + part)).status_code == 403
