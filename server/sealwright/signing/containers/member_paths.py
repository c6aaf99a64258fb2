"""Paths of members: what every container refuses, since some system would take it amiss."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from sealwright.errors import ArtifactError
from sealwright.signing.advice import OTHER_OUTPUT

MAX_PATH = 4096
REPACK = "Pack the archive again with a common tool."
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:")
_DROPPED = re.compile(r"(?<=[^/ .])[ .]+(?=/|\Z)")


def check_path(path: str) -> None:
    """Refuse a path that would leave the folder it is unpacked to, or looks like another one.

    Args:
        path: with ``/``, which a directory's ends with.

    Raises:
        ArtifactError: it is absolute, has a drive letter, a backslash, control characters, or an
            empty, ``.`` or ``..`` segment, or is too long.
    """
    segments = path.removesuffix("/").split("/")
    problem = ""
    if len(path) > MAX_PATH:
        problem = f"is longer than {MAX_PATH} characters"
    elif path.startswith("/"):
        problem = "is absolute"
    elif _UNSAFE.search(path):
        problem = "has a backslash, a drive letter or control characters"
    elif any(segment in ("", ".", "..") for segment in segments):
        problem = 'has an empty, "." or ".." segment'
    if problem:
        shown = path[:120].encode("unicode_escape").decode()
        message = f"A member's path {problem}."
        raise ArtifactError(message, advice=REPACK, where=shown)


def folded(path: str) -> str:
    """The form in which paths must differ, so that they do on Windows and macOS too.

    Windows drops spaces and dots at the end of a name.
    """
    kept = _DROPPED.sub("", path)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", kept).casefold())


def check_distinct(paths: Sequence[str]) -> None:
    """Refuse members that some system would unpack to one place.

    Args:
        paths: of every member; those of directories end with ``/``.

    Raises:
        ArtifactError: two are equal but for case, Unicode normalization or what Windows drops, or
            one is a file and a directory at once.
    """
    files: set[str] = set()
    directories: set[str] = set()
    for each in paths:
        path = folded(each)
        names = directories if each.endswith("/") else files
        if path in names:
            message = "Two members have this path, or paths that are the same to some systems."
            advice = "Tools disagree about which one counts; remove one."
            raise ArtifactError(message, advice=advice, where=each)
        names.add(path)
    parents = {path.removesuffix("/") for path in directories}
    for each in paths:
        path = folded(each).removesuffix("/")
        while (cut := path.rfind("/")) >= 0 and (path := path[:cut]) not in parents:
            parents.add(path)
    if both := files & parents:
        message = "A path is a file and a directory at once."
        raise ArtifactError(message, advice=REPACK, where=min(both))


def check_added(added: Iterable[str], present: Iterable[str]) -> None:
    """Refuse a path at which a member would be added, if there is one that Windows takes for it.

    Raises:
        ArtifactError: there is.
    """
    taken = {folded(path) for path in present}
    for path in added:
        if folded(path) in taken:
            message = "An output would replace a member that exists already."
            raise ArtifactError(message, advice=OTHER_OUTPUT, where=path)
