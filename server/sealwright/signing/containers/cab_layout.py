"""The folders of a cabinet that is written anew: which files share one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sealwright.errors import ArtifactError
from sealwright.signing.containers.cab_records import BLOCK, MAX_BLOCKS, MAX_SIZE, Member

MAX_FOLDER = MAX_BLOCKS * BLOCK  #: bytes of a folder
OWN_FOLDER = 4 * BLOCK  #: bytes from which a changed file gets a folder of its own


@dataclass
class NewFolder:
    """A folder as it is written.

    Attributes:
        source: index of the folder in the cabinet that it comes from, None for added files.
        members: in their order.
        is_copied: byte for byte.
        has_one: but for empty files it holds one, which is changed.
    """

    source: int | None
    members: list[NewMember]
    is_copied: bool = False
    has_one: bool = False
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
    """Which members of a folder that is written anew share one: long changed ones do not.

    No folder is without data but where there is none at all: empty files stay with others.
    """
    runs: list[list[NewMember]] = [[]]
    room = False  # whether the last run may take in more than empty files
    for member in members:
        is_alone = member.is_changed and member.size >= OWN_FOLDER
        is_empty = not any(each.size for each in runs[-1])
        if not member.size or is_empty or (room and not is_alone):
            runs[-1].append(member)
            room = (room or is_empty) and not is_alone
        else:
            runs.append([member])
            room = not is_alone
    return runs


def split(source: int | None, members: Sequence[NewMember], *, is_copied: bool) -> list[NewFolder]:
    """Give members their offsets, in as many folders as their blocks need."""
    room = MAX_SIZE if is_copied else MAX_FOLDER
    made = [NewFolder(source, [], is_copied)]
    size = 0
    for member in members:
        if member.size > room:
            message = f"The member would have {member.size} bytes; a cabinet holds {room}."
            raise ArtifactError(message, where=member.path)
        if size + member.size > room:
            made.append(NewFolder(source, []))
            size = 0
        member.offset = size
        size += member.size
        made[-1].members.append(member)
        is_long = member.is_changed and member.size >= OWN_FOLDER
        made[-1].has_one |= is_long and source is not None
    return made
