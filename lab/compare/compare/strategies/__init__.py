"""What people do about limits: one module for each way, short, as its users would write it.

Each says where its settings come from; the page repeats that. A strategy makes one job however often it has to call, and raises
what its package raises when it gives up.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol

from ..record import Record


class Strategy(Protocol):
    """One way to make calls, in one process."""

    async def make(self, number: int, job: dict) -> None:
        """Returns when the call was answered."""


class GaveUp(Exception):
    """The strategy does not try any more."""


@dataclass(frozen=True)
class Entry:
    """A strategy as the page lists it."""

    name: str
    title: str
    #: The module and what makes it, ``module:function``; a program for those in other languages.
    made_by: str
    #: Where its settings come from.
    settings: str
    #: OpenAI's shape of calls: tokens count at the start.
    openai: bool = False
    #: What it needs beside the provider: ``permitd`` or ``redis``.
    server: str = ""
    #: A virtual environment of its own, for packages that do not go together with the others'.
    environment: str = "main"
    #: Whether it uses so much of the processors that nothing else should be measured meanwhile.
    alone: bool = False


_LITTLE = "calls at the same time = rate x mean latency (Little's law), from the limits that are told"

ENTRIES = [
    Entry("oracle", "oracle", "oracle:Oracle", "calls wait inside the provider for their turn"),
    Entry("permitd-python", "permitd, Python", "permits:Guards", "limits declared as told, half of the burst", server="permitd"),
    Entry(
        "permitd-sdk",
        "permitd, adapted SDK",
        "permits_sdk:Adapted",
        "the anthropic package with `max_retries=10`, and permitd's transport with as many attempts",
        server="permitd",
    ),
    Entry(
        "permitd-typescript", "permitd, TypeScript", "typescript", "`client.fetch`, the adapter, 11 attempts", server="permitd"
    ),
    Entry("permitd-rust", "permitd, Rust", "rust", "acquire, call, report", server="permitd"),
    Entry("sequential", "one after the other", "sequential:Sequential", "a loop in each process; waits as long as refusals say"),
    Entry("naive", "try again after a second", "naive:Naive", "what is written first; never gives up"),
    Entry(
        "backoff",
        "backoff with jitter",
        "backoff:Backoff",
        "after the wait that a refusal asks for, 0.5 s doubling to 8 s as in the SDKs, with full jitter; never gives up",
    ),
    Entry("semaphore", "semaphore, whole limit", "semaphores:whole", f"{_LITTLE}; then backoff"),
    Entry("semaphore-share", "semaphore, limit / N", "semaphores:share", f"{_LITTLE}, divided by eight; then backoff"),
    Entry(
        "aiolimiter",
        "aiolimiter, limit / N",
        "aio_limiter:Limited",
        "requests by the second, tokens by five; every attempt takes; then backoff",
    ),
    Entry("anthropic", "anthropic SDK", "sdk_anthropic:plain", "`max_retries=10`, five times the default; its own backoff"),
    Entry("openai", "openai SDK", "sdk_openai:plain", "`max_retries=10`, five times the default; its own backoff", openai=True),
    Entry(
        "parallel",
        "parallel processor",
        "parallel:Processor",
        "the pattern of OpenAI's cookbook: buckets of 75 % of limit / N, and of burst / N, in each process, what was refused"
        " first, five attempts, a pause of 15 s after a refusal",
    ),
    Entry(
        "adaptive", "adaptive, cubic", "adaptive:Adaptive", "botocore's own limiter of AWS's adaptive retry mode; then backoff"
    ),
    Entry(
        "redis",
        "token bucket in Redis",
        "redis_bucket:Shared",
        "a script takes from all buckets or none, half of the burst, polled every 50 ms; every attempt takes; then backoff",
        server="redis",
    ),
    Entry(
        "litellm",
        "LiteLLM Router",
        "litellm_router:Routed",
        "rpm and tpm as told, simple shuffle as LiteLLM advises for production, `num_retries=10`, no cooldowns",
        openai=True,
        environment="litellm",
        alone=True,
    ),
]


def entry(name: str) -> Entry:
    """The one of that name."""
    return next(each for each in ENTRIES if each.name == name)


async def make(assignment: dict, record: Record) -> Strategy:
    """The strategy of an assignment, ready to go."""
    module, _, maker = entry(assignment["strategy"]).made_by.partition(":")
    made = getattr(importlib.import_module(f".{module}", __package__), maker)(assignment, record)
    ready = getattr(made, "ready", None)
    if ready is not None:
        await ready()
    return made
