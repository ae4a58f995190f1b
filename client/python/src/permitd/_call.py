"""What both kinds of ``call`` share: how a result is read, and when a call is made again."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Callable, Generic, Mapping, Optional, TypeVar, Union

from ._report import FAILED, SUCCESS, Report

#: Attempts where nobody said a number.
ATTEMPTS = 4

T = TypeVar("T")

#: Reads the report out of what a call returned or raised.
Classify = Callable[[Any], Report]


def classify(result: Any) -> Report:
    """Passes on status, headers and the body of an error, where the result is an HTTP response, or an exception that holds
    one in ``response``, as those of requests, httpx, openai and anthropic do. Else a result is a success and an exception a
    failure."""
    response = getattr(result, "response", None) if isinstance(result, BaseException) else result
    status = getattr(response, "status_code", getattr(response, "status", None))
    headers = getattr(response, "headers", None)
    if isinstance(status, int) and isinstance(headers, Mapping):
        body = _body(response) if status >= 400 else None
        return Report(status=status, headers={str(name): str(value) for name, value in headers.items()}, body=body)
    return FAILED if isinstance(result, BaseException) else SUCCESS


def _body(response: Any) -> Union[bytes, None]:
    try:
        content = response.content
    except Exception:
        # A stream that was not read says so by raising; the status and headers have to do.
        return None
    return content if isinstance(content, bytes) else None


class Result(Generic[T]):
    """What one attempt returned or raised, and how long it took."""

    __slots__ = ("_error", "_latency", "_value")

    def __init__(self, value: Optional[T], error: Optional[Exception], began: float) -> None:
        self._value, self._error = value, error
        self._latency = time.monotonic() - began

    @classmethod
    def of(cls, value: T, began: float) -> Result[T]:
        """It returned."""
        return cls(value, None, began)

    @classmethod
    def of_error(cls, error: Exception, began: float) -> Result[T]:
        """It raised."""
        return cls(None, error, began)

    def report(self, classify: Classify) -> Report:
        """How it went."""
        report = classify(self._value if self._error is None else self._error)
        return report if report.latency is not None else replace(report, latency=self._latency)

    def get(self) -> T:
        """Returns or raises as the attempt did."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]
