"""Strategies against a provider that is played, in virtual time: each does what its users would have it do."""

from __future__ import annotations

import asyncio
import itertools
import selectors
from collections.abc import Awaitable, Callable

import pytest

from compare.record import Record
from compare.strategies import GaveUp, adaptive, aio_limiter, calls, parallel, semaphores

JOB = {"prompt_chars": 400, "max_tokens": 64}
LIMITS = {
    "requests": {"per_minute": 480, "burst": 8},
    "input_tokens": {"per_minute": 4_800_000, "burst": 80_000},
    "output_tokens": {"per_minute": 4_800_000, "burst": 80_000},
}
ASSIGNMENT = {
    "name": "worker-1",
    "providers": ["http://127.0.0.1:1"],
    "parts": (1.0,),
    "clients": 8,
    "place": 0,
    "limits": LIMITS,
}


class Patient(selectors.DefaultSelector):
    """Does not wait, but says how long it would have."""

    waited = 0.0

    def select(self, timeout=None):
        self.waited += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sleeping takes no time."""

    def __init__(self):
        self._patient = Patient()
        super().__init__(self._patient)

    def time(self):
        return self._patient.waited


class Answer:
    """As much of a response as strategies read."""

    text = ""

    def __init__(self, status):
        self.status_code, self.is_success, self.headers = status, status == 200, {"retry-after": "1"} if status == 429 else {}

    def json(self):
        return {"usage": {"input_tokens": 100, "output_tokens": 20}}


class Played:
    """Stands for the provider: answers after 0.1 s as ``status`` says, given how many calls there were before."""

    def __init__(self, status: Callable[[int], int]):
        self.at, self.numbers, self._status = [], [], status

    async def send(self, number, _job):
        status = self._status(len(self.at))
        self.at.append(asyncio.get_running_loop().time())
        self.numbers.append(number)
        await asyncio.sleep(0.1)
        return Answer(status)


def play(act: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(act())


def made(maker, status) -> tuple:
    strategy, provider = maker(ASSIGNMENT, Record([JOB] * 200)), Played(status)
    strategy._calls = provider
    return strategy, provider


async def begun(strategy, many: int, seconds: float) -> None:
    """So many jobs at once, and what is left of them after that time ended."""
    jobs = [asyncio.create_task(strategy.make(number, JOB)) for number in range(many)]
    await asyncio.wait(jobs, timeout=seconds)
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)


def test_the_parallel_processor_saves_nothing_up_before_it_begins():
    """Goal: its part of the burst, a call, and then three in four seconds, however long it was there before."""

    async def act():
        strategy, provider = made(parallel.Processor, lambda _: 200)
        await asyncio.sleep(1_000)
        await begun(strategy, 30, 12.05)
        assert len(provider.at) == 10

    play(act)


def test_the_parallel_processor_pauses_and_tries_again_first():
    """Goal: 15 s of nothing after a refusal, and then the refused job before those that wait longer."""

    async def act():
        strategy, provider = made(parallel.Processor, lambda calls: 429 if calls == 0 else 200)
        await begun(strategy, 5, 18)
        assert provider.numbers[:3] == [0, 0, 1]
        assert provider.at[1] - provider.at[0] == pytest.approx(15.1)

    play(act)


def test_the_parallel_processor_gives_up():
    async def act():
        strategy, provider = made(parallel.Processor, lambda _: 429)
        with pytest.raises(GaveUp, match="refused 5 times"):
            await strategy.make(0, JOB)
        assert len(provider.at) == 5

    play(act)


def test_aiolimiter_is_asked_for_every_attempt():
    """Goal: with everything refused there are no more attempts than its part allows: one in a second, and one at first."""

    async def act():
        strategy, provider = made(aio_limiter.Limited, lambda _: 429)
        await begun(strategy, 40, 20.05)
        assert 18 <= len(provider.at) <= 21

    play(act)


def test_the_adaptive_rate_begins_with_a_refusal_and_lines_grow_with_it():
    """Goal: no limit before anything was refused; then fewer calls, and those in line leave sooner as the rate grows."""

    async def act():
        strategy, provider = made(adaptive.Adaptive, lambda calls: 429 if calls == 20 else 200)
        await begun(strategy, 20, 1)
        assert provider.at[-1] == provider.at[0]
        await begun(strategy, 1, 0.5)
        await begun(strategy, 150, 60)
        gaps = [later - sooner for sooner, later in itertools.pairwise(provider.at[-150:])]
        assert max(gaps[:5]) > 5 * max(gaps[-20:])

    play(act)


@pytest.mark.parametrize(("many", "parts"), [(13, [2] * 5 + [1] * 3), (12, [2] * 4 + [1] * 4), (3, [1] * 8)])
def test_parts_add_up_to_the_whole(many, parts):
    """Goal: where there is one for each, eight processes together have as many as there are."""
    assert [semaphores.part_of(many, ASSIGNMENT | {"place": place}) for place in range(8)] == parts


def test_several_providers_get_their_parts():
    """Goal: by a half, a third and a sixth."""
    several = {"providers": ["http://127.0.0.1:1"] * 3, "parts": (1 / 2, 1 / 3, 1 / 6)}
    turns = calls.Calls(ASSIGNMENT | several, Record([]))
    taken = [turns._next() for _ in range(60)]
    assert [taken.count(at) for at in range(3)] == [30, 20, 10]


def test_a_refused_attempt_has_not_set_out():
    """Goal: a job whose last attempt was refused still waits."""
    record = Record([JOB])
    record.begin()
    record.wanted(0)
    record.attempted(0)
    record.set_out(0)
    record.refused(0)
    (told,) = record._times.values()
    assert (told["attempts"], told["refused"], told["set_out"]) == (1, 1, None)
