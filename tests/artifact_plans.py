"""Stored plans with their results, of any size, for what shows them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from sealwright.db import file_results, plans
from sealwright.model.identifiers import utc_now
from sealwright.model.member_tree import FILE, FOLDER, SIGNATURE, Member, build
from sealwright.model.plan import StoredPlan
from sealwright.model.request import FileResult
from sealwright.signing.artifact import TimestampForm
from sealwright.signing.configuration import Directive
from sealwright.signing.plan import Plan, PlanNode
from sealwright.signing.stored_plan import effect_of
from tests.web import Web

_SIGN = Directive("authenticode-sign", {}, "line 4, column 7")


def digest(text: str) -> str:
    """A digest that looks like one."""
    return hashlib.sha256(text.encode()).hexdigest()


def release(files: int, name: str = "release.zip") -> Plan:
    """A ZIP with an MSI that holds two files, and so many executables beside it."""
    msi = f"{name}!/setup.msi"
    inner = tuple(_exe(msi, f"bin/{stem}.dll", number) for number, stem in enumerate("ab"))
    children = (
        PlanNode(msi, "setup.msi", 0, 5_000_000, digest(msi), "msi-file", "line 3, column 5",
                 (_SIGN,), inner, 40, depth=2),
        *(_exe(name, f"tools/{number:05}.exe", number + 1) for number in range(files)),
    )  # fmt: skip
    root = PlanNode(name, "", 0, 9_000_000, digest(name), "zip-file", "line 2, column 3", (),
                    children, files + 8)  # fmt: skip
    form = next(iter(TimestampForm))
    return Plan(name, digest("xml"), {}, 1_700_000_000, form, root)


def _exe(container: str, member: str, order: int) -> PlanNode:
    path = f"{container}!/{member}"
    return PlanNode(path, member, order, 100_000 + order, digest(path), "pe-file",
                    "line 5, column 9", (_SIGN,), depth=path.count("!/") + 1)  # fmt: skip


def results(plan: Plan) -> Iterator[FileResult]:
    """What a worker would have done."""
    for node in plan.root.walk():
        names = [directive.name for directive in node.directives]
        names += ["repack"] if node.children else []
        for name in names:
            yield FileResult(
                node.path, node.element, name, "Authenticode, SHA-256", node.sha256,
                digest(node.path + name), node.size + 9000, utc_now(),
            )  # fmt: skip


def listing(plan: Plan) -> dict[str, list[Member]]:
    """What the containers of `release` hold: what is named, folders, and members that are not."""
    found: dict[str, list[Member]] = {}
    for node in plan.root.walk():
        if node.members:
            members = [(child.member, child.size, FILE) for child in node.children]
            others = node.members - len(members)
            if node is plan.root:
                members += [("empty/", 0, FOLDER), ("META-INF/MANIFEST.MF", 90, SIGNATURE)]
                others -= 2
            members += [(f"docs/en/{n:05}.html", 1000 + n, FILE) for n in range(others)]
            found[node.path] = members
    return found


def packed(plan: Plan) -> bytes:
    """The tree of `release` as the worker stores it."""
    return build(plan.root.to_json(), listing(plan)).pack()


async def store(
    web: Web, request_id: str, plan: Plan, *, done: bool = True, listed: bool = True
) -> None:
    """Keep the plan as the worker does, and with `done` its results."""
    tree = packed(plan) if listed else None
    async with web.database.transaction() as tx:
        stored = StoredPlan(plan.plan_hash, plan.to_json(), effect_of(plan), tree, plan.warnings)
        await plans.put(tx, request_id, stored, utc_now())
        if done:
            await file_results.put_results(tx, request_id, list(results(plan)))


async def store_results(web: Web, request_id: str, plan: Plan) -> None:
    """Put the plan's results in the place of others."""
    async with web.database.transaction() as tx:
        await file_results.put_results(tx, request_id, list(results(plan)))
