"""Progress on a terminal; silence everywhere else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)


class Display:
    """Shows what goes on, on standard error.

    Args:
        quiet: show nothing; also where standard error is no terminal.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.shown = not quiet and sys.stderr.isatty()
        self._console = Console(stderr=True)

    @contextlib.contextmanager
    def moving(self, label: str, size: int) -> Iterator[Callable[[int], None]]:
        """A bar over `size` bytes; gives a function that is told how many have moved."""
        if not self.shown:
            yield lambda _moved: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
        )
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(label, total=size)
            yield lambda moved: progress.update(task, completed=moved)

    @contextlib.contextmanager
    def waiting(self, label: str) -> Iterator[Callable[[str], None]]:
        """A spinner; gives a function that changes its label."""
        if not self.shown:
            yield lambda _label: None
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(label, total=None)
            yield lambda text: progress.update(task, description=text)
