"""permitd, through the Python client."""

from __future__ import annotations

import httpx2
import permitd
import permitd.aio

from ..record import Record
from . import GaveUp
from .calls import Calls


def request(assignment: dict, **more: object) -> permitd.Request:
    """Who asks, and how urgently."""
    priority = "interactive" if assignment["role"] == "interactive" else "batch"
    return permitd.Request(assignment["budget"], tenant=assignment["name"], priority=priority, **more)


def report(response: httpx2.Response) -> permitd.Report:
    """What the provider said; reading it is permitd's business."""
    if not response.is_success:
        return permitd.Report(status=response.status_code, headers=response.headers, body=response.content)
    used = response.json()["usage"]
    usage = permitd.Usage(input_tokens=used["input_tokens"], output_tokens=used["output_tokens"])
    return permitd.Report(status=response.status_code, headers=response.headers, usage=usage)


class Guards:
    """Acquire, call, report, and again while the server advises it."""

    def __init__(self, assignment: dict, record: Record) -> None:
        self._calls = Calls(assignment, record)
        self._assignment = assignment

    async def ready(self) -> None:
        """Connects."""
        self._permits = await permitd.aio.connect(self._assignment["permitd"])

    async def make(self, number: int, job: dict) -> None:
        usage = permitd.Usage(input_tokens=job["prompt_chars"] // 4, max_output_tokens=job["max_tokens"])
        while True:
            async with self._permits.request(request(self._assignment, usage=usage)) as permit:
                response = await self._calls.send(number, job, int(permit.key) if permit.key.isdigit() else 0)
                advice = await permit.report(report(response))
            if response.is_success:
                return
            if not advice.retry:
                raise GaveUp(f"{response.status_code}: {response.text[:100]}")
