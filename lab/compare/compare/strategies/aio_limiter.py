"""`aiolimiter` with this process's part of each limit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiolimiter import AsyncLimiter

from ..record import Record
from .backoff import Backoff
from .calls import Expected
from .semaphores import part_of

#: Seconds over which each limit is kept. What is taken at once has to fit, and a shorter span makes smaller bursts.
SPANS = {"requests": 1, "input_tokens": 5, "output_tokens": 5}


class Limited(Backoff):
    """A leaky bucket for each unit; a semaphore where calls at the same time are limited."""

    def __init__(self, assignment: dict, record: Record) -> None:
        super().__init__(assignment, record)
        limits, clients = assignment["limits"], assignment["clients"]
        self._expected = Expected()
        self._limiters = {
            unit: AsyncLimiter(limits[unit]["per_minute"] / 60 * span / clients, span) for unit, span in SPANS.items()
        }
        together = limits.get("concurrency")
        self._room = asyncio.Semaphore(part_of(together, assignment)) if together else contextlib.nullcontext()

    async def make(self, number: int, job: dict) -> None:
        self._expected.learn(await self.answer(number, job))

    @contextlib.asynccontextmanager
    async def allowed(self, job: dict) -> AsyncIterator[None]:
        """Every attempt takes from the limiters."""
        async with self._room:
            for unit, amount in self._expected.of(job).items():
                await self._limiters[unit].acquire(min(amount, self._limiters[unit].max_rate))
            yield
