"""What opened containers hold, listed for people: the plan itself has only what is meant."""

from __future__ import annotations

from collections.abc import Sequence

from sealwright.model.member_tree import FILE, FOLDER, SIGNATURE, Member
from sealwright.signing.artifact import Entry, MemberSigningFormat

_MOST = 8 << 20  # characters for one artifact
_BESIDES = 24  # of a member, besides its path


class MemberListing:
    """The members of one artifact's containers, no more than pages can bear."""

    def __init__(self) -> None:
        self.listing: dict[str, list[Member]] = {}
        self._left = _MOST

    def add(self, path: str, entries: Sequence[Entry], format_: MemberSigningFormat | None) -> None:
        """List a container's members, as far as there is room.

        Args:
            path: the container's, as in the plan.
            format_: the format that will sign it by means of members.
        """
        members = self.listing[path] = []
        for entry in entries:
            self._left -= len(entry.path) + _BESIDES
            if self._left < 0:
                return
            what = FOLDER if entry.is_directory else FILE
            if format_ is not None and what == FILE and format_.is_signature_member(entry.path):
                what = SIGNATURE
            members.append((entry.path, entry.size, what))
