"""How far an attempt has come, kept in memory and written with each renewal of its lease.

So progress costs no commit of its own, however many files there are.
"""

from __future__ import annotations

from sealwright.model.request import Progress, Stage


class ProgressMeter:
    """What the stages of one attempt tell, for `lease.hold` to write down."""

    def __init__(self) -> None:
        self.reading: Progress | None = None

    def begin(self, stage: Stage, files: int = 0) -> None:
        """A stage begins, with so many files before it."""
        self.reading = Progress(stage, files)

    def count(self, done: int, files: int) -> None:
        """So many of the stage's files are done."""
        if self.reading is not None:
            self.reading = Progress(self.reading.stage, files, done)
