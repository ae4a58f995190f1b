"""What permitd has to reach, whether it did, and where somebody else did better."""

from __future__ import annotations

from . import strategies
from .scenarios import scenario
from .summary import Summary

#: The client that is judged; the others are in the tables.
OURS = "permitd-python"
KNOWN_SHARE, HIDDEN_SHARE = 0.01, 0.05
HIDDEN_REFUSALS = 0.005
JAIN = 0.99
WAIT_FACTOR = 2.0
#: What is less than this apart is no difference: of shares and indices, of refusals per answer, of milliseconds.
SAME, SAME_WAIT = 0.005, 5.0


def table(played: dict[str, dict[str, Summary]]) -> str:
    """For each scenario whether each goal was met, with the figures."""
    lines = [
        "| scenario | share, of the oracle's | 429s of all calls | Jain's index | interactive p99, of the oracle's |",
        "|---|---|---|---|---|",
    ]
    for name, of in played.items():
        if OURS in of:
            cells = _cells(name, of[OURS], of["oracle"])
            lines.append("| " + " | ".join([scenario(name).title, *cells]) + " |")
    return "\n".join(lines)


def _cells(name: str, ours: Summary, oracle: Summary) -> list[str]:
    known = scenario(name).known
    share = ours.share.middle / oracle.share.middle
    refused = ours.limited_of_sent.middle
    wait, best = ours.wait(0.99) or 0.0, oracle.wait(0.99) or 0.0
    index = ours.jain.middle if ours.jain else 0.0
    is_met = [
        share >= 1 - (KNOWN_SHARE if known else HIDDEN_SHARE),
        refused == 0 if known else refused < HIDDEN_REFUSALS,
        index >= JAIN,
        wait <= WAIT_FACTOR * best,
    ]
    figures = [f"{share:.1%}", f"{refused:.2%}", f"{index:.3f}", f"{wait:.0f} ms of {best:.0f} ms"]
    return [f"{'met' if met else '**missed**'}: {figure.replace('%', ' %')}" for met, figure in zip(is_met, figures)]


def better(played: dict[str, dict[str, Summary]]) -> str:
    """Who did better than permitd at what, by scenario."""
    lines = []
    for name, of in played.items():
        if OURS not in of:
            continue
        others = [
            entry for entry in strategies.ENTRIES if entry.name in of and entry.server != "permitd" and entry.name != "oracle"
        ]
        found = [f"{entry.title} ({', '.join(at)})" for entry in others if (at := _better_at(of[entry.name], of[OURS]))]
        lines.append(f"- {scenario(name).title}: {'; '.join(found) or 'nobody'}.")
    return "\n".join(lines)


def _better_at(other: Summary, ours: Summary) -> list[str]:
    at = []
    if other.share.middle > ours.share.middle + SAME:
        at.append("share of the possible")
    if other.limited_per_answer.middle < ours.limited_per_answer.middle - SAME:
        at.append("429s")
    if other.jain and ours.jain and other.jain.middle > ours.jain.middle + SAME:
        at.append("fairness")
    for part, title in ((0.5, "median wait"), (0.99, "p99 of the wait")):
        one, two = other.wait(part), ours.wait(part)
        if one is not None and two is not None and one < two - SAME_WAIT:
            at.append(title)
    if other.cpu_ms and ours.cpu_ms and other.cpu_ms.middle < ours.cpu_ms.middle:
        at.append("CPU of the clients")
    return at
