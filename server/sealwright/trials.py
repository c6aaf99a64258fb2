"""Trials: a worker applies an artifact configuration to a sample, and signs nothing.

The sample is parsed where all artifacts are, in a format child. Each worker does one trial at a
time and looks for the next one every second: trials are few, and no release waits for them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import logging
import random
from pathlib import Path

from sealwright.db import proposals
from sealwright.errors import InternalError, SealwrightError, VerificationError
from sealwright.model.identifiers import utc_now
from sealwright.model.proposal import Trial, TrialState
from sealwright.signing.shard import WHOLE
from sealwright.signing.stored_plan import stored_plan
from sealwright.workbench import Workbench

_log = logging.getLogger(__name__)

_PAUSE = 1.0
_MAX_SECONDS = 600.0
_STALE = dt.timedelta(seconds=_MAX_SECONDS + 120)
_MAX_PLAN = 16 << 20
_MAX_FAULT = 2000


async def run_trials(bench: Workbench) -> None:
    """Do trials for ever."""
    while True:
        try:
            trial = await _take(bench)
            if trial is not None:
                await do_trial(bench, trial)
                continue
        except SealwrightError as error:
            _log.warning("no trials now: %s", error)
        await asyncio.sleep(_PAUSE * random.uniform(0.75, 1.25))  # noqa: S311 - no secret


async def _take(bench: Workbench) -> Trial | None:
    now = utc_now()
    async with bench.database.read() as tx:
        if not await proposals.is_due(tx, now - _STALE):
            return None
    async with bench.database.transaction() as tx:
        return await proposals.take_trial(tx, now, now - _STALE)


async def do_trial(bench: Workbench, trial: Trial) -> None:
    """Do one, write down what came of it, and remove its sample.

    Raises:
        UnavailableError: the database or the store is away; the trial is taken up again later.
    """
    try:
        async with asyncio.timeout(_MAX_SECONDS):
            # what was made of the sample is kept, also where it cannot be applied as it is
            trial = await _configured(bench, trial)
            ended = await _apply(bench, trial)
    except SealwrightError as error:
        ended = dataclasses.replace(
            trial, state=TrialState.FAILED, fault=error.message[:_MAX_FAULT],
            advice=error.advice[:_MAX_FAULT], where=error.where[:_MAX_FAULT],
        )  # fmt: skip
    except TimeoutError:
        ended = dataclasses.replace(
            trial, state=TrialState.FAILED, fault="The sample took too long.",
            advice="Try a smaller one.",
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - the job wrapper: whatever it is, it ends the trial
        _log.exception("trial %s failed", trial.id)
        ended = dataclasses.replace(
            trial, state=TrialState.FAILED, fault=InternalError(str(error)).message[:_MAX_FAULT]
        )
    async with bench.database.transaction() as tx:
        await proposals.end_trial(tx, ended)
    await bench.store.delete(trial.sample.key)


async def _configured(bench: Workbench, trial: Trial) -> Trial:
    """The trial, with a configuration made from the sample where it had none."""
    bench.scratch.require_room(trial.sample.size)
    if trial.xml:
        return trial
    async with bench.room, bench.children.child() as child:
        await _fetch(bench, trial, child.input)
        return dataclasses.replace(trial, xml=await child.analyze(trial.sample.file_name))


async def _apply(bench: Workbench, trial: Trial) -> Trial:
    """The trial with its plan."""
    name = trial.sample.file_name
    async with bench.room, bench.children.child() as child:
        await _fetch(bench, trial, child.input)
        share = await child.plan_share(
            WHOLE,
            trial.xml.encode(),
            trial.parameters,
            artifact_name=name,
            signing_time=int(utc_now().timestamp()),
        )
    made = await asyncio.to_thread(stored_plan, share.plan, share.listing)
    if len(made.text) > _MAX_PLAN:
        return dataclasses.replace(
            trial, state=TrialState.FAILED, fault="The sample has too many files to show."
        )
    return dataclasses.replace(trial, state=TrialState.DONE, plan=made.text, tree=made.tree)


async def _fetch(bench: Workbench, trial: Trial, target: Path) -> None:
    if await bench.store.fetch(trial.sample.key, target) != trial.sample.sha256:
        message = "The stored sample is not the one that was sent."
        raise VerificationError(message, advice="Try again; the store may be damaged.")
