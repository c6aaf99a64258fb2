"""Every member of an artifact as a tree of folders, compact enough to be stored beside the plan.

The worker builds it from the plan and from what the format children list of the containers that
they open; the web process reads it and needs nothing that parses artifacts. A node is a JSON array:

- a file: name, size, number of its kind;
- a container that was opened: the same, then children, files inside, files inside that the
  configuration names, members inside that are not listed;
- a folder: name, children, files inside, files inside that are named.

A kind is an element with the names of its directives. Two stand for members without an element;
`model.member_additions` adds further ones without.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sealwright.errors import InternalError

Node: TypeAlias = list[Any]
#: (path inside the container, bytes, one of the three below).
Member: TypeAlias = tuple[str, int, int]
#: Path of a container as in the plan -> what is in it, in its order.
Listing: TypeAlias = Mapping[str, Sequence[Member]]

FILE, FOLDER, SIGNATURE = range(3)  #: a signature's own members are written anew with it

UNCHANGED, WRITTEN = range(2)  #: kinds of members that the configuration does not name

NAME, SIZE, KIND, INSIDE, FILES, NAMED, UNLISTED = range(7)  #: places in a file or container
FOLDER_INSIDE, FOLDER_FILES, FOLDER_NAMED = range(1, 4)  #: places in a folder

_VERSION = 1
#: Deeper folders are shown as part of a name: what nests further is made to break readers.
_MAX_DEPTH = 100
_MAX_BYTES = 256 << 20
_LEVEL = 3  # names repeat themselves: more effort gains a few per cent


@dataclass(frozen=True)
class MemberTree:
    """A tree with its kinds: (element, directives) of each; the first two have neither.

    Attributes:
        touched: ids of the folders and containers that `model.member_additions` has put something
            in; not stored.
    """

    kinds: Sequence[tuple[str, Sequence[str]]]
    root: Node
    touched: frozenset[int] = frozenset()

    def pack(self) -> bytes:
        """As it is stored: JSON, deflated."""
        value = {"version": _VERSION, "kinds": self.kinds, "root": self.root}
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        return zlib.compress(text.encode("utf-8", "surrogatepass"), _LEVEL)

    @classmethod
    def unpack(cls, packed: bytes) -> MemberTree:
        """Read what `pack` has written.

        Raises:
            InternalError: it is damaged, of another version or larger than 256 MiB.
        """
        try:
            inflated = zlib.decompressobj()
            text = inflated.decompress(packed, _MAX_BYTES)
            if not inflated.eof:
                raise ValueError(len(packed))
            value = json.loads(text.decode("utf-8", "surrogatepass"))
            if value["version"] != _VERSION:
                raise ValueError(value["version"])
            return cls([(element, names) for element, names in value["kinds"]], value["root"])
        except (ValueError, KeyError, TypeError, zlib.error):
            message = "The stored tree of the artifact is damaged."
            raise InternalError(message) from None


def build(plan_root: Mapping[str, Any], listing: Listing) -> MemberTree:
    """The tree of a plan.

    Args:
        plan_root: the plan's root, as in its JSON.
        listing: of the opened containers; one that is missing or cut off there has members that
            are counted and not shown, beside those that the plan names.
    """
    builder = _Builder(listing)
    root = builder.file(plan_root, plan_root["path"], 0)
    return MemberTree([("", ()), ("", ()), *builder.kinds], root)


def is_folder(node: Node) -> bool:
    """Whether it is a folder within a container."""
    return isinstance(node[1], list)


def inside(node: Node) -> Sequence[Node]:
    """What is directly in it."""
    if is_folder(node):
        children: Sequence[Node] = node[FOLDER_INSIDE]
        return children
    return node[INSIDE] if len(node) > INSIDE else ()


def counts(node: Node) -> tuple[int, int, int]:
    """Of what is in it at any depth of folders, not of containers: files, files that the
    configuration names, members that are not listed."""
    if is_folder(node):
        return node[FOLDER_FILES], node[FOLDER_NAMED], 0
    return (node[FILES], node[NAMED], node[UNLISTED]) if len(node) > INSIDE else (0, 0, 0)


@dataclass
class _Folder:
    folders: dict[str, _Folder] = field(default_factory=dict)
    files: list[Node] = field(default_factory=list)


class _Builder:
    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.kinds: dict[tuple[str, tuple[str, ...]], int] = {}

    def file(self, planned: Mapping[str, Any], name: str, depth: int) -> Node:
        """A file that the plan names, with what is in it."""
        kind = (planned["element"], tuple(each["name"] for each in planned["directives"]))
        node: Node = [name, planned["size"], self.kinds.setdefault(kind, len(self.kinds) + 2)]
        if not planned["members"] and not planned["children"]:
            return node
        members = self.listing.get(planned["path"], ())
        named = {child["member"]: child for child in planned["children"]}
        top = _Folder()
        for path, size, what in members:
            self._add(top, path, size, what, named.pop(path, None), depth + 1)
        for path, child in named.items():  # beyond where the list was cut off
            self._add(top, path, 0, FILE, child, depth + 1)
        unlisted = max(0, planned["members"] - len(members) - len(named))
        return [*node, *self._closed(top), unlisted]

    def _add(self, top: _Folder, path: str, size: int, what: int, child: Any, depth: int) -> None:
        room = max(0, _MAX_DEPTH - depth)
        steps = path.rstrip("/").split("/", room)
        place = top
        for step in steps if what == FOLDER else steps[:-1]:
            following = place.folders.get(step)
            if following is None:
                following = place.folders[step] = _Folder()
            place = following
        if what == FOLDER:
            return
        if child is not None:
            place.files.append(self.file(child, steps[-1], depth + len(steps)))
        else:
            place.files.append([steps[-1], size, WRITTEN if what == SIGNATURE else UNCHANGED])

    def _closed(self, folder: _Folder) -> tuple[list[Node], int, int]:
        """Children in the order of their names, folders first; files and named files below."""
        children: list[Node] = []
        files = len(folder.files)
        named = sum(1 for node in folder.files if node[KIND] > WRITTEN)
        for name, each in folder.folders.items():
            below, files_below, named_below = self._closed(each)
            files += files_below
            named += named_below
            shown = name
            if len(below) == 1 and is_folder(below[0]):  # a/b/c where there is nothing else
                shown, below = f"{name}/{below[0][NAME]}", below[0][FOLDER_INSIDE]
            children.append([shown, below, files_below, named_below])
        for nodes in (children, folder.files):
            nodes.sort(key=lambda node: (node[NAME].casefold(), node[NAME]))
        return [*children, *folder.files], files, named
