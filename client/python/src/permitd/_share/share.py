"""One budget's share in use: a small queue in front of its limits. Told the time in nanoseconds; pure.

Limits are read on the safe side: one for each tenant counts for all of this client, and one on what is in flight for all
models, since nobody knows which models the permits from before are for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Set, Union

from .. import _errors as errors
from .._convert import NANOS, nanos_of
from .._grant import LOCAL_SHARE, Grant, LocalHold
from .._report import Advice, Outcome, plain_outcome
from ..v1 import budget_pb2 as bb
from ..v1 import permit_pb2 as pb
from .amounts import IN_FLIGHT, OUTPUT_TOKENS, TOKENS, Amounts, estimated, glob, used
from .meters import Bucket, Window, meter_of

#: Waits in seconds after refusals that name none: one step for each in a row.
LADDER = (1, 2, 4, 8, 16, 32, 60)
#: The longest wait that is believed, in seconds.
WAIT_MAX = 86_400
#: Refusals after which nothing of the budget is granted until the wait is over.
HOLD_ALL = (Outcome.OVERLOADED, Outcome.CONCURRENCY_LIMITED, Outcome.ACCELERATION_LIMITED)
#: Outcomes that are worth another permit, besides a failure that was not the caller's fault.
WORTH_A_RETRY = (Outcome.RATE_LIMITED, *HOLD_ALL)

Answer = Callable[[int, Union[Grant, errors.Error]], None]


@dataclass
class Limit:
    """A limit on a rate, in use."""

    name: str
    unit: str
    models: str
    tenants: str
    meter: Union[Bucket, Window]
    frozen_until: int = 0

    def touches(self, model: str, tenant: str) -> bool:
        """Whether requests like that count."""
        return bool(glob(self.models).fullmatch(model) and glob(self.tenants).fullmatch(tenant))


@dataclass
class Asked:
    """A request that waits here."""

    ask: pb.AcquireRequest
    charges: Dict[int, int]
    amounts: Amounts
    asked_at: int
    gives_up_at: Optional[int]


class Share:
    """See the module."""

    def __init__(self, limits: List[bb.Limit], outage: int, budget: str, carried: int, now: int) -> None:
        self._budget, self._outage = budget, outage
        self._limits: List[Limit] = []
        self._slots: Optional[int] = None
        for limit in limits:
            self._add(limit, now)
        #: Permits that hold a slot: those from before, then ours.
        self._in_flight = carried
        self._waiting: Dict[int, Asked] = {}
        self._frozen_until = 0
        self._exhausted = False
        self._refusals = 0

    @staticmethod
    def makes_sense(limits: List[bb.Limit]) -> bool:
        """Whether there is anything to keep to."""
        return bool(limits) and all(limit.amount if limit.unit == IN_FLIGHT else meter_of(limit, 0) for limit in limits)

    def acquire(
        self, request_id: int, ask: pb.AcquireRequest, tenant: str, wait: Optional[float], now: int
    ) -> Optional[errors.Error]:
        """Puts a request into the queue, to be answered by :meth:`poll`; or says why not."""
        amounts, is_open = estimated(ask)
        charges: Dict[int, int] = {}
        for number, limit in enumerate(self._limits):
            if not limit.touches(ask.model, ask.tenant or tenant or "default"):
                continue
            amount, most = amounts.get(limit.unit, 0), limit.meter.most
            if is_open and limit.unit in (OUTPUT_TOKENS, TOKENS):
                # A guess never makes a request too large.
                guess = amounts[OUTPUT_TOKENS]
                amount = amount - guess + min(guess, max(0, most - (amount - guess)))
            if amount > most:
                return self._refusal(
                    11, "LARGER_THAN_LIMIT", f"{amount} {limit.unit} is more than {limit.name} ever holds", limit.name, None
                )
            charges[number] = amount
        gives_up_at = None if wait is None else now + int(wait * NANOS)
        self._waiting[request_id] = Asked(ask, charges, amounts, now, gives_up_at)
        return None

    def cancel(self, request_id: int) -> bool:
        """Takes a request out of the queue, if it is there."""
        return self._waiting.pop(request_id, None) is not None

    def poll(self, now: int, answer: Answer) -> Optional[int]:
        """Grants what fits, in order, and refuses what can't be in time. Returns the next moment at which there is something
        to do. A request that does not fit holds back those that touch the same limits."""
        blocked: Set[int] = set()
        blocked_all = False
        next_poll: List[int] = []
        for request_id, asked in list(self._waiting.items()):
            if self._exhausted:
                self._answer(
                    request_id,
                    answer,
                    self._refusal(8, "QUOTA_EXHAUSTED", "the provider says that the quota is used up", "", None),
                )
                continue
            binding, at = self._ready_at(asked, now)
            if at == now and not blocked_all and not blocked.intersection(asked.charges):
                self._answer(request_id, answer, self._grant(asked, now))
                continue
            if asked.gives_up_at is not None and (asked.gives_up_at <= now or (at is not None and at > asked.gives_up_at)):
                wait = None if at is None else max(0.0, (at - now) / NANOS)
                message = f"not in time: {binding or 'requests ahead'} is short"
                self._answer(request_id, answer, self._refusal(8, "NOT_IN_TIME", message, binding, wait))
                continue
            blocked.update(asked.charges)
            # Without a slot nobody goes; one that a rate holds back takes none meanwhile.
            blocked_all = blocked_all or at is None
            next_poll.extend(moment for moment in (at, asked.gives_up_at) if moment is not None and moment > now)
        return min(next_poll, default=None)

    def report(self, hold: LocalHold, report: pb.ReportRequest, now: int) -> Advice:
        """Settles a permit of this share."""
        outcome = plain_outcome(report)
        self.ended()
        self._settle(hold, report, outcome, now)
        if outcome is Outcome.SUCCESS:
            self._refusals = 0
        wait = min(nanos_of(report.retry_after), WAIT_MAX * NANOS) if report.HasField("retry_after") else None
        if outcome in WORTH_A_RETRY:
            wait = self._ladder() if wait is None else wait
            self._freeze(hold, outcome, now + wait)
        self._exhausted = self._exhausted or outcome is Outcome.QUOTA_EXHAUSTED
        status = report.http_status
        retry = outcome in WORTH_A_RETRY or (outcome is Outcome.FAILED and (status == 408 or not 400 <= status <= 499))
        return Advice(outcome, settled=True, retry=retry, retry_after=None if wait is None else wait / NANOS)

    def ended(self) -> None:
        """A permit is over, one from before or one of ours: its slot is free."""
        self._in_flight = max(0, self._in_flight - 1)

    def _add(self, limit: bb.Limit, now: int) -> None:
        if limit.unit == IN_FLIGHT:
            self._slots = limit.amount if self._slots is None else min(self._slots, limit.amount)
            return
        meter = meter_of(limit, now)
        if meter is not None:
            tenants = "" if limit.tenants == "each" else limit.tenants
            self._limits.append(Limit(name_of(limit), limit.unit, limit.models, tenants, meter))

    def _ready_at(self, asked: Asked, now: int) -> tuple[str, Optional[int]]:
        """Which limit binds, and when the request could go were it alone; ``None`` where that is up to reports."""
        if self._slots is not None and self._in_flight >= self._slots:
            return IN_FLIGHT, None
        binding, at = ("frozen", self._frozen_until) if self._frozen_until > now else ("", now)
        for number, amount in asked.charges.items():
            limit = self._limits[number]
            ready = max(limit.meter.ready_at(amount, now), limit.frozen_until)
            if ready > at:
                binding, at = limit.name, ready
        return binding, at

    def _grant(self, asked: Asked, now: int) -> Grant:
        for number, amount in asked.charges.items():
            self._limits[number].meter.take(amount, now)
        self._in_flight += 1
        hold = LocalHold(self._outage, self._budget, asked.charges, asked.amounts)
        charged = pb.Usage()
        for unit, amount in asked.amounts.items():
            if unit in (field.name for field in pb.Usage.DESCRIPTOR.fields):
                setattr(charged, unit, min(amount, 2**64 - 1))
            else:
                charged.other[unit] = amount
        wire = pb.Permit(provider=asked.ask.provider, key=asked.ask.key, charged=charged)
        return Grant(wire, LOCAL_SHARE, hold, (now - asked.asked_at) / NANOS)

    def _settle(self, hold: LocalHold, report: pb.ReportRequest, outcome: Outcome, now: int) -> None:
        actual = used(report.actual, hold.amounts)
        for number, charged in hold.charges.items():
            limit = self._limits[number]
            units = 0 if outcome is Outcome.CANCELLED else actual.get(limit.unit, 0)
            # A guess may have been charged in part: what is not told stays as charged.
            if units == hold.amounts.get(limit.unit, 0) and outcome is not Outcome.CANCELLED:
                continue
            if units > charged:
                limit.meter.take(units - charged, now)
            else:
                limit.meter.give_back(charged - units, now)

    def _freeze(self, hold: LocalHold, outcome: Outcome, until: int) -> None:
        if outcome is not Outcome.RATE_LIMITED or not hold.charges:
            self._frozen_until = max(self._frozen_until, until)
        for number in hold.charges:
            self._limits[number].frozen_until = max(self._limits[number].frozen_until, until)

    def _ladder(self) -> int:
        step = min(self._refusals, len(LADDER) - 1)
        self._refusals += 1
        return LADDER[step] * NANOS

    def _answer(self, request_id: int, answer: Answer, what: Union[Grant, errors.Error]) -> None:
        del self._waiting[request_id]
        answer(request_id, what)

    def _refusal(self, code: int, reason: str, message: str, limit: str, wait: Optional[float]) -> errors.Error:
        text = f"{message} (from this client's local share: no permitd server can be reached)"
        return errors.refused(code, reason, text, limit, wait)


def name_of(limit: bb.Limit) -> str:
    """As the server names limits: ``input_tokens/1m model=claude-*``."""
    per = nanos_of(limit.per)
    spans = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
    size, letter = next((s for s in spans if per % (s[0] * NANOS) == 0), (1, "s"))
    name = f"{limit.unit}/{per // (size * NANOS)}{letter}"
    name += f" model={limit.models}" if limit.models else ""
    return name + (f" tenant={limit.tenants}" if limit.tenants else "")
