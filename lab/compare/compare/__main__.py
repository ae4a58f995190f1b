"""``python -m compare run`` measures and keeps what it measured, ``page`` writes docs/comparison.md of all that was kept."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from . import build, cell, figures, page, strategies
from .processes import Missing
from .scenarios import SCENARIOS, scenario

RESULTS = Path(__file__).resolve().parents[1] / "results.jsonl"
#: A run uses a tenth of two cores: so many are no crowd.
AT_ONCE_PER_CORE = 4
#: What `--quick` runs: enough to see that everything works together.
QUICK = (["known"], ["oracle", "permitd-python"], [1])


def main() -> int:
    """A command of the command line."""
    arguments = _parser().parse_args()
    try:
        if arguments.command == "page":
            page.write(_finished(arguments.results))
        else:
            asyncio.run(_until_told(arguments))
    except Missing as missing:
        print(f"compare: {missing}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        print("compare: stopped; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="compare", description="permitd against what people do today, on the same work.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of runs, a line each (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("page", help="write docs/comparison.md, its plots, and the figures in README.md, of the runs in the file")
    run = commands.add_parser("run", help="run what the file does not hold yet, and add it")
    run.add_argument("--scenario", nargs="*", choices=[each.name for each in SCENARIOS], help="default: all")
    run.add_argument("--strategy", nargs="*", choices=[each.name for each in strategies.ENTRIES], help="default: all")
    run.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3], help="default: 1 2 3")
    run.add_argument(
        "--at-once",
        type=int,
        default=AT_ONCE_PER_CORE * (os.cpu_count() or 1),
        metavar="N",
        help="runs at the same time, begun together (default here: %(default)s)",
    )
    run.add_argument("--stop-after", type=float, metavar="SECONDS", help="begin no further runs after this time")
    run.add_argument("--quick", action="store_true", help="two strategies in one scenario, checked and not kept")
    return parser


async def _until_told(arguments: argparse.Namespace) -> None:
    """Ends what it started when it is told to end, as it does on Ctrl-C."""
    running = asyncio.current_task()
    assert running is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    with arguments.results.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Missing(f"another run writes to {arguments.results}: end it, or name another file with --results") from None
        await _run(arguments)


async def _run(arguments: argparse.Namespace) -> None:
    names, ways, seeds = QUICK if arguments.quick else (arguments.scenario, arguments.strategy, arguments.seeds)
    done = set() if arguments.quick else {(run["scenario"], run["strategy"], run["seed"]) for run in _kept(arguments.results)}
    wanted = [each for each in _cells(names, ways, seeds) if (each.scenario.name, each.strategy, each.seed) not in done]
    began, finished = time.monotonic(), []
    for batch in _batches(wanted, arguments.at_once):
        if arguments.stop_after is not None and time.monotonic() - began > arguments.stop_after:
            break
        left = len(wanted) - len(finished)
        print(f"{left} to go: {batch[0].scenario.title}, seed {batch[0].seed}", flush=True)
        digests, failure = await _together(batch)
        for digest in digests:
            print(f"  {_line(digest)}", flush=True)
            finished.append(digest)
            if not arguments.quick:
                with arguments.results.open("a") as file:
                    file.write(json.dumps(digest) + "\n")
        if failure is not None:
            raise failure
    if arguments.quick:
        _check(finished)


def _cells(names: list | None, ways: list | None, seeds: list[int]) -> list[cell.Cell]:
    """All of one seed and scenario, then of the next. Strategies have other neighbours with every seed."""
    cells = []
    for seed in seeds:
        for name in names or [each.name for each in SCENARIOS]:
            played = scenario(name)
            entries = [strategies.entry(way) for way in ways] if ways else strategies.ENTRIES
            some = [cell.Cell(played, entry.name, seed) for entry in entries if played.is_for(entry.name, is_openai=entry.openai)]
            random.Random(f"{seed}/{name}").shuffle(some)
            cells += some
    return cells


def _batches(wanted: list[cell.Cell], at_once: int) -> Iterator[list[cell.Cell]]:
    """Only those of one scenario run together, so that they end together."""
    for _, group in itertools.groupby(wanted, lambda each: (each.scenario.name, each.seed)):
        same = list(group)
        alone = [each for each in same if strategies.entry(each.strategy).alone]
        together = [each for each in same if each not in alone]
        yield from (together[at : at + at_once] for at in range(0, len(together), at_once))
        yield from ([each] for each in alone)


async def _together(batch: list[cell.Cell]) -> tuple[list[dict], Optional[BaseException]]:
    """What those told that went well, and why the first one did not that went wrong."""
    together = asyncio.Barrier(len(batch))
    ran = await asyncio.gather(*(cell.run(each, together) for each in batch), return_exceptions=True)
    digests = [
        figures.digest(each.scenario, each.strategy, each.seed, result)
        | {"build": build.of(each.scenario, each.strategy), "together": len(batch), "cores": os.cpu_count()}
        for each, result in zip(batch, ran)
        if isinstance(result, dict)
    ]
    failed = [each for each in ran if isinstance(each, BaseException)]
    # That the others did not come to the start is no news.
    failed.sort(key=lambda each: isinstance(each, asyncio.BrokenBarrierError))
    return digests, failed[0] if failed else None


def _line(digest: dict) -> str:
    median = figures.percentile(digest["waits"], 0.5)
    return (
        f"{digest['strategy']:20} {digest['share']:6.1%} of the possible, {digest['limited']} refused of {digest['sent']}, "
        f"Jain {digest['jain'] or 0:.3f}, median wait {median} ms, {digest['failed']} failed"
    )


def _check(finished: list[dict]) -> None:
    """A quick run is a test of the harness: that work was done and counted by both sides, not how fast."""
    for digest in finished:
        if not digest["answered"] or not digest["waits"] or digest["failed"]:
            raise Missing(f"{digest['strategy']} did not do its work: {digest}")


def _finished(path: Path) -> list[dict]:
    """What was kept, if it is enough for a page: without runs there is nothing to tell, without the oracle nothing to compare."""
    runs = _kept(path)
    first = "first run `make compare`, or `lab/compare/run run` for some of it"
    if not runs:
        raise Missing(f"{path} holds no run to write of: {first}")
    if not any(run["strategy"] == "oracle" for run in runs):
        raise Missing(f"{path} holds no run of the oracle, with which all are compared: {first}")
    return runs


def _kept(path: Path) -> list[dict]:
    """The runs in the file that were made with what is there now."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    runs = [run for run in lines if run.get("build") == build.of(scenario(run["scenario"]), run["strategy"])]
    if len(runs) < len(lines):
        print(
            f"{len(lines) - len(runs)} runs in {path} were made with other programs or settings, and are left out",
            file=sys.stderr,
        )
    # Of two that are the same, the later.
    return list({(run["scenario"], run["strategy"], run["seed"]): run for run in runs}.values())


if __name__ == "__main__":
    sys.exit(main())
