"""The parallel processor of OpenAI's cookbook: buckets for requests and tokens in each process, what was refused before what is
new, and a pause of everything after a refusal."""

from __future__ import annotations

import asyncio
import heapq
import itertools

from ..record import Record
from . import GaveUp
from .calls import Calls, Expected, is_answered

PAUSE = 15.0
#: The part of the limits that is asked for: the cookbook advises to leave headroom, and to take 75 % or 50 % of them.
PART = 0.75
ATTEMPTS = 5
#: The least that is slept: a bucket that is full in less is full.
LEAST_SLEEP = 0.001


class Processor:
    """Its buckets hold this process's part of the burst, so that eight of them are no larger one."""

    def __init__(self, assignment: dict, record: Record) -> None:
        self._calls = Calls(assignment, record)
        self._expected = Expected()
        limits, clients = assignment["limits"], assignment["clients"]
        units = ("requests", "input_tokens", "output_tokens")
        self._rates = {unit: PART * limits[unit]["per_minute"] / 60 / clients for unit in units}
        self._most = {unit: limits[unit].get("burst", limits[unit]["per_minute"] / 60) / clients for unit in units}
        self._left = dict(self._most)
        self._refilled: float | None = None
        self._paused_until = 0.0
        self._waiting: list[tuple] = []
        self._order = itertools.count()
        self._serving: asyncio.Task | None = None

    async def make(self, number: int, job: dict) -> None:
        for attempt in range(ATTEMPTS):
            await self._turn(job, is_new=attempt == 0)
            if is_answered(response := await self._calls.send(number, job)):
                self._expected.learn(response)
                return
            if response.status_code == 429:
                self._paused_until = asyncio.get_running_loop().time() + PAUSE
        raise GaveUp(f"refused {ATTEMPTS} times")

    async def _turn(self, job: dict, *, is_new: bool) -> None:
        come = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (is_new, next(self._order), job, come))
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve())
        await come

    async def _serve(self) -> None:
        while self._waiting:
            _, _, job, come = self._waiting[0]
            if wait := self._takes(job):
                await asyncio.sleep(max(wait, LEAST_SLEEP))
            else:
                heapq.heappop(self._waiting)
                come.set_result(None)

    def _takes(self, job: dict) -> float:
        """Takes from all buckets, or answers how many seconds are left until that may be."""
        now = asyncio.get_running_loop().time()
        if now < self._paused_until:
            return self._paused_until - now
        # The first job starts the clock.
        passed, self._refilled = 0.0 if self._refilled is None else now - self._refilled, now
        self._left = {unit: min(left + passed * self._rates[unit], self._most[unit]) for unit, left in self._left.items()}
        # What is larger than a bucket waits for a full one.
        costs = {unit: min(cost, self._most[unit]) for unit, cost in self._expected.of(job).items()}
        wait = max((cost - self._left[unit]) / self._rates[unit] for unit, cost in costs.items())
        if wait > 0:
            return wait
        for unit, cost in costs.items():
            self._left[unit] -= cost
        return 0.0
