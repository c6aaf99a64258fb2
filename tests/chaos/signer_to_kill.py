"""A signer that kills itself at a named step: ``python -m tests.chaos.signer_to_kill STEP``.

The settings come as JSON on standard input. Without a step it runs until it is killed from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any
from unittest import mock

from sealwright.config import Settings
from sealwright.db import Database, Transaction
from sealwright.signer import service, sessions, signing
from sealwright.transparency import sequence

#: In the order in which a signer comes by.
STEPS = (
    "intents-written",
    "intents-committed",
    "half-signed",
    "signed",
    "outcomes-written",
    "outcomes-committed",
    "tree-written",
    "tree-committed",
)
_part = ContextVar("_part", default="")


def reach(step: str) -> None:
    """Die here, if this is the step."""
    if step == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)


class DyingDatabase(Database):
    """Dies before or after a commit."""

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with super().transaction() as tx:
            yield tx
            reach(f"{_part.get()}-written")
        reach(f"{_part.get()}-committed")


class DyingPool(sessions.SessionPool):
    """Dies while a batch is being signed, or just after."""

    async def sign_batch(
        self, items: Sequence[sessions.SignItem], owner: str = ""
    ) -> list[sessions.Answer]:
        half = len(items) // 2
        answers = await super().sign_batch(items[:half], owner)
        reach("half-signed")
        answers += await super().sign_batch(items[half:], owner)
        reach("signed")
        return answers


def part(name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Name the transactions that `call` makes."""

    @functools.wraps(call)
    async def named(*arguments: Any, **options: Any) -> Any:
        _part.set(name)
        try:
            return await call(*arguments, **options)
        finally:
            _part.set("")

    return named


async def main() -> None:
    """Run."""
    settings = Settings.model_validate_json(sys.stdin.read())
    kind = signing.Signing
    with (
        mock.patch.object(service, "Database", DyingDatabase),
        mock.patch.object(service, "SessionPool", DyingPool),
        mock.patch.object(kind, "_intend", part("intents", kind._intend)),
        mock.patch.object(kind, "_record_outcomes", part("outcomes", kind._record_outcomes)),
        mock.patch.object(sequence, "_append", _append),
    ):
        await service.serve(settings)


_appending = sequence._append


async def _append(*arguments: Any) -> Any:
    _part.set("tree")  # until the task that sequences has ended, and so past its commit
    return await _appending(*arguments)


if __name__ == "__main__":
    asyncio.run(main())
