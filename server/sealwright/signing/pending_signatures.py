"""The signatures that the files of one artifact wait for: numbered, and answered in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sealwright.errors import InternalError
from sealwright.signing.artifact import SignatureRequest, SignatureResult
from sealwright.signing.signing_task import Task


@dataclass(frozen=True)
class PendingSignature:
    """A signature that a file waits for.

    Attributes:
        number: handle for the answer, unique within one `DeepSign`.
        path: of the file, as in the plan.
        directive: that asks for it.
        request: what is to be signed.
    """

    number: int
    path: str
    directive: str
    request: SignatureRequest


class PendingSignatures:
    """Those of one artifact. Their number is how many wait for an answer, taken or not."""

    def __init__(self) -> None:
        self._next_number = 0
        self._untaken: list[PendingSignature] = []
        self._waiting: dict[int, Task] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, task: Task, requests: Sequence[SignatureRequest]) -> None:
        """Have a batch answered for the directive that is under way on a file."""
        signing = task.signing
        assert signing is not None  # noqa: S101 - who asks is signing
        signing.requests += requests
        signing.answers = {}
        directive = task.node.directives[task.stage].name
        for position, request in enumerate(requests):
            number = self._next_number
            self._next_number += 1
            signing.waiting[number] = position
            self._waiting[number] = task
            self._untaken.append(PendingSignature(number, task.node.path, directive, request))

    def take(self) -> list[PendingSignature]:
        """The requests that have arisen since the last call."""
        taken, self._untaken = self._untaken, []
        return taken

    def supply(self, number: int, result: SignatureResult) -> Task | None:
        """Note an answer; the file, if its batch has all answers now."""
        task = self._waiting.pop(number, None)
        if task is None or task.signing is None:
            message = f"There is no open signature request {number}."
            raise InternalError(message)
        signing = task.signing
        signing.answers[signing.waiting.pop(number)] = result
        return None if signing.waiting else task
