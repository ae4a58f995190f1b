"""Several runs of the same, put together: medians and spread over seeds, waits of all seeds as one."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Optional

from .figures import percentile


@dataclass(frozen=True)
class Figure:
    """A median, and between what it came out."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[Optional[float]]) -> Optional[Figure]:
        """``None`` where a run had none."""
        if not values or any(value is None for value in values):
            return None
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Summary:
    """One strategy in one scenario."""

    seeds: int
    share: Figure
    #: Refusals with 429 for each call that was answered, and of all attempts.
    limited_per_answer: Figure
    limited_of_sent: Figure
    wasted: Figure
    jain: Optional[Figure]
    waits: list[float]
    failed: Figure
    cpu_ms: Optional[Figure]
    #: For each change: seconds until it was followed, or ``None`` where it was not in every run.
    adapted: list[Optional[Figure]]
    course: list[list[float]]

    def wait(self, part: float) -> Optional[float]:
        """A percentile over the waits of all seeds, in milliseconds."""
        return percentile(self.waits, part)


def summaries(runs: list[dict], is_concurrency_bound: bool) -> dict[str, Summary]:
    """Of the runs of one scenario, by strategy. Where calls at the same time bind, the share is that of the oracle's answers."""
    by_strategy: dict[str, list[dict]] = {}
    for run in runs:
        by_strategy.setdefault(run["strategy"], []).append(run)
    oracle = {run["seed"]: run["answered_per_second"] for run in by_strategy.get("oracle", [])}

    def share(run: dict) -> float:
        return run["answered_per_second"] / oracle[run["seed"]] if is_concurrency_bound else run["share"]

    # What there is no oracle for can't be compared.
    fit = {name: [run for run in some if run["seed"] in oracle] for name, some in by_strategy.items()}
    return {name: _summary(some, [share(run) for run in some]) for name, some in fit.items() if some}


def _summary(runs: list[dict], shares: list[float]) -> Summary:
    changes = len(runs[0]["adapted_after"])
    return Summary(
        seeds=len(runs),
        share=Figure.of(shares),
        limited_per_answer=Figure.of([run["limited"] / max(1, run["answered"]) for run in runs]),
        limited_of_sent=Figure.of([run["limited"] / max(1, run["sent"]) for run in runs]),
        wasted=Figure.of([run["wasted_share"] for run in runs]),
        jain=Figure.of([run["jain"] for run in runs]),
        waits=sorted(wait for run in runs for wait in run["waits"]),
        failed=Figure.of([run["failed"] for run in runs]),
        cpu_ms=Figure.of([run["cpu_ms_per_answer"] for run in runs]),
        adapted=[Figure.of([run["adapted_after"][at] for run in runs]) for at in range(changes)],
        course=runs[0]["course"],
    )


def few(value: float) -> str:
    """A small figure: 0 is none at all."""
    return "0" if value == 0 else "< 0.01" if value < 0.01 else f"{value:.2f}"


def percent(value: float, digits: int = 1) -> str:
    """A part of one, as a reader sees it."""
    return f"{100 * value:.{digits}f} %"


def milliseconds(value: Optional[float]) -> str:
    """A wait, as a reader sees it."""
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value < 1_000 else f"{value / 1_000:.1f} s"
