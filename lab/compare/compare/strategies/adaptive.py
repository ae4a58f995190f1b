"""A rate that each process finds by itself: down at a refusal, up again along a cubic, as TCP does and as AWS's SDKs do."""

from __future__ import annotations

import asyncio
import time

from ..record import Record
from .calls import Calls, is_answered, pause

DECREASE = 0.7
SCALE = 0.4
#: Calls in a second before anything is known, and the least.
FIRST_RATE, LEAST_RATE = 2.0, 0.5


class Adaptive:
    """A bucket of one call at the rate of the moment."""

    def __init__(self, assignment: dict, record: Record) -> None:
        self._calls = Calls(assignment, record)
        self._rate = self._best = FIRST_RATE
        self._since = self._next = time.monotonic()

    async def make(self, number: int, job: dict) -> None:
        refusals = 0
        while True:
            await self._turn()
            response = await self._calls.send(number, job)
            if is_answered(response):
                return self._grow()
            self._shrink()
            await asyncio.sleep(pause(response, refusals))
            refusals += 1

    async def _turn(self) -> None:
        now = time.monotonic()
        self._next = max(now, self._next) + 1 / self._rate
        await asyncio.sleep(self._next - now - 1 / self._rate)

    def _shrink(self) -> None:
        now = time.monotonic()
        # Refusals of calls that were under way together are one piece of news.
        if now - self._since > 1 or self._rate == self._best:
            self._best, self._rate, self._since = self._rate, max(LEAST_RATE, self._rate * DECREASE), now

    def _grow(self) -> None:
        passed = time.monotonic() - self._since
        plateau = (self._best * (1 - DECREASE) / SCALE) ** (1 / 3)
        self._rate = max(LEAST_RATE, min(2 * self._rate, SCALE * (passed - plateau) ** 3 + self._best))
