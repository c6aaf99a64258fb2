"""Rows that have had their time, removed a few at once.

Nothing here is what a page of the audit, a proof or an unfinished request needs: leaves are not
among it, and what belongs to a request goes only once that has ended.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.intents import INTENDED
from sealwright.db.request_search import first_id
from sealwright.db.run_submissions import KEEP as KEEP_RUNS
from sealwright.db.tables import (
    api_tokens,
    certificate_orders,
    certificates,
    enrolments,
    file_results,
    idempotency_keys,
    notifications,
    one_time_secrets,
    outbox,
    plans,
    plans_ahead,
    proposals,
    request_words,
    run_submissions,
    seen_token_ids,
    sign_on_sessions,
    signature_intents,
    signing_requests,
    timestamp_tokens,
    trials,
    webhook_deliveries,
)
from sealwright.model.user import TokenKind

Condition = Callable[[dt.datetime], sa.ColumnElement[bool]]

#: rows that one transaction removes
BATCH = 500

_REQUESTS_AT_ONCE = 50
#: words that stay: as long as a commit (SHA-1) or a digest (SHA-256, and a commit by it)
_KEPT_LENGTHS = (40, 64)


@dataclass(frozen=True)
class Rule:
    """Which rows of a table have had their time: those that are `over` before so long ago."""

    table: sa.Table
    keep: dt.timedelta
    over: Condition


def _before(column: sa.Column[Any], done: sa.Column[Any] | None = None) -> Condition:
    """Rows of an earlier time; with `done` of those where that is NULL."""

    def over(before: dt.datetime) -> sa.ColumnElement[bool]:
        earlier: sa.ColumnElement[bool] = column < before
        return earlier if done is None else sa.and_(done.is_(None), earlier)

    return over


def _has_ended(request_id: sa.Column[Any]) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        signing_requests.c.id == request_id, signing_requests.c.finished_at.is_not(None)
    )


def _of_ended(table: sa.Table) -> Condition:
    """Older rows whose request has ended."""

    def over(before: dt.datetime) -> sa.ColumnElement[bool]:
        return sa.and_(table.c.created_at < before, _has_ended(table.c.request_id))

    return over


def _told(before: dt.datetime) -> sa.ColumnElement[bool]:
    return sa.and_(
        outbox.c.due_at.is_(None),
        outbox.c.created_at < before,
        sa.or_(outbox.c.request_id.is_(None), _has_ended(outbox.c.request_id)),
    )


def _tried(before: dt.datetime) -> sa.ColumnElement[bool]:
    return sa.and_(
        trials.c.id < first_id(before),
        trials.c.state.not_in(["waiting", "working"]),
        ~sa.exists().where(proposals.c.trial_id == trials.c.id),
    )


def _granted(before: dt.datetime) -> sa.ColumnElement[bool]:
    return sa.and_(signature_intents.c.id < first_id(before), signature_intents.c.state != INTENDED)


def _issued(_: dt.datetime) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        certificates.c.id == enrolments.c.certificate_id, certificates.c.sha256 != ""
    )


def _ended_tokens(before: dt.datetime) -> sa.ColumnElement[bool]:
    return sa.and_(
        api_tokens.c.kind != TokenKind.REQUEST.value,
        sa.or_(api_tokens.c.expires_at < before, api_tokens.c.revoked_at < before),
    )


def _of_ended_sessions(before: dt.datetime) -> sa.ColumnElement[bool]:
    ended = sa.select(api_tokens.c.id).where(_ended_tokens(before))
    return sign_on_sessions.c.token_id.in_(ended)


def _request_tokens(before: dt.datetime) -> sa.ColumnElement[bool]:
    return sa.and_(api_tokens.c.kind == TokenKind.REQUEST.value, api_tokens.c.expires_at < before)


def _days(number: int) -> dt.timedelta:
    return dt.timedelta(days=number)


RULES = (
    Rule(notifications, _days(30), _before(notifications.c.created_at, notifications.c.due_at)),
    Rule(outbox, _days(90), _told),
    Rule(webhook_deliveries, _days(30),
         _before(webhook_deliveries.c.received_at, webhook_deliveries.c.due_at)),
    Rule(trials, _days(30), _tried),
    # the signer signs nothing for requests older than a year: see `signer.grants`
    Rule(signature_intents, _days(370), _granted),
    Rule(certificate_orders, _days(370), _before(certificate_orders.c.finished_at)),
    Rule(enrolments, _days(0), _issued),
    Rule(idempotency_keys, _days(30), _of_ended(idempotency_keys)),
    Rule(run_submissions, KEEP_RUNS, _of_ended(run_submissions)),
    Rule(timestamp_tokens, _days(1), _of_ended(timestamp_tokens)),
    Rule(sign_on_sessions, _days(90), _of_ended_sessions),  # it names tokens
    Rule(api_tokens, _days(90), _ended_tokens),
    Rule(api_tokens, _days(0), _request_tokens),
    Rule(seen_token_ids, _days(0), _before(seen_token_ids.c.expires_at)),
    Rule(one_time_secrets, _days(0), _before(one_time_secrets.c.expires_at)),
)  # fmt: skip


async def remove_some(tx: Transaction, rule: Rule, now: dt.datetime) -> int:
    """Remove at most `BATCH` rows whose time is over; how many."""
    key = rule.table.primary_key.columns.values()
    some = sa.select(*key).where(rule.over(now - rule.keep)).limit(BATCH)
    return await tx.change(rule.table.delete().where(sa.tuple_(*key).in_(some)))


async def remove_results(
    tx: Transaction, organization_id: str, finished_before: dt.datetime, now: dt.datetime
) -> tuple[int, bool]:
    """Remove plans and per-file results of some requests that finished before, and the words that
    they are found by, except digests and commits.

    Returns:
        Of how many requests everything is removed now, and whether there may be more.
    """
    table = signing_requests
    rows = await tx.all(
        sa.select(table.c.id)
        .where(
            table.c.organization_id == organization_id,
            table.c.finished_at < finished_before,
            table.c.finished_at.is_not(None),
            table.c.results_removed_at.is_(None),
        )
        .order_by(table.c.finished_at)
        .limit(_REQUESTS_AT_ONCE)
    )
    left, done = BATCH, []
    for row in rows:
        own = file_results.c.request_id == row["id"]
        some = sa.select(file_results.c.position).where(own).limit(left)
        left -= await tx.change(file_results.delete().where(own, file_results.c.position.in_(some)))
        if left <= 0:
            break
        done.append(row["id"])
    if done:
        for table_of_plans in (plans, plans_ahead):
            of_done = table_of_plans.c.request_id.in_(done)
            await tx.change(table_of_plans.delete().where(of_done))
        others = sa.func.length(request_words.c.word).not_in(_KEPT_LENGTHS)
        await tx.change(request_words.delete().where(request_words.c.request_id.in_(done), others))
        noted = table.update().where(table.c.id.in_(done)).values(results_removed_at=now)
        await tx.change(noted)
    return len(done), bool(rows)
