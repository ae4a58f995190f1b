"""How one limit of a share counts: whole units, nanoseconds, no rounding. Told the time, never reads it.

All start with nothing to give.
"""

from __future__ import annotations

from collections import deque
from typing import Deque, Tuple, Union

from .._convert import NANOS, nanos_of
from ..v1 import budget_pb2 as bb

#: Where a quantised limit does not say.
QUANTUM_DEFAULT = NANOS
#: Entries of a window: what was taken within such a part of it leaves together with the latest of it.
WINDOW_ENTRIES = 1_024


class Bucket:
    """Refills continuously. A level is counted in parts, of which a unit has as many as its window has nanoseconds, so that
    a nanosecond refills a whole number of them."""

    __slots__ = ("_amount", "_at", "_burst", "_level", "_per")

    def __init__(self, amount: int, per: int, burst: int, now: int) -> None:
        self._amount, self._per, self._burst, self._at = amount, per, burst, now
        self._level = 0

    @property
    def most(self) -> int:
        """What can be granted at once at best."""
        return self._burst

    def ready_at(self, units: int, now: int) -> int:
        """The first moment, from ``now`` on, at which so much fits."""
        self._refill(now)
        missing = units * self._per - self._level
        return now if missing <= 0 else now + -(-missing // self._amount)

    def take(self, units: int, now: int) -> None:
        """Also what is not there, as a debt of at most one window's amount."""
        self._refill(now)
        self._level = max(self._level - units * self._per, -self._amount * self._per)

    def give_back(self, units: int, now: int) -> None:
        """What was taken and not used."""
        self._refill(now)
        self._level = min(self._level + units * self._per, self._burst * self._per)

    def _refill(self, now: int) -> None:
        if now > self._at:
            self._level = min(self._level + (now - self._at) * self._amount, self._burst * self._per)
            self._at = now


class Window:
    """At most the amount in any stretch as long as the window; what was taken comes back one window later."""

    __slots__ = ("_amount", "_debt", "_grain", "_per", "_taken", "_used")

    def __init__(self, amount: int, per: int, now: int) -> None:
        self._amount, self._per = amount, per
        self._grain = max(1, per // WINDOW_ENTRIES)
        #: When each entry was taken, and how much.
        self._taken: Deque[Tuple[int, int]] = deque([(now, amount)])
        self._used = amount

    @property
    def most(self) -> int:
        """What can be granted at once at best."""
        return self._amount

    def ready_at(self, units: int, now: int) -> int:
        """The first moment, from ``now`` on, at which so much fits."""
        self._forget(now)
        surplus = self._used + units - self._amount
        for at, amount in self._taken:
            if surplus <= 0:
                return now
            now = max(now, at + self._per)
            surplus -= amount
        return now

    def take(self, units: int, now: int) -> None:
        """Also what is not there, up to one window's amount more."""
        self._forget(now)
        units = min(units, 2 * self._amount - self._used)
        if units <= 0:
            return
        self._used += units
        if self._taken and now - self._taken[-1][0] < self._grain:
            units += self._taken.pop()[1]
        self._taken.append((now, units))

    def give_back(self, units: int, now: int) -> None:
        """What was taken and not used: of the latest first, which holds it back longest."""
        self._forget(now)
        while units > 0 and self._taken:
            at, amount = self._taken.pop()
            back = min(units, amount)
            units -= back
            self._used -= back
            if amount > back:
                self._taken.append((at, amount - back))

    def _forget(self, now: int) -> None:
        while self._taken and self._taken[0][0] + self._per <= now:
            self._used -= self._taken.popleft()[1]


def meter_of(limit: bb.Limit, now: int) -> Union[Bucket, Window, None]:
    """The meter of a limit on a rate, or ``None`` where it makes no sense. A phase is not kept: a fixed window is enforced as
    a sliding one, which holds for every phase."""
    per = nanos_of(limit.per)
    if not limit.amount or not per:
        return None
    if limit.window in (bb.WINDOW_FIXED, bb.WINDOW_SLIDING):
        return Window(limit.amount, per, now)
    if limit.window == bb.WINDOW_QUANTISED:
        quantum = nanos_of(limit.quantum) if limit.HasField("quantum") else QUANTUM_DEFAULT
        amount = limit.amount * quantum // per
        return Window(amount, quantum, now) if amount and quantum else None
    return Bucket(limit.amount, per, limit.burst or limit.amount, now)
