"""All shares of a client: kept while a server is there, used while none is."""

from __future__ import annotations

from typing import Callable, Dict, List, Optional

from .. import _errors as errors
from .._convert import NANOS, from_duration
from .._grant import LocalHold
from .._report import Advice, plain_outcome
from .._table import Waiting, budget_name
from ..v1 import budget_pb2 as bb
from ..v1 import permit_pb2 as pb
from ..v1 import session_pb2 as sb
from .share import Answer, Share

#: Shares that are kept; more than a client uses in practice.
SHARES_MAX = 10_000
#: Longer than any outage through which a share should be trusted, in seconds.
VALID_MAX = 7 * 86_400.0


class Known:
    """A share, and what it has become in this outage."""

    __slots__ = ("limits", "running", "valid_until")

    def __init__(self, limits: List[bb.Limit], valid_until: int) -> None:
        self.limits = limits
        self.valid_until = valid_until
        self.running: Optional[Share] = None


class Shares:
    """See the module. Times are in nanoseconds of a monotonic clock."""

    def __init__(self) -> None:
        self._known: Dict[str, Known] = {}
        #: Where requests wait.
        self._waiting: Dict[int, str] = {}
        #: Guards with permits of any outage, per budget.
        self._live: Dict[str, int] = {}
        self._outage = 0

    def learn(self, share: sb.LocalShare, now: int) -> None:
        """The server's newest word. A share that makes no sense, or is none, takes away what was known."""
        name = budget_name(share.provider, share.key)
        limits = list(share.limits)
        span = min(from_duration(share.valid_for), VALID_MAX)
        if span and Share.makes_sense(limits) and (name in self._known or len(self._known) < SHARES_MAX):
            self._known[name] = Known(limits, now + int(span * NANOS))
        else:
            self._known.pop(name, None)

    def acquire(
        self,
        request_id: int,
        waiting: Waiting,
        tenant: str,
        wait: Optional[float],
        carried: Callable[[str], int],
        now: int,
        answer: Answer,
    ) -> bool:
        """Asks in the server's place; answers may be for other requests too. ``carried`` counts the permits of a budget that
        the server gave and that are not reported. False: there is no valid share of this budget."""
        name = budget_name(waiting.ask.provider, waiting.ask.key)
        known = self._known.get(name)
        if known is None or known.valid_until <= now:
            return False
        if known.running is None:
            held = carried(name) + self._live.get(name, 0)
            known.running = Share(known.limits, self._outage, name, held, now)
        problem = known.running.acquire(request_id, waiting.ask, tenant, wait, now)
        if problem is not None:
            answer(request_id, problem)
        else:
            self._waiting[request_id] = name
        return True

    def cancel(self, request_id: int) -> None:
        """Somebody does not wait any more."""
        running = self._running(self._waiting.pop(request_id, ""))
        if running is not None:
            running.cancel(request_id)

    def answered(self, request_id: int, hold: Optional[LocalHold]) -> None:
        """A request was answered, with a permit or without."""
        self._waiting.pop(request_id, None)
        if hold is not None:
            self._live[hold.budget] = self._live.get(hold.budget, 0) + 1

    def report(self, hold: LocalHold, report: pb.ReportRequest, now: int) -> Advice:
        """Settles a permit of this or an earlier outage."""
        self._live[hold.budget] -= 1
        if not self._live[hold.budget]:
            del self._live[hold.budget]
        running = self._running(hold.budget)
        if running is not None and hold.outage == self._outage:
            return running.report(hold, report, now)
        self.ended(hold.budget)
        return Advice.unsettled(plain_outcome(report))

    def ended(self, budget: str) -> None:
        """A permit from before this outage was reported: its slot is free."""
        running = self._running(budget)
        if running is not None:
            running.ended()

    def poll(self, now: int, answer: Answer, problem: str) -> Optional[int]:
        """Grants what has become possible, and ends shares that are not valid any more. Returns when to do so again."""
        next_poll: List[int] = []
        for name, known in list(self._known.items()):
            if known.running is None:
                continue
            if known.valid_until <= now:
                del self._known[name]
                for request_id in [each for each, budget in self._waiting.items() if budget == name]:
                    answer(request_id, errors.no_local_share(name, problem))
                continue
            at = known.running.poll(now, answer)
            next_poll.extend(moment for moment in (at, known.valid_until) if moment is not None)
        return min(next_poll, default=None)

    def leave(self) -> None:
        """A server is back: nothing more is granted, and who waits here waits there again."""
        self._outage += 1
        self._waiting.clear()
        for known in self._known.values():
            known.running = None

    def _running(self, name: str) -> Optional[Share]:
        known = self._known.get(name)
        return known.running if known is not None else None
