"""For threads: a client that any number of them share. Its session runs on an event loop in a thread of its own, which ends
with :meth:`Client.close`."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Coroutine, Generic, Iterator, Optional, Sequence, TypeVar, Union

from . import _convert as convert
from . import _errors as errors
from ._answers import Answers, Given
from ._call import ATTEMPTS, Classify, Result, classify
from ._driver import Driver
from ._grant import Grant
from ._guard import Guard, give_back
from ._report import Advice, Outcome, Report, ReportFacts
from ._request import Request, RequestOptions
from ._settings import ENDPOINT_DEFAULT, ConnectOptions, Settings, settings
from ._table import Waiting

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")
R = TypeVar("R")


def connect(
    endpoints: Union[str, Sequence[str]] = ENDPOINT_DEFAULT,
    **options: Unpack[ConnectOptions],
) -> Client:
    """Connects to the first of ``endpoints`` that answers. They are written ``http://HOST:PORT`` or ``https://HOST:PORT``, and
    tried in this order. ``permitd.ConnectOptions`` has the settings.

    Raises :class:`permitd.InvalidRequest` for a setting that makes no sense, and, with ``"fail_closed"``,
    :class:`permitd.Unavailable` if no server can be reached; the other policies let the client start in an outage.
    """
    checked = settings(endpoints, options)
    return Client(checked)


class Client:
    """Asks for permits over one session. Made by :func:`connect`; threads share it. Use it as a context manager, or call
    :meth:`close`."""

    def __init__(self, checked: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="permitd", daemon=True)
        self._thread.start()
        self._driver = self._on_loop(_make(checked))
        try:
            self._on_loop(self._driver.ready())
        except BaseException:
            self.close()
            raise

    def acquire(
        self,
        provider: str,
        key: str = "",
        **options: Unpack[RequestOptions],
    ) -> Permit:
        """Waits in the queue for a permit. See :class:`permitd.Request` for the arguments.

        Raises :class:`permitd.Refused`, :class:`permitd.TimedOut`, :class:`permitd.Unavailable`,
        :class:`permitd.InvalidRequest` or :class:`permitd.Closed`. A ``KeyboardInterrupt`` leaves the queue.
        """
        return self.request(Request(provider, key, **options))

    def request(self, request: Request) -> Permit:
        """As :meth:`acquire`, for a request that was put together elsewhere."""
        ask, bounds = request.to_wire(), request.bounds()
        driver = self._driver
        answer: Answer[Grant] = Answer(lambda grant: give_back(driver, grant))
        asked_at = time.monotonic()
        request_id = driver.acquire(Waiting(ask, bounds.wait, asked_at, answer.put))
        try:
            given = answer.wait(bounds.gives_up)
        except BaseException:
            answer.refuse()
            driver.cancel(request_id)
            raise
        if given is None:
            full = driver.is_in_backlog(request_id)
            driver.cancel(request_id)
            raise errors.client_full(driver.waiting_max) if full else bounds.late()
        if isinstance(given, errors.Error):
            raise given
        return Permit(given, driver)

    def acquire_many(
        self,
        provider: str,
        key: str = "",
        *,
        count: int,
        **options: Unpack[RequestOptions],
    ) -> Iterator[Permit]:
        """Asks for ``count`` permits at once, up to 10,000, each for the whole estimate. The request has one place in the queue;
        its permits come as they become possible.

        Raises as :meth:`acquire`, after the permits that came. Whoever leaves the loop withdraws what has not come; permits
        that came are the caller's.
        """
        request, driver = Request(provider, key, **options), self._driver
        came: queue.SimpleQueue[Given] = queue.SimpleQueue()
        answers = Answers(came, lambda grant: give_back(driver, grant))
        ask, bounds = request.to_wire(count), request.bounds()
        asked_at = time.monotonic()
        request_id = driver.acquire(Waiting(ask, bounds.wait, asked_at, answers.put))
        try:
            for _ in range(count):
                left = None if bounds.gives_up is None else max(0.0, asked_at + bounds.gives_up - time.monotonic())
                try:
                    given = came.get(timeout=left)
                except queue.Empty:
                    full = driver.is_in_backlog(request_id)
                    raise (errors.client_full(driver.waiting_max) if full else bounds.late()) from None
                if isinstance(given, errors.Error):
                    raise given
                yield Permit(given, driver)
        finally:
            answers.end()
            driver.cancel(request_id)

    def call(
        self,
        fn: Callable[[Permit], T],
        request: Union[Request, str],
        *,
        attempts: int = ATTEMPTS,
        classify: Classify = classify,
    ) -> T:
        """Acquires, runs ``fn(permit)``, reports how it went; and again, waiting in the queue, while the server advises it,
        attempts are left and the request's ``timeout`` is not over. ``fn`` is not interrupted by that: give it what is left.

        ``classify`` reads the report out of what ``fn`` returned or raised. The result is the last call's own: with the
        attempts used up also a response that is a refusal.
        """
        asked = Request(request) if isinstance(request, str) else request
        timeout = convert.seconds("timeout", asked.timeout)
        ends_at = None if timeout is None else time.monotonic() + timeout
        last: Optional[Result[T]] = None
        for left in range(max(1, attempts) - 1, -1, -1):
            if ends_at is not None:
                asked = replace(asked, timeout=max(0.0, ends_at - time.monotonic()))
            try:
                permit = self.request(asked)
            except errors.Error:
                if last is None:
                    raise
                # There is something better to tell than that it cannot be tried again.
                return last.get()
            with permit:
                last = _attempt(fn, permit)
                report = last.report(classify)
                if report.is_good or not left:
                    permit.report_detached(report)
                    return last.get()
                try:
                    advice = permit.report(report)
                except errors.Error:
                    return last.get()
            if not advice.retry:
                return last.get()
        raise AssertionError("the last attempt returns")

    @property
    def is_connected(self) -> bool:
        """Whether a session stands at the moment."""
        return self._driver.is_connected

    def close(self) -> None:
        """Ends the session politely, and the thread: reports that are on their way are answered first (within 5 s), requests
        that wait end with :class:`permitd.Closed`, and permits that are still held are settled as if they were dropped."""
        if self._loop.is_closed() or self._driver.mailbox.is_forked:
            return
        self._on_loop(self._driver.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _on_loop(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class Permit(Guard):
    """Leave to make one call. Say how it went with :meth:`report`; at the end of its ``with`` block, or when it is dropped, it
    settles by itself.

    **Without a report** the call may have been sent, so the permit is reported as failed: its charge stays, its slot returns.
    A call that was certainly not sent is cancelled with :meth:`cancel`, and everything goes back. While it lives, its permit is
    extended.
    """

    __slots__ = ("__weakref__",)

    def report(
        self,
        outcome: Union[Report, Outcome, str, None] = None,
        **facts: Unpack[ReportFacts],
    ) -> Advice:
        """Settles the permit, and waits for the server's advice; see :class:`permitd.Report` for the arguments. Where the
        advice does not matter, ``report_detached`` does not wait.

        Raises :class:`permitd.InvalidRequest` for a report that makes no sense, and the permit stays to be reported; and
        :class:`permitd.Unavailable` while no server can be reached: the report is kept and sent later.
        """
        if not isinstance(outcome, Report):
            outcome = Report(outcome, **facts)
        answer: Answer[Advice] = Answer()
        self._settle(outcome, answer.put)
        given = answer.wait(None)
        if isinstance(given, Advice):
            return given
        assert given is not None
        raise given

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._leave()


class Answer(Generic[T]):
    """One answer, from the loop's thread to the one that waits. What comes too late goes to ``unwanted``."""

    __slots__ = ("_given", "_lock", "_ready", "_unwanted", "_waits")

    def __init__(self, unwanted: Optional[Callable[[T], None]] = None) -> None:
        self._unwanted = unwanted
        self._given: Union[T, errors.Error, None] = None
        self._waits = True
        self._lock = threading.Lock()
        self._ready = threading.Lock()
        self._ready.acquire()

    def put(self, given: Union[T, errors.Error]) -> None:
        """Hands it over, if somebody waits."""
        with self._lock:
            if self._waits:
                self._given = given
                self._ready.release()
                return
        self._refuse(given)

    def wait(self, timeout: Optional[float]) -> Union[T, errors.Error, None]:
        """The answer, or ``None`` if there is none in time; then none is wanted any more."""
        if self._ready.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)):
            return self._given
        with self._lock:
            self._waits = False
            return self._given

    def refuse(self) -> None:
        """Nothing is wanted, also if it came."""
        with self._lock:
            self._waits = False
            given, self._given = self._given, None
        if given is not None:
            self._refuse(given)

    def _refuse(self, given: Union[T, errors.Error]) -> None:
        if self._unwanted is not None and not isinstance(given, errors.Error):
            self._unwanted(given)


async def _make(checked: Settings) -> Driver:
    return Driver(checked)


def _attempt(fn: Callable[[Permit], T], permit: Permit) -> Result[T]:
    began = time.monotonic()
    try:
        return Result.of(fn(permit), began)
    except Exception as error:
        return Result.of_error(error, began)
