"""Cabinets whose names are paths, as containers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from sealwright.errors import ArtifactError
from sealwright.signing.advice import MAKE_ANEW
from sealwright.signing.artifact import Entry, PackedMember, ReadPacked
from sealwright.signing.containers.cab import Cabinet
from sealwright.signing.containers.cab_records import Member
from sealwright.signing.containers.member_paths import check_added, check_distinct, check_path


class CabContainer:
    """A cabinet whose names are paths, see `artifact.Container`.

    Args:
        file: seekable; stays the caller's and must stay open.
        max_members: the most members accepted.

    Raises:
        ArtifactError: malformed or hostile; `where` is the member.
    """

    def __init__(self, file: BinaryIO, max_members: int) -> None:
        self._cabinet = Cabinet(file, max_members)
        self._paths = [_path(member) for member in self._cabinet.members]
        check_distinct(self._paths)

    def entries(self) -> Iterator[Entry]:
        """Members in the order of their data."""
        for member, path in zip(self._cabinet.members, self._paths, strict=True):
            yield Entry(path, member.size, False, member.order)  # noqa: FBT003 - is_directory

    def meter(self, count: Callable[[int], None]) -> None:
        """See `artifact.MeteredContainer`."""
        self._cabinet.meter(count)

    def follow(self, before: CabContainer) -> None:
        """See `Cabinet.follow`."""
        self._cabinet.follow(before._cabinet)

    def extract(self, entry: Entry, target: BinaryIO) -> None:
        """Write the member's content, checked by its blocks' checksums."""
        self._cabinet.extract(self._cabinet.members[entry.order], target)

    def fingerprint(self, entry: Entry | None, *, content: bool = True) -> bytes:
        """SHA-256 of a member's record and content.

        The content counts decompressed, since a member shares its blocks with others.
        """
        if entry is None:
            return hashlib.sha256(self._cabinet.kept).digest()
        member = self._cabinet.members[entry.order]
        record = self._cabinet.attributes_digest(member)
        return (
            hashlib.sha256(record + self._cabinet.content_digest(member)).digest()
            if content
            else record
        )

    def added_fingerprint(self, path: str) -> bytes:
        """What `fingerprint` gives, without content, for a member that `rebuild` adds at `path`."""
        return self._cabinet.added_attributes_digest(path)

    def pack(self, order: int, content: BinaryIO, target: BinaryIO) -> PackedMember:
        """See `Cabinet.pack`."""
        return self._cabinet.pack(self._cabinet.members[order], content, target)

    def rebuild(
        self,
        target: BinaryIO,
        packed: Mapping[int, PackedMember],
        read: ReadPacked,
        added: Mapping[str, BinaryIO],
    ) -> None:
        """See `Cabinet.rebuild`; an added path must not be taken."""
        check_added(added, self._paths)
        self._cabinet.rebuild(target, packed, read, added)


def _path(member: Member) -> str:
    path = member.name.replace("\\", "/")
    if path.endswith("/"):
        message = "A file's name in the cabinet ends with a separator."
        raise ArtifactError(message, where=path, advice=MAKE_ANEW)
    check_path(path)
    return path
