"""All at once, and again after a second."""

from __future__ import annotations

import asyncio

from ..record import Record
from .calls import Calls, is_answered


class Naive:
    """Never gives up, never learns."""

    def __init__(self, assignment: dict, record: Record) -> None:
        self._calls = Calls(assignment, record)

    async def make(self, number: int, job: dict) -> None:
        while not is_answered(await self._calls.send(number, job)):
            await asyncio.sleep(1)
