"""What goes out next: ids only, in order. What they stand for is looked up when the message is built, so that what was
cancelled meanwhile is not sent at all."""

from __future__ import annotations

from collections import deque
from typing import Callable, Deque, List, Optional, TypeVar

from .v1 import permit_pb2 as pb
from .v1 import session_pb2 as sb

T = TypeVar("T")

# The server's bounds on one message.
ACQUIRES_MAX = 1_000
CANCELS_MAX = 10_000
# Ours, well within the server's bytes.
REPORTS_MAX = 4_000
EXTENDS_MAX = 4_000
#: Past this the message is full: the server takes 4 MiB, and one more item is at most a tenth of the rest.
MESSAGE_BYTES_MAX = 2 * 1024 * 1024


class Outbox:
    """See the module."""

    __slots__ = ("acquires", "cancels", "extends", "reports")

    def __init__(self) -> None:
        self.acquires: Deque[int] = deque()
        self.reports: Deque[str] = deque()
        self.cancels: Deque[int] = deque()
        self.extends: Deque[str] = deque()

    def __bool__(self) -> bool:
        return bool(self.acquires or self.reports or self.cancels or self.extends)

    def message(
        self,
        acquire: Callable[[int], Optional[pb.AcquireRequest]],
        report: Callable[[str], Optional[pb.ReportRequest]],
    ) -> sb.SessionRequest:
        """The next one. ``acquire`` and ``report`` say what an id stands for by now, if it still does."""
        message = sb.SessionRequest()
        room = MESSAGE_BYTES_MAX
        # Reports first: they make room in the budget for what is asked next.
        while self.reports and room > 0 and len(message.report) < REPORTS_MAX:
            reporting = report(self.reports.popleft())
            if reporting is not None:
                message.report.append(reporting)
                room -= reporting.ByteSize()
        while self.acquires and room > 0 and len(message.acquire) < ACQUIRES_MAX:
            asking = acquire(self.acquires.popleft())
            if asking is not None:
                message.acquire.append(asking)
                room -= asking.ByteSize()
        message.cancel.extend(_take(self.cancels, CANCELS_MAX))
        message.extend.extend(_take(self.extends, EXTENDS_MAX))
        return message


def _take(queue: Deque[T], most: int) -> List[T]:
    return [queue.popleft() for _ in range(min(len(queue), most))]
