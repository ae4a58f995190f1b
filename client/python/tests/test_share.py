"""Local shares as pure machines: in virtual time, against counting that is obviously right."""

from __future__ import annotations

import random

import pytest

from permitd import Outcome, Refused
from permitd._grant import Grant
from permitd._share.amounts import estimated, glob, used
from permitd._share.share import Share
from permitd.v1 import budget_pb2 as bb
from permitd.v1 import permit_pb2 as pb

SECOND = 1_000_000_000


def limit(unit, amount, per=60, window=bb.WINDOW_BUCKET, **more):
    made = bb.Limit(unit=unit, amount=amount, window=window, **more)
    if unit != "in_flight":
        made.per.seconds = per
    return made


class Clock:
    """A share, its answers, and what the time is."""

    def __init__(self, *limits, carried=0):
        self.now = 10**18
        self.share = Share(list(limits), 1, "p/k", carried, self.now)
        self.answers = {}
        self.ids = 0
        self.next = None
        #: When how many tokens were granted.
        self.taken = []

    def ask(self, wait=None, **asked):
        self.ids += 1
        problem = self.share.acquire(self.ids, pb.AcquireRequest(provider="p", **asked), "", wait, self.now)
        if problem is not None:
            self.answers[self.ids] = problem
        self.poll()
        return self.ids

    def poll(self):
        self.next = self.share.poll(self.now, self.answer)

    def answer(self, request_id, answer):
        self.answers[request_id] = answer
        if isinstance(answer, Grant):
            self.taken.append((self.now, answer.charged.input_tokens))

    def advance(self, seconds):
        """Wakes when the share says so, and not before."""
        end = self.now + int(seconds * SECOND)
        while self.next is not None and self.next <= end:
            assert self.next > self.now, "it makes progress"
            self.now = self.next
            self.poll()
        self.now = end
        self.poll()

    def report(self, request_id, **report):
        advice = self.share.report(self.answers[request_id].hold, pb.ReportRequest(**report), self.now)
        self.poll()
        return advice

    def granted(self):
        return [request_id for request_id, answer in self.answers.items() if isinstance(answer, Grant)]


def test_a_bucket_begins_empty_and_refills_to_the_nanosecond():
    clock = Clock(limit("requests", 60))
    clock.ask()
    clock.ask()
    clock.advance(0.999_999_999)
    assert clock.granted() == []
    clock.advance(0.000_000_001)
    assert clock.granted() == [1]
    clock.advance(1)
    assert clock.granted() == [1, 2]


def random_work(clock, luck, per, most):
    """Asks, waits and reports; what is used is what was asked for. Returns what was reported."""
    reported = set()
    for _ in range(300):
        action = luck.randrange(3)
        if action == 0:
            clock.ask(tokens=luck.randrange(1, most + 1))
        elif action == 1:
            clock.advance(luck.random() * per / 3)
        held = sorted(set(clock.granted()) - reported)
        assert len(held) <= 3
        if action == 2 and held:
            request_id = luck.choice(held)
            reported.add(request_id)
            tokens = clock.answers[request_id].charged.input_tokens
            clock.report(request_id, actual=pb.Usage(input_tokens=tokens, output_tokens=0))
    return reported


@pytest.mark.parametrize("window", [bb.WINDOW_BUCKET, bb.WINDOW_FIXED, bb.WINDOW_SLIDING, bb.WINDOW_QUANTISED])
@pytest.mark.parametrize("_round", range(5))
def test_never_over_and_never_stuck(window, _round):
    """Goal: whatever is asked and used, no stretch of time holds more than the bound; and all that waits is served."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    luck = random.Random(seed)
    per = luck.randrange(2, 20)
    amount = luck.randrange(2 * per, 20 * per)
    clock = Clock(limit("tokens", amount, per, window), limit("in_flight", 3))
    began = clock.now
    quantised = window == bb.WINDOW_QUANTISED
    span, most = (SECOND, amount // per) if quantised else (per * SECOND, amount)
    reported = random_work(clock, luck, per, most)
    for first, (start, _) in enumerate(clock.taken):
        used_since = 0
        for at, tokens in clock.taken[first:]:
            used_since += tokens
            if window == bb.WINDOW_BUCKET:
                assert used_since * span <= amount * (span + at - start)
            else:
                assert used_since <= most * ((at - start) // span + 1)
    assert sum(tokens for _, tokens in clock.taken) * span <= most * (clock.now - began), "it began empty"
    clock.advance(2 * per)
    while held := set(clock.granted()) - reported:
        for request_id in held:
            clock.report(request_id)
        reported |= held
        clock.advance(2 * per)
    assert len(clock.granted()) == clock.ids


def test_permits_from_before_hold_slots():
    clock = Clock(limit("in_flight", 2), carried=3)
    clock.ask()
    clock.share.ended()
    clock.poll()
    assert clock.granted() == []
    clock.share.ended()
    clock.poll()
    assert clock.granted() == [1]


def test_the_first_holds_back_those_on_its_limits_only():
    clock = Clock(limit("tokens", 60, models="a*"), limit("requests", 6_000), limit("in_flight", 9))
    clock.ask(model="b")
    clock.advance(1)
    clock.ask(model="a1", tokens=60)
    clock.ask(model="a2", tokens=1)
    clock.advance(5)
    assert clock.granted() == [1], "the small one does not pass the large one of the same limit"
    clock.advance(60)
    assert clock.granted() == [1, 2, 3]


def test_hopeless_requests_are_refused_at_once():
    clock = Clock(limit("tokens", 60))
    clock.ask(wait=10, tokens=30)
    clock.ask(tokens=61)
    late, impossible = clock.answers[1], clock.answers[2]
    assert isinstance(late, Refused)
    assert (late.reason, late.limit, late.retry_after) == ("NOT_IN_TIME", "tokens/1m", 30.0)
    assert impossible.is_impossible


def test_a_guess_is_cut_to_what_the_limit_holds():
    clock = Clock(limit("output_tokens", 100))
    clock.ask(estimate=pb.Usage(input_tokens=5, max_output_tokens=10_000))
    clock.advance(60)
    assert clock.granted() == [1]


def test_usage_is_settled():
    clock = Clock(limit("tokens", 60))
    clock.advance(60)
    clock.ask(tokens=60)
    clock.report(1, actual=pb.Usage(input_tokens=10, output_tokens=10))
    clock.ask(tokens=40)
    assert clock.granted() == [1, 2], "what was not used is back"
    clock.report(2, actual=pb.Usage(input_tokens=40, output_tokens=60))
    clock.ask(tokens=1)
    clock.advance(60.9)
    assert clock.granted() == [1, 2], "60 are owed"
    clock.advance(0.1)
    assert clock.granted() == [1, 2, 3]


def test_a_cancelled_permit_gives_all_back():
    clock = Clock(limit("tokens", 60), limit("in_flight", 1))
    clock.advance(60)
    clock.ask(tokens=60)
    clock.report(1, outcome=pb.OUTCOME_CANCELLED)
    clock.ask(tokens=60)
    assert clock.granted() == [1, 2]


@pytest.mark.parametrize(
    ("report", "outcome", "retry", "wait"),
    [
        ({}, Outcome.SUCCESS, False, None),
        ({"http_status": 429}, Outcome.RATE_LIMITED, True, 1.0),
        ({"http_status": 503}, Outcome.OVERLOADED, True, 1.0),
        ({"http_status": 400}, Outcome.FAILED, False, None),
        ({"http_status": 408}, Outcome.FAILED, True, None),
        ({"http_status": 500}, Outcome.FAILED, True, None),
        ({"outcome": pb.OUTCOME_FAILED}, Outcome.FAILED, True, None),
        ({"outcome": pb.OUTCOME_FAILED, "http_status": 404}, Outcome.FAILED, False, None),
        ({"http_status": 413}, Outcome.TOO_LARGE, False, None),
    ],
)
def test_outcomes_are_read_as_on_the_server(report, outcome, retry, wait):
    clock = Clock(limit("requests", 60))
    clock.advance(60)
    clock.ask()
    advice = clock.report(1, **report)
    assert (advice.outcome, advice.retry, advice.retry_after, advice.settled) == (outcome, retry, wait, True)
    clock.ask()
    assert clock.granted() == ([1] if wait else [1, 2])
    clock.advance(wait or 0)
    assert clock.granted() == [1, 2]


def test_an_exhausted_quota_refuses_everyone():
    clock = Clock(limit("in_flight", 1))
    clock.ask()
    clock.ask()
    clock.report(1, outcome=pb.OUTCOME_QUOTA_EXHAUSTED)
    assert clock.answers[2].reason == "QUOTA_EXHAUSTED"


def test_the_ladder_climbs_and_starts_again():
    clock = Clock(limit("requests", 6_000))
    clock.advance(60)
    waits = []
    for status in [429, 429, 429, 200, 429]:
        clock.advance(100)
        clock.report(clock.ask(), http_status=status)
        waits.append((clock.share._limits[0].frozen_until - clock.now) // SECOND)
    assert waits[:3] == [1, 2, 4]
    assert waits[4] == 1


@pytest.mark.parametrize(
    ("asked", "amounts", "is_open"),
    [
        ({"tokens": 7}, (7, 0, 7), True),
        ({"estimate": pb.Usage(tokens=7, input_tokens=3)}, (3, 4, 7), False),
        ({"estimate": pb.Usage(tokens=7, output_tokens=3)}, (4, 3, 7), False),
        ({"estimate": pb.Usage(input_tokens=3, max_output_tokens=9)}, (3, 9, 12), True),
        ({"estimate": pb.Usage(output_tokens=3)}, (0, 3, 3), False),
        ({}, (0, 0, 0), True),
    ],
)
def test_estimates_are_read_as_on_the_server(asked, amounts, is_open):
    told, open_output = estimated(pb.AcquireRequest(**asked))
    assert (told["input_tokens"], told["output_tokens"], told["tokens"]) == amounts
    assert open_output == is_open


def test_reports_leave_out_what_is_as_held():
    held = {"requests": 1, "input_tokens": 10, "output_tokens": 5, "tokens": 15, "points": 2}
    assert used(pb.Usage(), held) == held
    assert used(pb.Usage(output_tokens=9), held)["tokens"] == 19
    assert used(pb.Usage(tokens=12), held)["output_tokens"] == 2
    assert used(pb.Usage(other={"points": 7}), held)["points"] == 7


def test_globs():
    assert glob("").fullmatch("anything\nat all")
    assert glob("claude-*-4?").fullmatch("claude-opus-45")
    assert not glob("claude-*").fullmatch("gpt")
    assert not glob("a.c").fullmatch("abc")
