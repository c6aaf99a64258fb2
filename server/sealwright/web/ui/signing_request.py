"""One signing request: its page, decisions, repetition and downloads."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from sealwright.approve import approve_or_deny
from sealwright.cancel import cancel as cancel_request
from sealwright.db import (
    Transaction,
    approvals,
    build_systems,
    certificates,
    groups,
    passkeys,
    plans,
    projects,
    users,
)
from sealwright.db import log as db_log
from sealwright.errors import SealwrightError
from sealwright.model.build_system import BuildSystemKind
from sealwright.model.origin import Origin
from sealwright.model.passkey import relying_party
from sealwright.model.project import SigningPolicy
from sealwright.model.request import Approval, SigningRequest, State, Verdict
from sealwright.policy.approvals import may_decide
from sealwright.policy.permissions import may_cancel
from sealwright.submit import Submission
from sealwright.submit import resubmit as resubmit_request
from sealwright.submit import retry as retry_request
from sealwright.visible import find_policy, find_request
from sealwright.web import awaited, views
from sealwright.web.api.v1.signing_requests import find, signed_of, unsigned_of
from sealwright.web.downloads import artifact_response
from sealwright.web.passkeys import approval_options
from sealwright.web.problems import status_of
from sealwright.web.proofs import proof_response
from sealwright.web.routes import Call, Endpoint, Face, checked_json
from sealwright.web.schemas.fields import Reference, Text
from sealwright.web.schemas.passkeys import AssertedCredentialIn
from sealwright.web.schemas.signing_requests import SigningRequestOut
from sealwright.web.ui import artifact_tree
from sealwright.web.ui.forms import Form, read_form
from sealwright.web.ui.rendering import page, redirect
from sealwright.web.waiting import event_stream

_MAX_COMMENT = 4000
_TIME_LINE = 100
_NAMED = 10


class LevelQuery(BaseModel):
    """Which part of the tree to show."""

    model_config = ConfigDict(extra="forbid")

    of: Annotated[str, Field(max_length=2000, pattern=artifact_tree.ADDRESS)] = ""
    start: Annotated[int, Field(ge=0, le=10_000_000)] = 0


class ResubmitForm(BaseModel):
    """The form that signs the artifact under another policy."""

    signing_policy: Reference
    description: Text = ""


async def detail(call: Call) -> Response:
    """One request: what, from where, decided by whom, with which result."""
    return await _detail(call, Form())


async def _detail(call: Call, form: Form, status: int = 200) -> Response:
    grant = call.grant
    user = grant.user
    async with call.services.database.read() as tx:
        request = await find_request(tx, grant, call.path("request"))
        decisions = await approvals.of_request(tx, request.id)
        policy = await find_policy(tx, grant, None, request.signing_policy_id)
        entries = await db_log.time_line(tx, request.id, _TIME_LINE)
        tree = await artifact_tree.whole(tx, request)
        planned = await plans.standing(tx, request.id)
        signer = await _signer(tx, request)
        policies = await projects.policies(tx, grant.organization_id, request.project_id)
        links = await _links(tx, request.organization_id, request.origin)
        actors = [request.submitted_by, *_users(entry.about.actor for entry in entries)]
        people = await views.names(tx, request.organization_id, actors)
        keys = await passkeys.of_user(tx, grant.organization_id, user.id)
        approvers = await _who_may_still(tx, request, policy, decisions)
        needed = await awaited.request(tx, request, call.services.settings.url)
    options = ""
    if request.snapshot.fields.get("passkey_required"):
        options = json.dumps(approval_options(call.services, request, user, keys))
    fields = views.request_fields(request, people, call.services.settings.url)
    released = [entry for entry in entries if entry.action == "artifact.released"]
    submits = [one for one in policies if one.enabled and user.standing & one.submitters]
    shown: dict[str, Any] = {
        "request": SigningRequestOut.model_validate(fields),
        "decisions": decisions,
        "entries": entries,
        "people": people,
        "released": released[-1] if released else None,
        "tree": tree,
        "planned": planned,
        "results_removed_at": request.results_removed_at,
        "state": planned_word(request),
        "signer": signer,
        "links": links,
        "form": form,
        "passkey_options": options,
        "approvers": approvers,
        "approvals_needed": policy.quorum
        - sum(one.verdict is Verdict.APPROVE for one in decisions),
        "check": _check(call.services.settings.url, request) if released else "",
        "needed": needed,
        "may_decide": may_decide(user, request, policy, decisions),
        "may_cancel": may_cancel(user, request),
        "may_retry": request.state is State.FAILED and policy in submits,
        "policies": [(one.slug, one.name) for one in submits] if request.input else [],
        "stages": _stages(request),
    }
    return page(call, "requests/detail.html", shown, status)


async def files(call: Call) -> Response:
    """A part of the artifact's tree."""
    query = call.query(LevelQuery)
    async with call.services.database.read() as tx:
        request = await find_request(tx, call.grant, call.path("request"))
        found = await artifact_tree.level(tx, request, query.of, query.start)
        signer = await _signer(tx, request)
    base = f"/signing-requests/{request.id}"
    name = request.input.file_name if request.input else "Request"
    shown = {
        "level": found,
        "base": base,
        "state": planned_word(request),
        "signer": signer,
        "purpose": "Every member of this part of the artifact, and what was done to it.",
        "crumbs": tree_crumbs(
            [("Signing requests", "/signing-requests"), (name, base)], base, found
        ),
    }
    return page(call, "requests/files.html", shown)


def tree_crumbs(
    crumbs: list[tuple[str, str]], base: str, level: artifact_tree.Level | None
) -> list[tuple[str, str]]:
    """The way to a part of a tree: behind the page that has the tree, what the part is in."""
    way = level.way[1:] if level else ()
    return [*crumbs, *((name, f"{base}/files?of={address}") for name, address in way)]


def planned_word(request: SigningRequest) -> str:
    """What a directive is called that was not carried out (yet)."""
    if request.state is State.FAILED:
        return "failed"
    if request.state is State.WAITING_FOR_APPROVAL:
        return artifact_tree.WOULD
    return "not done" if request.state.is_final else "planned"


async def _signer(tx: Transaction, request: SigningRequest) -> str:
    found = await certificates.get(tx, request.organization_id, request.certificate_id)
    return found.name if found else ""


async def events(call: Call) -> Response:
    """Each change, for the page's script."""
    return await event_stream(call, call.path("request"))


async def approve(call: Call) -> Response:
    """Approve, and back to the page."""
    return await _decide(call, Verdict.APPROVE)


async def deny(call: Call) -> Response:
    """Deny, and back to the page."""
    return await _decide(call, Verdict.DENY)


async def _decide(call: Call, verdict: Verdict) -> Response:
    form = await read_form(call)
    services = call.services
    credential = None
    if verdict is Verdict.APPROVE and form.value("credential"):
        credential = checked_json(AssertedCredentialIn, form.value("credential").encode())
    await approve_or_deny(
        services.database,
        services.queue,
        call.grant,
        call.path("request"),
        verdict,
        form.value("comment")[:_MAX_COMMENT],
        credential.assertion() if credential else None,
        relying_party(services.settings.url),
    )
    return _back(call, "Approved." if verdict is Verdict.APPROVE else "Denied.")


async def cancel(call: Call) -> Response:
    """Cancel, and back to the page."""
    await read_form(call)
    services = call.services
    await cancel_request(services.database, services.queue, call.grant, call.path("request"))
    return _back(call, "The request is canceled.")


async def retry(call: Call) -> Response:
    """Submit what failed once more, and go to the new request."""
    await read_form(call)
    services = call.services
    made = await retry_request(
        services.database, services.queue, call.grant, call.path("request"), None
    )
    message = "This request repeats the one that failed."
    return redirect(call, f"/signing-requests/{made.request.id}", message)


async def resubmit(call: Call) -> Response:
    """Submit the artifact under another policy, and go to the new request."""
    form = await read_form(call)
    services = call.services
    try:
        given = form.parse(ResubmitForm)
        submission = Submission(
            project=None,
            policy=given.signing_policy,
            configuration=None,
            description=given.description,
        )
        made = await resubmit_request(
            services.database, services.queue, call.grant, call.path("request"), submission
        )
    except SealwrightError as error:
        if status_of(error) in {403, 404}:
            raise
        return await _detail(call, form.refused(error), status_of(error))
    return redirect(call, f"/signing-requests/{made.request.id}", "The artifact is resubmitted.")


async def signed_artifact(call: Call) -> Response:
    """The signed bytes."""
    artifact = signed_of(await find(call))
    return await artifact_response(call.request, call.services.store, artifact)


async def unsigned_artifact(call: Call) -> Response:
    """The bytes that were submitted."""
    artifact = unsigned_of(await find(call))
    return await artifact_response(call.request, call.services.store, artifact)


async def proof(call: Call) -> Response:
    """The proof of the release."""
    return await proof_response(call.services, await find(call))


async def _who_may_still(
    tx: Transaction, request: SigningRequest, policy: SigningPolicy, decisions: Sequence[Approval]
) -> list[str]:
    """Names of whom the request waits for."""
    if request.state is not State.WAITING_FOR_APPROVAL:
        return []
    ids = await groups.people(tx, request.organization_id, policy.approvers)
    people = await users.some(tx, request.organization_id, ids)
    found = sorted(one.name for one in people if may_decide(one, request, policy, decisions))
    more = len(found) - _NAMED
    return [*found[:_NAMED], f"{more} more"] if more > 0 else found


def _check(url: str, request: SigningRequest) -> str:
    """Commands that check the release offline; empty before there is one."""
    if request.output is None:
        return ""
    name = shlex.quote(request.output.file_name)
    proof_name = shlex.quote(f"{request.output.file_name}.tlog-proof")
    return (
        f"curl --fail --output verifier.key {url}/log/key\n"
        f"sealwright log proof verify {proof_name} --artifact {name} --key verifier.key"
    )


def _back(call: Call, message: str) -> Response:
    return redirect(call, f"/signing-requests/{call.path('request')}", message)


def _users(actors: Iterable[str | None]) -> list[str]:
    """Ids of the users among actors of the log."""
    return [actor.removeprefix("user:") for actor in actors if actor and actor.startswith("user:")]


async def _links(tx: Transaction, organization_id: str, origin: Origin) -> dict[str, str]:
    """Where the origin's facts can be looked at: only what a trusted build system has confirmed."""
    links = {"system": "", "commit": ""}
    if not origin.verified or not origin.build_system_id:
        return links
    system = await build_systems.find(tx, organization_id, origin.build_system_id)
    if system is None:
        return links
    links["system"] = system.name
    repository = origin.repository_url.removesuffix(".git").rstrip("/")
    if origin.commit and repository.startswith("https://"):
        middle = "/-/commit/" if system.kind is BuildSystemKind.GITLAB else "/commit/"
        links["commit"] = f"{repository}{middle}{origin.commit}"
    return links


def _stages(request: SigningRequest) -> list[tuple[State, str]]:
    """The way of the request: (stage, ``done``, ``now``, ``ahead`` or ``ended``)."""
    way = [State.SUBMITTED]
    if request.retrieval:
        way.append(State.RETRIEVING_ARTIFACT)
    if request.snapshot.fields["quorum"]:
        way.append(State.WAITING_FOR_APPROVAL)
    if request.state is State.SCANNING_FOR_MALWARE or (
        request.failed_stage is State.SCANNING_FOR_MALWARE
    ):
        way.append(State.SCANNING_FOR_MALWARE)
    if State.WAITING_FOR_ENDORSEMENT in {request.state, request.failed_stage}:
        way.append(State.WAITING_FOR_ENDORSEMENT)
    way += [State.QUEUED, State.PROCESSING, State.COMPLETED]
    if request.state in way:
        at = way.index(request.state)
        marks = ["done"] * at + ["done" if request.state is State.COMPLETED else "now"]
    else:
        reached = request.failed_stage if request.failed_stage in way else State.SUBMITTED
        at = way.index(reached or State.SUBMITTED)
        way = [*way[: at + 1], request.state]
        marks = ["done"] * (at + 1) + ["ended"]
    marks += ["ahead"] * (len(way) - len(marks))
    return list(zip(way, marks, strict=True))


_ONE = "/signing-requests/{request}"


def _page(name: str, method: str, path: str, handler: Any) -> Endpoint:
    return Endpoint(f"ui.{name}", method, f"{_ONE}{path}", handler, "", face=Face.UI)


ENDPOINTS = (
    _page("request", "GET", "", detail),
    _page("request_files", "GET", "/files", files),
    _page("events", "GET", "/events", events),
    _page("approve", "POST", "/approve", approve),
    _page("deny", "POST", "/deny", deny),
    _page("cancel", "POST", "/cancel", cancel),
    _page("retry", "POST", "/retry", retry),
    _page("resubmission", "POST", "/resubmit", resubmit),
    _page("signed_artifact", "GET", "/signed-artifact", signed_artifact),
    _page("unsigned_artifact", "GET", "/unsigned-artifact", unsigned_artifact),
    _page("proof", "GET", "/proof", proof),
)
