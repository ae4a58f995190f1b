"""The best that can be done: calls wait inside the provider, which knows its buckets and lets them in fairly."""

from __future__ import annotations

from ..record import Record
from .calls import Calls, body, is_answered


class Oracle:
    """Nothing is refused but for want of capacity, and then it tries again at once."""

    def __init__(self, assignment: dict, record: Record) -> None:
        turn = "urgent" if assignment["role"] == "interactive" else "fair"
        self._calls = Calls(assignment, record, {"x-sim-turn": turn})
        self._record = record

    async def make(self, number: int, job: dict) -> None:
        # A streamed answer begins when the call is let in, so that its wait can be seen.
        asked = body(job) | {"stream": True}
        while True:
            async with self._calls.stream(number, asked) as response:
                self._record.admitted(number)
                await response.aread()
            if is_answered(response):
                return
