"""What the parent checks about a format child's requests, and passes on, while that signs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from sealwright.errors import InternalError
from sealwright.signing import child_protocol as protocol
from sealwright.signing.artifact import SignatureResult
from sealwright.signing.pending_signatures import PendingSignature
from sealwright.signing.plan import Plan

Answer = Callable[[Sequence[PendingSignature]], Awaitable[Sequence[SignatureResult]]]
Progress = Callable[[int, int], None]

_REQUESTS_PER_SIGNATURE = 4  # what a format may need at most for one directive on one file


class Conversation:
    """What the parent checks about a child's signature requests."""

    def __init__(
        self,
        plan: Plan,
        answer: Answer,
        progress: Progress | None = None,
    ) -> None:
        self.answer = answer
        self._progress = progress
        self._left = Counter(
            {
                (node.path, directive.name): _REQUESTS_PER_SIGNATURE
                for node in plan.root.walk()
                for directive in node.signs
            }
        )
        self._files = plan.files_to_sign
        self._seen: set[int] = set()

    def take(self, reply: protocol.Message) -> list[PendingSignature]:
        """The requests of one message. A child can ask only for what the plan provides for."""
        batch = protocol.pending_from_json(reply.get("pending"))
        for pending in batch:
            key = (pending.path, pending.directive)
            if not self._left[key] or pending.number in self._seen:
                message = "The format child asked for a signature that is not planned."
                raise InternalError(message, where=pending.path)
            self._left[key] -= 1
            self._seen.add(pending.number)
        self.count(reply)
        return batch

    def count(self, reply: protocol.Message) -> None:
        """Pass on how many files are done."""
        done = reply.get("done")
        if self._progress is not None and isinstance(done, int):
            self._progress(min(max(done, 0), self._files), self._files)
