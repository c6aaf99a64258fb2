"""What mails say: built from the database when they go out, so that they tell how things stand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from sealwright.db import Transaction, approvals, projects, requests, users
from sealwright.model.notification import Notification
from sealwright.model.project import ApproverMail
from sealwright.model.request import SigningRequest, State
from sealwright.model.user import User
from sealwright.policy.approvals import may_decide
from sealwright.reporting.mail import Mail
from sealwright.reporting.notify import DIGEST, LETTER, WAITING, Letter

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENDS = {
    State.COMPLETED: ("Signed", "Your signing request is completed; the signed file is there."),
    State.FAILED: ("Not signed", "Your signing request failed."),
    State.DENIED: ("Denied", "An approver denied your signing request."),
    State.CANCELED: ("Canceled", "Your signing request was canceled."),
}
_MOST_LISTED = 50


async def compose(tx: Transaction, message: Notification, url: str) -> Mail | None:
    """The mail that `message` stands for; None if there is nothing to say any more, or nobody.

    Args:
        url: the server's address, without a trailing slash.
    """
    user = await users.get(tx, message.organization_id, message.target_id)
    if user is None or not user.active or not user.email:
        return None
    letter = await _letter(tx, message, user)
    if letter is not None and message.event != LETTER:
        letter = dataclasses.replace(letter, why="Who hears what is set in the signing policy.")
    return render(letter, user.email, url, f"{message.id}.notification") if letter else None


def render(letter: Letter, to: str, url: str = "", message_id: str = "", footer: str = "") -> Mail:
    """The letter as text and HTML. Without `url` the letter's path is a whole address."""
    parts = (f"Sealwright at {url}.", letter.why, "Your own address is in your account.")
    footer = footer or " ".join(filter(None, parts))
    shown = {"letter": letter, "url": url, "footer": footer}
    return Mail(
        to,
        letter.subject,
        _TEMPLATES.get_template("letter.txt").render(shown),
        _TEMPLATES.get_template("letter.html").render(shown),
        message_id,
    )


async def _letter(tx: Transaction, message: Notification, user: User) -> Letter | None:
    if message.event == DIGEST:
        return await _digest(tx, user)
    if message.event == LETTER:
        fields = dict(message.payload)
        facts = tuple((str(label), str(value)) for label, value in fields.pop("facts", ()))
        return Letter(**fields, facts=facts)
    request = await requests.get(tx, message.organization_id, message.request_id or "")
    if request is None:
        return None
    return await (_waiting if message.event == WAITING else _ended)(tx, request, user)


async def _waiting(tx: Transaction, request: SigningRequest, user: User) -> Letter | None:
    if not await _waits_for(tx, request, user):
        return None
    return Letter(
        subject=f"Approval needed: {_name(request)}",
        lead="A signing request waits for your decision. Look at where it comes from and what "
        "would be signed, then approve or deny it.",
        facts=await _facts(tx, request),
        path=f"/signing-requests/{request.id}",
        link="Decide",
    )


async def _ended(tx: Transaction, request: SigningRequest, _user: User) -> Letter:
    word, lead = _ENDS[request.state]
    facts = list(await _facts(tx, request))
    if request.reason:
        facts.append(("Reason", request.reason))
    if request.advice:
        facts.append(("What to do", request.advice))
    return Letter(
        subject=f"{word}: {_name(request)}",
        lead=lead,
        facts=tuple(facts),
        path=f"/signing-requests/{request.id}",
        link="Open the request",
    )


async def _digest(tx: Transaction, user: User) -> Letter | None:
    waiting = [
        request
        for request in await requests.page(
            tx, user.organization_id, state=State.WAITING_FOR_APPROVAL, limit=200
        )
        if await _waits_for(tx, request, user)
    ]
    if not waiting:
        return None
    listed = [
        (f"{request.project_name}, {request.signing_policy_name}",
         f"{_name(request)}, since {request.submitted_at:%Y-%m-%d %H:%M} UTC")
        for request in waiting[:_MOST_LISTED]
    ]  # fmt: skip
    if len(waiting) > _MOST_LISTED:
        listed.append(("And", f"{len(waiting) - _MOST_LISTED} more"))
    number = "1 signing request waits" if len(waiting) == 1 else f"{len(waiting)} requests wait"
    return Letter(
        subject=f"{number} for your approval",
        lead="These signing requests wait for your decision.",
        facts=tuple(listed),
        path=f"/signing-requests?state={State.WAITING_FOR_APPROVAL.value}",
        link="See them",
    )


async def digest_is_wanted(tx: Transaction, request: SigningRequest) -> bool:
    """Whether the request's policy has approvers told once a day."""
    policy = await projects.find_policy(
        tx, request.organization_id, request.project_id, request.signing_policy_id
    )
    return policy is not None and policy.approver_mail is ApproverMail.DIGEST


async def _waits_for(tx: Transaction, request: SigningRequest, user: User) -> bool:
    policy = await projects.find_policy(
        tx, request.organization_id, request.project_id, request.signing_policy_id
    )
    if policy is None:
        return False
    return may_decide(user, request, policy, await approvals.of_request(tx, request.id))


async def _facts(tx: Transaction, request: SigningRequest) -> tuple[tuple[str, str], ...]:
    submitter = await users.get(tx, request.organization_id, request.submitted_by)
    origin = request.origin
    facts = [
        ("Project", request.project_name),
        ("Signing policy", request.signing_policy_name),
        ("Artifact", _name(request)),
        ("Submitted by", submitter.name if submitter else ""),
        ("Description", request.description[:300]),
    ]
    if origin.verified:
        facts += [
            ("Repository", origin.repository_url),
            ("Commit", origin.commit),
            ("Branch or tag", origin.ref or origin.branch),
        ]
    return tuple((label, value) for label, value in facts if value)


def _name(request: SigningRequest) -> str:
    if request.input:
        return request.input.file_name
    return request.retrieval.file_name if request.retrieval else "a digest"
