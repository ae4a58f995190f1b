"""What permitd has to reach, and whether it did."""

from __future__ import annotations

from .scenarios import scenario
from .summary import Summary, percent

#: The client that is judged; the others are in the tables.
OURS = "permitd-python"
KNOWN_SHARE, HIDDEN_SHARE = 0.01, 0.05
HIDDEN_REFUSALS = 0.005
JAIN = 0.99
WAIT_FACTOR = 2.0


def table(played: dict[str, dict[str, Summary]]) -> str:
    """For each scenario whether each goal was met, with the figures."""
    lines = [
        "| scenario | share, of the oracle's | 429s of all calls | Jain's index | p99 wait, of the oracle's | failed jobs |",
        "|---|---|---|---|---|---|",
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
        ours.limited_of_sent.most == 0 if known else refused < HIDDEN_REFUSALS,
        index >= JAIN,
        wait <= WAIT_FACTOR * best,
        ours.failed.most == 0,
    ]
    most = f" (at most {percent(ours.limited_of_sent.most, 2)})" if ours.limited_of_sent.most > refused else ""
    failed = f"{ours.failed.most:.0f}"
    figures = [percent(share), percent(refused, 2) + most, f"{index:.3f}", f"{wait:.0f} ms of {best:.0f} ms", failed]
    return [f"{'met' if met else '**missed**'}: {figure}" for met, figure in zip(is_met, figures)]
