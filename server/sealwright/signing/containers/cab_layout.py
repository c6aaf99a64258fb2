"""The folders of a cabinet that is written anew: which files share one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sealwright.errors import ArtifactError
from sealwright.signing.advice import MAKE_SMALLER
from sealwright.signing.containers.cab_records import BLOCK, MAX_BLOCKS, MAX_SIZE, Member

MAX_FOLDER = MAX_BLOCKS * BLOCK  #: bytes of a folder
OWN_FOLDER = 4 * BLOCK  #: bytes from which a changed file gets a folder of its own


def lead_of(offset: int, size: int) -> int:
    """Zeros in front of files that get a folder of their own, so that its blocks begin where their
    old ones do and can be taken over.

    Args:
        offset: of the first file in its old folder.
        size: bytes of all.
    """
    lead = offset % BLOCK
    return lead if OWN_FOLDER <= size <= MAX_FOLDER - lead else 0


@dataclass
class NewFolder:
    """A folder as it is written.

    Attributes:
        source: index of the folder in the cabinet that it comes from, None for added files.
        members: in their order.
        is_copied: byte for byte.
        has_one: but for empty files it holds one, which is changed.
        lead: zeros in front of them, see `lead_of`.
        keeps_blocks: whether it is worth while to look for blocks of the source in it.
    """

    source: int | None
    members: list[NewMember]
    is_copied: bool = False
    has_one: bool = False
    lead: int = 0
    keeps_blocks: bool = False
    data: int = 0
    blocks: int = 0


@dataclass
class NewMember:
    """A file as it is written: an old one, or one that is added at a path."""

    old: Member | None
    path: str
    size: int
    is_changed: bool = True
    offset: int = 0


def runs_of(members: Sequence[NewMember]) -> list[list[NewMember]]:
    """Which members of a folder that is written anew share one: long changed ones do not, nor do
    many unchanged bytes behind files that have another size now.

    No folder is without data but where there is none at all: empty files stay with others.
    """
    runs: list[list[NewMember]] = [[]]
    room = False  # whether the last run may take in more than empty files
    moved = False  # whether what follows in it would lie otherwise in its blocks
    for member, unchanged in zip(members, _unchanged_from(members), strict=True):
        is_alone = member.is_changed and member.size >= OWN_FOLDER
        is_apart = is_alone or (moved and unchanged >= OWN_FOLDER)
        is_empty = not any(each.size for each in runs[-1])
        if not member.size or is_empty or (room and not is_apart):
            runs[-1].append(member)
            room = (room or is_empty) and not is_alone
        else:
            runs.append([member])
            room, moved = not is_alone, False
        moved |= member.old is not None and member.size != member.old.size
    return runs


def _unchanged_from(members: Sequence[NewMember]) -> list[int]:
    """For each member, bytes from it up to the next changed one."""
    found, size = [], 0
    for member in reversed(members):
        size = 0 if member.is_changed else size + member.size
        found.append(size)
    return found[::-1]


def _may_keep(members: Sequence[NewMember]) -> bool:
    """Short changed files keep hardly a block, and finding it takes decompressing the source."""
    unchanged = max(_unchanged_from(members))
    return unchanged >= OWN_FOLDER or any(
        member.is_changed and member.size >= OWN_FOLDER for member in members
    )


def split(
    source: int | None,
    members: Sequence[NewMember],
    *,
    is_copied: bool = False,
    keeps_blocks: bool = False,
) -> list[NewFolder]:
    """Give members their offsets, in as many folders as their blocks need.

    Args:
        keeps_blocks: whether blocks of the source can be taken over.
    """
    room = MAX_SIZE if is_copied else MAX_FOLDER
    made = [NewFolder(source, [], is_copied)]
    first = members[0].old if members else None
    if first is not None and is_copied:
        made[0].lead = first.offset
    elif first is not None and keeps_blocks and _may_keep(members):
        made[0].keeps_blocks = True
        made[0].lead = lead_of(first.offset, sum(member.size for member in members))
    size = made[0].lead
    for member in members:
        if member.size > room:
            message = f"The member would have {member.size} bytes; a cabinet holds {room}."
            raise ArtifactError(message, where=member.path, advice=MAKE_SMALLER)
        if size + member.size > room:
            made.append(NewFolder(source, []))
            size = 0
        member.offset = size
        size += member.size
        made[-1].members.append(member)
        is_long = member.is_changed and member.size >= OWN_FOLDER
        made[-1].has_one |= is_long and source is not None
    return made
