"""The tree of an artifact: every member, and what was done to it.

The stored tree (`model.member_tree`, made by the worker: the web process does not import what
parses artifacts) gives the shape, the worker's results what came of it. Of each folder or container
a part is shown, and those that hold nothing to sign are closed: artifacts have had 50,000 files.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sealwright.db import Transaction, file_results, plans
from sealwright.model.member_additions import Additions, add_members
from sealwright.model.member_tree import (
    KIND,
    NAME,
    SIZE,
    WRITTEN,
    MemberTree,
    Node,
    build,
    counts,
    inside,
    is_folder,
)
from sealwright.model.proposal import Trial, TrialState
from sealwright.model.request import FileResult, SigningRequest, State
from sealwright.visible import missing

Stored = TypeVar("Stored", bytes, str)

PART = 200  #: members of one folder or container that are shown at once
_AT_ONCE = 300  #: members that the request's page shows
_DEEPEST = 12  #: levels that it shows
_KEPT = 4
_IN_A_THREAD = 50_000  #: bytes from which on a tree is not read in the event loop
_SEPARATOR = "!/"
WOULD = "would be signed"  #: what a directive is called that a trial does not carry out
#: What an address in a tree looks like: positions, from the artifact inwards.
ADDRESS = r"^(\d{1,7}(\.\d{1,7}){0,250})?$"


@dataclass(frozen=True)
class Step:
    """One directive of a file. `result` is None while it was not carried out."""

    directive: str
    result: FileResult | None


@dataclass(frozen=True)
class TreeItem:
    """One file or folder.

    Attributes:
        path: through all containers; `name`: within its folder.
        address: where it is in the tree, for links.
        kind: ``folder``, ``named`` (by the configuration), ``unchanged``, ``written`` (by the
            signature of its container), or what signing does to it, a `Change`.
        element: of what the configuration names; of what comes with a signature, what it is.
        steps: what is done to it.
        files: how many are in it at any depth; `named`: those that the configuration names;
            `unlisted`: members that the worker counted without listing them; `touched`: whether
            something in it came with signing, or changed.
        inside: what is shown of its members; `total`: how many there are.
    """

    path: str
    name: str
    address: str
    kind: str
    element: str
    size: int
    steps: tuple[Step, ...]
    files: int
    named: int
    unlisted: int
    inside: tuple[TreeItem, ...]
    total: int
    touched: bool = False

    @property
    def is_container(self) -> bool:
        """Whether it is a file that was opened."""
        return self.kind != "folder" and bool(self.total or self.unlisted)


@dataclass(frozen=True)
class Level:
    """A part of what is in one folder or container: `item` with the part inside; the members shown
    end `after`. `way`: (name, address) of what it is in, from the artifact on."""

    item: TreeItem
    start: int
    after: int | None
    way: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Placed:
    """A node, with the path of what is in it up to their names."""

    node: Node
    path: str
    address: str

    @property
    def prefix(self) -> str:
        if not is_folder(self.node):
            return self.path + _SEPARATOR
        return self.path + "/"

    def child(self, position: int) -> _Placed:
        node = inside(self.node)[position]
        address = f"{self.address}.{position}" if self.address else str(position)
        return _Placed(node, self.prefix + node[NAME], address)

    def children(self, start: int = 0) -> list[_Placed]:
        end = min(start + PART, len(inside(self.node)))
        return [self.child(position) for position in range(start, end)]


class TreeCache:
    """Trees that were just shown: a page of a large artifact is followed by its next part."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, MemberTree] = OrderedDict()

    async def get(
        self, key: str, read: Callable[[], Awaitable[MemberTree | None]]
    ) -> MemberTree | None:
        """The tree of this key; it is read where it is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        tree = await read()
        if tree is not None:
            self._kept[key] = tree
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return tree


_TREES = TreeCache()


async def _unpacked(
    packed: bytes | None, plan: str | None, additions: Additions
) -> MemberTree | None:
    """The tree that is packed, with what signing has added; or that of the plan where none is
    stored with it."""
    if packed is not None:
        return await _aside(packed, lambda it: add_members(MemberTree.unpack(it), additions))
    if plan is not None:
        return await _aside(plan, lambda text: build(json.loads(text)["root"], {}))
    return None


async def _aside(value: Stored, read: Callable[[Stored], MemberTree]) -> MemberTree:
    return await asyncio.to_thread(read, value) if len(value) > _IN_A_THREAD else read(value)


async def _tree(tx: Transaction, request: SigningRequest) -> MemberTree | None:
    is_signed = request.state is State.COMPLETED

    async def read() -> MemberTree | None:
        packed = await plans.tree(tx, request.id)
        plan = None if packed else await plans.get(tx, request.id)
        additions = await file_results.additions(tx, request.id) if is_signed else {}
        return await _unpacked(packed, plan, additions)

    return await _TREES.get(f"{request.id}/{request.plan_hash}/{is_signed}", read)


async def whole(tx: Transaction, request: SigningRequest) -> TreeItem | None:
    """The tree as far as one page shows it, outer members first; None where nothing is known."""
    if request.results_removed_at:
        return None
    tree = await _tree(tx, request)
    if tree is None:
        return await _without_plan(tx, request)
    shown = _outermost(tree)
    named = (one.path for part in shown.values() for one in part if _is_named(tree, one.node))
    results = await _results(tx, request, [tree.root[NAME], *named])
    return _Shown(tree, results, shown).item(_Placed(tree.root, tree.root[NAME], ""))


async def of_trial(trial: Trial) -> TreeItem | None:
    """The tree of a sample as far as one page shows it; None until the trial is done."""
    tree = await _tree_of_trial(trial)
    if tree is None:
        return None
    root = _Placed(tree.root, tree.root[NAME], "")
    return _Shown(tree, {}, _outermost(tree)).item(root)


async def level(tx: Transaction, request: SigningRequest, address: str, start: int) -> Level | None:
    """The members of what is at `address`, from the one at `start` on; None: there is no plan yet.

    Raises:
        NotFoundError: there is nothing at the address.
    """
    tree = await _tree(tx, request)
    if tree is None:
        return None
    way = _way(tree, address)
    part = way[-1].children(start)
    paths = [one.path for one in (way[-1], *part) if _is_named(tree, one.node)]
    return _level(tree, way, start, part, await _results(tx, request, paths))


async def _tree_of_trial(trial: Trial) -> MemberTree | None:
    if trial.state is not TrialState.DONE:
        return None
    return await _TREES.get(
        f"trials/{trial.id}", lambda: _unpacked(trial.tree, trial.plan or None, {})
    )


async def level_of_trial(trial: Trial, address: str, start: int) -> Level | None:
    """`level` of a sample."""
    tree = await _tree_of_trial(trial)
    if tree is None:
        return None
    way = _way(tree, address)
    return _level(tree, way, start, way[-1].children(start), {})


def _level(
    tree: MemberTree,
    way: Sequence[_Placed],
    start: int,
    part: Sequence[_Placed],
    results: Mapping[str, Sequence[FileResult]],
) -> Level:
    item = _Shown(tree, results, {way[-1].address: part}).item(way[-1])
    after = start + PART if start + PART < item.total else None
    return Level(item, start, after, tuple((one.node[NAME], one.address) for one in way[:-1]))


async def _without_plan(tx: Transaction, request: SigningRequest) -> TreeItem | None:
    found = await file_results.results(tx, request.id, limit=_AT_ONCE)
    if not found:
        return None
    name = request.input.file_name if request.input else ""
    members = tuple(
        TreeItem(
            one.path, one.path or name, "", "named", one.format, one.size_after,
            (Step(one.directive, one),), 0, 0, 0, (), 0,
        )
        for one in found
    )  # fmt: skip
    return TreeItem(
        name, name, "", "folder", "", 0, (), len(members), len(members), 0, members, len(members)
    )


def _way(tree: MemberTree, address: str) -> list[_Placed]:
    """What is at the address, behind all that it is in."""
    way = [_Placed(tree.root, tree.root[NAME], "")]
    for step in address.split(".") if address else ():
        if int(step) >= len(inside(way[-1].node)):
            raise missing(address, "place in the artifact")
        way.append(way[-1].child(int(step)))
    return way


def _is_named(tree: MemberTree, node: Node) -> bool:
    return not is_folder(node) and bool(tree.kinds[node[KIND]][0])


def _outermost(tree: MemberTree) -> dict[str, list[_Placed]]:
    """By the address of each folder or container that is open: its first members. Level by level;
    what holds nothing that the configuration names or signing has added stays closed."""
    shown: dict[str, list[_Placed]] = {}
    root = _Placed(tree.root, tree.root[NAME], "")
    waiting = [root]
    left = _AT_ONCE
    for _ in range(_DEEPEST):
        following: list[_Placed] = []
        for one in waiting:
            is_open = one is root or counts(one.node)[1] or id(one.node) in tree.touched
            if left <= 0 or not is_open:
                continue
            part = shown[one.address] = one.children()
            left -= len(part)
            following += part
        waiting = following
    return shown


async def _results(
    tx: Transaction, request: SigningRequest, paths: Iterable[str]
) -> Mapping[str, Sequence[FileResult]]:
    found: dict[str, list[FileResult]] = {}
    for one in await file_results.results_of(tx, request.id, list(paths)):
        found.setdefault(one.path, []).append(one)
    return found


@dataclass(frozen=True)
class _Shown:
    """A tree with results, and which of its members a page shows."""

    tree: MemberTree
    results: Mapping[str, Sequence[FileResult]]
    shown: Mapping[str, Sequence[_Placed]]

    def item(self, placed: _Placed) -> TreeItem:
        node = placed.node
        files, named, unlisted = counts(node)
        members = tuple(self.item(one) for one in self.shown.get(placed.address, ()))
        kind, element, size = "folder", "", 0
        directives: Sequence[str] = ()
        if not is_folder(node):
            element, directives = self.tree.kinds[node[KIND]]
            size = node[SIZE]
            kind = "named"
            if node[KIND] <= WRITTEN:
                kind = "written" if node[KIND] == WRITTEN else "unchanged"
            elif not element:
                (kind, element), directives = directives, ()
        results = self.results.get(placed.path, ()) if kind == "named" else ()
        return TreeItem(
            path=placed.path,
            name=node[NAME],
            address=placed.address,
            kind=kind,
            element=element,
            size=size,
            steps=tuple(_steps(directives, results)),
            files=files,
            named=named,
            unlisted=unlisted,
            touched=id(node) in self.tree.touched,
            inside=members,
            total=len(inside(node)),
        )


def _steps(directives: Sequence[str], results: Sequence[FileResult]) -> Iterator[Step]:
    """The planned directives with their results, then what was done besides (repacking)."""
    left = list(results)
    for directive in directives:
        match = next((one for one in left if one.directive == directive), None)
        if match is not None:
            left.remove(match)
        yield Step(directive, match)
    for one in left:
        yield Step(one.directive, one)
