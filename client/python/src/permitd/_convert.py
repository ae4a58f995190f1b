"""Between the wire's well-known types and Python's. Nothing a server can send makes these raise: nonsense saturates."""

from __future__ import annotations

import datetime
import math
from typing import Optional, Union

from google.protobuf import duration_pb2, timestamp_pb2

from . import _errors as errors

#: A span of time: seconds, or a ``timedelta``.
Seconds = Union[float, datetime.timedelta]

#: The longest ``google.protobuf.Duration``: 10,000 years, in seconds.
SECONDS_MAX = 315_576_000_000
NANOS = 1_000_000_000
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def seconds(field: str, span: Optional[Seconds]) -> Optional[float]:
    """Parses a span; the field is named in the error. Infinity and what the wire can't hold become its longest."""
    if span is None:
        return None
    amount = span.total_seconds() if isinstance(span, datetime.timedelta) else span
    if isinstance(amount, bool) or not isinstance(amount, (int, float)) or math.isnan(amount):
        raise errors.invalid(field, f"{span!r} is no span of time; give seconds or a timedelta")
    if amount < 0:
        raise errors.invalid(field, f"{amount} s is negative; 0 means now or not at all")
    return float(min(amount, SECONDS_MAX))


def set_duration(message: duration_pb2.Duration, span: float) -> None:
    """Writes seconds, of which a fraction of a nanosecond is cut off."""
    nanos = max(0, min(int(span * NANOS), SECONDS_MAX * NANOS))
    message.seconds, message.nanos = divmod(nanos, NANOS)


def from_duration(message: duration_pb2.Duration) -> float:
    """In seconds; negative spans become zero."""
    return max(0.0, message.seconds + message.nanos / NANOS)


def nanos_of(message: duration_pb2.Duration) -> int:
    """In nanoseconds, exactly; negative spans become zero."""
    return max(0, message.seconds * NANOS + message.nanos)


def from_timestamp(message: timestamp_pb2.Timestamp) -> Optional[datetime.datetime]:
    """Instants that Python cannot hold count as unknown."""
    try:
        return EPOCH + datetime.timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
    except OverflowError:
        return None
