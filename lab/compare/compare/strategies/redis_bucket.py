"""Token buckets in Redis that all processes share: a script takes from all or from none, and who got nothing asks again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import redis.asyncio
from redis.exceptions import RedisError

from ..record import Record
from .backoff import Backoff
from .calls import Expected

POLL_EVERY = 0.05
UNITS = ("requests", "input_tokens", "output_tokens")

# KEYS: a limit each. ARGV: for each its amount per second, its burst, what is wanted of it, and the seconds of its window; a
# bucket has 0 of these, and a window its whole amount when it begins.
TAKE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local left, at = {}, {}
local fits = 1
for i, key in ipairs(KEYS) do
  local rate, burst, wanted, window = tonumber(ARGV[4*i-3]), tonumber(ARGV[4*i-2]), tonumber(ARGV[4*i-1]), tonumber(ARGV[4*i])
  local known = redis.call('HMGET', key, 'left', 'at')
  local before, since = tonumber(known[1]), tonumber(known[2])
  if window > 0 then
    at[i] = math.floor(now / window)
    left[i] = since == at[i] and before or rate * window
  else
    at[i] = now
    left[i] = math.min(burst, (before or burst) + (now - (since or now)) * rate)
  end
  if left[i] < wanted then fits = 0 end
end
for i, key in ipairs(KEYS) do
  redis.call('HSET', key, 'left', left[i] - fits * tonumber(ARGV[4*i-1]), 'at', at[i])
end
return fits
"""


class Shared(Backoff):
    """Half of the burst, as permitd is told too: calls arrive closer together than they were let go."""

    def __init__(self, assignment: dict, record: Record) -> None:
        super().__init__(assignment, record)
        self._expected = Expected()
        self._limits = assignment["limits"]
        self._redis = redis.asyncio.Redis.from_url(assignment["redis"])
        self._take = self._redis.register_script(TAKE)
        self._together = self._limits.get("concurrency")

    async def make(self, number: int, job: dict) -> None:
        self._expected.learn(await self.answer(number, job))

    @contextlib.asynccontextmanager
    async def allowed(self, job: dict) -> AsyncIterator[None]:
        """Every attempt takes from the buckets."""
        while not await self._granted(job):
            await asyncio.sleep(POLL_EVERY)
        try:
            yield
        finally:
            if self._together:
                await self._redis.decr("running")

    async def _granted(self, job: dict) -> bool:
        wanted, arguments = self._expected.of(job), []
        for unit in UNITS:
            limit = self._limits[unit]
            rate = limit["per_minute"] / 60
            arguments += [rate, limit.get("burst", rate) / 2, wanted[unit], limit.get("quantum_ms", 0) / 1000]
        try:
            if self._together and await self._redis.incr("running") > self._together:
                await self._redis.decr("running")
                return False
            if await self._take(keys=UNITS, args=arguments):
                return True
            if self._together:
                await self._redis.decr("running")
        except (RedisError, OSError):
            # It is away: there is nothing to be had until it is back.
            return False
        return False
