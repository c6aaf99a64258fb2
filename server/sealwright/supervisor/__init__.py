"""``sealwright up``: the whole server from one command, kept running until it is told to stop.

Starts what the settings do not name elsewhere (queue, test time stamp authority, token) beside the
server's own processes, starts again what dies, and stops everything in order: no new requests, then
no new work, then no signatures, and the queue last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sealwright.config import Settings
from sealwright.errors import ConfigurationError, UnavailableError
from sealwright.supervisor.lock import data_lock
from sealwright.supervisor.parts import Listeners, embedded, parts_of
from sealwright.supervisor.process import Part, PartProcess

__all__ = ["Supervisor", "supervise"]

_log = logging.getLogger(__name__)

_START_SECONDS = 60.0  #: for all parts together to answer for the first time


@dataclass(frozen=True)
class Supervisor:
    """The running parts, in the order in which they were started."""

    processes: Sequence[PartProcess]

    @classmethod
    def of(cls, parts: Sequence[Part], emit: Callable[[str, str], None]) -> Supervisor:
        """Prepare to run `parts`; `emit` takes every line they write, with the part's name."""
        return cls([PartProcess(part, emit) for part in parts])

    async def start(self) -> None:
        """Start every part and wait until all that can tell say that they answer.

        Raises:
            UnavailableError: one did not in time.
            ConfigurationError: one refuses its settings.
        """
        for process in self.processes:
            process.start()
        waits = [asyncio.create_task(_answers(process)) for process in self.processes]
        try:
            await asyncio.gather(*waits)
        finally:
            for wait in waits:
                wait.cancel()

    async def stop(self) -> None:
        """Stop every part, the last started first."""
        for process in reversed(self.processes):
            await process.stop()
            _log.info("%s stopped", process.part.name)


async def _answers(process: PartProcess) -> None:
    name = process.part.name
    ready = await process.wait_ready(_START_SECONDS)
    if process.hopeless.is_set():
        message = f"The part {name!r} refuses to run as it is configured."
        raise ConfigurationError(message, advice="Its own lines above say why.")
    if not ready:
        message = f"The part {name!r} did not answer within {_START_SECONDS:.0f} s."
        raise UnavailableError(message, advice="Its own lines above say why.")


async def supervise(
    settings: Settings,
    *,
    prepare: Callable[[], Awaitable[None]],
    emit: Callable[[str, str], None],
    ready: Callable[[Settings], Awaitable[None]],
) -> None:
    """Run the whole server until SIGTERM or SIGINT; a second signal ends it at once.

    Args:
        prepare: called before any part is started, once the data folder is ours.
        emit: takes the parts' output, line by line.
        ready: called once all parts answer, with the settings as the parts have them.

    Raises:
        ConflictError: another server uses the data folder.
        ConfigurationError, UnavailableError: a part cannot run; the others have been stopped.
    """
    with data_lock(settings.data) as lock, contextlib.ExitStack() as stack:
        listeners = Listeners.open(settings)
        stack.callback(listeners.close)
        settings = embedded(settings, listeners)
        await prepare()
        supervisor = Supervisor.of(parts_of(settings, listeners, lock), emit)
        stop = _stop_signal()
        try:
            starting = asyncio.create_task(supervisor.start())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                await ready(settings)
            else:
                starting.cancel()
            await stopping
        finally:
            await supervisor.stop()


def _stop_signal() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second one kills this process."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        _log.info("%s: stopping", number.name)
        stop.set()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            # the parts are tied to this process: the kernel tells them to stop
            signal.signal(each, lambda *_: os._exit(130))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop
