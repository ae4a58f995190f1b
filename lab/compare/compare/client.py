"""A client process: takes its jobs from stdin, makes them by one strategy, and says at the end what became of them.

The first line of stdin is the assignment, the second lets it go, the third stops it; ``ready`` and the record come on stdout.
"""

from __future__ import annotations

import asyncio
import json
import sys

from . import strategies
from .record import Record

ASSIGNMENT_BYTES_MAX = 16 << 20


async def main() -> None:
    """Until it is told to stop."""
    lines = await _lines()
    assignment = json.loads(await lines.readline())
    record = Record(assignment["jobs"])
    strategy = await strategies.make(assignment, record)
    print("ready", flush=True)
    await lines.readline()
    record.begin()
    work = asyncio.create_task(_make_all(strategy, assignment, record))
    stopped = asyncio.create_task(lines.readline())
    await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        # Only a fault of the harness ends the work before it is told to stop.
        work.result()
    print(record.line(), flush=True)


async def _make_all(strategy: strategies.Strategy, assignment: dict, record: Record) -> None:
    jobs = list(enumerate(assignment["jobs"]))
    async with asyncio.TaskGroup() as running:
        if assignment["role"] == "interactive":
            began = asyncio.get_running_loop().time()
            for number, job in jobs:
                await asyncio.sleep(began + job["at_ms"] / 1000 - asyncio.get_running_loop().time())
                running.create_task(_make(strategy, number, job, record))
        else:
            jobs.reverse()
            for _ in range(assignment["slots"]):
                running.create_task(_slot(strategy, jobs, record))
        # There is nothing left to do but to be told to stop.
        await asyncio.Event().wait()


async def _slot(strategy: strategies.Strategy, jobs: list, record: Record) -> None:
    while jobs:
        number, job = jobs.pop()
        await _make(strategy, number, job, record)


async def _make(strategy: strategies.Strategy, number: int, job: dict, record: Record) -> None:
    record.wanted(number)
    try:
        await strategy.make(number, job)
    except strategies.GaveUp as error:
        record.ended(number, f"{type(error).__name__}: {error}"[:200])
    else:
        record.ended(number)


async def _lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=ASSIGNMENT_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


if __name__ == "__main__":
    asyncio.run(main())
