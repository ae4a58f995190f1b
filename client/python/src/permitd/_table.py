"""Everything that has no final answer yet, so that a broken session loses nothing: requests by id, permits by id, and what
has to go out next. It is told the time and does no I/O.

Invariant: whatever was granted leaves this table only by an answered report. A grant that nobody waits for is reported as
cancelled.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Callable, Dict, Iterator, Optional, Union

from . import _convert as convert
from . import _errors as errors
from ._grant import Grant
from ._outbox import Outbox
from ._report import Advice
from .v1 import permit_pb2 as pb
from .v1 import session_pb2 as sb

#: Unanswered reports and cancels, past which nothing new is taken from the mailbox until the server catches up.
UNANSWERED_MAX = 100_000
#: Cancels that are remembered for the case that the session breaks.
CANCELLING_MAX = 10_000
#: The longest life of a permit that counts, in seconds.
TTL_MAX = 86_400.0
#: What was refused for now is not asked again before that, whatever the server says, and together with what is due within as
#: much; in seconds.
AGAIN = 0.01

#: Takes the answers to an acquire. It settles a grant that nobody wants any more.
Reply = Callable[[Union[Grant, errors.Error]], None]
#: Takes the answer to a report.
AdviceReply = Callable[[Union[Advice, errors.Error]], None]


class Waiting:
    """An acquire without its last answer. Its ask tells the number by which the server knows it, and the permits still to be
    granted."""

    __slots__ = ("ask", "asked_at", "reply", "sent", "wait")

    def __init__(self, ask: pb.AcquireRequest, wait: Optional[float], asked_at: float, reply: Reply) -> None:
        self.ask = ask
        #: How long it may wait, in seconds from ``asked_at``.
        self.wait = wait
        self.asked_at = asked_at
        self.reply = reply
        #: Whether the server of the present session may know of it.
        self.sent = False

    def wait_left(self, now: float) -> Optional[float]:
        """What is left of the wait."""
        return None if self.wait is None else max(0.0, self.wait - (now - self.asked_at))


class Held:
    """A permit that the server gave: live with a guard, or with a report that has no answer."""

    __slots__ = ("bare", "budget", "extend_at", "reply", "report", "ttl")

    def __init__(self, budget: Optional[str], ttl: float, extend_at: Optional[float]) -> None:
        #: Only with a local share.
        self.budget = budget
        self.ttl = ttl
        #: Once it is reported, when the report is sent again, if it was refused for now. ``None`` once the server does not
        #: know the permit any more.
        self.extend_at = extend_at
        self.report: Optional[pb.ReportRequest] = None
        self.reply: Optional[AdviceReply] = None
        #: Whether the report was cut down to its outcome.
        self.bare = False


class Table:
    """See the module."""

    def __init__(self, waiting_max: int, counts_live: bool, numbers: Iterator[int]) -> None:
        self._waiting_max = waiting_max
        #: Of which none comes twice.
        self._numbers = numbers
        #: Whether permits are counted per budget, for the local share.
        self._counts_live = counts_live
        self._waiting: Dict[int, Waiting] = {}
        #: Requests for which there is no room yet, in order.
        self._backlog: OrderedDict[int, Waiting] = OrderedDict()
        #: Requests that the server knows by another number than their own.
        self._renumbered: Dict[int, int] = {}
        #: Requests that were refused for now, and when they are asked again.
        self._again: Dict[int, float] = {}
        self._permits: Dict[str, Held] = {}
        self._reporting = 0
        #: Cancels that the server has perhaps not seen.
        self._cancelling: set[int] = set()
        self._outbox = Outbox()
        self.next_sweep: Optional[float] = None

    # What the handles want.

    def acquire(self, request_id: int, waiting: Waiting) -> None:
        """Asks, as soon as there is room."""
        if len(self._waiting) >= self._waiting_max:
            self._backlog[request_id] = waiting
        else:
            self._admit(request_id, waiting)

    def cancel(self, request_id: int) -> Optional[Waiting]:
        """Gives back what was cancelled, if it was waiting."""
        waiting = self._backlog.pop(request_id, None)
        if waiting is not None:
            return waiting
        waiting = self._remove(request_id)
        if waiting is not None:
            if waiting.sent:
                self._outbox.cancels.append(waiting.ask.request_id)
                self._remember_cancel(waiting.ask.request_id)
            self._make_use_of_room()
        return waiting

    def report(self, permit_id: str, report: pb.ReportRequest, reply: Optional[AdviceReply]) -> None:
        """Sends it until it is answered. The first report of a permit counts."""
        held = self._permits.get(permit_id)
        if held is None:
            held = self._permits[permit_id] = Held(None, 0.0, None)
        elif held.report is not None:
            # The client was closed over the permit's head, and has reported for it.
            if reply is not None:
                reply(errors.closed())
            return
        report.permit_id = permit_id
        held.report, held.reply, held.extend_at = report, reply, None
        self._reporting += 1
        self._outbox.reports.append(permit_id)

    @property
    def has_room(self) -> bool:
        """Whether more may be taken from the mailbox."""
        return self._reporting < UNANSWERED_MAX and len(self._outbox.cancels) < UNANSWERED_MAX

    @property
    def is_reporting(self) -> bool:
        """Whether reports are unanswered."""
        return self._reporting > 0

    # What the server says.

    def welcome(self, resumed: bool, now: float) -> None:
        """A new session stands. With ``resumed`` the server still knows everything; without, nothing."""
        self._outbox = Outbox()
        self._outbox.acquires.extend(sorted(self._waiting))
        self._again.clear()
        for permit_id, held in self._permits.items():
            if held.report is not None:
                held.extend_at = None
                self._outbox.reports.append(permit_id)
            elif held.ttl and held.extend_at is None:
                # Whatever the last server thought of it, this one is asked.
                held.extend_at = now
        if resumed:
            self._outbox.cancels.extend(self._cancelling)
        else:
            self._cancelling.clear()
            for waiting in self._waiting.values():
                waiting.sent = False
        self.next_sweep = now

    def granted(self, granted: sb.Granted, now: float) -> None:
        """A permit came, perhaps not for the first time."""
        permit = granted.permit
        permit_id = permit.permit_id
        ttl = min(convert.from_duration(permit.ttl), TTL_MAX)
        extend_at = now + ttl / 2 if ttl else None
        held = self._permits.get(permit_id)
        if held is not None:
            # Sent again on resume, or with a new end.
            if held.report is None:
                held.extend_at = extend_at
            return
        self._cancelling.discard(granted.request_id)
        request_id = self._renumbered.get(granted.request_id, granted.request_id)
        waiting = self._waiting.get(request_id)
        if waiting is None:
            self.report(permit_id, pb.ReportRequest(outcome=pb.OUTCOME_CANCELLED), None)
            return
        budget = budget_name(permit.provider, permit.key) if self._counts_live else None
        self._permits[permit_id] = Held(budget, ttl, extend_at)
        if extend_at is not None:
            self._sweep_by(extend_at)
        self._granted_one(request_id, waiting)
        waiting.reply(Grant(permit))

    def refused(self, refused: sb.Refused, now: float) -> bool:
        """Tells whoever asked. False: the request stays for another server, since this one is about to stop."""
        retry_after = convert.from_duration(refused.retry_after) if refused.HasField("retry_after") else None
        error = errors.refused(refused.code, refused.reason, refused.message, refused.limit, retry_after)
        if refused.permit_id:
            self._permit_refused(refused.permit_id, error, now)
            return True
        self._cancelling.discard(refused.request_id)
        if refused.reason == "DRAINING":
            return False
        request_id = self._renumbered.get(refused.request_id, refused.request_id)
        if self._ask_again(request_id, error, now):
            return True
        waiting = self._remove(request_id)
        if waiting is not None:
            waiting.reply(error)
            self._make_use_of_room()
        return True

    def answered(self, answer: pb.ReportResponse) -> None:
        """A report is through."""
        held = self._permits.get(answer.permit_id)
        if held is None or held.report is None:
            return
        self._reported(answer.permit_id)
        if held.reply is not None:
            held.reply(Advice.from_wire(answer))

    # Time.

    def sweep(self, now: float) -> None:
        """Extends the permits of guards that live long, and says again what was refused for now. Everything that is due soon
        goes along, so that a sweep is seldom: for a permit not more often than eight times in its life."""
        if self.next_sweep is None or now < self.next_sweep:
            return
        self.next_sweep = None
        for permit_id, held in self._permits.items():
            if held.extend_at is None:
                continue
            if held.report is not None:
                if held.extend_at <= now + AGAIN:
                    self._outbox.reports.append(permit_id)
                    held.extend_at = None
                    continue
            elif held.extend_at <= now + held.ttl / 8:
                self._outbox.extends.append(permit_id)
                held.extend_at = now + held.ttl / 2
            self._sweep_by(held.extend_at)
        for request_id, at in list(self._again.items()):
            if at <= now + AGAIN:
                del self._again[request_id]
                self._outbox.acquires.append(request_id)
            else:
                self._sweep_by(at)

    # Going out.

    @property
    def has_outgoing(self) -> bool:
        """Whether :meth:`message` has something to say."""
        return bool(self._outbox)

    def message(self, now: float) -> sb.SessionRequest:
        """Whatever is ready, within the bounds of one message. May come out empty where everything was cancelled."""

        def acquire(request_id: int) -> Optional[pb.AcquireRequest]:
            waiting = self._waiting.get(request_id)
            if waiting is None:
                return None
            waiting.sent = True
            left = waiting.wait_left(now)
            if left is not None:
                convert.set_duration(waiting.ask.max_wait, left)
                # Present also where it is nothing, which means now or not at all.
                waiting.ask.max_wait.SetInParent()
            return waiting.ask

        def report(permit_id: str) -> Optional[pb.ReportRequest]:
            held = self._permits.get(permit_id)
            return held.report if held is not None else None

        return self._outbox.message(acquire, report)

    # Without a server.

    def waiting_ids(self) -> list[int]:
        """All that wait, in the order in which they asked."""
        return sorted([*self._waiting, *self._backlog])

    def waiting(self, request_id: int) -> Optional[Waiting]:
        """If it still waits."""
        return self._waiting.get(request_id) or self._backlog.get(request_id)

    def is_in_backlog(self, request_id: int) -> bool:
        """Whether there was no room to ask yet."""
        return request_id in self._backlog

    def answer(self, request_id: int, answer: Union[Grant, errors.Error]) -> None:
        """Answers in the server's place. A server that still has it in its queue is told when it is back."""
        waiting = self.waiting(request_id)
        if waiting is None:
            return
        if isinstance(answer, Grant) and waiting.ask.count > 1:
            waiting.ask.count -= 1
        else:
            self.cancel(request_id)
        waiting.reply(answer)

    def let_reporters_go(self, error: errors.Error) -> None:
        """Callers that wait for advice are told that there is none for now; the reports stay."""
        for held in list(self._permits.values()):
            if held.reply is not None:
                reply, held.reply = held.reply, None
                reply(error)

    def live(self) -> Iterator[tuple[str, Optional[str]]]:
        """Permits that are not reported yet, each with its budget where that is counted."""
        return ((permit_id, held.budget) for permit_id, held in self._permits.items() if held.report is None)

    def budget_of_live(self, permit_id: str) -> Optional[str]:
        """The budget of a permit that is not reported yet."""
        held = self._permits.get(permit_id)
        return held.budget if held is not None and held.report is None else None

    def _admit(self, request_id: int, waiting: Waiting) -> None:
        waiting.ask.request_id = request_id
        self._waiting[request_id] = waiting
        self._outbox.acquires.append(request_id)

    def _remove(self, request_id: int) -> Optional[Waiting]:
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None:
            self._renumbered.pop(waiting.ask.request_id, None)
            self._again.pop(request_id, None)
        return waiting

    def _granted_one(self, request_id: int, waiting: Waiting) -> None:
        if waiting.ask.count > 1:
            waiting.ask.count -= 1
        else:
            self._remove(request_id)
            self._make_use_of_room()

    def _ask_again(self, request_id: int, error: errors.Error, now: float) -> bool:
        """Lets a request wait on where its refusal passes within the time that it has. The server gets another number for it,
        since the old one stays refused. False if the caller has to be told."""
        waiting, wait = self._waiting.get(request_id), passes_after(error)
        if waiting is None or wait is None:
            return False
        left = waiting.wait_left(now)
        if left is not None and left < wait:
            return False
        self._renumbered.pop(waiting.ask.request_id, None)
        waiting.ask.request_id, waiting.sent = next(self._numbers), False
        self._renumbered[waiting.ask.request_id] = request_id
        self._again[request_id] = now + wait
        self._sweep_by(now + wait)
        return True

    def _sweep_by(self, at: float) -> None:
        if self.next_sweep is None or at < self.next_sweep:
            self.next_sweep = at

    def _make_use_of_room(self) -> None:
        if self._backlog and len(self._waiting) < self._waiting_max:
            self._admit(*self._backlog.popitem(last=False))

    def _remember_cancel(self, request_id: int) -> None:
        if len(self._cancelling) < CANCELLING_MAX:
            self._cancelling.add(request_id)

    def _reported(self, permit_id: str) -> None:
        self._reporting -= 1
        del self._permits[permit_id]

    def _permit_refused(self, permit_id: str, error: errors.Error, now: float) -> None:
        held, wait = self._permits.get(permit_id), passes_after(error)
        if held is None:
            return
        if wait is not None:
            held.extend_at = now + wait
            self._sweep_by(held.extend_at)
            return
        if held.report is None:
            held.extend_at = None
        elif error.reason == "PERMIT_UNKNOWN":
            # The refusal of an extension, while the report was on its way: that has an answer of its own.
            return
        elif held.bare:
            # Even the outcome alone is refused: there is nothing left to say, the permit will expire.
            self._reported(permit_id)
        else:
            held.report = bare(held.report)
            held.bare = True
            self._outbox.reports.append(permit_id)
        reply, held.reply = held.reply, None
        if reply is not None:
            reply(error)


def passes_after(error: errors.Error) -> Optional[float]:
    """When asking again may help, in seconds, if the refusal passes by itself, such as of a server that can't write to its
    store; else ``None``."""
    if error.code != "UNAVAILABLE" or error.retry_after is None:
        return None
    return max(error.retry_after, AGAIN)


def bare(report: pb.ReportRequest) -> pb.ReportRequest:
    """The outcome alone, where the rest was refused."""
    failed = pb.OUTCOME_FAILED if report.http_status >= 400 else pb.OUTCOME_SUCCESS
    return pb.ReportRequest(permit_id=report.permit_id, outcome=report.outcome or failed)


def budget_name(provider: str, key: str) -> str:
    """How budgets are named in the client: as the server does."""
    return f"{provider}/{key or 'default'}"
