"""What is asked for: plain data, checked before it is sent."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Callable, NamedTuple, Optional, TypedDict, Union

from . import _convert as convert
from . import _errors as errors
from . import _usage
from ._usage import Usage
from .v1 import permit_pb2 as pb

#: Permits that one request may ask for.
COUNT_MAX = 10_000

#: What the server's answer may take beyond ``max_wait``, before the client stops waiting for it, in seconds.
ANSWER_SLACK = 1.0


class Priority(enum.IntEnum):
    """Classes share a budget by weight, 16 : 4 : 1, so that none starves. With the wire's numbers."""

    #: Somebody is looking at a screen.
    INTERACTIVE = 1
    STANDARD = 2
    #: Whenever there is room.
    BATCH = 3

    @classmethod
    def of(cls, priority: Union[Priority, str]) -> Priority:
        """By its name in any case, such as ``"batch"``."""
        try:
            return cls[priority.upper()] if isinstance(priority, str) else cls(priority)
        except (KeyError, ValueError):
            names = ", ".join(each.name.lower() for each in cls)
            raise errors.invalid("priority", f"{priority!r} is none of {names}") from None


@dataclass(frozen=True)
class Request:
    """Asks for one permit. ``provider`` may be the whole name of the budget, ``"anthropic/prod"``, if ``key`` is left out;
    without a key it is ``default``.

    ``tokens`` is how many tokens go in, short for ``usage``, the whole estimate. ``max_wait`` is how long to wait in the queue
    at most, 0 for now or not at all, ``None`` for the budget's default. ``timeout`` is when the caller gives up, kept by this
    client whatever the server does; the server is told, so that it refuses at once what cannot be in time. Spans are seconds or
    ``timedelta``. Without a ``tenant``, the client's.
    """

    provider: str
    key: str = ""
    tokens: Optional[int] = None
    usage: Optional[Usage] = None
    model: str = ""
    tenant: str = ""
    priority: Union[Priority, str] = Priority.STANDARD
    max_wait: Optional[convert.Seconds] = None
    timeout: Optional[convert.Seconds] = None

    def budget(self) -> tuple[str, str]:
        """Provider and key, split at the first slash."""
        if self.key or not isinstance(self.provider, str) or "/" not in self.provider:
            return self.provider, self.key
        provider, _, key = self.provider.partition("/")
        return provider, key

    def to_wire(self, count: int = 1) -> pb.AcquireRequest:
        """Checked, but for the id and the wait."""
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= COUNT_MAX:
            raise errors.invalid("count", f"{count!r} is none of 1 to {COUNT_MAX}")
        provider, key = self.budget()
        if not _usage.check_name("provider", provider):
            raise errors.invalid("provider", "is empty; name the budget as PROVIDER/KEY, for example anthropic/prod")
        message = pb.AcquireRequest(
            provider=provider,
            key=_usage.check_name("key", key),
            model=_usage.check_name("model", self.model),
            tenant=_usage.check_name("tenant", self.tenant),
            priority=Priority.of(self.priority),  # type: ignore[arg-type]
            count=count,
        )
        if self.tokens is not None:
            message.tokens = _usage.check_amount("tokens", self.tokens)
        if self.usage is not None:
            message.estimate.CopyFrom(_usage.to_wire("usage", self.usage))
        return message

    def bounds(self) -> Bounds:
        """How long to wait, from now."""
        max_wait, timeout = convert.seconds("max_wait", self.max_wait), convert.seconds("timeout", self.timeout)
        answer_by = None if max_wait is None else max_wait + ANSWER_SLACK
        if timeout is not None and (answer_by is None or timeout <= answer_by):
            return Bounds(_shorter(max_wait, timeout), timeout, errors.deadline)
        return Bounds(_shorter(max_wait, timeout), answer_by, errors.no_answer_in_time)


class RequestOptions(TypedDict, total=False):
    """What a request may say besides its budget: see :class:`Request`."""

    tokens: Optional[int]
    usage: Optional[Usage]
    model: str
    tenant: str
    priority: Union[Priority, str]
    max_wait: Optional[convert.Seconds]
    timeout: Optional[convert.Seconds]


class Bounds(NamedTuple):
    """In seconds; ``None`` is for ever."""

    #: How long the server may let the request wait.
    wait: Optional[float]
    #: When the client itself stops waiting,
    gives_up: Optional[float]
    #: and what it says then.
    late: Callable[[], errors.Error]


def _shorter(one: Optional[float], other: Optional[float]) -> Optional[float]:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
