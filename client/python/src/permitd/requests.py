"""A permit in front of every request of a `requests` session.

Tokens are estimated from a JSON body; status, headers, usage (also of streams) and the beginning of errors are reported.
While the server advises it a refusal is sent again. Without a permit, :class:`permitd.Error` is raised.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Iterator, Optional

import requests
import requests.adapters
from urllib3.exceptions import NewConnectionError

from . import _errors as errors
from ._http.exchange import Budget, Exchange, Plan, is_json, pause
from ._report import FAILED, Advice
from ._sync import Client, Permit


class PermitAdapter(requests.adapters.HTTPAdapter):
    """For ``session.mount("https://api.example.com/", PermitAdapter(client, "example/prod"))``.

    :param client: from :func:`permitd.connect`. It stays open when the session is closed.
    :param budget: the budget's name, a :class:`permitd.Request` with more (tenant, priority, ``max_wait``), or a function that
        makes one of each `requests.PreparedRequest`; ``None`` lets a request pass without a permit.
    :param attempts: how often a request is sent at most; default: 4.
    :param options: those of `requests.adapters.HTTPAdapter`. Leave ``max_retries`` at 0: each retry needs a permit.
    """

    def __init__(self, client: Client, budget: Budget, *, attempts: Optional[int] = None, **options: Any) -> None:
        super().__init__(**options)
        self._client = client
        self._plan = Plan(budget, attempts)

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        """One request of the application, in as many attempts as it takes."""
        body = request.body
        content = body.encode() if isinstance(body, str) else body
        is_whole = content is None or isinstance(content, bytes)
        is_read = isinstance(content, bytes) and is_json(request.headers)
        asked = self._plan.request(request, content if is_read else None)
        if asked is None:
            return super().send(request, *arguments, **options)
        # A body that is made as it is sent can't be sent twice.
        attempts = self._plan.attempts if is_whole else 1
        permit = self._client.request(asked)
        for attempt in range(1, attempts + 1):
            response, exchange = self._send(permit, request, *arguments, **options)
            if not exchange.is_error:
                response.raw = _Raw(response.raw, exchange)
                return response
            advice = _told(response, exchange, permit)
            if advice is None or not advice.retry or attempt == attempts:
                break
            try:
                time.sleep(pause(advice, attempt))
                permit = self._client.request(asked)
            except errors.Error:
                # There is something better to tell than that it cannot be tried again.
                break
            response.close()
        return response

    def _send(self, permit: Permit, *arguments: Any, **options: Any) -> tuple[requests.Response, Exchange]:
        began = time.monotonic()
        try:
            response = super().send(*arguments, **options)
        except BaseException as error:
            permit.cancel() if _never_sent(error) else permit.report_detached(FAILED)
            raise
        headers = {name.lower(): value for name, value in response.headers.items() if name.lower() != "content-encoding"}
        return response, Exchange(permit, began, response.status_code, headers)


class _Raw:
    """The body of a response, which is read along; all else is the response's own."""

    def __init__(self, raw: Any, exchange: Exchange) -> None:
        self._raw, self._exchange = raw, exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, *arguments: Any, **options: Any) -> Iterator[bytes]:
        """In chunks, decoded."""
        for chunk in self._raw.stream(*arguments, **options):
            self._exchange.take(chunk)
            yield chunk
        self._exchange.end()

    def read(self, *arguments: Any, **options: Any) -> bytes:
        """As the response has it, for those who read it by themselves."""
        chunk: bytes = self._raw.read(*arguments, **options)
        self._exchange.take(chunk)
        if not chunk:
            self._exchange.end()
        return chunk

    def close(self) -> None:
        """Lets go of the rest."""
        try:
            self._raw.close()
        finally:
            self._exchange.end()

    def release_conn(self) -> None:
        """The body is over."""
        try:
            self._raw.release_conn()
        finally:
            self._exchange.end()


def _never_sent(error: BaseException) -> bool:
    cause = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(cause, NewConnectionError)


def _told(response: requests.Response, exchange: Exchange, permit: Permit) -> Optional[Advice]:
    """What the server makes of a refusal; ``None`` while none can be reached."""
    # Its head says enough, and the application meets the same error when it reads.
    with contextlib.suppress(requests.RequestException):
        exchange.take(response.content)
    try:
        return permit.report(exchange.report())
    except errors.Error:
        return None
