"""Who calls and what: a function of the scenario's load and the seed, so that every strategy gets the same."""

from __future__ import annotations

import random
from dataclasses import dataclass

WORKERS = 6
#: How many calls a worker keeps going at a time; the greedy client has ten times as many.
SLOTS = 6
GREEDY_SLOTS = 60
#: Interactive calls in a second, at random moments, whether or not earlier ones were answered.
INTERACTIVE_RATE = 3.0
#: More than any client can do in the longest scenario.
JOBS = 2_000
PROMPT_CHARS = (400, 24_000)


@dataclass(frozen=True)
class Client:
    """One client process. Its name is its tenant, and its name in the provider's counters."""

    name: str
    role: str
    slots: int
    jobs: list[dict]


def fleet(seed: int, seconds: float, max_tokens: int, jobs_of: dict[str, int]) -> list[Client]:
    """Six equal workers, a greedy one, and one that somebody waits for; those in ``jobs_of`` have so many jobs only."""
    names = [f"worker-{number}" for number in range(1, WORKERS + 1)]
    workers = [batch(name, SLOTS, seed, max_tokens, jobs=jobs_of.get(name, JOBS)) for name in names]
    return [*workers, batch("greedy", GREEDY_SLOTS, seed, max_tokens), interactive(seed, seconds)]


def batch(name: str, slots: int, seed: int, max_tokens: int, *, replica: int = 0, jobs: int = JOBS) -> Client:
    """A client that makes its jobs as fast as it is let. A replica has the name of the first, and work of its own."""
    draw = random.Random(f"{seed}/{name}/{replica}")
    least, most = PROMPT_CHARS

    def job() -> dict:
        return {"prompt_chars": min(most, max(least, int(draw.lognormvariate(8.1, 0.5)))), "max_tokens": max_tokens}

    return Client(name, "batch", slots, [job() for _ in range(jobs)])


def interactive(seed: int, seconds: float) -> Client:
    """Small calls for somebody at a screen, at moments of their own."""
    draw = random.Random(f"{seed}/interactive")
    jobs, at = [], 0.0
    while True:
        at += draw.expovariate(INTERACTIVE_RATE)
        if at >= seconds:
            return Client("interactive", "interactive", 0, jobs)
        jobs.append({"at_ms": int(at * 1000), "prompt_chars": draw.randrange(200, 800), "max_tokens": 64})
