"""How a call went, and what the server makes of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Mapping, Optional, TypedDict, Union

from . import _convert as convert
from . import _errors as errors
from . import _usage
from ._usage import Usage
from .v1 import permit_pb2 as pb

#: Bytes of an error body that are sent on; the rest is cut off.
BODY_BYTES_MAX = 4 * 1024
#: Headers that one report carries; the rest is left out.
HEADERS_MAX = 64
#: Bytes in one header's value; longer ones are left out.
HEADER_BYTES_MAX = 1024
#: What a header's name has in it if it says something of limits. Profiles on the server decide which of them count; this
#: only keeps out what no profile could want, above all cookies and credentials.
TELLING = ("limit", "retry", "quota", "remaining", "reset", "throttl", "x-amzn-errortype", "x-should-retry")


class Outcome(enum.IntEnum):
    """How a call went, with the wire's numbers."""

    SUCCESS = 1
    #: Refused for a rate of requests or tokens.
    RATE_LIMITED = 2
    #: Refused for too many calls at once.
    CONCURRENCY_LIMITED = 3
    #: The provider has no capacity for anybody.
    OVERLOADED = 4
    #: Refused for growing too steeply.
    ACCELERATION_LIMITED = 5
    #: Credit or spend cap used up: no call succeeds before a reset.
    QUOTA_EXHAUSTED = 6
    #: This request can never succeed under the provider's limits.
    TOO_LARGE = 7
    #: Sent, and failed for another reason.
    FAILED = 8
    #: Never sent: everything goes back to the budget.
    CANCELLED = 9

    @classmethod
    def of(cls, outcome: Union[Outcome, str]) -> Outcome:
        """By its name in any case, such as ``"rate_limited"``."""
        try:
            return cls[outcome.upper()] if isinstance(outcome, str) else cls(outcome)
        except (KeyError, ValueError):
            names = ", ".join(each.name.lower() for each in cls)
            raise errors.invalid("outcome", f"{outcome!r} is none of {names}") from None

    @classmethod
    def from_wire(cls, number: int) -> Outcome:
        """One that a newer server invented counts as a failure."""
        return cls(number) if 1 <= number <= 9 else cls.FAILED


@dataclass(frozen=True)
class Report:
    """Says how the call of one permit went: an ``outcome`` outright, or ``status``, ``headers`` and the ``body`` of an error,
    which the server reads by the provider's profile. What is said outright wins. Without either it was a success.

    ``retry_after`` is the wait that the provider asked for; ``usage`` what was used, absent units as charged; ``latency`` how
    long the call took. Spans are seconds or ``timedelta``.
    """

    outcome: Union[Outcome, str, None] = None
    retry_after: Optional[convert.Seconds] = None
    usage: Optional[Usage] = None
    status: Optional[int] = None
    headers: Optional[Mapping[str, str]] = None
    body: Union[bytes, str, None] = None
    latency: Optional[convert.Seconds] = None

    @property
    def is_good(self) -> bool:
        """Whether it says nothing but "it worked", or leaves the outcome to a status below 400."""
        if self.outcome is not None:
            return Outcome.of(self.outcome) is Outcome.SUCCESS
        return (self.status or 0) < 400

    def to_wire(self) -> pb.ReportRequest:
        """Checked, and without the permit's id."""
        message = pb.ReportRequest()
        if self.outcome is not None:
            message.outcome = Outcome.of(self.outcome)  # type: ignore[assignment]
        elif self.status is None:
            message.outcome = pb.OUTCOME_SUCCESS
        if self.status is not None:
            message.http_status = _status(self.status)
        retry_after = convert.seconds("retry_after", self.retry_after)
        if retry_after is not None:
            convert.set_duration(message.retry_after, retry_after)
        latency = convert.seconds("latency", self.latency)
        if latency is not None:
            convert.set_duration(message.latency, latency)
        if self.usage:
            message.actual.CopyFrom(_usage.to_wire("usage", self.usage))
        if self.headers:
            message.headers.update(telling_headers(self.headers))
        if self.body:
            body = self.body.encode(errors="replace") if isinstance(self.body, str) else bytes(self.body)
            message.body = body[:BODY_BYTES_MAX]
        return message


class ReportFacts(TypedDict, total=False):
    """What a report may say besides its outcome: see :class:`Report`."""

    retry_after: Optional[convert.Seconds]
    usage: Optional[Usage]
    status: Optional[int]
    headers: Optional[Mapping[str, str]]
    body: Union[bytes, str, None]
    latency: Optional[convert.Seconds]


CANCELLED = Report(Outcome.CANCELLED)
FAILED = Report(Outcome.FAILED)
SUCCESS = Report(Outcome.SUCCESS)


@dataclass(frozen=True)
class Advice:
    """The answer to a report."""

    #: How the call went, as classified.
    outcome: Outcome
    #: Whether this report settled the permit. False where it had expired, or no server granted it.
    settled: bool
    #: Whether the call is worth acquiring again for. That waits in the queue for as long as needed: do not sleep.
    retry: bool
    #: Seconds, for information.
    retry_after: Optional[float]

    @classmethod
    def from_wire(cls, answer: pb.ReportResponse) -> Advice:
        """As the server says it."""
        retry_after = convert.from_duration(answer.retry_after) if answer.HasField("retry_after") else None
        return cls(Outcome.from_wire(answer.outcome), answer.settled, answer.retry, retry_after)

    @classmethod
    def unsettled(cls, outcome: Outcome) -> Advice:
        """No server knows of the permit: nothing is settled and nothing advised."""
        return cls(outcome, settled=False, retry=False, retry_after=None)


def plain_outcome(report: pb.ReportRequest) -> Outcome:
    """What a report says without a profile: by the status alone where it is not said outright."""
    if report.outcome:
        return Outcome.from_wire(report.outcome)
    status = report.http_status
    if status < 400:
        return Outcome.SUCCESS
    known = {429: Outcome.RATE_LIMITED, 503: Outcome.OVERLOADED, 529: Outcome.OVERLOADED, 413: Outcome.TOO_LARGE}
    return known.get(status, Outcome.FAILED)


def telling_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those that can say something of limits, in lower case and bounded."""
    kept: dict[str, str] = {}
    for spelled, value in headers.items():
        name = spelled.lower()
        if name != "date" and not any(part in name for part in TELLING):
            continue
        if len(value.encode(errors="replace")) <= HEADER_BYTES_MAX and len(kept) < HEADERS_MAX:
            kept[name] = value
    return kept


def _status(status: int) -> int:
    if isinstance(status, bool) or not isinstance(status, int) or not 0 <= status <= 999:
        raise errors.invalid("status", f"{status!r} is no HTTP status; give a number from 100 to 599")
    return status
