"""permitd, through an SDK that knows nothing of it."""

from __future__ import annotations

import httpx2
import permitd.aio
from permitd.httpx2 import AsyncPermitTransport

from ..record import Record
from .calls import recording
from .permits import request
from .sdk_anthropic import RETRIES, Sdk


class Adapted:
    """The `anthropic` package with the transport in front of its requests."""

    def __init__(self, assignment: dict, record: Record) -> None:
        self._assignment, self._inner = assignment, recording(httpx2, record)

    async def ready(self) -> None:
        """Connects."""
        permits = await permitd.aio.connect(self._assignment["permitd"])
        transport = AsyncPermitTransport(permits, request(self._assignment), attempts=RETRIES + 1, inner=self._inner)
        self._sdk = Sdk(self._assignment, transport)

    async def make(self, number: int, job: dict) -> None:
        await self._sdk.make(number, job)
