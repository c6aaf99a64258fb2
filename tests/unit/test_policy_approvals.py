"""Approvals as pure rules: any sequence of attempts ends where its first decisive one led."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import database as rows
from tests.database import Scene

from sealwright.errors import ConflictError, ForbiddenError, PolicyViolationError
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.project import SigningPolicy, snapshot
from sealwright.model.request import Approval, SigningRequest, State, Verdict
from sealwright.model.user import User
from sealwright.policy.approvals import check_approver, may_decide, outcome


def scene_of(quorum: int, approvers: int) -> tuple[Scene, SigningRequest, list[User]]:
    organization = rows.organization()
    users = [rows.user(organization.id) for _ in range(approvers)]
    submitter = rows.user(organization.id)
    certificate = rows.certificate(organization.id)
    project = rows.project(organization.id)
    policy = rows.policy(
        project, certificate.id, quorum=quorum, approvers=frozenset(user.id for user in users)
    )
    files = rows.configuration(project)
    scene = Scene(organization, submitter, tuple(users), certificate, project, files, policy)
    request = rows.request(
        scene,
        state=State.WAITING_FOR_APPROVAL,
        snapshot=snapshot(policy, certificate.sha256, files),
    )
    return scene, request, users


def approval(request: SigningRequest, user: User, verdict: Verdict) -> Approval:
    return Approval(new_id(), request.id, user.id, user.name, verdict, "", utc_now())


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(Verdict)), max_size=20),
)
def test_the_first_decisive_attempt_decides(
    quorum: int, attempts: list[tuple[int, Verdict]]
) -> None:
    scene, request, users = scene_of(quorum, 5)
    people = [*users, scene.submitter]
    taken: list[Approval] = []
    for who, verdict in attempts:
        try:
            check_approver(people[who], request, scene.policy, taken, verdict)
        except (ConflictError, ForbiddenError):
            decided = {one.user_id for one in taken}
            over = request.state is not State.WAITING_FOR_APPROVAL
            assert over or people[who].id in decided or people[who] is scene.submitter
            continue
        taken.append(approval(request, people[who], verdict))
        request = dataclasses.replace(request, state=outcome(quorum, taken))
    approvals = sum(one.verdict is Verdict.APPROVE for one in taken)
    denials = len(taken) - approvals
    expected = (
        State.DENIED
        if denials
        else State.QUEUED
        if approvals == quorum
        else State.WAITING_FOR_APPROVAL
    )
    assert request.state is expected
    assert denials <= 1
    assert approvals <= quorum
    assert scene.submitter.id not in {one.user_id for one in taken}


def policy_without(scene: Scene, user: User) -> SigningPolicy:
    return dataclasses.replace(scene.policy, approvers=scene.policy.approvers - {user.id})


def test_added_later_or_removed_since() -> None:
    scene, request, users = scene_of(1, 2)
    late = rows.user(scene.organization.id)
    wider = dataclasses.replace(scene.policy, approvers=scene.policy.approvers | {late.id})
    with pytest.raises(ForbiddenError):
        check_approver(late, request, wider, [], Verdict.APPROVE)
    with pytest.raises(ForbiddenError):
        check_approver(users[0], request, policy_without(scene, users[0]), [], Verdict.DENY)
    assert not may_decide(late, request, wider, [])
    assert may_decide(users[1], request, scene.policy, [])


def test_a_submitter_who_is_an_approver() -> None:
    scene, request, users = scene_of(1, 1)
    own = dataclasses.replace(request, submitted_by=users[0].id)
    with pytest.raises(ForbiddenError):
        check_approver(users[0], own, scene.policy, [], Verdict.APPROVE)


def test_a_disabled_policy_can_only_deny() -> None:
    scene, request, users = scene_of(1, 1)
    disabled = dataclasses.replace(scene.policy, enabled=False)
    check_approver(users[0], request, disabled, [], Verdict.DENY)
    with pytest.raises(PolicyViolationError):
        check_approver(users[0], request, disabled, [], Verdict.APPROVE)


def test_one_person_counts_once() -> None:
    _, request, users = scene_of(2, 2)
    twice = [approval(request, users[0], Verdict.APPROVE) for _ in range(2)]
    assert outcome(2, twice) is State.WAITING_FOR_APPROVAL
