"""How GitHub protects a ref: the rules of its active rulesets, repository's and organization's.

For branches GitHub answers itself ("Get rules for a branch"). For tags it offers no such call: the
rulesets' conditions are matched here, and what is not understood does not count as protection.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from sealwright.connectors import fields
from sealwright.connectors.connector import RemoteError
from sealwright.connectors.github.client import RepositoryApi
from sealwright.connectors.github.facts import RefFacts
from sealwright.model.origin import RulesetFacts

UNKNOWN_BYPASS = "unknown"
"""Stands among the bypass actors where GitHub does not show them: it shows them only to tokens that
may write rulesets."""

_MAX_RULESETS = 100
_ENTRY_NAMES = ("context", "tool", "path", "name")


def read_rulesets(api: RepositoryApi, ref: RefFacts) -> RulesetFacts:
    """The rules in force for a ref, merged: of two rulesets the stricter value counts.

    Raises:
        RemoteError: as for every call.
    """
    if ref.type == "branch":
        name = ref.ref.removeprefix("refs/heads/")
        rules = list(api.pages(f"/rules/branches/{quote(name, safe='')}"))
        rulesets = _details(api, {fields.text(rule, "ruleset_id") for rule in rules})
    else:
        listed = api.pages("/rulesets", targets="tag", includes_parents="true")
        active = {
            fields.text(item, "id")
            for item in listed
            if fields.text(item, "enforcement") == "active" and fields.text(item, "target") == "tag"
        }
        rulesets = [item for item in _details(api, active) if _applies(item, ref.ref)]
        rules = [rule for item in rulesets for rule in fields.objects(item, "rules")]
    return RulesetFacts(
        rules=_merged(rules),
        bypass_actors=tuple(sorted({actor for item in rulesets for actor in _bypass(item)})),
        active_since=_latest(rulesets),
    )


def matches(pattern: str, ref: str) -> bool | None:
    """Whether a condition of a ruleset, in fnmatch's syntax, takes in a full ref.

    ``*`` and ``?`` stop at a slash, ``**/`` does not (GitHub: "Creating rulesets"). None for syntax
    that is not understood here.
    """
    if pattern == "~ALL":
        return True
    if any(char in pattern for char in "[]{}\\~"):
        return None
    *folders, last = pattern.split("/")
    parts = ref.split("/")
    positions = {0}
    for folder in folders:
        if folder == "**":
            positions = set(range(min(positions), len(parts))) if positions else set()
        else:
            positions = _step(positions, parts, folder)
    return len(parts) in _step(positions, parts, last)


def _step(positions: set[int], parts: list[str], pattern: str) -> set[int]:
    return {
        position + 1
        for position in positions
        if position < len(parts) and fnmatch.fnmatchcase(parts[position], pattern)
    }


def _details(api: RepositoryApi, ids: Iterable[str]) -> list[Mapping[str, Any]]:
    wanted = sorted(ruleset_id for ruleset_id in ids if ruleset_id.isdecimal())
    if len(wanted) > _MAX_RULESETS:
        message = f"More than {_MAX_RULESETS} rulesets apply."
        raise RemoteError(message)
    return [api.get(f"/rulesets/{ruleset_id}", includes_parents="true") for ruleset_id in wanted]


def _applies(ruleset: Mapping[str, Any], ref: str) -> bool:
    names = fields.at(ruleset, "conditions", "ref_name")
    # What is not understood neither includes nor fails to exclude.
    return any(matches(pattern, ref) is True for pattern in fields.texts(names, "include")) and all(
        matches(pattern, ref) is False for pattern in fields.texts(names, "exclude")
    )


def _bypass(ruleset: Mapping[str, Any]) -> Iterable[str]:
    if not isinstance(ruleset.get("bypass_actors"), list):
        yield UNKNOWN_BYPASS
    for actor in fields.objects(ruleset, "bypass_actors"):
        parts = ("actor_type", "actor_id", "bypass_mode")
        yield ":".join(fields.text(actor, part) for part in parts)


def _merged(rules: Iterable[Mapping[str, Any]]) -> Mapping[str, str]:
    merged: dict[str, str] = {}
    for rule in rules:
        for name, value in _flattened(rule):
            merged[name] = _stricter(merged[name], value) if name in merged else value
    return merged


def _flattened(rule: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """``pull_request`` -> ``true``, ``pull_request.required_approving_review_count`` -> ``2``."""
    kind = fields.text(rule, "type")
    if not kind:
        return
    yield kind, "true"
    parameters = rule.get("parameters")
    for name, value in (parameters if isinstance(parameters, Mapping) else {}).items():
        yield f"{kind}.{name}", _value(value)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(sorted(filter(None, map(_entry, value))))
    return str(value) if isinstance(value, str | int) else ""


def _entry(entry: object) -> str:
    """An entry of a list by its name: a status check's context, a code scanning tool."""
    if isinstance(entry, str):
        return entry
    return next(filter(None, (fields.text(entry, name) for name in _ENTRY_NAMES)), "")


def _stricter(one: str, other: str) -> str:
    if one.isdecimal() and other.isdecimal():
        return str(max(int(one), int(other)))
    if {one, other} <= {"true", "false"}:
        return "true" if "true" in {one, other} else "false"
    return ",".join(sorted(filter(None, {*one.split(","), *other.split(",")})))


def _latest(rulesets: Iterable[Mapping[str, Any]]) -> str:
    """When the last of them took its present form, RFC 3339 in UTC; empty if one does not say."""
    times = []
    for item in rulesets:
        try:
            changed = dt.datetime.fromisoformat(fields.text(item, "updated_at"))
        except ValueError:
            return ""
        if changed.tzinfo is None:
            return ""
        times.append(changed.astimezone(dt.UTC))
    return max(times).strftime("%Y-%m-%dT%H:%M:%SZ") if times else ""
