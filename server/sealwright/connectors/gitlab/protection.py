"""How GitLab protects a branch or tag, in the rules' words.

Sources: docs.gitlab.com, "Protected branches", "Protected tags", "Merge request approval rules".
Several protections may fit one name: GitLab then lets in whoever any of them lets in, forbids a
forced push only if none allows it, and wants code owners if any of them does.

What depends on merge requests counts only where nobody can push past them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sealwright.connectors import fields
from sealwright.connectors.gitlab.client import GitLabApi, GitLabError
from sealwright.connectors.gitlab.facts import RefFacts
from sealwright.model.origin import RulesetFacts

NOBODY = 100
"""Stands for the role of a push or creation that no role may do. GitLab's own: 30 Developer, 40
Maintainer, 60 administrator."""

_UNAVAILABLE = frozenset({401, 403, 404})
"""What GitLab answers where the edition has no approval rules."""


def read_protection(
    api: GitLabApi, project: Mapping[str, Any], ref: RefFacts
) -> RulesetFacts | None:
    """The protection of a ref; None if it is neither a branch nor a tag that exists."""
    prefix = f"/projects/{fields.text(project, 'id')}"
    if ref.type == "tag":
        return _tag_protection(_matching(api.pages(f"{prefix}/protected_tags"), ref.name))
    if ref.type != "branch":
        return None
    protections = _matching(api.pages(f"{prefix}/protected_branches"), ref.name)
    if not protections:
        return RulesetFacts()
    pushers = _levels(protections, "push_access_levels")
    rules = {
        "protected": "true",
        "push.access_level": str(_least_role(pushers)),
        "merge.access_level": str(_least_role(_levels(protections, "merge_access_levels"))),
    }
    if not any(item.get("allow_force_push") is not False for item in protections):
        rules["non_fast_forward"] = "true"
    if _least_role(pushers) == NOBODY:
        rules |= _merge_request_rules(api, prefix, project, ref.name, protections)
    return RulesetFacts(rules=rules, bypass_actors=_named(pushers))


def matches(pattern: str, name: str) -> bool:
    """Whether a protection is for a branch or tag: ``*`` stands for any characters, ``/`` too."""
    pieces = [re.escape(piece) for piece in re.split(r"\*+", pattern[:1024])]
    return len(pieces) <= 16 and re.fullmatch(".*".join(pieces), name) is not None


def _tag_protection(protections: Sequence[Mapping[str, Any]]) -> RulesetFacts:
    if not protections:
        return RulesetFacts()
    creators = _levels(protections, "create_access_levels")
    rules = {
        "protected": "true",
        "update": "true",  # whoever made it, nobody may move it
        "creation.access_level": str(_least_role(creators)),
    }
    if _least_role(creators) == NOBODY:
        rules["creation"] = "true"
    return RulesetFacts(rules=rules, bypass_actors=_named(creators))


def _merge_request_rules(
    api: GitLabApi,
    prefix: str,
    project: Mapping[str, Any],
    branch: str,
    protections: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
    rules = {"pull_request": "true"}
    if any(item.get("code_owner_approval_required") is True for item in protections):
        rules["pull_request.require_code_owner_review"] = "true"
    if fields.flag(project, "only_allow_merge_if_all_discussions_are_resolved"):
        rules["pull_request.required_review_thread_resolution"] = "true"
    if fields.flag(project, "only_allow_merge_if_pipeline_succeeds"):
        rules["required_status_checks"] = "true"
    if fields.text(project, "merge_method") == "ff":
        rules["required_linear_history"] = "true"
    return rules | _approval_rules(api, prefix, branch)


def _approval_rules(api: GitLabApi, prefix: str, branch: str) -> dict[str, str]:
    """What merge requests into the branch need. Empty in editions without approval rules."""
    try:
        settings = api.get(f"{prefix}/approvals")
        listed = api.pages(f"{prefix}/approval_rules")
    except GitLabError as error:
        if error.status in _UNAVAILABLE:
            return {}
        raise
    rules = {}
    if fields.flag(settings, "disable_overriding_approvers_per_merge_request"):
        # Else every author may lower the number in their own merge request.
        wanted = max(
            (fields.number(r, "approvals_required") for r in _for(listed, branch)), default=0
        )
        rules["pull_request.required_approving_review_count"] = str(wanted)
    if fields.flag(settings, "reset_approvals_on_push"):
        rules["pull_request.dismiss_stale_reviews_on_push"] = "true"
    if fields.flag(settings, "merge_requests_author_approval") is False:
        rules["pull_request.author_approval_prevented"] = "true"
    if fields.flag(settings, "merge_requests_disable_committers_approval"):
        rules["pull_request.committer_approval_prevented"] = "true"
    return rules


def _for(rules: Iterable[Mapping[str, Any]], branch: str) -> list[Mapping[str, Any]]:
    """The approval rules for a protected branch: of all, of all protected, or named ones."""
    return [
        rule
        for rule in rules
        if fields.flag(rule, "applies_to_all_protected_branches")
        or not fields.objects(rule, "protected_branches")
        or _matching(fields.objects(rule, "protected_branches"), branch)
    ]


def _matching(protections: Iterable[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    return [item for item in protections if matches(fields.text(item, "name"), name)]


def _levels(protections: Iterable[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [level for item in protections for level in fields.objects(item, kind)]


def _least_role(levels: Iterable[Mapping[str, Any]]) -> int:
    """The lowest role that is let in; `NOBODY` if none is (GitLab's level 0, or users alone)."""
    roles = [fields.number(level, "access_level") for level in levels if not _actor(level)]
    return min((role for role in roles if role > 0), default=NOBODY)


def _named(levels: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(sorted({actor for level in levels if (actor := _actor(level))}))


def _actor(level: Mapping[str, Any]) -> str:
    """Whom an entry names, if it is not for a role."""
    for field, noun in (
        ("user_id", "user"),
        ("group_id", "group"),
        ("deploy_key_id", "deploy-key"),
    ):
        if identity := fields.text(level, field):
            return f"{noun}/{identity}"
    role = fields.text(level, "member_role_id")
    return f"member-role/{role}" if role else ""
