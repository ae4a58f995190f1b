"""What the transports for httpx and for its successor httpx2 share: the two packages have the same interface under two names.

A response of less than 400 is handed on at once and reported when its body has been read to its end, or is let go. A refusal is
read, reported, and sent again while the server advises it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, AsyncIterator, ClassVar, Iterator, List, Optional

from .. import _errors as errors
from .. import aio
from .._report import FAILED, Advice
from .._sync import Client, Permit
from .exchange import ERROR_BYTES_MAX, NO_RETRY_HEADER, Budget, Exchange, Plan, is_json, pause

#: Connections of the transport that is made where none is given: more than a budget has slots, as the SDKs have it.
CONNECTIONS_MAX = 1_000
CONNECTIONS_IDLE_MAX = 100


class SyncStream:
    """The body of a response, which is read along."""

    def __init__(self, stream: Any, exchange: Exchange) -> None:
        self._stream, self._exchange = stream, exchange
        self._chunks: Iterator[bytes] = iter(stream)
        self._kept: List[bytes] = []

    def keep(self) -> None:
        """Reads what may be kept of it, for whoever reads it afterwards."""
        room = ERROR_BYTES_MAX
        while room > 0:
            chunk = next(self._chunks, None)
            if chunk is None:
                return
            self._exchange.take(chunk)
            self._kept.append(chunk)
            room -= len(chunk)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._kept
        for chunk in self._chunks:
            self._exchange.take(chunk)
            yield chunk
        self._exchange.end()

    def close(self) -> None:
        """Lets go of the rest."""
        try:
            self._stream.close()
        finally:
            self._exchange.end()


class AsyncStream:
    """:class:`SyncStream` for asyncio."""

    def __init__(self, stream: Any, exchange: Exchange) -> None:
        self._stream, self._exchange = stream, exchange
        self._chunks: AsyncIterator[bytes] = stream.__aiter__()
        self._kept: List[bytes] = []

    async def keep(self) -> None:
        """Reads what may be kept of it, for whoever reads it afterwards."""
        room = ERROR_BYTES_MAX
        async for chunk in self._chunks:
            self._exchange.take(chunk)
            self._kept.append(chunk)
            room -= len(chunk)
            if room <= 0:
                return

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._kept:
            yield chunk
        async for chunk in self._chunks:
            self._exchange.take(chunk)
            yield chunk
        self._exchange.end()

    async def aclose(self) -> None:
        """Lets go of the rest."""
        try:
            await self._stream.aclose()
        finally:
            self._exchange.end()


class Base:
    """What both transports know of their package."""

    #: ``httpx`` or ``httpx2``.
    http: ClassVar[Any]

    def __init__(self, budget: Budget, attempts: Optional[int]) -> None:
        self._plan = Plan(budget, attempts)

    def _attempts(self, request: Any) -> int:
        """A body that is made as it is sent can't be sent twice."""
        return self._plan.attempts if isinstance(request.stream, self.http.ByteStream) else 1

    def _limits(self) -> Any:
        return self.http.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_IDLE_MAX)

    def _never_sent(self, error: BaseException) -> bool:
        return isinstance(error, (self.http.ConnectError, self.http.ConnectTimeout, self.http.PoolTimeout))

    def _response(self, response: Any, stream: Any, is_error: bool) -> Any:
        headers = [*response.headers.raw, *([NO_RETRY_HEADER] if is_error else [])]
        return self.http.Response(response.status_code, headers=headers, stream=stream, extensions=response.extensions)


class SyncTransport(Base):
    """For threads."""

    #: The package's kind of stream, made of :class:`SyncStream`.
    stream: ClassVar[Any]

    def __init__(self, client: Client, budget: Budget, attempts: Optional[int], inner: Any) -> None:
        super().__init__(budget, attempts)
        self._client = client
        self._inner = inner if inner is not None else self.http.HTTPTransport(limits=self._limits())

    def handle(self, request: Any) -> Any:
        """One request of the application, in as many attempts as it takes."""
        asked = self._plan.request(request, request.read() if is_json(request.headers) else None)
        if asked is None:
            return self._inner.handle_request(request)
        permit, attempts = self._client.request(asked), self._attempts(request)
        for attempt in range(1, attempts + 1):
            response, exchange = self._send(request, permit)
            stream = self.stream(response.stream, exchange)
            if not exchange.is_error:
                return self._response(response, stream, is_error=False)
            advice = _told(stream, exchange, permit)
            if advice is None or not advice.retry or attempt == attempts:
                break
            try:
                time.sleep(pause(advice, attempt))
                permit = self._client.request(asked)
            except errors.Error:
                # There is something better to tell than that it cannot be tried again.
                break
            stream.close()
        return self._response(response, stream, is_error=True)

    def _send(self, request: Any, permit: Permit) -> tuple[Any, Exchange]:
        began = time.monotonic()
        try:
            response = self._inner.handle_request(request)
        except BaseException as error:
            permit.cancel() if self._never_sent(error) else permit.report_detached(FAILED)
            raise
        return response, Exchange(permit, began, response.status_code, response.headers)


class AsyncTransport(Base):
    """For asyncio."""

    #: The package's kind of stream, made of :class:`AsyncStream`.
    stream: ClassVar[Any]

    def __init__(self, client: aio.Client, budget: Budget, attempts: Optional[int], inner: Any) -> None:
        super().__init__(budget, attempts)
        self._client = client
        self._inner = inner if inner is not None else self.http.AsyncHTTPTransport(limits=self._limits())

    async def handle(self, request: Any) -> Any:
        """One request of the application, in as many attempts as it takes."""
        asked = self._plan.request(request, await request.aread() if is_json(request.headers) else None)
        if asked is None:
            return await self._inner.handle_async_request(request)
        permit, attempts = await self._client.request(asked), self._attempts(request)
        for attempt in range(1, attempts + 1):
            response, exchange = await self._send(request, permit)
            stream = self.stream(response.stream, exchange)
            if not exchange.is_error:
                return self._response(response, stream, is_error=False)
            advice = await _told_async(stream, exchange, permit)
            if advice is None or not advice.retry or attempt == attempts:
                break
            try:
                await asyncio.sleep(pause(advice, attempt))
                permit = await self._client.request(asked)
            except errors.Error:
                # There is something better to tell than that it cannot be tried again.
                break
            await stream.aclose()
        return self._response(response, stream, is_error=True)

    async def _send(self, request: Any, permit: aio.Permit) -> tuple[Any, Exchange]:
        began = time.monotonic()
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException as error:
            permit.cancel() if self._never_sent(error) else permit.report_detached(FAILED)
            raise
        return response, Exchange(permit, began, response.status_code, response.headers)


def _told(stream: Any, exchange: Exchange, permit: Permit) -> Optional[Advice]:
    """What the server makes of a refusal; ``None`` while none can be reached."""
    try:
        stream.keep()
    except BaseException:
        stream.close()
        raise
    try:
        return permit.report(exchange.report())
    except errors.Error:
        return None


async def _told_async(stream: Any, exchange: Exchange, permit: aio.Permit) -> Optional[Advice]:
    try:
        await stream.keep()
    except BaseException:
        await stream.aclose()
        raise
    try:
        return await permit.report(exchange.report())
    except errors.Error:
        return None
