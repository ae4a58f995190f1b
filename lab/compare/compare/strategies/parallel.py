"""The parallel processor: buckets for requests and tokens in each process, a queue of what is to be tried again, and a pause of
everything after a refusal."""

from __future__ import annotations

import asyncio
import time

from ..record import Record
from . import GaveUp
from .calls import Calls, Expected, is_answered

PAUSE = 15.0
ATTEMPTS = 5
LOOK_EVERY = 0.005


class Processor:
    """Its buckets begin full with this process's part of a second, so that eight of them are no burst."""

    def __init__(self, assignment: dict, record: Record) -> None:
        self._calls = Calls(assignment, record)
        self._expected = Expected()
        limits, clients = assignment["limits"], assignment["clients"]
        units = ("requests", "input_tokens", "output_tokens")
        self._rates = {unit: limits[unit]["per_minute"] / 60 / clients for unit in units}
        self._left = dict.fromkeys(units, 0.0) | {"requests": 1.0}
        self._refilled, self._refused = time.monotonic(), 0.0
        self._next = asyncio.Lock()

    async def make(self, number: int, job: dict) -> None:
        for _ in range(ATTEMPTS):
            await self._capacity(job)
            if is_answered(response := await self._calls.send(number, job)):
                self._expected.learn(response)
                return
            if response.status_code == 429:
                self._refused = time.monotonic()
        raise GaveUp(f"refused {ATTEMPTS} times")

    async def _capacity(self, job: dict) -> None:
        async with self._next:
            while not self._takes(job):
                await asyncio.sleep(LOOK_EVERY)

    def _takes(self, job: dict) -> bool:
        now = time.monotonic()
        if self._refused and now - self._refused < PAUSE:
            return False
        passed, self._refilled = now - self._refilled, now
        # A bucket holds a minute at most.
        self._left = {unit: min(left + passed * self._rates[unit], 60 * self._rates[unit]) for unit, left in self._left.items()}
        costs = self._expected.of(job)
        if any(self._left[unit] < cost for unit, cost in costs.items()):
            return False
        for unit, cost in costs.items():
            self._left[unit] -= cost
        return True
