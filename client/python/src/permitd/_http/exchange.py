"""One request and its responses, from permit to report."""

from __future__ import annotations

import random
import time
import zlib
from dataclasses import replace
from typing import Any, Callable, Mapping, Optional, Protocol, Union

from .._call import ATTEMPTS
from .._report import BODY_BYTES_MAX, Advice, Outcome, Report
from .._request import Request
from .._usage import Usage
from .estimate import estimate
from .usage import Body, Events

#: Bytes of an error's body that are read before its advice is asked for; of a longer one the rest is passed on as it comes.
ERROR_BYTES_MAX = 1024 * 1024
#: Seconds before a call is made again that no limit holds back: doubled each time, with jitter, up to the last.
PAUSE_FIRST, PAUSE_MAX = 0.5, 8.0
#: Tells the SDKs that understand it not to try again by themselves: that was done, or is of no use.
NO_RETRY_HEADER = ("x-should-retry", "false")

#: The budget of each request: always the same, or what a function says of the client's own request. ``None`` is no permit.
Budget = Union[str, Request, Callable[[Any], Optional[Request]]]


class Plan:
    """What each request asks for."""

    def __init__(self, budget: Budget, attempts: Optional[int]) -> None:
        self._budget = budget
        self.attempts = max(1, ATTEMPTS if attempts is None else attempts)
        if not callable(budget):
            # What makes no sense is better told now.
            self._request(None).to_wire()

    def request(self, request: Any, body: Optional[bytes]) -> Optional[Request]:
        """For this one; what its body tells fills in what the budget leaves open."""
        asked = self._budget(request) if callable(self._budget) else self._request(request)
        told = estimate(body) if body and asked is not None else None
        if asked is None or told is None:
            return asked
        if asked.tokens is None and asked.usage is None:
            asked = replace(asked, usage=told.usage)
        return asked if asked.model else replace(asked, model=model_of(told.model))

    def _request(self, _request: Any) -> Request:
        assert not callable(self._budget)
        return self._budget if isinstance(self._budget, Request) else Request(self._budget)


class Settles(Protocol):
    """A permit of either kind."""

    def report_detached(self, report: Report) -> None:
        """Says how it went."""


class Exchange:
    """What one response says, read along as its body passes. Reports once: at the end of the body, or when it is let go."""

    def __init__(self, permit: Settles, began: float, status: int, headers: Mapping[str, str]) -> None:
        self._permit = permit
        self._latency = time.monotonic() - began
        self.status = status
        self._headers = headers
        self._excerpt = b""
        self._is_over = False
        self._decode = _decoder(headers.get("content-encoding", ""))
        kind = headers.get("content-type", "")
        self._reading = Events() if "text/event-stream" in kind else Body()

    @property
    def is_error(self) -> bool:
        """Whether the provider refused."""
        return self.status >= 400

    def take(self, chunk: bytes) -> None:
        """The next bytes, as they came."""
        if self._is_over:
            return
        plain = self._decode(chunk)
        if not self.is_error:
            self._reading.take(plain)
        elif len(self._excerpt) < BODY_BYTES_MAX:
            self._excerpt += plain[: BODY_BYTES_MAX - len(self._excerpt)]

    def report(self) -> Report:
        """What is known so far. After it, nothing is reported at the end."""
        self._is_over = True
        return Report(
            status=self.status,
            headers=self._headers,
            body=self._excerpt or None,
            usage=None if self.is_error else self.usage(),
            latency=self._latency,
        )

    def usage(self) -> Optional[Usage]:
        """What was used, as far as it was said."""
        return self._reading.usage()

    def end(self) -> None:
        """The body is over, or nobody wants the rest of it."""
        if not self._is_over:
            self._permit.report_detached(self.report())


def pause(advice: Advice, attempts_made: int) -> float:
    """Seconds to wait before the call is made again. What a limit holds back waits in the queue; for the rest, a little."""
    if advice.outcome is not Outcome.FAILED:
        return 0.0
    span = min(PAUSE_FIRST * (1 << min(attempts_made - 1, 16)), PAUSE_MAX)
    return max(span * random.uniform(0.5, 1.0), min(advice.retry_after or 0.0, PAUSE_MAX))


def model_of(name: str) -> str:
    """A model's name as far as the wire takes it: who sends more will hear of it from the provider."""
    return name.encode(errors="replace")[:256].decode(errors="ignore")


def is_json(headers: Mapping[str, str]) -> bool:
    """Whether a body is worth reading."""
    return "json" in headers.get("content-type", "")


def _decoder(encoding: str) -> Callable[[bytes], bytes]:
    """Reads what is compressed. An encoding that takes more than the standard library leaves the usage unknown."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return lambda chunk: chunk
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return lambda _: b""
    # Either of zlib's and gzip's own heads.
    inflater = zlib.decompressobj(wbits=47)

    def inflate(chunk: bytes) -> bytes:
        try:
            return inflater.decompress(chunk)
        except zlib.error:
            return b""

    return inflate
