"""The worker process: takes requests from the queue and fulfils them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
from collections.abc import Awaitable

from sealwright.config import Settings
from sealwright.connectors.outgoing import OutgoingClient
from sealwright.deliveries import act_on_deliveries
from sealwright.fulfil import fulfil
from sealwright.model.notification import Channel
from sealwright.plan_ahead import plan_ahead
from sealwright.queueing.reconcile import reconcile_forever
from sealwright.reporting.deliver import Courier
from sealwright.reporting.dispatch import Dispatcher
from sealwright.reporting.mail import open_mailer
from sealwright.reporting.watch import watch
from sealwright.reporting.webhook_addresses import webhook_policy
from sealwright.trials import run_trials
from sealwright.worker.bench import open_bench
from sealwright.worker.certificates import watch_certificates
from sealwright.worker.consume import consume
from sealwright.worker.enrolment import Enroller
from sealwright.worker.housekeeping import keep_house, publish_log
from sealwright.worker.jobs import Jobs

__all__ = ["run"]

_log = logging.getLogger(__name__)

#: what SIGTERM leaves to the requests under way
STOP_SECONDS = 30.0
PLANS_AT_ONCE = 2


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT: then take nothing new, let what is under way end for
    `STOP_SECONDS`, and give the rest back.

    Raises:
        ConfigurationError: the settings cannot work, such as a root certificate that is missing.
    """
    # arq tells of each job what `fulfil` tells better
    logging.getLogger("arq").setLevel(logging.WARNING)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    mailer = open_mailer(settings)
    async with open_bench(settings) as bench, OutgoingClient(webhook_policy(settings)) as hooks:
        jobs = Jobs(functools.partial(fulfil, bench), settings.worker_jobs)
        # a few at a time: they share the children with what is to be signed
        plans = Jobs(functools.partial(plan_ahead, bench), PLANS_AT_ONCE)
        courier = Courier(bench.database, hooks, bench.systems.vault(), settings.url, mailer)
        loops: list[Awaitable[None]] = [
            reconcile_forever(bench.database, bench.queue),
            keep_house(bench.database, bench.store),
            Dispatcher(bench.database, bench.systems, settings.url).run(),
            courier.run(Channel.WEBHOOK),
            courier.run(Channel.MAIL),
            watch(bench.database),
            act_on_deliveries(bench.database, bench.queue, bench.systems),
            run_trials(bench),
            publish_log(bench.database, settings.log_folder),
            watch_certificates(bench.database),
            Enroller(settings, bench.database, bench.systems.vault()).run(),
        ]
        background = [asyncio.ensure_future(each) for each in loops]
        _log.info("worker ready")
        consuming = asyncio.create_task(consume(settings, jobs, plans, stop))
        try:
            # a loop that ends has failed in a way that nobody foresaw: end, to be started again
            await asyncio.wait({consuming, *background}, return_when=asyncio.FIRST_COMPLETED)
            for task in (consuming, *background):
                if task.done():
                    task.result()
        finally:
            stop.set()
            await plans.finish(0)
            await jobs.finish(STOP_SECONDS)
            for task in (consuming, *background):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(consuming, *background, return_exceptions=True)
    _log.info("worker stopped")
