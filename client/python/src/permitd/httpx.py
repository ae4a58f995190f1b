"""A permit in front of every request of an `httpx` client, and so of the SDKs that take one as ``http_client``.
Those of `openai` before 3 and `anthropic` before 2 take it.

Tokens are estimated from a JSON body; status, headers, usage (also of streams) and the beginning of errors are reported.
While the server advises it a refusal is sent again, and the SDK sees the last answer only. Without a permit,
:class:`permitd.Error` is raised.
"""

from __future__ import annotations

from typing import Any, ClassVar, Optional

import httpx

from . import aio
from ._http import transports
from ._http.exchange import Budget
from ._sync import Client


class PermitTransport(transports.SyncTransport, httpx.BaseTransport):
    """For `httpx.Client(transport=...)`.

    :param client: from :func:`permitd.connect`. It stays open when the transport is closed.
    :param budget: the budget's name, a :class:`permitd.Request` with more (tenant, priority, ``max_wait``), or a function that
        makes one of each `httpx.Request`; ``None`` lets a request pass without a permit.
    :param attempts: how often a request is sent at most; default: 4.
    :param inner: sends the requests; default: an `httpx.HTTPTransport` with room for 1,000 connections.
    """

    http: ClassVar[Any] = httpx

    def __init__(
        self,
        client: Client,
        budget: Budget,
        *,
        attempts: Optional[int] = None,
        inner: Optional[httpx.BaseTransport] = None,
    ) -> None:
        super().__init__(client, budget, attempts, inner)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request of the application."""
        response: httpx.Response = self.handle(request)
        return response

    def close(self) -> None:
        """Closes the inner transport."""
        self._inner.close()

    class stream(transports.SyncStream, httpx.SyncByteStream):  # noqa: N801
        """A body that is read along."""


class AsyncPermitTransport(transports.AsyncTransport, httpx.AsyncBaseTransport):
    """For `httpx.AsyncClient(transport=...)`: :class:`PermitTransport`, with a client from :func:`permitd.aio.connect`."""

    http: ClassVar[Any] = httpx

    def __init__(
        self,
        client: aio.Client,
        budget: Budget,
        *,
        attempts: Optional[int] = None,
        inner: Optional[httpx.AsyncBaseTransport] = None,
    ) -> None:
        super().__init__(client, budget, attempts, inner)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request of the application."""
        response: httpx.Response = await self.handle(request)
        return response

    async def aclose(self) -> None:
        """Closes the inner transport."""
        await self._inner.aclose()

    class stream(transports.AsyncStream, httpx.AsyncByteStream):  # noqa: N801
        """A body that is read along."""
