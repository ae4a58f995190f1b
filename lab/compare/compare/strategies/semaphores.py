"""So many calls at the same time in each process."""

from __future__ import annotations

import asyncio

from ..record import Record
from .backoff import Backoff


def whole(assignment: dict, record: Record) -> Semaphored:
    """Each process as if the limit were its own."""
    return Semaphored(assignment, record, at_once(assignment))


def share(assignment: dict, record: Record) -> Semaphored:
    """Each process with its part."""
    return Semaphored(assignment, record, part_of(at_once(assignment), assignment))


def at_once(assignment: dict) -> int:
    """As many calls as keep the limit on requests busy, or as the limit on calls at the same time allows."""
    limits = assignment["limits"]
    busy = limits["requests"]["per_minute"] / 60 * assignment["latency_mean"]
    return max(1, round(min(busy, limits.get("concurrency", busy))))


def part_of(many: int, assignment: dict) -> int:
    """This process's part: together as many, where that is at least one each."""
    part, rest = divmod(many, assignment["clients"])
    return max(1, part + (assignment["place"] < rest))


class Semaphored(Backoff):
    """A place is kept until the call was answered, pauses included."""

    def __init__(self, assignment: dict, record: Record, places: int) -> None:
        super().__init__(assignment, record)
        self._room = asyncio.Semaphore(places)

    async def make(self, number: int, job: dict) -> None:
        async with self._room:
            await self.answer(number, job)
