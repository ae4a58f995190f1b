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
        self._parts, self._sent = assignment["parts"], [0] * len(assignment["parts"])

    async def make(self, number: int, job: dict) -> None:
        # A streamed answer begins when the call is let in, so that its wait can be seen.
        asked = body(job) | {"stream": True}
        while True:
            async with self._calls.stream(number, asked, self._next()) as response:
                self._record.admitted(number)
                await response.aread()
            if is_answered(response):
                return

    def _next(self) -> int:
        """The provider that has had least of its part."""
        at = min(range(len(self._parts)), key=lambda at: (self._sent[at] + 1) / self._parts[at])
        self._sent[at] += 1
        return at
