"""Everything that can be set about a client, checked before anything is connected."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence, TypedDict, Union

from . import _convert as convert
from . import _errors as errors
from . import _usage
from ._credentials import Credentials, Endpoint, Tls
from ._version import __version__

#: Where a server listens that nobody told otherwise.
ENDPOINT_DEFAULT = "http://127.0.0.1:7110"
#: The server's own bound on what a session may have waiting.
WAITING_MAX = 10_000


class Outage(enum.Enum):
    """What becomes of requests while no server can be reached."""

    #: They fail with :class:`permitd.Unavailable`.
    FAIL_CLOSED = "fail_closed"
    #: They are granted without any limit; the permit's ``source`` says so.
    FAIL_OPEN = "fail_open"
    #: They are granted from a safe share of the budget that the server sent ahead of time, so that all clients together stay
    #: within the limits. Without a valid share, as ``FAIL_CLOSED``.
    LOCAL_SHARE = "local_share"

    @classmethod
    def of(cls, policy: Union[Outage, str]) -> Outage:
        """By its name."""
        try:
            return cls(policy)
        except ValueError:
            names = ", ".join(each.value for each in cls)
            raise errors.invalid("outage", f"{policy!r} is none of {names}") from None


@dataclass(frozen=True)
class Settings:
    """Checked. Spans are in seconds."""

    endpoints: tuple[Endpoint, ...]
    credentials: Credentials
    tenant: str
    name: str
    outage: Outage
    outage_after: float
    connect_timeout: float
    keepalive: float
    waiting_max: int


class ConnectOptions(TypedDict, total=False):
    """What :func:`permitd.connect` and :func:`permitd.aio.connect` take besides the endpoints. Spans are seconds or
    ``timedelta``."""

    #: Whom to trust and what to show where endpoints are ``https://``. Default: gRPC's own authorities, and nothing.
    tls: Optional[Tls]
    #: Says who this client is. A ``Path`` is a file, which is read anew for every connection.
    token: Union[str, Path, None]
    #: Who shares the budgets: the tenant of requests that name none. One per service, team or job.
    tenant: str
    #: What becomes of requests while no server can be reached. Default: ``"fail_closed"``.
    outage: Union[Outage, str]
    #: How long no server can be reached before that holds; until then requests wait. Default: 3 s. Shorter than a server's
    #: restart, callers notice each of them.
    outage_after: convert.Seconds
    #: How long one attempt to open a session may take. Default: 2 s.
    connect_timeout: convert.Seconds
    #: How often a silent connection is probed; one that gives no answer for half of that again is given up. Default: 10 s.
    keepalive: convert.Seconds
    #: How many requests of this client may be on their way or in a queue at a time; more wait inside the client. Default:
    #: 10,000, the server's own bound.
    waiting_max: int
    #: What the server's operator sees of this client. Default: this package and its version.
    name: str
    #: Sends the token to ``http://`` endpoints on other machines too, where whoever is on the way can read it.
    insecure: bool


def settings(endpoints: Union[str, Sequence[str]], options: ConnectOptions) -> Settings:
    """Parses what ``connect`` was given; errors name the setting."""
    unknown = set(options) - set(ConnectOptions.__annotations__)
    if unknown:
        raise TypeError(f"connect() got an unexpected keyword argument {min(unknown)!r}")
    texts = [endpoints] if isinstance(endpoints, str) else list(endpoints)
    if not texts:
        raise errors.invalid("endpoints", "none given; the default server is http://127.0.0.1:7110")
    credentials = Credentials(options.get("tls"), options.get("token"), options.get("insecure", False))
    parsed = tuple(Endpoint.parse(text) for text in texts)
    for endpoint in parsed:
        # Files may change, so it is done again for every connection; what is wrong by now is better told now.
        credentials.check(endpoint)
    waiting_max = _usage.check_amount("waiting_max", options.get("waiting_max", WAITING_MAX))
    if waiting_max < 1:
        raise errors.invalid("waiting_max", "is 0; at least 1")
    return Settings(
        endpoints=parsed,
        credentials=credentials,
        tenant=_usage.check_name("tenant", options.get("tenant", "")),
        name=_usage.check_name("name", options.get("name", f"permitd-python/{__version__}")),
        outage=Outage.of(options.get("outage", Outage.FAIL_CLOSED)),
        outage_after=_span("outage_after", options.get("outage_after", 3.0)),
        connect_timeout=_some_span("connect_timeout", options.get("connect_timeout", 2.0)),
        keepalive=_some_span("keepalive", options.get("keepalive", 10.0)),
        waiting_max=waiting_max,
    )


def _span(name: str, span: convert.Seconds) -> float:
    checked = convert.seconds(name, span)
    if checked is None:
        raise errors.invalid(name, "is None; give seconds or a timedelta")
    return checked


def _some_span(name: str, span: convert.Seconds) -> float:
    checked = _span(name, span)
    if checked < 0.001:
        raise errors.invalid(name, f"{checked} s is no time at all; give it some")
    return checked
