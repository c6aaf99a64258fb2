"""The tree of an artifact's members: what the worker builds and stores, what the pages read."""

from __future__ import annotations

import json
import sys
import zlib

import pytest
from tests import artifact_plans

from sealwright.errors import InternalError
from sealwright.model.member_tree import (
    FILE,
    FOLDER,
    INSIDE,
    NAME,
    SIGNATURE,
    MemberTree,
    build,
    counts,
    inside,
    is_folder,
)


def node(path: str, member: str = "", children: tuple[object, ...] = (), members: int = 0) -> dict:  # type: ignore[type-arg]
    return {
        "path": path, "member": member, "size": 5, "element": "zip-file" if members else "pe-file",
        "directives": [] if members else [{"name": "authenticode-sign"}],
        "children": list(children), "members": members,
    }  # fmt: skip


def test_folders_are_made_of_paths_and_single_ones_are_joined() -> None:
    listing = {
        "a.zip": [
            ("lib/x/y/one.dll", 1, FILE), ("lib/x/y/two.dll", 2, FILE), ("B.txt", 3, FILE),
            ("a.txt", 4, FILE), ("nothing/", 0, FOLDER), ("_rels/.rels", 5, SIGNATURE),
        ]
    }  # fmt: skip
    root = node("a.zip", children=(node("a.zip!/lib/x/y/two.dll", "lib/x/y/two.dll"),), members=6)
    tree = MemberTree.unpack(build(root, listing).pack())
    names = [one[NAME] for one in inside(tree.root)]
    assert names == ["_rels", "lib/x/y", "nothing", "a.txt", "B.txt"]
    assert counts(tree.root) == (5, 1, 0)
    library = inside(tree.root)[1]
    assert is_folder(library)
    assert counts(library) == (2, 1, 0)
    assert [one[NAME] for one in inside(library)] == ["one.dll", "two.dll"]
    kinds = [tree.kinds[one[2]] for one in inside(library)]
    assert kinds == [("", []), ("pe-file", ["authenticode-sign"])]


def test_a_list_that_was_cut_off_keeps_what_is_named_and_counts_the_rest() -> None:
    inner = node("a.zip!/z/in.zip", "z/in.zip", (node("a.zip!/z/in.zip!/p.exe", "p.exe"),), 4)
    tree = build(node("a.zip", children=(inner,), members=10), {"a.zip": [("b.txt", 1, FILE)]})
    assert counts(tree.root) == (2, 1, 8)
    folder = inside(tree.root)[0]
    [container] = inside(folder)
    assert counts(container) == (1, 1, 3)


def test_folders_that_nest_endlessly_do_not() -> None:
    members = [("/".join("d" * n) + f"/{n}.txt", 1, FILE) for n in range(1, 3000, 7)]
    tree = MemberTree.unpack(build(node("a.zip", members=len(members)), {"a.zip": members}).pack())
    assert counts(tree.root)[0] == len(members)
    depth, here = 0, tree.root
    while inside(here):
        depth, here = depth + 1, inside(here)[0]
    assert depth < sys.getrecursionlimit() // 5


def test_a_large_tree_is_small_when_stored() -> None:
    plan = artifact_plans.release(2000)
    packed = build(plan.root.to_json(), artifact_plans.listing(plan)).pack()
    assert len(packed) < 40_000
    assert counts(MemberTree.unpack(packed).root)[1] == 2001


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-9],
        lambda _packed: b"",
        lambda _packed: zlib.compress(b"[]"),
        lambda _packed: zlib.compress(json.dumps({"version": 2}).encode()),
        lambda _packed: zlib.compress(b"\xff"),
    ],
)
def test_damage_is_noticed(damage: object) -> None:
    packed = build(node("a.zip", members=1), {"a.zip": [("b", 1, FILE)]}).pack()
    assert MemberTree.unpack(packed).root[INSIDE]
    with pytest.raises(InternalError):
        MemberTree.unpack(damage(packed))  # type: ignore[operator]
