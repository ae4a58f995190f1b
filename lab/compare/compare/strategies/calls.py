"""A plain call in Anthropic's shape, and what most strategies share around it."""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager
from typing import Any, Optional

import httpx2

from ..record import Record
from . import GaveUp

KEY = "compare"
MODEL = "claude-compare"
#: Backoff in seconds: the first pause, which doubles, and the longest.
FIRST, LONGEST = 0.5, 8.0


def body(job: dict) -> dict:
    """What a job sends."""
    content = ("word " * (job["prompt_chars"] // 5 + 1))[: job["prompt_chars"]]
    return {"model": MODEL, "max_tokens": job["max_tokens"], "messages": [{"role": "user", "content": content}]}


def headers(number: int) -> dict[str, str]:
    """What tells the simulator which job this is: the same job takes as long and answers as much for everybody."""
    return {"x-sim-call": str(number)}


def recording(http: Any, record: Record, *, waits_inside: bool = False) -> Any:
    """A transport of ``http`` (httpx or httpx2) that notes each attempt, and when it leaves, unless it still waits after that."""

    class Recording(http.AsyncBaseTransport):
        def __init__(self) -> None:
            self._inner = http.AsyncHTTPTransport(limits=http.Limits(max_connections=None, max_keepalive_connections=100))

        async def handle_async_request(self, request: Any) -> Any:
            number = int(request.headers["x-sim-call"])
            record.attempted(number)
            if not waits_inside:
                record.set_out(number)
            response = await self._inner.handle_async_request(request)
            if response.status_code >= 400:
                record.refused(number)
            return response

        async def aclose(self) -> None:
            await self._inner.aclose()

    return Recording()


class Calls:
    """Plain HTTP to the provider. Of several, each gets its part of the calls."""

    def __init__(self, assignment: dict, record: Record, turn: str = "") -> None:
        always = {"x-api-key": KEY, "x-sim-client": assignment["name"]} | ({"x-sim-turn": turn} if turn else {})
        self._urls = [f"{url}/v1/messages" for url in assignment["providers"]]
        self._parts, self._sent = assignment["parts"], [0] * len(assignment["parts"])
        transport = recording(httpx2, record, waits_inside=bool(turn))
        self._http = httpx2.AsyncClient(headers=always, timeout=120, transport=transport)

    async def send(self, number: int, job: dict, provider: Optional[int] = None) -> httpx2.Response:
        """One attempt; at the provider whose turn it is, where it is not said at which."""
        at = self._next() if provider is None else provider
        return await self._http.post(self._urls[at], json=body(job), headers=headers(number))

    def stream(self, number: int, asked: dict) -> AbstractAsyncContextManager[httpx2.Response]:
        """One attempt, of which the answer can be watched as it comes."""
        return self._http.stream("POST", self._urls[self._next()], json=asked, headers=headers(number))

    def _next(self) -> int:
        """The provider that has had least of its part."""
        at = min(range(len(self._parts)), key=lambda at: (self._sent[at] + 1) / self._parts[at])
        self._sent[at] += 1
        return at


def is_answered(response: httpx2.Response) -> bool:
    """Whether it is over; if not, it may be tried again.

    :raises GaveUp: trying again would not help.
    """
    if response.status_code == 429 or response.status_code >= 500:
        return False
    if response.is_success:
        return True
    raise GaveUp(f"{response.status_code}: {response.text[:100]}")


def pause(response: httpx2.Response, refusals: int) -> float:
    """The wait that the provider asks for, and exponential backoff with full jitter on top of it: what was refused together comes
    back one by one."""
    ceiling = min(LONGEST, FIRST * 2 ** min(refusals, 10))
    return float(response.headers.get("retry-after", 0)) + random.uniform(0, ceiling)


class Expected:
    """What calls take from each limit, as far as it can be known: the output is the mean of those before."""

    def __init__(self) -> None:
        self._outputs, self._calls = 0, 0

    def of(self, job: dict) -> dict[str, float]:
        """By the unit."""
        output = self._outputs / self._calls if self._calls else job["max_tokens"] / 4
        return {"requests": 1, "input_tokens": job["prompt_chars"] / 4, "output_tokens": output}

    def learn(self, response: httpx2.Response) -> None:
        """From an answer."""
        self._calls += 1
        self._outputs += response.json()["usage"]["output_tokens"]
