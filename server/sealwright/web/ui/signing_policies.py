"""Signing policies: in words, and as a form."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from sealwright.db import Transaction, certificates, endorsements, projects
from sealwright.errors import ForbiddenError, NotFoundError, SealwrightError
from sealwright.model.certificate import CertificateStatus
from sealwright.model.identifiers import utc_now
from sealwright.model.project import PolicyKind, Project, SigningPolicy
from sealwright.origin.rules import EVENTS
from sealwright.policy.certificate_usage import other_purpose
from sealwright.visible import find_policy, find_project
from sealwright.web import awaited
from sealwright.web.api.v1.signing_policies import add_policy, change_policy
from sealwright.web.problems import status_of
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.schemas.projects import OriginRulesIn, SigningPolicyIn, SigningPolicyPatch
from sealwright.web.ui import people
from sealwright.web.ui.forms import Form, check_unchanged, read_form, stamped
from sealwright.web.ui.navigation import may_open
from sealwright.web.ui.projects import tabs
from sealwright.web.ui.rendering import page, redirect

_LISTS = ("submitters", "approvers", "events")
_CHECKS = (
    "timestamp_required",
    "hash_signing_allowed",
    "malware_scan",
    "origin_required",
    "passkey_required",
    "enabled",
)
_RULE_LINES = ("branches", "tags", "definitions", "runner_groups")
_RULE_CHECKS = ("caller_proof", "no_reruns", "hosted_runners_only", "allow_bypass")


async def listing(call: Call) -> Response:
    """All of a project."""
    grant = call.grant
    async with call.services.database.read() as tx:
        project = await find_project(tx, grant, call.path("project"))
        found = await projects.policies(tx, grant.organization_id, project.id)
        names = {one.id: one.name for one in await certificates.every(tx, grant.organization_id)}
        url = call.services.settings.url
        waiting = await awaited.policies(tx, grant.organization_id, found, url)
    shown = {
        "project": project,
        "tabs": tabs(call, project, "ui.policies"),
        "policies": found,
        "certificates": names,
        "waiting": waiting,
        "may_create": may_open(grant.principal, "ui.policy_new"),
    }
    return page(call, "policies/list.html", shown)


async def one(call: Call) -> Response:
    """One policy, in words."""
    grant = call.grant
    async with call.services.database.read() as tx:
        project = await find_project(tx, grant, call.path("project"))
        policy = await find_policy(tx, grant, project, call.path("policy"))
        shown: dict[str, Any] = {
            "project": project,
            "policy": policy,
            "tabs": tabs(call, project, "ui.policies"),
            "certificate": await certificates.get(tx, grant.organization_id, policy.certificate_id),
            "submitters": await people.names(tx, grant.organization_id, policy.submitters),
            "approvers": await people.names(tx, grant.organization_id, policy.approvers),
            "may_edit": may_open(grant.principal, "ui.policy_edit"),
            "awaited": await _awaited(tx, call, policy),
        }
    return page(call, "policies/detail.html", shown)


async def new(call: Call) -> Response:
    """The empty form."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
    start = Form({"kind": PolicyKind.TEST.value, "timestamp_required": "true", "enabled": "true",
                  "quorum": "0", "approval_hours": "0", "approver_mail": "each",
                  "submitter_mail": "problems"})  # fmt: skip
    return await _form(call, project, None, start)


async def create(call: Call) -> Response:
    """Make the policy, and go to its page."""
    form = await read_form(call, _LISTS)
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
    try:
        policy = await add_policy(call, form.parse(SigningPolicyIn, **_given(form)))
    except ForbiddenError:
        raise
    except SealwrightError as error:
        return await _form(call, project, None, form.refused(error), status_of(error))
    path = f"/projects/{project.slug}/signing-policies/{policy.slug}"
    return redirect(call, path, "The policy is made.")


async def edit(call: Call) -> Response:
    """The form with what is there."""
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        policy = await find_policy(tx, call.grant, project, call.path("policy"))
    return await _form(call, project, policy, _filled(policy))


async def update(call: Call) -> Response:
    """Change it, and back to its page."""
    form = await read_form(call, _LISTS)
    async with call.services.database.read() as tx:
        project = await find_project(tx, call.grant, call.path("project"))
        policy = await find_policy(tx, call.grant, project, call.path("policy"))
    try:
        check_unchanged(form, _filled(policy))
        form.require("name", "certificate", "quorum", "approval_hours")
        policy = await change_policy(call, form.parse(SigningPolicyPatch, **_given(form)))
    except (ForbiddenError, NotFoundError):
        raise
    except SealwrightError as error:
        return await _form(call, project, policy, form.refused(error), status_of(error))
    path = f"/projects/{project.slug}/signing-policies/{policy.slug}"
    async with call.services.database.read() as tx:
        trusted = await endorsements.anchors(tx, policy.organization_id)
    kept = (
        "Requests decided before have to be submitted again once the change is endorsed."
        if trusted
        else "Requests that were submitted keep theirs."
    )
    return redirect(call, path, f"The policy is changed. {kept}")


async def _awaited(tx: Transaction, call: Call, policy: SigningPolicy) -> tuple[str, ...] | None:
    url = call.services.settings.url
    waiting = await awaited.policies(tx, policy.organization_id, [policy], url)
    return waiting.get(policy.id)


def _given(form: Form) -> dict[str, Any]:
    """What the form says that is no plain field: check boxes, lists, rules of the origin.

    Raises:
        FormError: a rule does not fit.
    """
    rules: dict[str, Any] = {name: _lines(form, name) for name in _RULE_LINES}
    rules |= {name: form.checked(name) for name in _RULE_CHECKS}
    rules["events"] = tuple(form.chosen("events"))
    rules["rulesets"] = {
        name.strip(): value.strip()
        for name, _, value in (line.partition("=") for line in _lines(form, "rulesets"))
    }
    return {
        "submitters": frozenset(form.chosen("submitters")),
        "approvers": frozenset(form.chosen("approvers")),
        "origin_rules": Form().parse(OriginRulesIn, **rules),
        **{name: form.checked(name) for name in _CHECKS},
    }


def _lines(form: Form, name: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in form.value(name).splitlines() if line.strip())


def _filled(policy: SigningPolicy) -> Form:
    rules = policy.origin_rules
    values = {
        "name": policy.name,
        "certificate": policy.certificate_id,
        "quorum": str(policy.quorum),
        "approval_hours": str(policy.approval_hours),
        "approver_mail": policy.approver_mail.value,
        "submitter_mail": policy.submitter_mail.value,
        "rulesets": "\n".join(f"{name}={value}" for name, value in rules.rulesets.items()),
        **{name: "\n".join(getattr(rules, name)) for name in _RULE_LINES},
        **{name: "true" for name in _RULE_CHECKS if getattr(rules, name)},
        **{name: "true" for name in _CHECKS if getattr(policy, name)},
    }
    lists = {
        "submitters": sorted(policy.submitters),
        "approvers": sorted(policy.approvers),
        "events": rules.events,
    }
    return stamped(Form(values, lists))


async def _form(
    call: Call, project: Project, policy: SigningPolicy | None, form: Form, status: int = 200
) -> Response:
    async with call.services.database.read() as tx:
        shown: dict[str, Any] = {
            "people": await people.options(tx, call.grant.organization_id),
            "certificates": await _certificates(tx, call.grant.organization_id),
        }
    shown |= {
        "project": project,
        "policy": policy,
        "form": form,
        "tabs": tabs(call, project, "ui.policies"),
        "kinds": [(kind.value, kind.value) for kind in PolicyKind],
        "known_events": [(name, name) for name in sorted(frozenset().union(*EVENTS.values()))],
    }
    return page(call, "policies/form.html", shown, status)


async def _certificates(tx: Transaction, organization_id: str) -> list[tuple[str, str]]:
    return [
        (one.id, f"{one.name} ({one.subject}, until {one.not_after:%Y-%m-%d})")
        for one in await certificates.every(tx, organization_id)
        if one.status(utc_now()) in {CertificateStatus.ACTIVE, CertificateStatus.EXPIRED}
        and not other_purpose(one)
    ]


_PATH = "/projects/{project}/signing-policies"
_ONE = f"{_PATH}/{{policy}}"

ENDPOINTS = (
    Endpoint("ui.policies", "GET", _PATH, listing, "", face=Face.UI),
    Endpoint("ui.policy_new", "GET", f"{_PATH}/new", new, "", face=Face.UI),
    Endpoint("ui.policy_create", "POST", f"{_PATH}/new", create, "", face=Face.UI),
    Endpoint("ui.policy", "GET", _ONE, one, "", face=Face.UI),
    Endpoint("ui.policy_edit", "GET", f"{_ONE}/edit", edit, "", face=Face.UI),
    Endpoint("ui.policy_update", "POST", f"{_ONE}/edit", update, "", face=Face.UI),
)
