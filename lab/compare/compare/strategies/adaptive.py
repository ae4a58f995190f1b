"""A rate that each process finds by itself: AWS's adaptive retry mode, down at a refusal and up again along a cubic."""

from __future__ import annotations

import asyncio

from botocore.exceptions import CapacityNotAvailableError
from botocore.retries.adaptive import ClientRateLimiter, RateClocker
from botocore.retries.bucket import TokenBucket
from botocore.retries.throttling import CubicCalculator

from ..record import Record
from .calls import Calls, is_answered, pause

#: How long is slept at the most before the rate is looked at again.
LOOK_EVERY = 0.1


class LoopClock:
    """The event loop's time."""

    def current_time(self) -> float:
        """In seconds."""
        return asyncio.get_running_loop().time()


class Refusals:
    """Tells botocore's limiter which answers are refusals."""

    def is_throttling_error(self, *, status: int) -> bool:
        """As its own detector does, of which 429 is one."""
        return status == 429


class Adaptive:
    """botocore's limiter around plain calls. It begins with the first refusal; calls wait in line."""

    def __init__(self, assignment: dict, record: Record) -> None:
        self._calls = Calls(assignment, record)
        self._line, self._is_limited = asyncio.Lock(), False
        clock = LoopClock()
        self._bucket = TokenBucket(max_rate=1, clock=clock)
        cubic = CubicCalculator(starting_max_rate=0, start_time=clock.current_time())
        self._limiter = ClientRateLimiter(cubic, RateClocker(clock), self._bucket, Refusals(), clock)

    async def make(self, number: int, job: dict) -> None:
        refusals = 0
        while True:
            await self._turn()
            response = await self._calls.send(number, job)
            self._is_limited |= response.status_code == 429
            self._limiter.on_receiving_response(status=response.status_code)
            if is_answered(response):
                return
            await asyncio.sleep(pause(response, refusals))
            refusals += 1

    async def _turn(self) -> None:
        async with self._line:
            while self._is_limited:
                try:
                    self._bucket.acquire(block=False)
                except CapacityNotAvailableError:
                    missing = 1 - self._bucket.available_capacity
                    await asyncio.sleep(min(LOOK_EVERY, max(0.001, missing / self._bucket.max_rate)))
                else:
                    return
