"""Who is told what by mail, in real mails; unusual activity; the daily digest."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Any, cast

import pytest
import sqlalchemy as sa
from tests.fakes.mail_server import MailServer, mail_server
from tests.web import Web, opened

from sealwright.connectors.outgoing import OutgoingClient, OutgoingPolicy
from sealwright.connectors.vault import open_vault
from sealwright.db import notifications, tables, users
from sealwright.model.identifiers import utc_now
from sealwright.model.project import ApproverMail, SubmitterMail
from sealwright.model.user import Role, User, UserKind
from sealwright.reporting import watch
from sealwright.reporting.deliver import Courier
from sealwright.reporting.mail import Mailer
from sealwright.reporting.notify import WAITING
from sealwright.reporting.unusual import look_at_rates
from sealwright.reporting.watch import write_digests

URL = "https://sign.example.com"
NOON = dt.time(12, tzinfo=dt.UTC)


@dataclasses.dataclass
class Post:
    """A server's organization with three approvers, and mail."""

    web: Web
    mail: MailServer
    courier: Courier
    approvers: list[User]

    async def deliver(self, *, planned: bool = True) -> None:
        """Send what is due, of this organization alone; with `planned` once a worker has planned
        every request."""
        async with self.web.database.transaction() as tx:
            rows = await tx.all(sa.select(tables.signing_requests.c.id)) if planned else ()
            for row in rows:
                await notifications.hasten(tx, row["id"], WAITING, utc_now())
            await tx.change(
                sa.text("UPDATE notifications SET due_at = NULL WHERE organization_id != :own")
                .bindparams(own=self.web.scene.organization.id)
            )  # fmt: skip
        await self.courier.send_due()

    def subjects(self, user: User) -> list[str]:
        assert user.email
        return [one["Subject"] for one in self.mail.to(user.email)]


@pytest.fixture
async def post(sqlite_web: Any) -> AsyncIterator[Post]:
    async with (
        opened(sqlite_web) as web,
        mail_server() as mail,
        OutgoingClient(OutgoingPolicy()) as outgoing,
    ):
        approvers = [await web.add_user() for _ in range(3)]
        ids = frozenset(one.id for one in approvers)
        await web.change_policy(approvers=ids, quorum=2)
        mailer = Mailer("smtp+plain", "127.0.0.1", mail.port, "signing@example.com")
        vault = open_vault(web.server.settings.vault_key)
        yield Post(web, mail, Courier(web.database, outgoing, vault, URL, mailer), approvers)


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return cast("str", part.get_content())


async def decide(post: Post, user: User, request: dict[str, Any], verdict: str) -> None:
    client = await post.web.client(user)
    path = f"/api/v1/signing-requests/{request['id']}/{verdict}"
    answer = await client.post(path, json={"comment": "<b>no</b>"})
    assert answer.status_code == 200, answer.text


async def test_approvers_are_told_at_once(post: Post) -> None:
    request = await post.web.submit(description="<script>alert(1)</script>")
    await post.deliver(planned=False)
    assert post.mail.taken == []  # it may turn out that it cannot be signed
    await post.deliver()
    for approver in post.approvers:
        assert post.subjects(approver) == ["Approval needed: a.exe"]
    [one] = post.mail.to(str(post.approvers[0].email))
    link = f"{URL}/signing-requests/{request['id']}"
    assert link in body(one, "plain")
    html = body(one, "html")
    assert link in html
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    await post.deliver()
    assert len(post.mail.taken) == 3


async def test_nobody_is_told_of_what_is_over_already(post: Post) -> None:
    request = await post.web.submit()
    await decide(post, post.approvers[0], request, "deny")
    await post.deliver()
    assert [one["Subject"] for one in post.mail.taken] == ["Denied: a.exe"]


@pytest.mark.parametrize(
    ("level", "told"),
    [
        (SubmitterMail.NONE, []),
        (SubmitterMail.PROBLEMS, ["Not signed: a.exe"]),
        (SubmitterMail.ALL, ["Not signed: a.exe", "Signed: a.exe"]),
    ],
)
async def test_submitters_hear_what_the_policy_says(
    post: Post, level: SubmitterMail, told: list[str]
) -> None:
    await post.web.change_policy(quorum=0, submitter_mail=level)
    await post.web.fail((await post.web.submit())["id"], "The disk was full.")
    await post.web.complete((await post.web.submit())["id"])
    await post.deliver()
    assert sorted(post.subjects(post.web.scene.submitter)) == told
    for one in post.mail.taken:
        if one["Subject"].startswith("Not"):
            assert "Reason: The disk was full." in body(one, "plain")


async def test_neither_ci_users_nor_those_who_are_gone_get_mail(post: Post) -> None:
    robot = await post.web.add_user(kind=UserKind.CI, email=None)
    gone = await post.web.add_user()
    await post.web.change_policy(
        approvers=frozenset({robot.id, gone.id, post.approvers[0].id}), quorum=1
    )
    await post.web.submit()
    async with post.web.database.transaction() as tx:
        await users.update(tx, dataclasses.replace(gone, active=False))
    await post.deliver()
    assert {one["To"] for one in post.mail.taken} == {post.approvers[0].email}


async def test_a_mail_server_that_is_away_loses_nothing(post: Post) -> None:
    post.mail.answers = ["451 come again"]
    await post.web.submit()
    await post.deliver()
    assert len(post.mail.taken) == 2
    async with post.web.database.transaction() as tx:
        await tx.change(
            sa.text("UPDATE notifications SET due_at = created_at WHERE due_at IS NOT NULL")
        )
    await post.deliver()
    assert {one["To"] for one in post.mail.taken} == {one.email for one in post.approvers}


async def test_the_digest_comes_once_a_day(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_BATCH", 1)  # however many wait
    await post.web.change_policy(approver_mail=ApproverMail.DIGEST)
    one = await post.web.submit()
    await post.web.submit()
    await decide(post, post.approvers[0], one, "approve")
    await post.deliver()
    assert post.mail.taken == []
    today = dt.datetime.combine(utc_now().date(), NOON)
    for moment in (today.replace(hour=3), today, today + dt.timedelta(hours=2)):
        async with post.web.database.transaction() as tx:
            await write_digests(tx, moment)
    async with post.web.database.transaction() as tx:
        await tx.change(
            sa.text("UPDATE notifications SET due_at = :now WHERE due_at IS NOT NULL").bindparams(
                now=utc_now().replace(tzinfo=None).isoformat(" ")
            )
        )
    await post.deliver()
    assert post.subjects(post.approvers[0]) == ["1 signing request waits for your approval"]
    assert post.subjects(post.approvers[1]) == ["2 requests wait for your approval"]


async def unusual(post: Post) -> list[dict[str, Any]]:
    client = await post.web.client(await post.web.add_user(role=Role.GLOBAL_READER))
    answer = await client.get("/api/v1/log-entries", params={"action": "activity.unusual"})
    return [one["data"] for one in answer.json()["items"]]


async def test_the_first_use_of_a_certificate_is_flagged_once(post: Post) -> None:
    boss = await post.web.add_user(role=Role.GLOBAL_ADMINISTRATOR)
    await post.web.submit()
    await post.web.submit()
    found = await unusual(post)
    assert [one["kind"] for one in found] == ["first-use-of-certificate"]
    assert found[0]["certificate"] == post.web.scene.policy.certificate_id
    await post.deliver()
    assert post.subjects(boss) == ["Unusual activity: first use of certificate"]
    [letter] = post.mail.to(boss.email or "")
    for kind in ("plain", "html"):
        said = " ".join(body(letter, kind).split())
        assert "Global administrators are told of unusual activity." in said
        assert "signing policy" not in said.rpartition("Sealwright at")[2], "it is not its matter"


async def test_rates_and_failures_are_flagged(post: Post) -> None:
    await post.web.change_policy(quorum=0, submitter_mail=SubmitterMail.NONE)
    for _ in range(20):
        request = await post.web.submit()
        await post.web.fail(request["id"])
    for _ in range(2):
        async with post.web.database.transaction() as tx:
            await look_at_rates(tx, utc_now() + dt.timedelta(seconds=1))
    kinds = sorted(one["kind"] for one in await unusual(post))
    assert kinds == ["first-use-of-certificate", "many-failures", "submission-rate"]


async def test_what_is_usual_is_not_flagged(post: Post) -> None:
    await post.web.change_policy(quorum=0)
    for number in range(19):
        request = await post.web.submit()
        if number < 4:
            await post.web.fail(request["id"])
    async with post.web.database.transaction() as tx:
        await look_at_rates(tx, utc_now() + dt.timedelta(seconds=1))
    assert [one["kind"] for one in await unusual(post)] == ["first-use-of-certificate"]


async def test_new_approvers_are_flagged_also_by_a_group(post: Post) -> None:
    client = await post.web.client(await post.web.add_user(role=Role.GLOBAL_ADMINISTRATOR))
    friend = await post.web.add_user()
    project, policy = post.web.scene.project, post.web.scene.policy
    made = await client.post("/api/v1/groups", json={"name": "Release managers"})
    assert made.status_code == 201, made.text
    group = made.json()["id"]
    path = f"/api/v1/projects/{project.slug}/signing-policies/{policy.slug}"
    approvers = [*policy.approvers, group]
    assert (await client.patch(path, json={"approvers": approvers})).status_code == 200
    assert await unusual(post) == []  # an empty group approves nothing
    changed = await client.patch(f"/api/v1/groups/{group}", json={"members": [friend.id]})
    assert changed.status_code == 200, changed.text
    [found] = await unusual(post)
    assert (found["kind"], found["users"], found["policy"]) == (
        "new-approver", [friend.id], policy.id,
    )  # fmt: skip
    await client.patch(path, json={"name": "New name"})
    assert len(await unusual(post)) == 1
