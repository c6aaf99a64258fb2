"""What an organization still needs until its first artifact is signed."""

from __future__ import annotations

from dataclasses import dataclass

from sealwright.db import Transaction, certificates, projects, requests, users
from sealwright.policy.permissions import Grant
from sealwright.web.ui.navigation import may_open


@dataclass(frozen=True)
class Step:
    """One of them: what to do, what that is for, where, and whether it is done."""

    label: str
    purpose: str
    path: str
    done: bool


async def first_steps(tx: Transaction, grant: Grant) -> list[Step]:
    """The steps, in order; none once something was submitted, nor for who may not take them."""
    organization = grant.organization_id
    if not all(may_open(grant.principal, name) for name in ("ui.project_new", "ui.new_user_page")):
        return []
    if await requests.page(tx, organization, limit=1):
        return []
    people = await users.people(tx, organization, limit=2)
    known = await projects.every(tx, organization)
    project = f"/projects/{known[0].slug}" if known else "/projects"
    policies = await projects.policies(tx, organization)
    configured = [one for one in known if await projects.configurations(tx, organization, one.id)]
    return [
        Step(
            "Make a certificate",
            "A self-signed one for tests, or a request for your certification authority.",
            "/certificates/new",
            bool(await certificates.every(tx, organization)),
        ),
        Step(
            "Invite people",
            "Who submits, who approves, who administers. Pipelines get CI users.",
            "/users/new",
            len(people) > 1,
        ),
        Step(
            "Make a project",
            "Usually one for a product and its repository.",
            "/projects/new",
            bool(known),
        ),
        Step(
            "Say what is signed",
            "An artifact configuration, made from a sample of yours or written by hand.",
            f"{project}/trials/new?how=generate" if known else project,
            bool(configured),
        ),
        Step(
            "Make a signing policy",
            "With which certificate, who submits, who approves, and from which builds.",
            f"{project}/signing-policies/new" if known else project,
            bool(policies),
        ),
        Step(
            "Submit a first artifact",
            "By hand here, or from a build: the project's page has what to copy.",
            project if known else "/submit",
            done=False,
        ),
    ]
