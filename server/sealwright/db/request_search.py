"""Finding signing requests among a million: filters, words, pages by key.

Every filter that stands alone is an index in the order of the list. Words have an index of their
own: a rare one names its requests, a common one is looked for from the newest request on, within a
window, so that no page costs more than the window does.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.prepared import Prepared
from sealwright.db.tables import request_words, signing_requests
from sealwright.model.request import SigningRequest, State

MAX_TERMS = 5
_MAX_WORDS = 60
_MAX_LENGTH = 64  # a hex SHA-256
_RARE = 2000
_WINDOW = 20_000
_MAX_BRANCHES = 40
_LAST = "\U0010ffff"

_T = signing_requests
_W = request_words
_INSERT_WORDS = Prepared(_W.insert())


@dataclass(frozen=True)
class RequestFilter:
    """Which requests to find. What is None or empty does not restrict.

    Attributes:
        project_ids: projects that the caller may see, or the chosen one.
        submitted_from: of this time or later; `submitted_before`: earlier than this time.
        text: words that the request holds, each perhaps only begun: of its files' names and
            SHA-256, description and commit.
    """

    project_ids: Sequence[str] | None = None
    signing_policy_id: str | None = None
    state: State | None = None
    submitted_by: str | None = None
    submitted_from: dt.datetime | None = None
    submitted_before: dt.datetime | None = None
    text: str = ""


@dataclass(frozen=True)
class FoundIds:
    """Ids, newest first. `before` continues; None: there are no more. A page may be short, even
    empty, and yet continue: then everything in its window was looked at."""

    ids: list[str]
    before: str | None


def words_of(request: SigningRequest) -> list[str]:
    """What a request is found by: at most 60 words in lower case, each of at most 64 characters."""
    named = [one for one in (request.input, request.output, request.retrieval) if one]
    texts = [
        *(one.sha256 for one in named),
        request.origin.commit,
        *(one.file_name for one in named),
        request.description,
    ]
    words: dict[str, None] = {}
    for word in _words(texts):
        words[word] = None
        if len(words) == _MAX_WORDS:
            break
    return list(words)


def _words(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for piece in text.lower().split():
            whole = piece.strip("()[]{}<>\"'`.,;:!?")
            if whole:
                yield whole[:_MAX_LENGTH]
            for part in re.findall(r"[^\W_]{2,}", whole):
                yield part[:_MAX_LENGTH]


async def add_words(tx: Transaction, request: SigningRequest, known: Iterable[str] = ()) -> None:
    """Index the request's words that are not among `known`."""
    new = [word for word in words_of(request) if word not in set(known)]
    if new:
        rows = [
            {"organization_id": request.organization_id, "word": word, "request_id": request.id}
            for word in new
        ]
        await tx.change(_INSERT_WORDS, rows)


async def find_ids(
    tx: Transaction,
    organization_id: str,
    wanted: RequestFilter,
    *,
    before: str | None = None,
    limit: int = 50,
) -> FoundIds:
    """Ids of the requests that `wanted` describes, newest first, from the one after `before` on."""
    if wanted.project_ids is not None and not wanted.project_ids:
        return FoundIds([], None)
    where = list(_conditions(organization_id, wanted, before))
    terms = wanted.text.lower().split()[:MAX_TERMS]
    floor = None
    if terms:
        counts = {term: await _count(tx, organization_id, term) for term in terms}
        rarest = min(counts, key=lambda term: counts[term])
        if counts[rarest] == 0:
            return FoundIds([], None)
        where += [
            _T.c.id.in_(sa.select(_W.c.request_id).where(*_matching(organization_id, rarest)))
            if counts[rarest] <= _RARE and term == rarest
            else sa.exists().where(*_matching(organization_id, term), _W.c.request_id == _T.c.id)
            for term in terms
        ]
        if counts[rarest] > _RARE:
            floor = await _floor(tx, organization_id, wanted, before)
            if floor is not None:
                where.append(_T.c.id >= floor)
    rows = await tx.all(_newest(where, wanted.project_ids, limit))
    ids = [row["id"] for row in rows]
    return FoundIds(ids, ids[-1] if len(ids) == limit else floor)


def _conditions(
    organization_id: str, wanted: RequestFilter, before: str | None
) -> Iterator[sa.ColumnElement[bool]]:
    yield _T.c.organization_id == organization_id
    if wanted.signing_policy_id is not None:
        yield _T.c.signing_policy_id == wanted.signing_policy_id
    if wanted.state is not None:
        yield _T.c.state == wanted.state.value
    if wanted.submitted_by is not None:
        yield _T.c.submitted_by == wanted.submitted_by
    if wanted.submitted_from is not None:
        yield _T.c.id >= first_id(wanted.submitted_from)
    if wanted.submitted_before is not None:
        yield _T.c.id < first_id(wanted.submitted_before)
    if before is not None:
        yield _T.c.id < before


def _newest(
    where: Sequence[sa.ColumnElement[bool]], project_ids: Sequence[str] | None, limit: int
) -> sa.Select[tuple[str]]:
    """The newest of all; of several projects the newest of each one's newest, since no index holds
    those of several in order."""
    if project_ids is None or len(project_ids) > _MAX_BRANCHES:
        more = [] if project_ids is None else [_T.c.project_id.in_(project_ids)]
        return sa.select(_T.c.id).where(*where, *more).order_by(_T.c.id.desc()).limit(limit)
    branches = [
        sa.select(
            sa.select(_T.c.id)
            .where(*where, _T.c.project_id == one)
            .order_by(_T.c.id.desc())
            .limit(limit)
            .subquery()
            .c.id
        )
        for one in project_ids
    ]
    found = sa.union_all(*branches).subquery() if len(branches) > 1 else branches[0].subquery()
    return sa.select(found.c.id).order_by(found.c.id.desc()).limit(limit)


def _matching(organization_id: str, term: str) -> tuple[sa.ColumnElement[bool], ...]:
    term = term[:_MAX_LENGTH]
    return (
        _W.c.organization_id == organization_id,
        _W.c.word >= term,
        _W.c.word < term + _LAST,
    )


async def _count(tx: Transaction, organization_id: str, term: str) -> int:
    """How many entries the term has, counted no further than what is rare."""
    some = sa.select(sa.literal(1).label("one")).where(*_matching(organization_id, term))
    row = await tx.one(sa.select(sa.func.count().label("n")).select_from(
        some.limit(_RARE + 1).subquery()
    ))  # fmt: skip
    return int(row["n"]) if row else 0


async def _floor(
    tx: Transaction, organization_id: str, wanted: RequestFilter, before: str | None
) -> str | None:
    """The oldest id of the window; None where it reaches to the first request."""
    plain = RequestFilter(
        submitted_from=wanted.submitted_from, submitted_before=wanted.submitted_before
    )
    where = list(_conditions(organization_id, plain, before))
    if wanted.project_ids is not None and len(wanted.project_ids) == 1:
        where.append(_T.c.project_id == wanted.project_ids[0])
    row = await tx.one(
        sa.select(_T.c.id).where(*where).order_by(_T.c.id.desc()).offset(_WINDOW - 1).limit(1)
    )
    return row["id"] if row else None


def first_id(time: dt.datetime) -> str:
    """The least UUID version 7 of that millisecond."""
    milliseconds = max(0, int(time.timestamp() * 1000))
    return str(uuid.UUID(int=milliseconds << 80))
