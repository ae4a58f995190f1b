"""The Python client of permitd, the rate-limit permit service: ask for a permit before each outbound call, report afterwards
how it went.

``permitd.connect`` is for threads, ``permitd.aio.connect`` for asyncio; ``permitd.httpx``, ``permitd.httpx2`` and
``permitd.requests`` put a permit in front of every request of an HTTP client.
"""

from ._convert import Seconds
from ._credentials import Tls
from ._errors import Closed, Error, InvalidRequest, NotInTime, Refused, TimedOut, Unavailable
from ._report import Advice, Outcome, Report
from ._request import Priority, Request
from ._settings import Outage
from ._sync import Client, Permit, connect
from ._usage import Usage
from ._version import __version__

__all__ = [
    "Advice",
    "Client",
    "Closed",
    "Error",
    "InvalidRequest",
    "NotInTime",
    "Outage",
    "Outcome",
    "Permit",
    "Priority",
    "Refused",
    "Report",
    "Request",
    "Seconds",
    "TimedOut",
    "Tls",
    "Unavailable",
    "Usage",
    "__version__",
    "connect",
]
