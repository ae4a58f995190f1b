"""What the provider enforces, what everybody is told of it, and what happens meanwhile. Nothing is scaled: a second is a second,
and waits and pauses are as the strategies' authors set them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

#: Calls in a second that the limit on requests allows; all of them at once after idle time.
PER_SECOND = 30
#: Figures of rates begin after this: the first burst is not the sustained rate.
WARM_UP = 2.0

#: What requests bind: prompts take 85 % of what may go in, outputs 84 % of what may come out.
LIMITS = {
    "requests": {"per_minute": PER_SECOND * 60, "burst": PER_SECOND},
    "input_tokens": {"per_minute": PER_SECOND * 60 * 1_100, "burst": PER_SECOND * 3_300},
    "output_tokens": {"per_minute": PER_SECOND * 60 * 333, "burst": PER_SECOND * 2_000},
    "tokens": {"per_minute": PER_SECOND * 60 * 1_800, "burst": PER_SECOND * 5_000},
}
BEHAVIOUR = {"latency_median_ms": 400, "latency_sigma": 0.4, "output_mean": 280, "output_sigma": 0.6}


@dataclass(frozen=True)
class Change:
    """Something that happens at a part of the time."""

    at: float
    #: ``limits`` or ``behaviour`` of the provider with a patch, ``replicas`` or ``restart``.
    what: str
    patch: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """One set-up, the same for every strategy."""

    name: str
    title: str
    #: A sentence for the page.
    says: str
    seconds: float = 20.0
    #: What the provider enforces at the start, and how it behaves.
    limits: dict = field(default_factory=lambda: LIMITS)
    behaviour: dict = field(default_factory=dict)
    #: What everybody is told; what is enforced, where this is empty.
    told: dict = field(default_factory=dict)
    #: The same in permitd's own words, where a bucket does not say it.
    permitd: Optional[list[str]] = None
    changes: tuple[Change, ...] = ()
    max_tokens: int = 1_024
    #: The parts that several providers have of the limits; one provider has all of it.
    parts: tuple[float, ...] = (1.0,)
    #: Clients that have so many jobs and no more.
    jobs_of: dict[str, int] = field(default_factory=dict)
    #: Whether the limits that are told are those that hold.
    known: bool = True
    #: The strategies that it is about; all, where this is empty.
    only: tuple[str, ...] = ()
    #: What the reader of its figures should know.
    note: str = ""
    #: Whether OpenAI's shape makes it another question: it counts tokens at the start of a call.
    anthropic_only: bool = False

    def is_for(self, strategy: str, *, is_openai: bool) -> bool:
        """Whether a strategy has something to show in it."""
        return (not self.only or strategy in self.only) and not (self.anthropic_only and is_openai)

    def known_limits(self) -> dict:
        """What everybody is told."""
        return self.told or self.limits

    def limits_of(self, part: float) -> dict:
        """What a provider with that part of them enforces."""
        return {
            unit: {name: int(value * part) if name in ("per_minute", "burst") else value for name, value in limit.items()}
            if isinstance(limit, dict)
            else int(limit * part)
            for unit, limit in self.limits.items()
        }

    def permitd_limits(self, part: float = 1.0) -> list[str]:
        """As an administrator would declare them: half of the burst, for calls arrive closer together than they were let go."""
        if self.permitd is not None:
            return self.permitd
        limits = self.limits_of(part) if part != 1.0 else self.known_limits()
        rates = [unit for unit in ("requests", "input_tokens", "output_tokens") if unit in limits]
        lines = [f"{unit}={limits[unit]['per_minute']}/1m,burst={limits[unit]['burst'] // 2}" for unit in rates]
        return lines + ([f"in_flight={limits['concurrency']}"] if "concurrency" in limits else [])


def _with(**limits: object) -> dict:
    return {**LIMITS, **limits}


def _requests(per_second: float) -> dict:
    return {"per_minute": int(per_second * 60), "burst": PER_SECOND}


SCENARIOS = [
    Scenario("known", "Limits known", "Everybody is told the limits that hold, and the provider tells them in its headers."),
    Scenario(
        "uneven",
        "Half of the workers have little to do",
        "Three of the workers have twenty calls to make each; the others could use what these leave.",
        jobs_of=dict.fromkeys(("worker-4", "worker-5", "worker-6"), 20),
    ),
    Scenario(
        "lower",
        "The true limit is 40 % lower",
        "The provider allows 60 % of the calls that everybody is told, and its headers do not say so.",
        seconds=30.0,
        limits=_with(requests=_requests(0.6 * PER_SECOND)),
        told=LIMITS,
        behaviour={"limit_headers": False},
        known=False,
        note="permitd finds the limit by refusals: one that may be chance, and one that tells the rate to a call in thirty, of"
        " which it takes the lower end. To know better costs another refusal, which half a minute of calls does not pay for. Each"
        " asks everybody to wait for a second: in half a minute that is more than one wait of a hundred at the screen.",
    ),
    Scenario(
        "halves",
        "The limit halves and returns",
        "For the middle third the provider allows half of the calls, and its headers do not say so.",
        seconds=36.0,
        behaviour={"limit_headers": False},
        changes=(
            Change(1 / 3, "limits", {"requests": _requests(0.5 * PER_SECOND)}),
            Change(2 / 3, "limits", {"requests": _requests(PER_SECOND)}),
        ),
        known=False,
        note="Nothing says that a limit has returned but calls that are not refused. permitd tries what had held two seconds"
        " after the fall, and then again as often as the calls pay for it: no more than one refusal in 200 of them. In a fall of"
        " twelve seconds that is twice. Who never slowed down is there at once, and was refused all the time.",
    ),
    Scenario(
        "output",
        "Tokens out bind, and nobody knows them beforehand",
        "Half of the usual tokens may come out, calls use between a few and thousands of them, and ask for up to 2,048.",
        limits=_with(output_tokens={"per_minute": PER_SECOND * 60 * 150, "burst": int(PER_SECOND * 150 * WARM_UP)}),
        behaviour={"output_mean": 300, "output_sigma": 1.0},
        max_tokens=2_048,
        anthropic_only=True,
        note="The provider takes calls as long as anything is left, whatever they use in the end: who always has a call"
        " at the door, as the oracle has, ends in debt, and that is what it has more. permitd lets go what is likely to fit.",
    ),
    Scenario(
        "concurrency",
        "Calls at the same time bind",
        "Twelve calls may run at the same time; rates are no obstacle.",
        limits=_with(requests=_requests(4 * PER_SECOND), concurrency=12),
    ),
    Scenario(
        "quantised",
        "The minute's limit is enforced by the second",
        "1,800 calls a minute, of which no more than 30 in any second of the provider's clock.",
        limits=_with(requests={"per_minute": PER_SECOND * 60, "quantum_ms": 1_000}),
        permitd=[
            f"requests={PER_SECOND * 60}/1m,window=quantised",
            f"input_tokens={LIMITS['input_tokens']['per_minute']}/1m,burst={LIMITS['input_tokens']['burst'] // 2}",
            f"output_tokens={LIMITS['output_tokens']['per_minute']}/1m,burst={LIMITS['output_tokens']['burst'] // 2}",
        ],
        note="The first calls of new processes are longer on their way than the next: what was let go in two seconds may arrive"
        " in one.",
    ),
    Scenario(
        "storm",
        "A storm of 529s",
        "For the middle third the provider has no capacity for seven calls in ten.",
        seconds=30.0,
        changes=(Change(1 / 3, "behaviour", {"overloaded": 0.7}), Change(2 / 3, "behaviour", {"overloaded": 0.0})),
        known=False,
        note="This provider counts no call that it refuses with 529; others do. permitd takes it that none does while at"
        " least one call in five gets in, until a 429 that follows says otherwise.",
    ),
    Scenario(
        "replicas",
        "One service deploys ten times the replicas",
        "After a third of the time, nine more processes of worker-1 begin. Nobody tells the others.",
        seconds=24.0,
        changes=(Change(1 / 3, "replicas"),),
    ),
    Scenario(
        "restart",
        "The server is killed and started again",
        "After a third of the time, what the clients share their limits by is killed and started again: permitd, or Redis.",
        seconds=24.0,
        changes=(Change(1 / 3, "restart"),),
        note="Whoever asks while the server is away waits until it is back and the client has found it again: some tenths of a"
        " second, in which one call in a hundred of these comes.",
        only=("redis", "permitd-python", "permitd-sdk", "permitd-typescript", "permitd-rust", "oracle"),
    ),
    Scenario(
        "pooled",
        "Three providers pooled",
        "Three providers of one model have a half, a third and a sixth of the limits. permitd has a pool of three budgets, "
        "LiteLLM three deployments; the others go by these parts. The oracle sends each its part.",
        parts=(1 / 2, 1 / 3, 1 / 6),
        only=("oracle", "permitd-python", "naive", "backoff", "litellm"),
    ),
]


def scenario(name: str) -> Scenario:
    """The one of that name."""
    return next(each for each in SCENARIOS if each.name == name)
