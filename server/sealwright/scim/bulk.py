"""Many operations in one request (RFC 7644, 3.7), each as if it came alone.

An operation that names what another one is to make (``bulkId:...``) waits for that one, wherever it
stands. Operations that wait for each other, or for one that failed, are conflicts (3.7.1).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from sealwright.errors import ConflictError, InternalError, SealwrightError, TooLargeError
from sealwright.scim.directory import Resources
from sealwright.scim.errors import ScimError, ScimType

MAX_OPERATIONS = 200
MAX_PAYLOAD = 1 << 20  #: bytes
_PREFIX = "bulkId:"
_PATH = re.compile(r"/?(?P<endpoint>[A-Za-z]{1,20})(?:/(?P<id>[^/?#\s]{1,300}))?", re.ASCII)
_METHODS = ("POST", "PUT", "PATCH", "DELETE")
_MAX_ID = 200
_MAX_DEPTH = 10

#: Gives the status and body of an error, as if the operation had come alone.
Failure = Callable[[SealwrightError], tuple[int, Mapping[str, Any]]]


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        id_: of the resource, perhaps ``bulkId:...``; empty with POST.
        bulk_id: by which other operations name what this one makes; empty: they do not.
    """

    method: str
    resources: Resources
    id_: str
    bulk_id: str
    version: str | None
    data: Mapping[str, Any]

    def references(self) -> frozenset[str]:
        """The bulkIds that it names."""
        named = (self.id_, *_texts(self.data))
        return frozenset(one[len(_PREFIX) :] for one in named if one.startswith(_PREFIX))


@dataclass
class _Answers:
    """What came of the operations, by their numbers."""

    fail_on_errors: int
    failure: Failure
    results: dict[int, dict[str, Any]]
    errors: int = 0

    def have_ended(self) -> bool:
        return 0 < self.fail_on_errors <= self.errors

    def failed(self, number: int, shown: dict[str, Any], error: SealwrightError) -> None:
        status, body = self.failure(error)
        self.results[number] = shown | {"status": str(status), "response": dict(body)}
        self.errors += 1


async def run(
    given: Mapping[str, Any], endpoints: Mapping[str, Resources], failure: Failure
) -> list[dict[str, Any]]:
    """Carry out the operations of a BulkRequest; their results, in the order of the request. Those
    that were not begun, because of too many errors (``failOnErrors``), are not among them.

    Args:
        endpoints: name in lower case -> resources.

    Raises:
        ScimError: invalidSyntax: it is no BulkRequest.
        TooLargeError: more than `MAX_OPERATIONS`.
    """
    listed, fail_on_errors = _read(given)
    answers = _Answers(fail_on_errors, failure, {})
    waiting = _all_of(listed, endpoints)
    made: dict[str, str] = {}
    while waiting and not answers.have_ended():
        ready = [number for number, one in waiting.items() if _is_ready(one, made)]
        for number in ready or list(waiting):
            operation, shown = waiting.pop(number), _shown(listed[number])
            try:
                if isinstance(operation, SealwrightError):
                    raise operation
                if not ready:
                    raise _unresolved(operation, made)
                answers.results[number] = shown | await _carry_out(operation, made)
            except SealwrightError as error:
                answers.failed(number, shown, error)
            if answers.have_ended():
                break
    return [answers.results[number] for number in sorted(answers.results)]


def _all_of(
    listed: Sequence[Any], endpoints: Mapping[str, Resources]
) -> dict[int, Operation | SealwrightError]:
    """The operations by their numbers; what is none as its error, for when it is its turn."""
    found: dict[int, Operation | SealwrightError] = {}
    taken: set[str] = set()
    for number, one in enumerate(listed):
        try:
            operation = _operation(one, endpoints, taken)
        except SealwrightError as error:
            found[number] = error
        else:
            found[number] = operation
            taken |= {operation.bulk_id} - {""}
    return found


def _is_ready(operation: Operation | SealwrightError, made: Mapping[str, str]) -> bool:
    return isinstance(operation, SealwrightError) or operation.references() <= made.keys()


async def _carry_out(operation: Operation, made: dict[str, str]) -> dict[str, Any]:
    """Do it; what the result says besides method and bulkId. What it made is put into `made`."""
    resources, version = operation.resources, operation.version
    id_ = str(_resolved(operation.id_, made))
    data = _resolved(operation.data, made)
    status = "200"
    match operation.method:
        case "POST":
            document = await resources.create(data)
            status = "201"
            if operation.bulk_id:
                made[operation.bulk_id] = document["id"]
        case "PUT":
            document = await resources.replace(id_, data, version)
        case "PATCH":
            document = await resources.patch(id_, data, version)
        case "DELETE":
            await resources.delete(id_, version)
            return {"location": f"{resources.base}/{resources.kind.name}s/{id_}", "status": "204"}
        case method:
            message = f"Nothing is done by {method}."
            raise InternalError(message)
    meta = document["meta"]
    return {"location": meta["location"], "version": meta["version"], "status": status}


def _read(given: Mapping[str, Any]) -> tuple[Sequence[Any], int]:
    named = {name.lower(): value for name, value in given.items()}
    listed, fail_on_errors = named.get("operations"), named.get("failonerrors")
    if not isinstance(listed, list):
        _refuse("A BulkRequest has Operations.")
    if len(listed) > MAX_OPERATIONS:
        message = f"There are {len(listed)} operations; maxOperations is {MAX_OPERATIONS}."
        raise TooLargeError(message, advice="Send them in several requests.")
    if fail_on_errors is None:
        return listed, 0
    if not isinstance(fail_on_errors, int) or isinstance(fail_on_errors, bool):
        _refuse("failOnErrors is a number.")
    return listed, max(1, fail_on_errors)


def _operation(given: object, endpoints: Mapping[str, Resources], taken: set[str]) -> Operation:
    """Read one; `taken` are the bulkIds of those before it."""
    if not isinstance(given, Mapping):
        _refuse("An operation is an object.")
    method, path = str(given.get("method", "")).upper(), given.get("path")
    bulk_id, version, data = given.get("bulkId"), given.get("version"), given.get("data")
    match = _PATH.fullmatch(path) if isinstance(path, str) else None
    resources = endpoints.get(match["endpoint"].lower()) if match else None
    if method not in _METHODS or match is None or resources is None:
        _refuse("An operation has a method, and a path such as /Users or /Users/{id}.")
    if (method == "POST") is (match["id"] is not None):
        _refuse("POST makes a resource of an endpoint; others name a resource.")
    for one in (bulk_id, version):
        if one is not None and (not isinstance(one, str) or not 0 < len(one) <= _MAX_ID):
            _refuse("bulkId and version are short texts.")
    if method == "POST" and bulk_id is None:
        _refuse("A POST has a bulkId.")
    if method == "POST" and bulk_id in taken:
        _refuse("The bulkId is another operation's as well.")
    if method != "DELETE" and not isinstance(data, Mapping):
        _refuse("The operation has no data.")
    if _depth(data) > _MAX_DEPTH:
        _refuse("The data is nested too deeply.")
    return Operation(
        method,
        resources,
        match["id"] or "",
        (bulk_id or "") if method == "POST" else "",
        version,
        data if isinstance(data, Mapping) else {},
    )


def _shown(given: object) -> dict[str, Any]:
    """What a result repeats of its operation."""
    if not isinstance(given, Mapping):
        return {}
    named = {name: given.get(name) for name in ("method", "bulkId")}
    return {name: one[:_MAX_ID] for name, one in named.items() if isinstance(one, str) and one}


def _unresolved(operation: Operation, made: Mapping[str, str]) -> SealwrightError:
    name = min(operation.references() - made.keys())
    message = f"Nothing was made by an operation with the bulkId {name[:100]!r}."
    advice = "It failed, is not there, or waits for this one in turn."
    return ConflictError(message, advice=advice)


def _resolved(value: Any, made: Mapping[str, str]) -> Any:
    """The value with ids in place of bulkIds."""
    if isinstance(value, str) and value.startswith(_PREFIX):
        return made[value[len(_PREFIX) :]]
    if isinstance(value, Mapping):
        return {name: _resolved(one, made) for name, one in value.items()}
    if isinstance(value, list):
        return [_resolved(one, made) for one in value]
    return value


def _texts(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            pending += one.values()
        elif isinstance(one, list):
            pending += one


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, Mapping | list)]:
        depth += 1
        inner = (one.values() if isinstance(one, Mapping) else one for one in level)
        level = list(itertools.chain.from_iterable(inner))
    return depth


def _refuse(why: str) -> NoReturn:
    raise ScimError(ScimType.INVALID_SYNTAX, why, advice="See RFC 7644, 3.7.")
