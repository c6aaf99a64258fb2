"""The tree of an artifact: every file that the plan names, and what was done to it.

The stored plan (`signing.plan`, as JSON: the web process does not import what parses artifacts)
gives the shape, the worker's results what came of it. Of each container a part is shown: plans have
had 50,000 files.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sealwright.db import Transaction, requests
from sealwright.model.request import FileResult, SigningRequest

Node: TypeAlias = Mapping[str, Any]

PART = 200  #: files of one folder or container that are shown at once
_AT_ONCE = 300  #: files that the request's page shows
_KEPT = 4
_IN_A_THREAD = 200_000  #: characters of JSON from which on it is not read in the event loop


@dataclass(frozen=True)
class Step:
    """One directive of a file. `result` is None while it was not carried out."""

    directive: str
    result: FileResult | None


@dataclass(frozen=True)
class TreeItem:
    """One file.

    Attributes:
        path: through all containers; `name`: within its own.
        untouched: members inside that the configuration does not name: they stay as they are.
        inside: what is shown of the files in it; `total`: how many there are.
    """

    path: str
    name: str
    element: str
    size: int
    steps: tuple[Step, ...]
    untouched: int
    inside: tuple[TreeItem, ...]
    total: int

    @property
    def done(self) -> bool:
        """Whether something was done to it."""
        return any(step.result for step in self.steps)


@dataclass(frozen=True)
class Level:
    """A part of what is in one file: `item` with the part inside; the files shown end `after`."""

    item: TreeItem
    start: int
    after: int | None


class PlanCache:
    """Plans that were just shown: a page of a large artifact is followed by its next part."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Node] = OrderedDict()

    async def root(self, tx: Transaction, request: SigningRequest) -> Node | None:
        """The plan's root; None while there is no plan."""
        key = f"{request.id}/{request.plan_hash}"
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        text = await requests.get_plan(tx, request.id)
        if text is None:
            return None
        read = asyncio.to_thread(json.loads, text) if len(text) > _IN_A_THREAD else None
        plan: Node = await read if read else json.loads(text)
        root: Node = plan["root"]
        self._kept[key] = root
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return root


_PLANS = PlanCache()


async def whole(tx: Transaction, request: SigningRequest) -> TreeItem | None:
    """The tree as far as one page shows it, outer files first; None where nothing is known."""
    root = await _PLANS.root(tx, request)
    if root is None:
        return await _without_plan(tx, request)
    shown = _outermost(root, _AT_ONCE)
    results = await _results(tx, request, (str(node["path"]) for node in shown.values()))
    return _item(root, results, lambda node: [c for c in node["children"] if id(c) in shown])


def planned(root: Node) -> TreeItem:
    """The tree of a plan that nothing was done by, as far as one page shows it."""
    shown = _outermost(root, _AT_ONCE)
    return _item(root, {}, lambda node: [c for c in node["children"] if id(c) in shown])


async def level(tx: Transaction, request: SigningRequest, path: str, start: int) -> Level | None:
    """The files in the one at `path` (empty: the artifact), from the one at `start` on; None:
    there is no such file."""
    root = await _PLANS.root(tx, request)
    found = _find(root, path or root["path"]) if root is not None else None
    if found is None:
        return None
    part = found["children"][start : start + PART]
    results = await _results(tx, request, (str(node["path"]) for node in (found, *part)))
    item = _item(found, results, lambda node: part if node is found else [])
    after = start + PART if start + PART < item.total else None
    return Level(item, start, after)


async def _without_plan(tx: Transaction, request: SigningRequest) -> TreeItem | None:
    found = await requests.results(tx, request.id, limit=_AT_ONCE)
    if not found:
        return None
    name = request.input.file_name if request.input else ""
    inside = tuple(
        TreeItem(
            one.path, one.path or name, one.format, one.size_after,
            (Step(one.directive, one),), 0, (), 0,
        )
        for one in found
    )  # fmt: skip
    return TreeItem(name, name, "", 0, (), 0, inside, len(inside))


def _outermost(root: Node, count: int) -> dict[int, Node]:
    """The first `count` nodes, level by level, of each no more children than one part."""
    shown: dict[int, Node] = {}
    waiting = [root]
    while waiting and len(shown) < count:
        following: list[Node] = []
        for node in waiting[: count - len(shown)]:
            shown[id(node)] = node
            following += node["children"][:PART]
        waiting = following
    return shown


def _find(node: Node, path: str) -> Node | None:
    """The node at `path`. Paths of what is inside begin with the container's own."""
    while True:
        if node["path"] == path:
            return node
        inner = next(
            (c for c in node["children"] if path == c["path"] or path.startswith(c["path"] + "!/")),
            None,
        )
        if inner is None:
            return None
        node = inner


async def _results(
    tx: Transaction, request: SigningRequest, paths: Iterable[str]
) -> Mapping[str, Sequence[FileResult]]:
    found: dict[str, list[FileResult]] = {}
    for one in await requests.results_of(tx, request.id, list(paths)):
        found.setdefault(one.path, []).append(one)
    return found


def _item(node: Node, results: Mapping[str, Sequence[FileResult]], inside: Any) -> TreeItem:
    return TreeItem(
        path=node["path"],
        name=node["member"] or node["path"],
        element=node["element"],
        size=node["size"],
        steps=tuple(_steps(node, results.get(node["path"], ()))),
        untouched=max(0, node["members"] - len(node["children"])),
        inside=tuple(_item(child, results, inside) for child in inside(node)),
        total=len(node["children"]),
    )


def _steps(node: Node, results: Sequence[FileResult]) -> Iterator[Step]:
    """The planned directives with their results, then what was done besides (repacking)."""
    left = list(results)
    for directive in node["directives"]:
        match = next((one for one in left if one.directive == directive["name"]), None)
        if match is not None:
            left.remove(match)
        yield Step(directive["name"], match)
    for one in left:
        yield Step(one.directive, one)
