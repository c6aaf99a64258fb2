"""Folders of a container. They are prefixes of its members' paths and nothing more."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from sealwright.signing.artifact import Entry
from sealwright.signing.wildcard import Pattern, fold

_HINTS = 500


class Folder:
    """A folder and everything below it, found by patterns relative to it. Case does not matter."""

    def __init__(self, members: Sequence[tuple[str, Entry]], prefix: str) -> None:
        self._members = members  # (folded path, entry), sorted, all below the prefix
        self._prefix = prefix  # empty, or ends with "/"; as spelled by one of the members
        self._files: dict[str, Entry] | None = None
        self._folders: dict[str, str] | None = None

    @classmethod
    def root(cls, entries: Iterable[Entry]) -> Folder:
        """The root folder of a container with these members."""
        return cls(sorted(((fold(e.path), e) for e in entries), key=lambda m: m[0]), "")

    @property
    def path(self) -> str:
        """Path from the container's root, empty for the root itself."""
        return self._prefix.removesuffix("/")

    def files(self, pattern: Pattern) -> list[Entry]:
        """Files whose path from here matches, in the container's order."""
        if self._files is None:
            self._files = {
                path[len(self._prefix) :]: entry
                for path, entry in self._members
                if not entry.is_directory
            }
        if pattern.literal is not None:
            found = self._files.get(pattern.literal)
            return [found] if found else []
        matching = [entry for path, entry in self._files.items() if pattern.matches(path)]
        return sorted(matching, key=lambda entry: entry.order)

    def names(self) -> list[str]:
        """Folded paths of some of the files, for hints in messages."""
        return [path[len(self._prefix) :] for path, _ in self._members[:_HINTS]]

    def folders(self, pattern: Pattern) -> list[Folder]:
        """Folders whose path from here matches, sorted by path."""
        if self._folders is None:
            self._folders = self._find_folders()
        return [
            self._below(spelling)
            for path, spelling in sorted(self._folders.items())
            if pattern.matches(path)
        ]

    def _find_folders(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for folded, entry in self._members:
            path = entry.path + "/" if entry.is_directory else entry.path
            cut = path.rfind("/")
            while cut >= len(self._prefix):
                key = folded[len(self._prefix) : cut]
                if key in found:
                    break
                found[key] = path[: cut + 1]
                cut = path.rfind("/", 0, cut)
        return found

    def _below(self, spelling: str) -> Folder:
        prefix = fold(spelling)
        first = bisect_left(self._members, prefix, key=lambda member: member[0])
        # "0" is the character after "/", so this is the end of everything below the prefix.
        last = bisect_left(self._members, prefix[:-1] + "0", key=lambda member: member[0])
        return Folder(self._members[first:last], spelling)
