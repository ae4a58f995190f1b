"""Where somebody else did better than permitd, at what, at which price, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

from . import strategies
from .goals import OURS
from .scenarios import scenario
from .summary import Summary, few, milliseconds, percent


@dataclass(frozen=True)
class Aspect:
    """A figure by which strategies are compared, and what is said of those that did better."""

    title: str
    #: Why it can be had; true of any figures.
    why: str
    of: Callable[[Summary], Optional[float]]
    #: What is less than this apart is no difference.
    same: float
    is_more_better: bool
    text: Callable[[float], str]
    #: What the others paid for it.
    price: Optional[Callable[[Summary], str]] = None

    def is_better(self, other: Summary, ours: Summary) -> bool:
        """Whether it is, by more than nothing."""
        theirs, own = self.of(other), self.of(ours)
        if theirs is None or own is None:
            return False
        return theirs > own + self.same if self.is_more_better else theirs < own - self.same


def _refusals(of: Summary) -> str:
    return f"{few(of.limited_per_answer.middle)} 429s per answer"


ASPECTS = (
    Aspect(
        "share of the possible",
        "Where requests bind, what is over 100 % was left in a bucket when measuring began: permitd keeps half of each burst"
        " free, so that calls which arrive closer together than they were let go find room. Where tokens out bind, it is what"
        " calls still under way will have to pay. Where calls at the same time bind, a place is empty from a report until the"
        " next call arrives; who knocks all the time is in sooner. Where the limit is not the one that was told, or capacity is"
        " gone for a while, whoever does not slow down has all of it at every moment, and pays in refusals.",
        lambda of: of.share.middle,
        0.005,
        True,
        percent,
        _refusals,
    ),
    Aspect(
        "429s per answer",
        "Who asks for less than the key allows, or leaves room everywhere, is refused less.",
        lambda of: of.limited_per_answer.middle,
        0.005,
        False,
        lambda value: f"{value:.3f}",
        lambda of: f"{percent(of.share.middle)} of the possible",
    ),
    Aspect(
        "Jain's index",
        "Of whole calls, it depends on which ones were under way when measuring ended.",
        lambda of: of.jain.middle if of.jain else None,
        0.005,
        True,
        lambda value: f"{value:.3f}",
    ),
    Aspect(
        "median wait at a screen",
        "Who has no queue sends at once, and finds room or does not; with a part of the limit for each process, an idle one's is"
        " free. The slowest one in a hundred is what that costs.",
        lambda of: of.wait(0.5),
        5.0,
        False,
        milliseconds,
        lambda of: f"p99 {milliseconds(of.wait(0.99))}",
    ),
    Aspect(
        "p99 of the wait at a screen",
        "A part of the limit for each process keeps the screen's free, and leaves idle what others could use.",
        lambda of: of.wait(0.99),
        5.0,
        False,
        milliseconds,
        lambda of: f"{percent(of.share.middle)} of the possible",
    ),
    Aspect(
        "CPU of the clients",
        "Asking and reporting costs a client something for each call; who asks nobody has that for nothing, while few calls are"
        " refused.",
        lambda of: of.cpu_ms.middle if of.cpu_ms else None,
        0.05,
        False,
        lambda value: f"{value:.1f} ms per answer",
        _refusals,
    ),
)


def told(played: dict[str, dict[str, Summary]]) -> str:
    """A part for each figure: why, and by scenario who did better than permitd's figure, with theirs and its price."""
    parts = []
    for aspect in ASPECTS:
        lines = [line for name, of in played.items() if OURS in of and (line := _line(aspect, name, of))]
        parts.append("\n".join([f"**{aspect.title[0].upper()}{aspect.title[1:]}.** {aspect.why}", "", *lines] if lines else []))
    return "\n\n".join(part for part in parts if part) or "Nobody did."


def _line(aspect: Aspect, name: str, of: dict[str, Summary]) -> str:
    others = [entry for entry in strategies.ENTRIES if entry.name in of and entry.server != "permitd" and entry.name != "oracle"]
    found = []
    for entry in others:
        other = of[entry.name]
        if aspect.is_better(other, of[OURS]):
            price = f" ({aspect.price(other)})" if aspect.price else ""
            found.append(f"{entry.title} {aspect.text(aspect.of(other))}{price}")
    return f"- {scenario(name).title}, permitd {aspect.text(aspect.of(of[OURS]))}: {'; '.join(found)}." if found else ""
