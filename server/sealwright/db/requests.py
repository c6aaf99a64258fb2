"""Signing requests.

States change only through `move` and `claim`, both compare-and-set: who loses a race is told.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.prepared import Prepared
from sealwright.db.request_search import RequestFilter, add_words, find_ids, words_of
from sealwright.db.tables import (
    artifact_configurations,
    idempotency_keys,
    projects,
    signing_policies,
    signing_requests,
)
from sealwright.model.origin import Origin, Proof
from sealwright.model.project import PolicySnapshot
from sealwright.model.request import (
    TRANSITIONS,
    HashToSign,
    MalwareScan,
    Progress,
    RequestKind,
    RetrievalLink,
    SigningRequest,
    Stage,
    State,
    StoredArtifact,
    check_transition,
)

_T = signing_requests
#: states in which a request waits for a worker, or is with one
WORKABLE = frozenset(
    {
        State.RETRIEVING_ARTIFACT,
        State.SCANNING_FOR_MALWARE,
        State.QUEUED,
        State.WAITING_FOR_ENDORSEMENT,  # it is looked at: whether it still waits
        State.PROCESSING,
    }
)
#: fields of SigningRequest that come from a join, not from the table itself
_JOINED = {
    "project_slug": projects.c.slug,
    "project_name": projects.c.name,
    "signing_policy_slug": signing_policies.c.slug,
    "signing_policy_name": signing_policies.c.name,
    "artifact_configuration_slug": artifact_configurations.c.slug,
    "artifact_configuration_name": artifact_configurations.c.name,
}
#: columns that repeat a part of another, to find requests by
_DERIVED = frozenset({"run_id"})


def select_requests() -> sa.Select[Any]:
    """Requests with what is joined to them; `request_of` reads a row."""
    own = [column for column in _T.c if column.name not in _DERIVED]
    return sa.select(*own, *(column.label(name) for name, column in _JOINED.items())).select_from(
        _T.join(projects, _T.c.project_id == projects.c.id)
        .join(signing_policies, _T.c.signing_policy_id == signing_policies.c.id)
        .outerjoin(
            artifact_configurations,
            _T.c.artifact_configuration_id == artifact_configurations.c.id,
        )
    )


_SELECT_ONE = select_requests().where(_T.c.id == sa.bindparam("request"))
_SELECT_OWN = _SELECT_ONE.where(_T.c.organization_id == sa.bindparam("organization"))
_ANY = Prepared(_SELECT_ONE)
_OF_ORGANIZATION = Prepared(_SELECT_OWN)
_LOCKED = Prepared(_SELECT_OWN.with_for_update(of=_T))
_INSERT = Prepared(_T.insert())


def _change(*names: str) -> sa.Update:
    """A change of these columns of a request that still is as it was read; see `_present` and
    `_new`."""
    values = {name: sa.bindparam(f"new_{name}", type_=_T.c[name].type) for name in names}
    return (
        _T.update()
        .where(
            _T.c.id == sa.bindparam("request"),
            _T.c.state == sa.bindparam("present_state"),
            _T.c.attempt == sa.bindparam("present_attempt"),
        )
        .values(values)
    )


@functools.cache
def _changing(*names: str) -> Prepared:
    """`_change`; of at most as many sets of columns as the code has."""
    return Prepared(_change(*names))


_CLAIM = Prepared(
    _change("state", "attempt", "lease_until", "updated_at", "progress").where(
        sa.or_(_T.c.lease_until.is_(None), _T.c.lease_until < sa.bindparam("now"))
    )
)


def _present(request: SigningRequest) -> dict[str, Any]:
    return {
        "request": request.id,
        "present_state": request.state.value,
        "present_attempt": request.attempt,
    }


def _new(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"new_{name}": value for name, value in values.items()}


def request_of(row: sa.RowMapping) -> SigningRequest:
    """The request of a row of `select_requests`."""
    fields: dict[str, Any] = dict(row)
    fields |= {
        "kind": RequestKind(row["kind"]),
        "state": State(row["state"]),
        "snapshot": PolicySnapshot(row["snapshot"]),
        "origin": _origin_from_json(row["origin"]),
        "input": StoredArtifact(**row["input"]) if row["input"] else None,
        "output": StoredArtifact(**row["output"]) if row["output"] else None,
        "retrieval": RetrievalLink(**row["retrieval"]) if row["retrieval"] else None,
        "scan": MalwareScan(**row["scan"]) if row["scan"] else None,
        "hash": _hash_from_json(row["hash"]) if row["hash"] else None,
        "failed_stage": State(row["failed_stage"]) if row["failed_stage"] else None,
        "progress": _progress_from_json(row["progress"]) if row["progress"] else None,
    }
    return SigningRequest(**fields)


def _origin_from_json(value: Mapping[str, Any]) -> Origin:
    proof = Proof(value.get("proof", Proof.CLAIMED))
    return Origin(**dict(value) | {"proof": proof, "checks": tuple(value.get("checks", ()))})


def _hash_from_json(value: Mapping[str, Any]) -> HashToSign:
    signature = value["signature"]
    return HashToSign(
        digest=base64.b64decode(value["digest"]),
        hash_algorithm=value["hash_algorithm"],
        mechanism=value["mechanism"],
        signature=base64.b64decode(signature) if signature else None,
    )


def _progress_from_json(value: Mapping[str, Any]) -> Progress:
    return Progress(Stage(value["stage"]), value["files"], value["done"])


def _column_value(value: Any) -> Any:
    """What a field looks like in its column."""
    if isinstance(value, HashToSign):
        return {
            "digest": base64.b64encode(value.digest).decode(),
            "hash_algorithm": value.hash_algorithm,
            "mechanism": value.mechanism,
            "signature": base64.b64encode(value.signature).decode() if value.signature else None,
        }
    if isinstance(value, PolicySnapshot):
        return value.text
    if isinstance(value, Origin | StoredArtifact | RetrievalLink | Progress | MalwareScan):
        return dataclasses.asdict(value)
    return value


def _derived(origin: Origin) -> dict[str, str | None]:
    return {"run_id": (origin.run_id[:200] or None) if origin.verified else None}


async def add(tx: Transaction, request: SigningRequest) -> None:
    """Insert a new request."""
    values = {
        field.name: _column_value(getattr(request, field.name))
        for field in dataclasses.fields(request)
        if field.name not in _JOINED
    }
    await tx.change(_INSERT, [values | _derived(request.origin)])
    await add_words(tx, request)


async def get(
    tx: Transaction, organization_id: str, request_id: str, *, lock: bool = False
) -> SigningRequest | None:
    """The request with this id in this organization; with `lock` no other transaction may change
    it until this one ends (on SQLite a writing transaction holds that lock already)."""
    statement = _LOCKED if lock else _OF_ORGANIZATION
    row = await tx.one(statement, request=request_id, organization=organization_id)
    return request_of(row) if row else None


async def get_any(tx: Transaction, request_id: str) -> SigningRequest | None:
    """The request with this id whatever its organization: for the worker and the signer."""
    row = await tx.one(_ANY, request=request_id)
    return request_of(row) if row else None


async def page(
    tx: Transaction,
    organization_id: str,
    *,
    project_ids: Sequence[str] | None = None,
    state: State | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[SigningRequest]:
    """Requests, newest first, from the one after `before` (an id) on; `project_ids` restricts."""
    statement = select_requests().where(_T.c.organization_id == organization_id)
    if project_ids is not None:
        statement = statement.where(_T.c.project_id.in_(project_ids))
    if state is not None:
        statement = statement.where(_T.c.state == state.value)
    if before is not None:
        statement = statement.where(_T.c.id < before)
    rows = await tx.all(statement.order_by(_T.c.id.desc()).limit(limit))
    return [request_of(row) for row in rows]


async def search(
    tx: Transaction,
    organization_id: str,
    wanted: RequestFilter,
    *,
    before: str | None = None,
    limit: int = 50,
) -> tuple[list[SigningRequest], str | None]:
    """Requests that `wanted` describes, newest first; the id before which to go on, or None."""
    found = await find_ids(tx, organization_id, wanted, before=before, limit=limit)
    rows = await tx.all(select_requests().where(_T.c.id.in_(found.ids)).order_by(_T.c.id.desc()))
    return [request_of(row) for row in rows], found.before


async def move(
    tx: Transaction,
    request: SigningRequest,
    to: State,
    now: dt.datetime,
    **changes: Any,
) -> SigningRequest | None:
    """Compare-and-set: `request` as it was read becomes `to` with `changes`, or None.

    None means that somebody else moved it, or that a newer attempt has taken it over.

    Raises:
        ConflictError: the table of transitions does not hold this step.
    """
    check_transition(request.state, to)
    if not TRANSITIONS[to]:
        changes |= {"finished_at": now, "lease_until": None, "progress": None}
    return await _update(tx, request, {"state": to, "updated_at": now} | changes)


async def amend(
    tx: Transaction, request: SigningRequest, now: dt.datetime, **changes: Any
) -> SigningRequest | None:
    """Compare-and-set of fields within the same state and attempt, or None."""
    return await _update(tx, request, {"updated_at": now} | changes)


async def _update(
    tx: Transaction, request: SigningRequest, changes: Mapping[str, Any]
) -> SigningRequest | None:
    values = {name: _column_value(value) for name, value in changes.items()}
    if "origin" in changes:
        values |= _derived(changes["origin"])
    if not await _write(tx, request, values):
        return None
    changed = dataclasses.replace(request, **changes)
    if {"input", "output", "origin"} & changes.keys():
        await add_words(tx, changed, known=words_of(request))
    return changed


async def _write(tx: Transaction, request: SigningRequest, values: Mapping[str, Any]) -> bool:
    """Write columns; False where the request is not any more as it was read."""
    return await tx.change(_changing(*values), [_present(request) | _new(values)]) == 1


async def claim(
    tx: Transaction, request: SigningRequest, now: dt.datetime, lease_until: dt.datetime
) -> SigningRequest | None:
    """Take the request for work: a new attempt with a lease, or None where another holds it.

    From QueuedForProcessing it becomes Processing; in RetrievingArtifact and Processing it stays,
    and may be claimed once the earlier lease has run out.
    """
    changes: dict[str, Any] = {
        "state": State.PROCESSING if request.state is State.QUEUED else request.state,
        "attempt": request.attempt + 1,
        "lease_until": lease_until,
        "updated_at": now,
        "progress": None,
    }
    if await tx.change(_CLAIM, [_present(request) | _new(changes) | {"now": now}]) != 1:
        return None
    return dataclasses.replace(request, **changes)


async def renew(
    tx: Transaction,
    request: SigningRequest,
    lease_until: dt.datetime,
    progress: Progress | None,
) -> bool:
    """Extend the lease and tell how far the attempt is; False where the request was taken over,
    canceled or finished."""
    values = {"lease_until": lease_until, "progress": _column_value(progress)}
    return await _write(tx, request, values)


async def postpone(tx: Transaction, request: SigningRequest, until: dt.datetime) -> None:
    """Have the request, where nobody works on it, not be due before `until`. Nothing of it
    changes for those who watch it."""
    await _write(tx, request, {"lease_until": until})


async def due(
    tx: Transaction, now: dt.datetime, *, quiet_seconds: float, limit: int = 500
) -> list[str]:
    """Ids of requests that wait for a worker though none holds them: lost in the queue, or begun by
    a worker that is gone."""
    quiet = now - dt.timedelta(seconds=quiet_seconds)
    rows = await tx.all(
        sa.select(_T.c.id)
        .where(
            _T.c.finished_at.is_(None),
            _T.c.state.in_([state.value for state in WORKABLE]),
            sa.or_(_T.c.lease_until.is_(None), _T.c.lease_until < now),
            _T.c.updated_at < quiet,
        )
        .order_by(_T.c.id)
        .limit(limit)
    )
    return [row["id"] for row in rows]


async def stranded(
    tx: Transaction, now: dt.datetime, *, quiet_seconds: float, limit: int = 500
) -> list[SigningRequest]:
    """Requests still Submitted long after: the process that took them in died in between."""
    rows = await tx.all(
        select_requests()
        .where(
            _T.c.state == State.SUBMITTED.value,
            _T.c.finished_at.is_(None),
            _T.c.updated_at < now - dt.timedelta(seconds=quiet_seconds),
        )
        .limit(limit)
    )
    return [request_of(row) for row in rows]


async def undecided(tx: Transaction, now: dt.datetime, *, limit: int = 500) -> list[SigningRequest]:
    """Requests that have waited for people for longer than their policy lets them."""
    rows = await tx.all(
        select_requests()
        .where(
            _T.c.state.in_([State.WAITING_FOR_APPROVAL.value, State.WAITING_FOR_ENDORSEMENT.value]),
            _T.c.finished_at.is_(None),
            _T.c.approval_until < now,
        )
        .limit(limit)
    )
    return [request_of(row) for row in rows]


async def add_idempotency_key(
    tx: Transaction, user_id: str, key: str, fingerprint: str, request_id: str, now: dt.datetime
) -> None:
    """Bind a client's key to the request it made. Call `find_idempotency_key` first."""
    await tx.change(
        idempotency_keys.insert().values(
            user_id=user_id, key=key, fingerprint=fingerprint, request_id=request_id, created_at=now
        )
    )


async def find_idempotency_key(tx: Transaction, user_id: str, key: str) -> tuple[str, str] | None:
    """(fingerprint, request id) of an earlier use of the key by this user.

    Takes a lock on the key first where the database has such locks, so that two uses at the same
    time come one after the other.
    """
    if tx.is_postgresql:
        named = hashlib.sha256(f"{user_id}/{key}".encode()).digest()
        number = int.from_bytes(named[:8], "big", signed=True)
        await tx.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))
    row = await tx.one(
        sa.select(idempotency_keys).where(
            idempotency_keys.c.user_id == user_id, idempotency_keys.c.key == key
        )
    )
    return (row["fingerprint"], row["request_id"]) if row else None


async def with_artifacts(
    tx: Transaction,
    organization_id: str,
    finished_before: dt.datetime,
    *,
    after: SigningRequest | None = None,
    limit: int = 100,
) -> list[SigningRequest]:
    """Finished requests whose artifacts are still kept, the longest finished first, from the one
    after `after` on."""
    statement = select_requests().where(
        _T.c.organization_id == organization_id,
        _T.c.finished_at < finished_before,
        _T.c.finished_at.is_not(None),
        _T.c.artifacts_removed_at.is_(None),
    )
    if after is not None:
        # the first is what the index is entered by
        statement = statement.where(
            _T.c.finished_at >= after.finished_at,
            sa.or_(_T.c.finished_at > after.finished_at, _T.c.id > after.id),
        )
    rows = await tx.all(statement.order_by(_T.c.finished_at, _T.c.id).limit(limit))
    return [request_of(row) for row in rows]


async def repetitions_with_artifacts(tx: Transaction, request_id: str) -> list[str]:
    """Ids of the requests that repeat this one, or a repetition of it, and still have artifacts:
    they share its input."""
    found: list[str] = []
    frontier, seen = [request_id], {request_id}
    while frontier:
        rows = await tx.all(
            sa.select(_T.c.id, _T.c.artifacts_removed_at).where(
                _T.c.original_request_id.in_(frontier)
            )
        )
        frontier = [row["id"] for row in rows if row["id"] not in seen]
        seen |= set(frontier)
        found += [row["id"] for row in rows if row["artifacts_removed_at"] is None]
    return found


async def note_removed_artifacts(tx: Transaction, request_id: str, now: dt.datetime) -> None:
    """Note that the store has the request's artifacts no more."""
    await tx.change(_T.update().where(_T.c.id == request_id).values(artifacts_removed_at=now))
