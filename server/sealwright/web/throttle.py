"""Rate limits: token buckets in Redis, in this process while Redis is away."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

from redis.exceptions import RedisError

from sealwright.errors import TooManyRequestsError
from sealwright.queueing.queue import Queue

_MAX_LOCAL = 10_000
#: state of a bucket is (tokens, time of the last look); one round trip, atomic in the server
_TAKE = """
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local capacity, rate, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local tokens = tonumber(bucket[1]) or capacity
local at = tonumber(bucket[2]) or now
tokens = math.min(capacity, tokens + math.max(0, now - at) * rate)
local allowed = 0
if tokens >= 1 then tokens = tokens - 1; allowed = 1 end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', tostring(now))
redis.call('EXPIRE', KEYS[1], math.ceil(capacity / rate) + 1)
return allowed
"""


@dataclass(frozen=True)
class Rate:
    """How often something may be done: `capacity` times at once, then `per_minute`."""

    capacity: int
    per_minute: float


class Throttle:
    """Buckets by name."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._local: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def take(self, name: str, rate: Rate) -> None:
        """Take one token from the bucket. Its name is hashed: it may hold a person's address.

        Raises:
            TooManyRequestsError: it is empty.
        """
        if not await self._allowed(hashlib.sha256(name.encode()).hexdigest(), rate):
            message = "Too many attempts."
            raise TooManyRequestsError(message, advice="Wait a minute and try again.")

    async def _allowed(self, name: str, rate: Rate) -> bool:
        now = time.time()
        try:
            async with self._queue.asking() as pool:
                take = pool.register_script(_TAKE)
                arguments = [rate.capacity, rate.per_minute / 60, now]
                answer = await take(keys=[f"sealwright:throttle:{name}"], args=arguments)
        except (RedisError, OSError):
            return self._take_local(name, rate, now)
        return bool(answer)

    def _take_local(self, name: str, rate: Rate, now: float) -> bool:
        tokens, at = self._local.pop(name, (float(rate.capacity), now))
        tokens = min(rate.capacity, tokens + max(0.0, now - at) * rate.per_minute / 60)
        allowed = tokens >= 1
        self._local[name] = (tokens - 1 if allowed else tokens, now)
        if len(self._local) > _MAX_LOCAL:
            self._local.popitem(last=False)
        return allowed
