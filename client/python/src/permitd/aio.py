"""For asyncio: everything runs on the loop in which the client is connected, and no thread is started.

Cancelling a task that waits in :meth:`Client.acquire` leaves the queue; a grant that crosses the cancel goes back unused.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, AsyncGenerator, Awaitable, Callable, Generator, Generic, Optional, Sequence, TypeVar, Union

from . import _convert as convert
from . import _errors as errors
from ._answers import Answers, Given
from ._call import ATTEMPTS, Classify, Result, classify
from ._deferred import Deferred
from ._driver import Driver
from ._grant import Grant
from ._guard import Guard, give_back
from ._report import Advice, Outcome, Report, ReportFacts
from ._request import Request, RequestOptions
from ._settings import ENDPOINT_DEFAULT, ConnectOptions, Settings, settings
from ._table import Waiting
from ._within import within

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


def connect(
    endpoints: Union[str, Sequence[str]] = ENDPOINT_DEFAULT,
    **options: Unpack[ConnectOptions],
) -> Deferred[Client]:
    """Connects to the first of ``endpoints`` that answers: ``await connect(...)``, or ``async with connect(...) as client``.
    Settings are those of :func:`permitd.connect`, and so are the errors."""
    checked = settings(endpoints, options)
    return Deferred(lambda: _connect(checked))


async def _connect(checked: Settings) -> Client:
    driver = Driver(checked)
    try:
        await driver.ready()
    except BaseException:
        await driver.close()
        raise
    return Client(driver)


class Client:
    """Asks for permits over one session. Made by :func:`connect`; to be used on the loop on which it was made."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def acquire(
        self,
        provider: str,
        key: str = "",
        **options: Unpack[RequestOptions],
    ) -> Deferred[Permit]:
        """Waits in the queue for a permit: ``await client.acquire(...)``, or ``async with client.acquire(...) as permit``. See
        :class:`permitd.Request` for the arguments.

        Raises :class:`permitd.Refused`, :class:`permitd.TimedOut`, :class:`permitd.Unavailable`,
        :class:`permitd.InvalidRequest` or :class:`permitd.Closed`.
        """
        return self.request(Request(provider, key, **options))

    def request(self, request: Request) -> Deferred[Permit]:
        """As :meth:`acquire`, for a request that was put together elsewhere."""
        return Deferred(lambda: self._acquire(request))

    async def acquire_many(
        self,
        provider: str,
        key: str = "",
        *,
        count: int,
        **options: Unpack[RequestOptions],
    ) -> AsyncGenerator[Permit, None]:
        """Asks for ``count`` permits at once, up to 10,000, each for the whole estimate: ``async for permit in
        client.acquire_many(..., count=20)``. The request has one place in the queue; its permits come as they become possible.

        Raises as :meth:`acquire`, after the permits that came. Whoever leaves the loop withdraws what has not come; permits
        that came are the caller's.
        """
        request = Request(provider, key, **options)
        driver, loop = self._driver, asyncio.get_running_loop()
        queue: asyncio.Queue[Given] = asyncio.Queue()
        answers = Answers(queue, lambda grant: give_back(driver, grant))
        ask, bounds = request.to_wire(count), request.bounds()
        request_id = driver.acquire(Waiting(ask, bounds.wait, loop.time(), answers.put))

        def give_up() -> None:
            full = driver.is_in_backlog(request_id)
            answers.put(errors.client_full(driver.waiting_max) if full else bounds.late())

        timer = None if bounds.gives_up is None else loop.call_later(bounds.gives_up, give_up)
        try:
            for _ in range(count):
                given = await queue.get()
                if isinstance(given, errors.Error):
                    raise given
                yield Permit(given, driver)
        finally:
            if timer is not None:
                timer.cancel()
            answers.end()
            driver.cancel(request_id)

    async def call(
        self,
        fn: Callable[[Permit], Awaitable[T]],
        request: Union[Request, str],
        *,
        attempts: int = ATTEMPTS,
        classify: Classify = classify,
    ) -> T:
        """Acquires, awaits ``fn(permit)``, reports how it went; and again, waiting in the queue, while the server advises it,
        attempts are left and the request's ``timeout`` is not over, which covers all of it.

        ``classify`` reads the report out of what ``fn`` returned or raised. The result is the last call's own: with the
        attempts used up also a response that is a refusal. A call that is cancelled is reported as failed.
        """
        asked = Request(request) if isinstance(request, str) else request
        timeout = convert.seconds("timeout", asked.timeout)
        if timeout is None:
            return await self._call(fn, asked, attempts, classify)
        try:
            return await within(timeout, self._call(fn, asked, attempts, classify))
        except asyncio.TimeoutError as error:
            if isinstance(error, errors.Error):
                raise
            raise errors.deadline() from None

    @property
    def is_connected(self) -> bool:
        """Whether a session stands at the moment."""
        return self._driver.is_connected

    async def close(self) -> None:
        """Ends the session politely: reports that are on their way are answered first (within 5 s), requests that wait end
        with :class:`permitd.Closed`, and permits that are still held are settled as if they were dropped."""
        await self._driver.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self.close()

    async def _acquire(self, request: Request) -> Permit:
        loop, driver = asyncio.get_running_loop(), self._driver
        ask, bounds = request.to_wire(), request.bounds()
        answer: Answer[Grant] = Answer(loop, lambda grant: give_back(driver, grant))
        request_id = driver.acquire(Waiting(ask, bounds.wait, loop.time(), answer.put))

        def give_up() -> None:
            full = driver.is_in_backlog(request_id)
            answer.put(errors.client_full(driver.waiting_max) if full else bounds.late())
            driver.cancel(request_id)

        timer = None if bounds.gives_up is None else loop.call_later(bounds.gives_up, give_up)
        try:
            return Permit(await answer.wait(), driver)
        except asyncio.CancelledError:
            answer.refuse()
            driver.cancel(request_id)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def _call(self, fn: Callable[[Permit], Awaitable[T]], request: Request, attempts: int, classify: Classify) -> T:
        last: Optional[Result[T]] = None
        for left in range(max(1, attempts) - 1, -1, -1):
            try:
                permit = await self._acquire(request)
            except errors.Error:
                if last is None:
                    raise
                # There is something better to tell than that it cannot be tried again.
                return last.get()
            async with permit:
                last = await _attempt(fn, permit)
                report = last.report(classify)
                if report.is_good or not left:
                    permit.report_detached(report)
                    return last.get()
                try:
                    advice = await permit.report(report)
                except errors.Error:
                    return last.get()
            if not advice.retry:
                return last.get()
        raise AssertionError("the last attempt returns")


class Permit(Guard):
    """Leave to make one call. Say how it went with :meth:`report`; at the end of its ``async with`` block, or when it is
    dropped, it settles by itself.

    **Without a report** the call may have been sent, so the permit is reported as failed: its charge stays, its slot returns.
    A call that was certainly not sent is cancelled with :meth:`cancel`, and everything goes back. While it lives, its permit is
    extended.
    """

    __slots__ = ("__weakref__",)

    def report(
        self,
        outcome: Union[Report, Outcome, str, None] = None,
        **facts: Unpack[ReportFacts],
    ) -> Reporting:
        """Settles the permit; see :class:`permitd.Report` for the arguments. The report is on its way when this returns:
        awaiting it gives the server's :class:`permitd.Advice`, not awaiting it only gives up the answer.

        Raises :class:`permitd.InvalidRequest` for a report that makes no sense, and the permit stays to be reported.
        Awaiting raises :class:`permitd.Unavailable` while no server can be reached; the report is kept and sent later.
        """
        if not isinstance(outcome, Report):
            outcome = Report(outcome, **facts)
        answer: Answer[Advice] = Answer(asyncio.get_running_loop())
        self._settle(outcome, answer.put)
        return Reporting(answer)

    async def __aenter__(self) -> Permit:
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._leave()


class Reporting:
    """The answer to :meth:`Permit.report`, to be awaited."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Answer[Advice]) -> None:
        self._answer = answer

    def __await__(self) -> Generator[Any, Any, Advice]:
        return self._answer.wait().__await__()


class Answer(Generic[T]):
    """One answer, which may be an error. What comes when nobody waits any more goes to ``unwanted``."""

    __slots__ = ("_given", "_unwanted")

    def __init__(self, loop: asyncio.AbstractEventLoop, unwanted: Optional[Callable[[T], None]] = None) -> None:
        # Errors are results here, so that none is complained of that nobody waited for.
        self._given: asyncio.Future[Union[T, errors.Error]] = loop.create_future()
        self._unwanted = unwanted

    def put(self, given: Union[T, errors.Error]) -> None:
        """Hands it over, if somebody waits."""
        if not self._given.done():
            self._given.set_result(given)
        elif self._unwanted is not None and not isinstance(given, errors.Error):
            self._unwanted(given)

    async def wait(self) -> T:
        """The answer, or the error."""
        given = await self._given
        if isinstance(given, errors.Error):
            raise given
        return given

    def refuse(self) -> None:
        """Nothing is wanted, also if it came."""
        if self._given.done() and not self._given.cancelled():
            given = self._given.result()
            if self._unwanted is not None and not isinstance(given, errors.Error):
                self._unwanted(given)


async def _attempt(fn: Callable[[Permit], Awaitable[T]], permit: Permit) -> Result[T]:
    began = time.monotonic()
    try:
        return Result.of(await fn(permit), began)
    except Exception as error:
        return Result.of_error(error, began)
