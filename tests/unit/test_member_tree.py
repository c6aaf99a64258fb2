"""The tree of an artifact's members: what the worker builds and stores, what the pages read."""

from __future__ import annotations

import json
import sys
import zlib

import pytest
from tests import artifact_plans

from sealwright.errors import InternalError
from sealwright.model.member_additions import add_members
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
from sealwright.model.signed_member import Change, SignedMember


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


def shown(tree: MemberTree, of: list[object], indent: str = "") -> list[str]:
    """Every node with its kind; of an addition with what it is."""
    lines = []
    for one in inside(of):
        if is_folder(one):
            lines.append(f"{indent}{one[NAME]}/ {counts(one)[0]}")
        else:
            element, names = tree.kinds[one[2]]
            lines.append(f"{indent}{one[NAME]} {element or '-'.join(names)} {one[1]}".rstrip())
        lines += shown(tree, one, indent + " ")
    return lines


def test_what_signing_adds_lies_where_it_belongs() -> None:
    inner = node("a.zip!/lib/b.jar", "lib/b.jar", members=3)
    listing = {
        "a.zip": [("lib/b.jar", 9, FILE), ("x.exe", 7, FILE)],
        "a.zip!/lib/b.jar": [
            ("META-INF/maven/pom.xml", 1, FILE), ("META-INF/MANIFEST.MF", 2, SIGNATURE),
            ("META-INF/OLD.SF", 3, SIGNATURE),
        ],
    }  # fmt: skip
    signs = {"directives": [{"name": "jar-sign"}], "element": "jar-file"}
    program = node("a.zip!/x.exe", "x.exe")
    tree = build(node("a.zip", children=(inner | signs, program), members=2), listing)
    additions = {
        "a.zip": [SignedMember("x.exe.sig", 11, Change.ADDED, "detached signature"),
                  SignedMember("sigs/deep/y.sig", 12, Change.ADDED, "detached signature")],
        "a.zip!/lib/b.jar": [
            SignedMember("META-INF/MANIFEST.MF", 20, Change.CHANGED, "manifest"),
            SignedMember("META-INF/SIGNER.SF", 21, Change.ADDED, "signature file"),
            SignedMember("META-INF/OLD.SF", 3, Change.REMOVED, "signature file"),
            SignedMember("META-INF/GONE.SF", 3, Change.REMOVED, "signature file"),
        ],
        "elsewhere": [SignedMember("z", 1, Change.ADDED)],
    }  # fmt: skip
    for _ in range(2):  # twice is as good as once
        tree = MemberTree.unpack(add_members(tree, additions).pack())
        assert shown(tree, tree.root) == [
            "lib/ 1",
            " b.jar jar-file 5",
            "  META-INF/ 4",
            "   maven/ 1",
            "    pom.xml  1",
            "   MANIFEST.MF changed-manifest 20",
            "   OLD.SF removed-signature file 3",
            "   SIGNER.SF added-signature file 21",
            "sigs/deep/ 1",
            " y.sig added-detached signature 12",
            "x.exe pe-file 5",
            "x.exe.sig added-detached signature 11",
        ]
        assert counts(tree.root) == (4, 2, 0)


def test_an_addition_parts_a_folder_that_was_joined() -> None:
    tree = build(node("a.zip", members=1), {"a.zip": [("a/b/c/one.txt", 1, FILE)]})
    added = [SignedMember("a/b/two.sig", 2, Change.PLANNED, "signature")]
    tree = add_members(tree, {"a.zip": added})
    assert shown(tree, tree.root) == [
        "a/b/ 2", " c/ 1", "  one.txt  1", " two.sig planned-signature 2",
    ]  # fmt: skip
