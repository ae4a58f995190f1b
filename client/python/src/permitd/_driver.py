"""What runs behind a client: it keeps a session open, sends whatever is ready in one message, hands out answers, and stands
in for the server, by the outage policy, while none can be reached.

Everything here runs on one event loop. Handles speak to it through the mailbox.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
import uuid
from typing import Optional, Union

from . import _backoff as backoff
from . import _errors as errors
from ._dial import Lost, Problem, Session, dial
from ._grant import FAIL_OPEN, SERVER, Grant
from ._mailbox import Mailbox
from ._report import Advice, plain_outcome
from ._settings import Outage, Settings
from ._share.shares import Shares
from ._table import AdviceReply, Table, Waiting
from ._within import within
from .v1 import permit_pb2 as pb
from .v1 import session_pb2 as sb

log = logging.getLogger("permitd")

#: How long :meth:`Driver.close` waits for answers to reports, in seconds.
CLOSE_WAIT = 5.0
#: How long a server that drains is still given for the answers to reports, in seconds.
DRAIN_PATIENCE = 0.5
#: How long a server is given to end its side of a session that was half-closed, in seconds.
END_PATIENCE = 1.0


class Driver:
    """See the module. To be made on its loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self.mailbox = Mailbox(self._loop, self._drain)
        # From 1: 0 is the wire's "none".
        self._request_ids = itertools.count(1)
        self._table = Table(settings.waiting_max, settings.outage is Outage.LOCAL_SHARE, self._request_ids)
        self._shares = Shares()
        self._session_id = uuid.uuid4().hex
        #: The endpoint in use or to be tried next.
        self._at = 0
        #: Failures since the last session that lived, and definitive ones in a row.
        self._failures = self._definitive = 0
        #: Resolved with the problem when the session that stands is over.
        self._over: Optional[asyncio.Future[Problem]] = None
        self._wake = asyncio.Event()
        self._quiet = asyncio.Event()
        self._problem = Problem("not tried yet")
        #: Whether the outage policy holds.
        self._in_outage = False
        #: When the last time without a session began, and when the session came that stands and has not proven itself.
        self._lost_at = self._loop.time()
        self._came_at: Optional[float] = None
        self._first: asyncio.Future[Optional[errors.Error]] = self._loop.create_future()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._task = self._loop.create_task(self._run())

    # For the handles, from any thread.

    def acquire(self, waiting: Waiting) -> int:
        """Asks for a permit; the number is for :meth:`cancel`."""
        self.mailbox.check()
        request_id = next(self._request_ids)
        self.mailbox.push(self._on_acquire, request_id, waiting)
        return request_id

    def cancel(self, request_id: int) -> None:
        """Leaves the queue."""
        self.mailbox.push(self._on_cancel, request_id)

    def settle(self, grant: Grant, report: pb.ReportRequest, reply: Optional[AdviceReply]) -> None:
        """Says how the call went, once."""
        self.mailbox.push(self._on_report, grant, report, reply)

    @property
    def is_connected(self) -> bool:
        """Whether a session stands at the moment."""
        return self._over is not None

    @property
    def waiting_max(self) -> int:
        """As set."""
        return self._settings.waiting_max

    def is_in_backlog(self, request_id: int) -> bool:
        """Whether there was no room in this client to ask yet."""
        return self._table.is_in_backlog(request_id)

    # For the owner, on the loop.

    async def ready(self) -> None:
        """Waits for the first session, or for the outage policy to take over."""
        error = await asyncio.shield(self._first)
        if error is not None and self._settings.outage is Outage.FAIL_CLOSED:
            raise error

    async def close(self) -> None:
        """Ends the session politely: reports that are on their way are answered first, requests that wait end."""
        if self.mailbox.is_shut:
            return
        self._drain()
        self.mailbox.is_shut = True
        for request_id in self._table.waiting_ids():
            self._table.answer(request_id, errors.closed())
        for permit_id, _ in list(self._table.live()):
            self._table.report(permit_id, pb.ReportRequest(outcome=pb.OUTCOME_FAILED), None)
        self._wake.set()
        self._check_quiet()
        try:
            await within(CLOSE_WAIT, self._quiet.wait())
        except asyncio.TimeoutError:
            log.warning("reports were left unanswered at close: %s", self._problem.text)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        over = self._over
        if over is not None:
            self._over = None
            self._wake.set()
            await asyncio.wait([over], timeout=END_PATIENCE)
        self._task.cancel()
        await asyncio.wait([self._task])

    # The way to the server.

    async def _run(self) -> None:
        try:
            while True:
                endpoint = self._settings.endpoints[self._at]
                hello = sb.Hello(session_id=self._session_id, client=self._settings.name, tenant=self._settings.tenant)
                try:
                    session, first = await dial(endpoint, self._settings, hello)
                except Lost as lost:
                    self._on_lost(lost.problem, was_up=False)
                else:
                    since = self._loop.time()
                    problem = await self._serve(session, first)
                    if self._loop.time() - since >= backoff.GOOD_LIFE:
                        self._failures = 0
                    self._on_lost(problem, was_up=True)
                await asyncio.sleep(backoff.wait(self._failures, random.random()))
                self._failures += 1
        except asyncio.CancelledError:
            pass
        except Exception:
            log.exception("the client of permitd ends by a bug of its own")
        finally:
            self._shut()

    async def _serve(self, session: Session, first: sb.SessionResponse) -> Problem:
        over: asyncio.Future[Problem] = self._loop.create_future()
        self._over = over
        tasks = [self._loop.create_task(self._read(session, over)), self._loop.create_task(self._write(session))]
        try:
            self._on_up(first)
            for task in tasks:
                task.add_done_callback(lambda task: _pass_on(task, over))
            return await over
        finally:
            self._over = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await session.close()

    async def _read(self, session: Session, over: asyncio.Future[Problem]) -> None:
        while True:
            try:
                message = await session.receive()
            except Lost as lost:
                if not over.done():
                    over.set_result(lost.problem.midway())
                return
            self._on_response(message)

    async def _write(self, session: Session) -> None:
        while self._over is not None:
            await self._wake.wait()
            self._wake.clear()
            while self._table.has_outgoing:
                message = self._table.message(self._loop.time())
                if message.ByteSize():
                    await session.send(message)
            self._check_quiet()
        await session.half_close()

    def _on_up(self, first: sb.SessionResponse) -> None:
        self._definitive, self._in_outage, self._came_at = 0, False, self._loop.time()
        for name in ("outage", "share"):
            self._stop_timer(name)
        self._shares.leave()
        self._table.welcome(first.welcome.resumed, self._loop.time())
        log.debug("permitd session stands; resumed: %s", first.welcome.resumed)
        if not self._first.done():
            self._first.set_result(None)
        self._on_response(first)

    def _on_response(self, response: sb.SessionResponse) -> None:
        now = self._loop.time()
        if response.granted or response.refused or response.reported:
            self._came_at = None
        for granted in response.granted:
            self._table.granted(granted, now)
        for refused in response.refused:
            if not self._table.refused(refused, now) and "drain" not in self._timers:
                self._after("drain", DRAIN_PATIENCE, self._leave_draining)
        for answer in response.reported:
            self._table.answered(answer)
        for share in response.shares:
            self._shares.learn(share, time.monotonic_ns())
        if "drain" in self._timers and not self._table.is_reporting:
            self._leave_draining()
        self._drain()
        self._arm_sweep()
        self._check_quiet()

    def _on_lost(self, problem: Problem, was_up: bool) -> None:
        """No session: either one broke or an attempt failed."""
        log.debug("no permitd session: %s", problem.text)
        self._problem = problem
        self._stop_timer("drain")
        self._stop_timer("sweep")
        self._definitive = self._definitive + 1 if problem.definitive else 0
        if problem.reason == "SESSION_TAKEN_OVER":
            # A newer stream has gone on with it: leave it alone.
            self._session_id = uuid.uuid4().hex
        if problem.elsewhere or problem.definitive or not was_up:
            self._at = (self._at + 1) % len(self._settings.endpoints)
        now = self._loop.time()
        # A server that welcomes and parts, again and again, and answers nothing, is none.
        if was_up and (self._came_at is None or now - self._came_at >= backoff.GOOD_LIFE):
            self._lost_at = now
        if not self._in_outage and "outage" not in self._timers:
            # Not before an attempt has ended: until then nobody can say whether there is a server.
            self._after("outage", self._lost_at + self._settings.outage_after - now, self._begin_outage)
        if self._definitive >= len(self._settings.endpoints):
            self._begin_outage()

    def _leave_draining(self) -> None:
        self._stop_timer("drain")
        if self._over is not None and not self._over.done():
            self._over.set_result(Problem("the server is about to stop", elsewhere=True))

    # What the handles want.

    def _drain(self) -> None:
        self.mailbox.take(lambda: not self.is_connected or self._table.has_room)
        if self._table.has_outgoing:
            self._wake.set()

    def _on_acquire(self, request_id: int, waiting: Waiting) -> None:
        self._table.acquire(request_id, waiting)
        if self._in_outage:
            self._answer_without_server(request_id)
            self._poll_shares()

    def _on_cancel(self, request_id: int) -> None:
        self._table.cancel(request_id)
        if self._in_outage:
            self._shares.cancel(request_id)
            self._poll_shares()

    def _on_report(self, grant: Grant, report: pb.ReportRequest, reply: Optional[AdviceReply]) -> None:
        if grant.source != SERVER:
            advice = (
                Advice.unsettled(plain_outcome(report))
                if grant.hold is None
                else self._shares.report(grant.hold, report, time.monotonic_ns())
            )
            if reply is not None:
                reply(advice)
        else:
            if self._in_outage:
                if reply is not None:
                    reply(errors.report_kept(self._problem.text))
                    reply = None
                budget = self._table.budget_of_live(grant.permit_id)
                if budget is not None:
                    self._shares.ended(budget)
            self._table.report(grant.permit_id, report, reply)
        if self._in_outage:
            self._poll_shares()

    # In the server's place.

    def _begin_outage(self) -> None:
        self._stop_timer("outage")
        if self._in_outage:
            return
        self._in_outage = True
        log.warning("no permitd server: %s; outage policy: %s", self._problem.text, self._settings.outage.value)
        if not self._first.done():
            self._first.set_result(self._no_server())
        self._table.let_reporters_go(errors.report_kept(self._problem.text))
        for request_id in self._table.waiting_ids():
            self._answer_without_server(request_id)
        self._poll_shares()
        self._check_quiet()

    def _answer_without_server(self, request_id: int) -> None:
        waiting = self._table.waiting(request_id)
        if waiting is None:
            return
        policy, now = self._settings.outage, self._loop.time()
        if policy is Outage.FAIL_CLOSED:
            self._answer(request_id, self._no_server())
        elif policy is Outage.FAIL_OPEN:
            ask = waiting.ask
            charged = ask.estimate if ask.HasField("estimate") else pb.Usage(tokens=ask.tokens or None)
            permit = pb.Permit(provider=ask.provider, key=ask.key, charged=charged)
            for _ in range(ask.count):
                self._answer(request_id, Grant(permit, FAIL_OPEN, waited=now - waiting.asked_at))
        elif not self._shares.acquire(
            request_id, waiting, self._settings.tenant, waiting.wait_left(now), self._live, time.monotonic_ns(), self._answer
        ):
            budget = f"{waiting.ask.provider}/{waiting.ask.key or 'default'}"
            self._answer(request_id, errors.no_local_share(budget, self._problem.text))

    def _answer(self, request_id: int, answer: Union[Grant, errors.Error]) -> None:
        self._shares.answered(request_id, answer.hold if isinstance(answer, Grant) else None)
        self._table.answer(request_id, answer)
        if isinstance(answer, Grant) and answer.hold is not None and self._table.waiting(request_id) is not None:
            # The share gives one permit at a time. Not from here, for it may be about to give others.
            self._loop.call_soon(self._ask_for_next, request_id)

    def _ask_for_next(self, request_id: int) -> None:
        if self._in_outage:
            self._answer_without_server(request_id)
            self._poll_shares()

    def _live(self, budget: str) -> int:
        return sum(1 for _, of in self._table.live() if of == budget)

    def _poll_shares(self) -> None:
        self._stop_timer("share")
        now = time.monotonic_ns()
        at = self._shares.poll(now, self._answer, self._problem.text)
        if at is not None:
            self._after("share", (at - now) / 1e9, self._poll_shares)

    def _no_server(self) -> errors.Error:
        return errors.no_server(self._problem.text)

    # Time.

    def _arm_sweep(self) -> None:
        at = self._table.next_sweep
        timer = self._timers.get("sweep")
        if at is not None and (timer is None or at < timer.when()):
            self._after("sweep", at - self._loop.time(), self._sweep)

    def _sweep(self) -> None:
        self._stop_timer("sweep")
        if self.is_connected:
            self._table.sweep(self._loop.time())
            self._wake.set()
            self._arm_sweep()

    def _after(self, name: str, span: float, act: object) -> None:
        self._stop_timer(name)
        self._timers[name] = self._loop.call_later(max(0.0, span), act)  # type: ignore[arg-type]

    def _stop_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    # The end.

    def _check_quiet(self) -> None:
        """Lets :meth:`close` go on once all is said, or nobody is there to say it to."""
        if self.mailbox.is_shut and (self._in_outage or not (self._table.is_reporting or self._table.has_outgoing)):
            self._quiet.set()

    def _shut(self) -> None:
        """The driver's last act: nobody is left waiting."""
        self.mailbox.take(lambda: True)
        self.mailbox.is_shut = True
        for name in list(self._timers):
            self._stop_timer(name)
        for request_id in self._table.waiting_ids():
            self._table.answer(request_id, errors.closed())
        self._table.let_reporters_go(errors.closed())
        if not self._first.done():
            self._first.set_result(errors.closed())
        self._quiet.set()


def _pass_on(task: asyncio.Task[None], over: asyncio.Future[Problem]) -> None:
    """A bug of the reader or writer ends the session, and is told."""
    if over.done():
        return
    if task.cancelled():
        # By gRPC: the driver cancels only what is over.
        over.set_result(Problem("broke the session (CANCELLED)"))
    elif task.exception() is not None:
        over.set_exception(task.exception() or RuntimeError("the task failed"))
