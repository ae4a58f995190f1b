"""The best that is known: calls wait inside the provider, which knows its buckets and lets them in fairly."""

from __future__ import annotations

from ..record import Record
from .calls import Calls, body, is_answered


class Oracle:
    """Nothing is refused but for want of capacity, and then it tries again at once."""

    def __init__(self, assignment: dict, record: Record) -> None:
        self._calls = Calls(assignment, record, turn="urgent" if assignment["role"] == "interactive" else "fair")
        self._record = record

    async def make(self, number: int, job: dict) -> None:
        # A streamed answer begins when the call is let in, so that its wait can be seen.
        asked = body(job) | {"stream": True}
        while True:
            async with self._calls.stream(number, asked) as response:
                if response.is_success:
                    self._record.set_out(number)
                await response.aread()
            if is_answered(response):
                return
