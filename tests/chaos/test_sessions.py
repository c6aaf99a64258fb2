"""Session processes that die, hang or are orphaned, and how many signatures the token made."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.chaos import shim as ckr
from tests.chaos.shim import Shim
from tests.softhsm import SoftHsmToken

from sealwright.errors import KeyStoreError, UnavailableError
from sealwright.keystores.faults import SignatureUncertainError
from sealwright.keystores.pins import read_pin
from sealwright.keystores.pkcs11 import KeyInfo
from sealwright.model.mechanism import KeyAlgorithm, Mechanism
from sealwright.signer import sessions
from sealwright.signer.sessions import SessionPool, SignItem

pytestmark = pytest.mark.chaos

_COUNT = 60
_STALL = 2.0
#: where it is not the matter, so that a busy machine is not taken for a stuck session
_LONG = 60.0


@pytest.fixture
def pin_file(softhsm_token: SoftHsmToken, tmp_path: Path) -> Path:
    file = tmp_path / "pin"
    file.write_text(read_pin(softhsm_token.pin_file))
    file.chmod(0o600)
    return file


@pytest.fixture(params=[_LONG])
async def pool(
    request: pytest.FixtureRequest, shim: Shim, pin_file: Path
) -> AsyncIterator[SessionPool]:
    pool = SessionPool(
        shim.uri, pin_file=pin_file, environment=shim.environment, stall_timeout=request.param
    )
    await pool.start(2)
    yield pool
    await pool.close()


@pytest.fixture
async def key(pool: SessionPool) -> KeyInfo:
    return await pool.generate_key(KeyAlgorithm.EC_P256, "chaos")


def _items(key: KeyInfo, count: int = _COUNT) -> list[SignItem]:
    digests = [hashlib.sha256(str(number).encode()).digest() for number in range(count)]
    return [SignItem(key.id, Mechanism.ECDSA, "sha256", digest) for digest in digests]


def _pids(pool: SessionPool) -> list[int]:
    return [slot._session._process.pid for slot in pool._slots if slot._session]


def _count(answers: list[sessions.Answer], kind: type) -> int:
    return sum(isinstance(answer, kind) for answer in answers)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("skip", [0, 5, 37])
async def test_of_a_killed_session_one_item_is_uncertain(
    pool: SessionPool,
    key: KeyInfo,
    shim: Shim,
    skip: int,
    *,
    after: bool,
) -> None:
    shim.kill("C_Sign", skip=skip, after=after)
    answers = await pool.sign_batch(_items(key))
    assert _count(answers, bytes) == _COUNT - 1
    assert _count(answers, SignatureUncertainError) == 1
    assert shim.count() == _COUNT - 1 + int(after)
    assert _count(await pool.sign_batch(_items(key)), bytes) == _COUNT
    assert shim.logins() == 3  # two at the start, one for the replacement


@pytest.mark.parametrize("pool", [_STALL], indirect=True)
async def test_a_stuck_session_is_replaced(
    pool: SessionPool,
    key: KeyInfo,
    shim: Shim,
) -> None:
    shim.delay("C_Sign", 600)  # longer than a test may take
    answers = await pool.sign_batch(_items(key))
    assert _count(answers, bytes) == _COUNT - 1
    assert _count(answers, SignatureUncertainError) == 1
    assert shim.count() == _COUNT - 1


@pytest.mark.parametrize("pool", [_STALL], indirect=True)
async def test_a_slow_session_is_not(pool: SessionPool, key: KeyInfo, shim: Shim) -> None:
    shim.delay("C_Sign", _STALL / 4, times=12)
    assert _count(await pool.sign_batch(_items(key, 16)), bytes) == 16
    assert shim.logins() == 2


async def test_sessions_that_died_idle_cost_nothing(
    pool: SessionPool,
    key: KeyInfo,
    shim: Shim,
) -> None:
    for pid in _pids(pool):
        os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.2)
    assert _count(await pool.sign_batch(_items(key)), bytes) == _COUNT
    assert shim.count() == _COUNT


async def test_sessions_that_keep_dying_do_not_keep_logging_in(
    pool: SessionPool,
    key: KeyInfo,
    shim: Shim,
) -> None:
    for _ in range(20):
        shim.kill("C_Sign")
    answers = await pool.sign_batch(_items(key))
    assert _count(answers, bytes) == 0
    assert _count(answers, SignatureUncertainError) == 4  # two sessions, each replaced once
    assert _count(answers, UnavailableError) == _COUNT - 4
    assert (shim.count(), shim.logins()) == (0, 4)


async def test_a_pin_refused_to_a_replacement_is_not_offered_again(
    pool: SessionPool,
    key: KeyInfo,
    shim: Shim,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "LOGIN_PAUSE", 0.0)
    for pid in _pids(pool):
        os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.2)
    shim.inject("C_Login", ckr.PIN_INCORRECT)
    for _ in range(3):
        answers = await pool.sign_batch(_items(key, 4))
        assert _count(answers, KeyStoreError) == 4
        assert _count(answers, SignatureUncertainError) == 0
    assert (shim.count(), shim.logins()) == (0, 3)


async def test_sessions_that_lose_the_token_together_offer_a_wrong_pin_once(
    pool: SessionPool,
    key: KeyInfo,
    shim: Shim,
    pin_file: Path,
) -> None:
    pin_file.write_text("meanwhile changed")
    shim.inject("C_SignInit", ckr.SESSION_HANDLE_INVALID, times=2)
    shim.delay("C_Login", 0.3, times=2)  # so that they would meet
    await pool.sign_batch(_items(key, 8))
    answers = await pool.sign_batch(_items(key, 8))
    assert _count(answers, KeyStoreError) + _count(answers, UnavailableError) == 8
    assert (shim.count(), shim.logins()) == (0, 3)


async def test_a_key_generation_cut_off_is_uncertain(
    pool: SessionPool,
    key: KeyInfo,
    shim: Shim,
) -> None:
    shim.kill("C_OpenSession")  # the writable one
    with pytest.raises(SignatureUncertainError, match="generate_key"):
        await pool.generate_key(KeyAlgorithm.EC_P256, "cut off")
    assert key in await pool.list_keys()


_ORPHANS = """
import asyncio, sys
from pathlib import Path
from sealwright.keystores.uri import Pkcs11Uri
from sealwright.signer.sessions import SessionPool

async def main():
    environment = dict(pair.split("=", 1) for pair in sys.argv[2:])
    pool = SessionPool(Pkcs11Uri.parse(sys.argv[1]), environment=environment)
    await pool.start(2)
    print(*(slot._session._process.pid for slot in pool._slots), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_sessions_end_with_their_parent(softhsm_token: SoftHsmToken) -> None:
    environment = [f"{name}={value}" for name, value in softhsm_token.environment.items()]
    parent = subprocess.Popen(
        [sys.executable, "-c", _ORPHANS, str(softhsm_token.uri), *environment],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while any(_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
