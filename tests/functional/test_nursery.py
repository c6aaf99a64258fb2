"""Children that are forked: as confined as any, and gone with the process they come from."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvloop
from tests.toy import archive, configuration

from sealwright.errors import ArtifactError, UnavailableError
from sealwright.signing.child_pool import ChildPool
from sealwright.signing.child_process import LAYERS
from sealwright.signing.nursery import ForkedChild, Nursery
from sealwright.signing.sandbox import FormatChild

XML = configuration('<zip-file><pe-file path="*.exe"><authenticode-sign/></pe-file></zip-file>')


@pytest.fixture
async def nursery() -> AsyncIterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


async def born(nursery: Nursery, folder: Path) -> FormatChild:
    folder.mkdir()
    return await FormatChild.start(folder, None, nursery)


def forker_of(child: FormatChild) -> int:
    status = Path(f"/proc/{child._process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("PPid")).split()[1])


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def test_a_forked_child_works_and_is_confined_as_a_new_interpreter(
    nursery: Nursery, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    fresh = await FormatChild.start(tmp_path / "new")
    forked = await born(nursery, tmp_path / "forked")
    assert isinstance(forked._process, ForkedChild)
    assert dict(forked.confinement) == dict(fresh.confinement)
    assert set(forked.confinement) == set(LAYERS)
    limits = [Path(f"/proc/{each._process.pid}/limits").read_text() for each in (forked, fresh)]
    assert limits[0] == limits[1]
    plans = []
    for child in (forked, fresh):
        child.input.write_bytes(archive({"a.txt": b"x", "b.txt": b"y"}))
        with pytest.raises(ArtifactError) as refused:
            await child.plan(XML, {}, artifact_name="a.zip", signing_time=0)
        plans.append(str(refused.value))
        await child.kill()
    assert plans[0] == plans[1]


async def test_children_leave_the_processors_to_others(nursery: Nursery, tmp_path: Path) -> None:
    child = await born(nursery, tmp_path / "1")
    pid = child._process.pid
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(own + 10, 19)
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists() and os.geteuid() == 0:  # others may be refused it now and then
        assert group.read_text().endswith("nice 10\n")
    await child.kill()


async def test_no_descriptor_is_inherited(nursery: Nursery, tmp_path: Path) -> None:
    first = await born(nursery, tmp_path / "1")
    second = await born(nursery, tmp_path / "2")
    for child in (first, second):
        descriptors = Path(f"/proc/{child._process.pid}/fd").iterdir()
        targets = [str(each.readlink()) for each in descriptors]
        # its input, its output, and its errors, which are its standard output as well
        sockets = [target for target in targets if "socket" in target]
        assert (len(sockets), len(set(sockets))) == (4, 3), targets
        assert not any("pipe" in target for target in targets), targets
        await child.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_how_it_ended_is_told(
    nursery: Nursery, tmp_path: Path, number: signal.Signals
) -> None:
    child = await born(nursery, tmp_path / "1")
    os.kill(child._process.pid, number)
    expected = UnavailableError if number is signal.SIGKILL else ArtifactError
    with pytest.raises(expected):
        await child.plan(XML, {}, artifact_name="a.zip", signing_time=0)
    assert child._process.returncode == -number


async def test_children_end_with_the_forker_and_the_next_has_a_new_one(tmp_path: Path) -> None:
    async with ChildPool(tmp_path, size=1) as pool:
        child = await pool.take()
        forker = forker_of(child)
        os.kill(forker, signal.SIGKILL)
        assert await asyncio.wait_for(child._process.wait(), 10) == -signal.SIGKILL
        deadline = time.monotonic() + 10
        while is_running(child._process.pid) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        assert not is_running(child._process.pid)
        await pool.discard(child)
        again = await pool.take()
        assert again.is_alive
        assert forker_of(again) != forker
        await pool.discard(again)


async def test_a_child_that_dies_at_its_birth_is_not_handed_out(tmp_path: Path) -> None:
    """A spare is being born when its forker is killed: whoever wants it gets another."""
    async with ChildPool(tmp_path, size=1) as pool:
        [spare] = pool._waiting
        dead = await spare
        lost = asyncio.get_running_loop().create_future()
        lost.set_exception(UnavailableError("The process was killed from outside."))
        pool._waiting[0] = lost  # type: ignore[call-overload]
        child = await pool.take()
        assert child.is_alive
        await pool.discard(dead)
        await pool.discard(child)


async def test_a_child_whose_taker_is_cancelled_is_ended(tmp_path: Path) -> None:
    """Just as it is there, and has not been had yet; and while it is given back."""
    async with ChildPool(tmp_path, size=1) as pool:
        spare = await pool.take()
        given = await pool.take()
        starting = asyncio.get_running_loop().create_future()
        pool._waiting.appendleft(starting)  # type: ignore[arg-type]
        taking = asyncio.create_task(pool.take())
        await asyncio.sleep(0)
        starting.set_result(spare)
        taking.cancel()
        giving = asyncio.create_task(pool.discard(given))
        await asyncio.sleep(0)
        giving.cancel()
        for cancelled in (taking, giving):
            with pytest.raises(asyncio.CancelledError):
                await cancelled
    for child in (spare, given):
        assert not child.is_alive
        assert child._handle == -1
    assert list(tmp_path.iterdir()) == []


async def test_a_forker_that_dies_at_a_birth_leaves_nobody_waiting(
    nursery: Nursery, tmp_path: Path
) -> None:
    """Whether it has told of the child by then or not."""
    await (await born(nursery, tmp_path / "first")).kill()
    for turns in range(4):
        assert nursery._forker is not None
        forker = nursery._forker.pid
        waiting = asyncio.create_task(born(nursery, tmp_path / str(turns)))
        while not nursery._one_at_a_time.locked():
            await asyncio.sleep(0)
        os.kill(forker, signal.SIGSTOP)
        for _ in range(turns):
            await asyncio.sleep(0)
        os.kill(forker, signal.SIGKILL)
        with pytest.raises(UnavailableError):
            await asyncio.wait_for(waiting, 20)
        child = await born(nursery, tmp_path / f"after {turns}")
        assert child.is_alive
        await child.kill()


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_no_descriptor_of_others_is_closed(
    factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    """Other threads open and close files while children come and go."""
    ended = threading.Event()

    def churn() -> int:
        opened = 0
        while not ended.is_set():
            descriptor = os.open(tmp_path, os.O_RDONLY)
            opened += 1
            os.close(descriptor)  # fails if it was closed already
        return opened

    async def children() -> None:
        nursery = Nursery()
        await (await born(nursery, tmp_path / "first")).kill()
        before = descriptors()
        for number in range(60):
            await (await born(nursery, tmp_path / str(number))).kill()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert descriptors() <= before
        nursery.close()

    def descriptors() -> int:
        """Sockets and the like; the threads' own come and go."""
        found = 0
        for each in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                found += not str(each.readlink()).startswith("/")
        return found

    with ThreadPoolExecutor(4) as threads, asyncio.Runner(loop_factory=factory) as runner:
        busy = [threads.submit(churn) for _ in range(4)]
        try:
            runner.run(children())
        finally:
            ended.set()
        assert all(each.result() for each in busy)


async def test_a_cancelled_order_is_not_the_next_ones_child(
    nursery: Nursery, tmp_path: Path
) -> None:
    """The forker answers all the same, when somebody else waits for the next child."""
    await (await born(nursery, tmp_path / "first")).kill()
    folders = [tmp_path / str(number) for number in range(6)]
    for turns, folder in enumerate(folders):
        cancelled = asyncio.create_task(born(nursery, folder))
        while not nursery._one_at_a_time.locked():
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        shutil.rmtree(folder)
        child = await born(nursery, folder)
        place = Path(f"/proc/{child._process.pid}/cwd").readlink()
        assert place == folder / "work"
        assert child.is_alive
        await child.kill()
        assert child._process.returncode == -signal.SIGKILL
    async with asyncio.timeout(20):
        while nursery._disowned or nursery._unwanted:
            await asyncio.sleep(0.01)
    assert nursery._early == {}


async def test_many_at_once(nursery: Nursery, tmp_path: Path) -> None:
    children = await asyncio.gather(
        *(born(nursery, tmp_path / str(number)) for number in range(12))
    )
    assert len({child._process.pid for child in children}) == 12
    assert len({forker_of(child) for child in children}) == 1
    await asyncio.gather(*(child.kill() for child in children))
    assert all(child._process.returncode == -signal.SIGKILL for child in children)


async def test_nothing_is_left_after_closing(tmp_path: Path) -> None:
    pool = ChildPool(tmp_path, size=2)
    async with pool:
        child = await pool.take()
        forker = forker_of(child)
        await pool.discard(child)
    assert not is_running(forker)
    assert list(tmp_path.iterdir()) == []
