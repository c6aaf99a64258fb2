"""The arq worker: how jobs are taken from the queue."""

from __future__ import annotations

from typing import Any

from arq.connections import ArqRedis
from arq.worker import Worker, func

from sealwright.config import Settings
from sealwright.queueing.queue import JOB_NAME, QUEUE_NAME
from sealwright.worker.jobs import Jobs

#: seconds between two looks at the queue: what an idle server adds to a request
POLL_SECONDS = 0.02
#: a job's own limits come first; arq's only frees what a lost job occupies
_SPARE_SECONDS = 60.0
_HEALTH_SECONDS = 10


class _Poller(Worker):
    """arq's worker, which asks Redis at every poll about each job that it has begun itself."""

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Start those that this worker has not begun."""
        await super().start_jobs([one for one in job_ids if one.decode() not in self.tasks])


def arq_worker(settings: Settings, jobs: Jobs, pool: ArqRedis) -> Worker:
    """A worker on `pool` that starts `jobs`.

    It tries each job once and keeps no results: attempts are counted in the database, and the
    reconciler enqueues again what is due. Signals are the caller's.
    """

    async def run(_context: dict[Any, Any], request_id: str) -> None:
        await jobs.run(request_id)

    job: Any = run  # arq's own type wants arguments of any number
    return _Poller(
        [func(job, name=JOB_NAME)],
        queue_name=QUEUE_NAME,
        redis_pool=pool,
        max_jobs=settings.worker_jobs,
        job_timeout=settings.request_seconds + _SPARE_SECONDS,
        keep_result=0,
        max_tries=1,
        retry_jobs=False,
        poll_delay=POLL_SECONDS,
        health_check_interval=_HEALTH_SECONDS,
        handle_signals=False,
        log_results=False,
        job_serializer=pool.job_serializer,
        job_deserializer=pool.job_deserializer,
    )
