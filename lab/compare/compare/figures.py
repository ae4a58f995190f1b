"""From counts to figures. Pure; what was let through comes from the provider, waits from the clients' own clocks."""

from __future__ import annotations

import itertools
import math
from typing import Optional

from . import strategies
from .jobs import WORKERS
from .scenarios import WARM_UP, Scenario

#: A strategy has adapted when it delivers, in every stretch of so many seconds, so much of what is possible with so few refusals.
ADAPTED_SECONDS, ADAPTED_SHARE, ADAPTED_REFUSALS = 3.0, 0.9, 0.05


def digest(scenario: Scenario, strategy: str, seed: int, ran: dict) -> dict:
    """Everything that the page needs of one run."""
    samples = ran["samples"]
    first = next(sample for sample in samples if sample["at"] >= WARM_UP)
    total = _total(samples[-1])
    every_job = [job for record in ran["records"] for job in record["jobs"]]
    is_openai = strategies.entry(strategy).openai
    return {
        "scenario": scenario.name,
        "strategy": strategy,
        "seed": seed,
        "seconds": round(ran["seconds"], 3),
        "share": _share(first, samples[-1], is_openai),
        "answered_per_second": (total["ok"] - _total(first)["ok"]) / (samples[-1]["at"] - first["at"]),
        "answered": total["ok"],
        "limited": total["limited"],
        "overloaded": total["overloaded"],
        "sent": total["requests"],
        "wasted_share": _wasted(every_job),
        "jain": _jain(scenario, first, samples[-1]),
        "waits": sorted(_waits(ran)),
        "failed": sum(job["failed"] for job in every_job),
        "reasons": sorted({failure for record in ran["records"] for failure in record["failures"]})[:3],
        "cpu_ms_per_answer": ran["cpu_seconds"] * 1000 / total["ok"] if total["ok"] else None,
        "idle_share": round(ran["idle_share"], 3),
        "adapted_after": [_adapted_after(samples, begins, ends, is_openai) for begins, ends in _stretches(scenario)],
        "course": _course(samples),
    }


def jain(amounts: list[float]) -> Optional[float]:
    """1 where all have the same, 1/n where one has everything; ``None`` where nobody has anything."""
    squares = sum(amount * amount for amount in amounts)
    return sum(amounts) ** 2 / (len(amounts) * squares) if squares else None


def percentile(ordered: list[float], part: float) -> Optional[float]:
    """The smallest value that this part of all values does not exceed."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else None


def _total(sample: dict) -> dict:
    names = ("requests", "ok", "admitted", "limited", "overloaded", "input_tokens", "output_tokens", "tokens")
    clients = sample["clients"].values()
    return {name: sum(client[name] for client in clients) for name in names}


def _share(first: dict, last: dict, is_openai: bool) -> float:
    """What was let through of what the limit that was used most had provided."""
    used = {"requests": "admitted"} | {unit: unit for unit in (["tokens"] if is_openai else ["input_tokens", "output_tokens"])}
    before, after = _total(first), _total(last)
    possible = {unit: last["possible"][unit] - first["possible"][unit] for unit in used}
    return max((after[name] - before[name]) / possible[unit] for unit, name in used.items() if possible[unit])


def _wasted(every_job: list[dict]) -> float:
    """Tokens sent in attempts that were refused, as a share of all that were sent."""
    sent = sum(job["attempts"] * job["input_tokens"] for job in every_job)
    wasted = sum(job["refused"] * job["input_tokens"] for job in every_job)
    return wasted / sent if sent else 0.0


def _jain(scenario: Scenario, first: dict, last: dict) -> Optional[float]:
    """Over what those were served who always had more to do, in time of the limit that each call needs longest."""
    workers = [f"worker-{number}" for number in range(1, WORKERS + 1)]
    names = [name for name in [*workers, "greedy"] if name not in scenario.jobs_of]

    def service(sample: dict, name: str) -> int:
        return sample["clients"].get(name, {"service_ns": 0})["service_ns"]

    return jain([service(last, name) - service(first, name) for name in names])


def _waits(ran: dict) -> list[float]:
    """Milliseconds from wanting to call until the call that was answered set out, or was given up, or the end cut it off."""
    jobs = [job for record in ran["records"] if record["role"] == "interactive" for job in record["jobs"]]
    return [round(1000 * _wait(job, ran["seconds"]), 1) for job in jobs if job["wanted"] >= WARM_UP]


def _wait(job: dict, ended: float) -> float:
    if not job["failed"] and job["set_out"] is not None:
        return job["set_out"] - job["wanted"]
    return (ended if job["ended"] is None else job["ended"]) - job["wanted"]


def _stretches(scenario: Scenario) -> list[tuple[float, float]]:
    """From each moment at which something else holds than was known, to the next. The first burst hides what holds at first."""
    changes = [change.at * scenario.seconds for change in scenario.changes if change.what == "limits"]
    begins = changes or ([] if scenario.known or scenario.changes else [WARM_UP])
    return list(zip(begins, [*begins[1:], scenario.seconds]))


def _adapted_after(samples: list[dict], begins: float, ends: float, is_openai: bool) -> Optional[float]:
    """Seconds from the beginning to the first stretch from which on all are good until the end; ``None`` if the last is not."""
    inside = [sample for sample in samples if begins <= sample["at"] <= ends + 0.1]
    adapted = None
    for first in reversed(inside):
        last = next((sample for sample in inside if sample["at"] >= first["at"] + ADAPTED_SECONDS), None)
        if last is None:
            continue
        if not _is_adapted(first, last, is_openai):
            break
        adapted = round(first["at"] - begins, 1)
    return adapted


def _is_adapted(first: dict, last: dict, is_openai: bool) -> bool:
    before, after = _total(first), _total(last)
    attempts = after["requests"] - before["requests"]
    refused = after["limited"] - before["limited"]
    return attempts > 0 and refused < ADAPTED_REFUSALS * attempts and _share(first, last, is_openai) >= ADAPTED_SHARE


def _course(samples: list[dict]) -> list[list[float]]:
    """For each sample: when, and since the one before how many calls a second were let through and refused."""
    course = []
    for before, after in itertools.pairwise(samples):
        span = after["at"] - before["at"]
        if span <= 0:
            continue
        one, other = _total(before), _total(after)
        refused = other["limited"] + other["overloaded"] - one["limited"] - one["overloaded"]
        course.append([round(after["at"], 2), round((other["admitted"] - one["admitted"]) / span, 1), round(refused / span, 1)])
    return course
