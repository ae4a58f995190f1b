"""So many calls at the same time in each process."""

from __future__ import annotations

import asyncio

from ..record import Record
from .backoff import Backoff


def whole(assignment: dict, record: Record) -> Semaphored:
    """Each process as if the limit were its own."""
    return Semaphored(assignment, record, 1)


def share(assignment: dict, record: Record) -> Semaphored:
    """Each process with its part."""
    return Semaphored(assignment, record, assignment["clients"])


class Semaphored(Backoff):
    """As many as keep the limit on requests busy, or as the limit on calls at the same time allows."""

    def __init__(self, assignment: dict, record: Record, processes: int) -> None:
        super().__init__(assignment, record)
        limits = assignment["limits"]
        busy = limits["requests"]["per_minute"] / 60 * assignment["latency_mean"]
        self._room = asyncio.Semaphore(max(1, round(min(busy, limits.get("concurrency", busy)) / processes)))

    async def make(self, number: int, job: dict) -> None:
        async with self._room:
            await self.answer(number, job)
