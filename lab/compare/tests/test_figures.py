"""Figures from counts that can be checked by hand."""

from __future__ import annotations

import pytest

from compare import better, figures, goals, jobs, plots
from compare.processes import added
from compare.scenarios import SCENARIOS, Change, Scenario, scenario
from compare.summary import Figure, few, summaries

NOTHING = {
    "requests": 0,
    "ok": 0,
    "admitted": 0,
    "limited": 0,
    "overloaded": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "tokens": 0,
}


def sample(at, admitted, limited=0, possible=None):
    counters = {
        name: NOTHING
        | {"requests": count + limited, "ok": count, "admitted": count, "limited": limited, "service_ns": 10**9 * count}
        for name, count in admitted.items()
    }
    amounts = {"requests": 10 * at if possible is None else possible, "input_tokens": 0, "output_tokens": 0, "tokens": 0}
    return {"at": at, "clients": counters, "possible": amounts}


def job(wanted, set_out, ended, *, failed=False, attempts=1, refused=0):
    told = {"wanted": wanted, "set_out": set_out, "ended": ended, "failed": failed}
    return told | {"attempts": attempts, "refused": refused, "input_tokens": 100}


def digest(samples, every_job=(), of=None):
    records = [{"name": "interactive", "role": "interactive", "jobs": list(every_job), "failures": []}]
    ran = {"seconds": samples[-1]["at"], "samples": samples, "cpu_seconds": 1.0, "idle_share": 0.5, "records": records}
    return figures.digest(of or scenario("known"), "permitd-python", 1, ran)


def test_the_share_leaves_the_first_burst_out():
    """Goal: from 2 s on, 60 of 80 possible."""
    found = digest([sample(0, {"greedy": 0}), sample(2, {"greedy": 40}), sample(10, {"greedy": 100})])
    assert found["share"] == 60 / 80
    assert found["jain"] == pytest.approx(1 / 7)


def test_who_has_no_work_left_is_not_judged_for_fairness():
    """Goal: of seven, three have few jobs; of the other four one got everything."""
    samples = [sample(0, {"greedy": 0}), sample(2, {"greedy": 1}), sample(4, {"greedy": 9, "worker-4": 9})]
    assert digest(samples, of=scenario("uneven"))["jain"] == pytest.approx(1 / 4)


def test_waits_end_when_the_answered_call_sets_out():
    """Goal: answered, given up, cut off while it waits, under way at the end, and one before the first burst was over."""
    every_job = [
        job(3.0, 3.5, 4.0),
        job(3.0, None, 4.0, failed=True, refused=1),
        job(4.0, None, None, attempts=0),
        job(5.0, None, None, attempts=3, refused=3),
        job(9.0, 9.5, None),
        job(1.0, 1.9, 2.0),
    ]
    found = digest([sample(0, {}), sample(2, {"greedy": 1}), sample(10, {"greedy": 2})], every_job)
    assert found["waits"] == [500.0, 500.0, 1000.0, 5000.0, 6000.0]
    assert found["failed"] == 1
    assert found["wasted_share"] == pytest.approx(4 / 7)


def test_adapting_is_judged_from_each_change_of_the_limit_to_the_next():
    """Goal: after the change at 10 s refusals go on for two seconds; the second one is never followed."""
    played = Scenario("x", "x", "x", seconds=30.0, changes=(Change(1 / 3, "limits"), Change(2 / 3, "limits")), known=False)
    total, refused, samples = 0, 0, []
    for at in range(31):
        total += 10 if at <= 20 else 5
        refused += 5 if 10 <= at < 12 else 0
        samples.append(sample(at, {"greedy": total}, refused))
    assert digest(samples, of=played)["adapted_after"] == [1.0, None]


def test_percentiles_are_values_that_were_measured():
    values = [float(value) for value in range(1, 101)]
    assert [figures.percentile(values, part) for part in (0.5, 0.95, 0.99)] == [50.0, 95.0, 99.0]
    assert figures.percentile([], 0.5) is None


def run(strategy, share, limited, waits, seed=1):
    found = digest([sample(0, {"greedy": 0}), sample(2, {"greedy": 1}), sample(10, {"greedy": 100})])
    return found | {"strategy": strategy, "share": share, "limited": limited, "waits": waits, "seed": seed, "jain": 1.0}


def test_goals_and_who_is_better_are_told_from_the_figures():
    """Goal: a miss is marked, and so is whoever does better."""
    runs = [run("oracle", 1.0, 0, [10.0]), run("permitd-python", 0.98, 1, [30.0]), run("backoff", 1.0, 90, [5.0])]
    played = {"known": summaries(runs, is_concurrency_bound=False)}
    told = goals.table(played).splitlines()[-1]
    missed = ["**missed**: 98.0 %", "**missed**: 1.00 %", "met: 1.000", "**missed**: 30 ms of 10 ms", "met: 0 |"]
    assert told.split(" | ")[1:] == missed
    found = [line for line in better.told(played).splitlines() if line.startswith(("**", "-"))]
    assert [line.split(".**")[0] for line in found[::2]] == [
        "**Share of the possible",
        "**Median wait at a screen",
        "**P99 of the wait at a screen",
    ]
    assert found[1] == "- Limits known, permitd 98.0 %: backoff with jitter 100.0 % (0.90 429s per answer)."


def test_one_refusal_in_one_seed_is_a_miss_and_no_zero():
    """Goal: where limits are known there are none at all, and what is little is not rounded away."""
    runs = [run("oracle", 1.0, 0, [10.0], seed) for seed in (1, 2, 3)]
    runs += [run("permitd-python", 1.0, 1 if seed == 2 else 0, [10.0], seed) for seed in (1, 2, 3)]
    told = goals.table({"known": summaries(runs, is_concurrency_bound=False)}).splitlines()[-1]
    assert "**missed**: 0.00 % (at most 1.00 %)" in told
    assert [few(value) for value in (0, 0.003, 0.25)] == ["0", "< 0.01", "0.25"]


def test_figures_of_several_seeds_are_a_median_and_its_spread():
    runs = [run("oracle", share, 0, [share], seed) for seed, share in enumerate([0.9, 1.0, 0.5])]
    found = summaries(runs, is_concurrency_bound=False)["oracle"]
    assert found.share == Figure(0.9, 0.5, 1.0)
    assert found.waits == [0.5, 0.9, 1.0]


def test_jobs_follow_from_the_seed():
    """Goal: every strategy gets the same work, and every seed other work."""
    one, same, other = (jobs.fleet(seed, 20.0, 1_024, {"worker-2": 3}) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert [len(client.jobs) for client in one[:2]] == [jobs.JOBS, 3]
    assert [client.name for client in one][-2:] == ["greedy", "interactive"]


def test_every_scenario_tells_permitd_its_limits():
    for each in SCENARIOS:
        assert any(line.startswith("requests=") for line in each.permitd_limits()), each.name


def test_plots_follow_the_readers_colours_and_escape_names():
    drawn = plots.bars("a < b", [("share", "{:.0f} %", 100.0)], [("x & y", "ours", [50.0]), ("none", "other", [None])])
    assert "prefers-color-scheme: dark" in drawn
    assert "a &lt; b" in drawn
    assert "x &amp; y" in drawn
    assert drawn.count("<rect") == 1


def test_ours_lies_on_top():
    """Goal: where permitd and others have the same figure, permitd's dot is seen."""
    values = [[("ours", 1.0), ("other", 1.0)]]
    drawn = plots.dots("all", [("share", "{:.0f}", [0, 2])], [("permitd", "ours"), ("others", "other")], [("x & y", values)])
    last = [line for line in drawn.splitlines() if "fill-opacity" in line]
    assert ["ours" in line for line in last] == [False, True]
    assert "x &amp; y" in drawn


def test_several_providers_are_counted_together_and_have_their_parts():
    client = {"requests": 2, "ok": 1, "by_status": {"200": 1}}
    one = {"clients": {"a": client}, "possible": {"requests": 10}}
    other = {"clients": {"a": client, "b": client}, "possible": {"requests": 5}}
    twice = {"requests": 4, "ok": 2, "by_status": {"200": 2}}
    assert added([one]) == one
    assert added([one, other]) == {"clients": {"a": twice, "b": client}, "possible": {"requests": 15}}
    pooled = scenario("pooled")
    parts = [pooled.limits_of(part)["requests"]["per_minute"] for part in pooled.parts]
    assert sum(parts) == pooled.limits["requests"]["per_minute"]
    assert pooled.permitd_limits(1 / 3)[0] == f"requests={parts[1]}/1m,burst={pooled.limits['requests']['burst'] // 3 // 2}"
