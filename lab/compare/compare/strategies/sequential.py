"""One call after the other in each process, and a rest when refused."""

from __future__ import annotations

import asyncio

from ..record import Record
from .calls import Calls, is_answered


class Sequential:
    """Waits as long as the provider says, or a second."""

    def __init__(self, assignment: dict, record: Record) -> None:
        self._calls = Calls(assignment, record)
        self._one = asyncio.Lock()

    async def make(self, number: int, job: dict) -> None:
        async with self._one:
            while not is_answered(response := await self._calls.send(number, job)):
                await asyncio.sleep(float(response.headers.get("retry-after", 1)))
