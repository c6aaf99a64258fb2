"""Rate limits: token buckets in Redis, in this process while Redis is away."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict

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


class Throttle:
    """Buckets by name: `capacity` at once, then `per_minute`."""

    def __init__(self, queue: Queue, *, capacity: int = 10, per_minute: float = 10.0) -> None:
        self._queue = queue
        self._capacity = capacity
        self._rate = per_minute / 60.0
        self._local: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def take(self, *names: str) -> None:
        """Take one token from each bucket. Names are hashed: they may be addresses of people.

        Raises:
            TooManyRequestsError: one of them is empty.
        """
        for name in names:
            if not await self._allowed(hashlib.sha256(name.encode()).hexdigest()):
                message = "Too many attempts."
                raise TooManyRequestsError(message, advice="Wait a minute and try again.")

    async def _allowed(self, name: str) -> bool:
        now = time.time()
        try:
            pool = await self._queue.pool()
            take = pool.register_script(_TAKE)
            arguments = [self._capacity, self._rate, now]
            answer = await take(keys=[f"sealwright:throttle:{name}"], args=arguments)
        except (RedisError, OSError):
            return self._take_local(name, now)
        return bool(answer)

    def _take_local(self, name: str, now: float) -> bool:
        tokens, at = self._local.pop(name, (float(self._capacity), now))
        tokens = min(self._capacity, tokens + max(0.0, now - at) * self._rate)
        allowed = tokens >= 1
        self._local[name] = (tokens - 1 if allowed else tokens, now)
        if len(self._local) > _MAX_LOCAL:
            self._local.popitem(last=False)
        return allowed
