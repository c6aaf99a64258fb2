"""The contents of files while they are signed: found, checked, opened and closed."""

from __future__ import annotations

from typing import BinaryIO

from sealwright.errors import ArtifactError, InternalError
from sealwright.signing.budget import Budget
from sealwright.signing.elements import Language
from sealwright.signing.plan import at
from sealwright.signing.signing_task import Opened, Task
from sealwright.signing.spool import KeptFiles, Spool
from sealwright.signing.streams import sha256_of


class Contents:
    """Gives the present content of each file of one artifact. What it opens it closes at the end,
    unless that was dropped or let go before.

    Args:
        artifact: seekable; stays the caller's, open and unchanged.
        sha256: of the artifact where the caller has computed it; empty: it is computed.
        spool: for what is extracted.
        kept: files that planning has extracted.

    Attributes:
        artifact: as submitted.
    """

    def __init__(
        self,
        artifact: BinaryIO,
        sha256: str,
        spool: Spool,
        budget: Budget,
        language: Language,
        kept: KeptFiles | None,
    ) -> None:
        self.artifact = artifact
        self._sha256 = sha256
        self._spool = spool
        self._budget = budget
        self._language = language
        self._kept = kept
        self._files: set[BinaryIO] = set()  # open now

    def check_artifact(self, root: Task) -> None:
        """Refuse another artifact than the planned one.

        Raises:
            ArtifactError: it is another one.
        """
        _check_digest(root, self._sha256 or sha256_of(self.artifact))

    def open_container(self, task: Task) -> None:
        """Open the file as a container, for its members to be worked on."""
        opener = self._language.types[task.node.element].opener
        file = self.open(task)
        if task.parent is None and self._kept is not None and self._kept.opened is not None:
            task.opened = Opened(file, *self._budget.reopen(self._kept.opened))
            return
        task.opened = Opened(file, *self._budget.open_container(opener, file, task.node.depth))

    def open(self, task: Task) -> BinaryIO:
        """Open the file's present content, extracting it first where it lies in a container.

        Raises:
            ArtifactError: it is not the planned content, or the limits do not allow it.
        """
        if task.content is not None:
            return self.hold(task.content.open())
        if task.parent is None:
            return self.artifact
        if kept := self._kept and self._kept.take(task.node.path, task.node.sha256):
            task.content = kept
            return self.hold(kept.open())
        opened = task.parent.opened
        assert opened is not None  # noqa: S101 - parents are opened before their members
        order = task.node.order
        if order >= len(opened.entries) or opened.entries[order].path != task.node.member:
            message = "The member is not where the plan says."
            raise InternalError(message, where=task.node.path)
        entry = opened.entries[order]
        with at(task.parent.node.path):
            task.content = self._budget.extract(opened.container, entry, self._spool)
        file = self.hold(task.content.open())
        _check_digest(task, sha256_of(file))
        return file

    def release_kept(self, task: Task) -> None:
        """The file's content is not needed."""
        if spare := self._kept and self._kept.take(task.node.path, task.node.sha256):
            self._spool.release(spare)

    def hold(self, file: BinaryIO) -> BinaryIO:
        """Close this file, too, at the end."""
        self._files.add(file)
        return file

    def let_go(self, file: BinaryIO) -> None:
        """Somebody else closes it."""
        self._files.discard(file)

    def drop(self, file: BinaryIO) -> None:
        """Close it now, unless it is the artifact."""
        if file is not self.artifact:
            self._files.discard(file)
            file.close()

    def close(self) -> None:
        """Close every file that is open still."""
        for file in self._files:
            file.close()
        self._files.clear()


def _check_digest(task: Task, sha256: str) -> None:
    if sha256 != task.node.sha256:
        message = "The content is not the planned one."
        raise ArtifactError(message, advice="Make the plan again.", where=task.node.path)
