"""Members that signing adds, in the tree of an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sealwright.model.member_tree import (
    FILES,
    FOLDER_FILES,
    FOLDER_INSIDE,
    INSIDE,
    KIND,
    NAME,
    SIZE,
    WRITTEN,
    MemberTree,
    Node,
    inside,
    is_folder,
)
from sealwright.model.signed_member import Change, SignedMember

_SEPARATOR = "!/"

#: Path of a container as in the plan -> members that have come into it, changed in it or left it.
Additions = Mapping[str, Sequence[SignedMember]]


def add_members(tree: MemberTree, additions: Additions) -> MemberTree:
    """The tree, whose nodes change, with these members. Doing it twice changes nothing more. Their
    kinds have no element, and instead of directives what signing did and what the member is."""
    kinds = [(element, tuple(names)) for element, names in tree.kinds]
    numbers = {kind: number for number, kind in enumerate(kinds) if number > WRITTEN}
    touched = set(tree.touched)
    for path, container in _containers(tree.root, additions):
        touched.add(id(container))
        for member in additions[path]:
            kind = ("", (member.change.value, member.what))
            number = numbers.setdefault(kind, len(kinds))
            if number == len(kinds):
                kinds.append(kind)
            steps = member.path.split("/")
            leaf = [steps[-1], member.size, number]
            place = _Place(touched, replace_only=member.change is Change.REMOVED)
            container[FILES] += place.put(container[INSIDE], steps, leaf)
    return MemberTree(kinds, tree.root, frozenset(touched))


def _containers(root: Node, wanted: Additions) -> list[tuple[str, Node]]:
    """Opened containers at these paths."""
    found = []
    waiting = [(root[NAME], root)]
    while waiting:
        path, node = waiting.pop()
        if not is_folder(node):
            if len(node) <= INSIDE:
                continue
            if path in wanted:
                found.append((path, node))
        prefix = path + ("/" if is_folder(node) else _SEPARATOR)
        waiting += [(prefix + child[NAME], child) for child in inside(node)]
    return found


@dataclass(frozen=True)
class _Place:
    """Puts files where they belong.

    Attributes:
        touched: takes the ids of the folders on the way.
        replace_only: what is not there stays away.
    """

    touched: set[int]
    replace_only: bool

    def put(self, children: list[Node], steps: Sequence[str], leaf: Node) -> int:
        """Put a file among the members of one folder; how many more there are afterwards."""
        if len(steps) == 1:
            return self._put_file(children, leaf)
        folders = list(steps[:-1])
        for node in children:
            names = node[NAME].split("/") if is_folder(node) else ()
            common = _common(names, folders)
            if not common:
                continue
            if common < len(names):
                if self.replace_only:
                    return 0
                node[:] = _split(node, names, common)
            self.touched.add(id(node))
            more = self.put(node[FOLDER_INSIDE], steps[common:], leaf)
            node[FOLDER_FILES] += more
            return more
        return self._add(children, ["/".join(folders), [leaf], 1, 0])

    def _put_file(self, children: list[Node], leaf: Node) -> int:
        for node in children:
            if not is_folder(node) and node[NAME] == leaf[NAME]:
                node[SIZE : KIND + 1] = leaf[SIZE:]
                return 0
        return self._add(children, leaf)

    def _add(self, children: list[Node], node: Node) -> int:
        if self.replace_only:
            return 0
        if is_folder(node):
            self.touched.add(id(node))
        children.append(node)
        # folders first, each by name: the order of `member_tree.build`
        children.sort(key=lambda one: (not is_folder(one), one[NAME].casefold(), one[NAME]))
        return 1


def _common(names: Sequence[str], folders: Sequence[str]) -> int:
    count = 0
    for name, folder in zip(names, folders, strict=False):
        if name != folder:
            break
        count += 1
    return count


def _split(node: Node, names: Sequence[str], common: int) -> Node:
    """The folder ``a/b/c`` as ``a`` with ``b/c`` in it."""
    inner = ["/".join(names[common:]), *node[1:]]
    return ["/".join(names[:common]), [inner], *node[FOLDER_FILES:]]
