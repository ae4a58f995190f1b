"""Why there is no permit, or no answer to a report: exceptions that say what to do, with facts that programs can read."""

from __future__ import annotations

from typing import Optional

# Codes of gRPC, by number, as the wire has them.
CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)


class Error(Exception):
    """The root of everything that this package raises of its own.

    ``code`` is a gRPC code by name (``RESOURCE_EXHAUSTED``), ``reason`` a stable name in UPPER_SNAKE_CASE (``QUEUE_FULL``),
    ``limit`` the limit that refused (``tokens/1m``) if one did, and ``retry_after`` the seconds after which asking again may
    help; ``None`` means never, or not known.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        reason: str,
        limit: Optional[str] = None,
        retry_after: Optional[float] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.limit = limit
        self.retry_after = retry_after

    @property
    def is_impossible(self) -> bool:
        """The request asks for more than the limit ever holds. Asking again is of no use."""
        return self.reason == "LARGER_THAN_LIMIT"


class Refused(Error):
    """Somebody who was asked said no: the server, or the local share in its place."""


class NotInTime(Refused, TimeoutError):
    """The server knows that a grant can't come within ``max_wait``."""


class InvalidRequest(Error, ValueError):
    """The request or a setting makes no sense; the message names the field. Asking again is of no use."""


class TimedOut(Error, TimeoutError):
    """The time that the caller gave passed, and there was no answer."""


class Unavailable(Error, ConnectionError):
    """No server could be asked, and the outage policy does not stand in for it."""


class Closed(Error):
    """The client was closed, or belongs to the process that this one was forked from."""


def invalid(field: str, problem: str) -> InvalidRequest:
    """Names the field first."""
    return InvalidRequest(f"{field}: {problem}", code="INVALID_ARGUMENT", reason="INVALID_ARGUMENT")


def refused(code: int, reason: str, message: str, limit: str, retry_after: Optional[float]) -> Error:
    """The refusal of an acquire or a report, in the words of who refused."""
    name = CODES[code] if 0 <= code < len(CODES) else "UNKNOWN"
    text = message or (f"refused by {limit}: {reason}" if limit else f"refused: {reason}")
    kind = InvalidRequest if name == "INVALID_ARGUMENT" else NotInTime if reason == "NOT_IN_TIME" else Refused
    return kind(text, code=name, reason=reason, limit=limit or None, retry_after=retry_after)


def deadline() -> TimedOut:
    """The caller's own deadline."""
    return TimedOut(
        "the deadline passed before the call was through; allow more time (timeout, max_wait)",
        code="DEADLINE_EXCEEDED",
        reason="DEADLINE_EXCEEDED",
    )


def no_answer_in_time() -> TimedOut:
    """The server should have refused by now, and did not."""
    return TimedOut(
        "max_wait passed without an answer from the server; try again later or wait longer (max_wait)",
        code="RESOURCE_EXHAUSTED",
        reason="NOT_IN_TIME",
    )


def client_full(waiting_max: int) -> Refused:
    """No room in this client until the time was over."""
    return Refused(
        f"{waiting_max} requests of this client wait already and none left in time; slow down, allow more time "
        "(max_wait), or raise waiting_max",
        code="RESOURCE_EXHAUSTED",
        reason="CLIENT_FULL",
    )


def no_server(problem: str) -> Unavailable:
    """``problem`` is the last thing that went wrong while connecting."""
    return Unavailable(
        f"no permitd server can be reached: {problem}; check the endpoints and that `permitd serve` runs",
        code="UNAVAILABLE",
        reason="NO_SERVER",
    )


def no_local_share(budget: str, problem: str) -> Unavailable:
    """The policy is to use the share, and there is none."""
    return Unavailable(
        f"no permitd server can be reached ({problem}), and there is no valid local share of {budget}; "
        "shares come with the use of a budget, for the time that the server says",
        code="UNAVAILABLE",
        reason="NO_LOCAL_SHARE",
    )


def report_kept(problem: str) -> Unavailable:
    """For who waits for the answer to a report."""
    return Unavailable(
        f"the report has no answer yet: {problem}; it is kept and sent as soon as a server can be reached",
        code="UNAVAILABLE",
        reason="NO_SERVER",
    )


def closed() -> Closed:
    """After ``close``."""
    return Closed("the client was closed; connect a new one", code="CANCELLED", reason="CLIENT_CLOSED")


def forked() -> Closed:
    """In a child process."""
    return Closed(
        "the client was connected before this process was forked, and its session stays with the parent; "
        "connect in the child (for example in a post_fork hook)",
        code="FAILED_PRECONDITION",
        reason="CLIENT_FORKED",
    )
