"""Exponential backoff with full jitter."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx2

from ..record import Record
from .calls import Calls, is_answered, pause


class Backoff:
    """As courteous as the SDKs, and more patient: it never gives up."""

    def __init__(self, assignment: dict, record: Record) -> None:
        self._calls = Calls(assignment, record)

    async def make(self, number: int, job: dict) -> None:
        await self.answer(number, job)

    async def answer(self, number: int, job: dict) -> httpx2.Response:
        """The answer, however long it takes."""
        refusals = 0
        while True:
            async with self.allowed(job):
                response = await self._calls.send(number, job)
            if is_answered(response):
                return response
            await asyncio.sleep(pause(response, refusals))
            refusals += 1

    @contextlib.asynccontextmanager
    async def allowed(self, job: dict) -> AsyncIterator[None]:
        """What an attempt waits for, and holds while it lasts: nothing."""
        del job
        yield
