"""Permits acquired and reported through one session of one process, as fast as they come: rate, wait and memory.

    python bench/session.py http://127.0.0.1:7110 [--permits 200000] [--callers 200] [--threads]

Wants a budget bench/free that holds nobody back:

    permitd budgets set bench/free --limit requests=1000000000/1m
"""

import argparse
import asyncio
import resource
import threading
import time
from pathlib import Path

import permitd
import permitd.aio

BUDGET = "bench/free"
#: Round trips of a caller that is alone, for the wait of an uncontended acquire.
ALONE = 5_000


def resident_mib() -> float:
    """Memory in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def tell_waits(waits: list) -> None:
    """In milliseconds."""
    waits.sort()
    median, worst = waits[len(waits) // 2] * 1e3, waits[len(waits) * 99 // 100] * 1e3
    print(f"uncontended acquire: median {median:.2f} ms, p99 {worst:.2f} ms")


def tell_rate(permits: int, began: float) -> None:
    """Pairs of acquire and report."""
    print(f"{permits:>9} permits: {permits / (time.perf_counter() - began):>8.0f} a second, {resident_mib():.1f} MiB resident")


async def run_async(endpoint: str, permits: int, callers: int) -> None:
    """Tasks on one loop."""
    async with permitd.aio.connect(endpoint) as client:
        waits = []
        for _ in range(ALONE):
            began = time.perf_counter()
            permit = await client.acquire(BUDGET, tokens=1)
            waits.append(time.perf_counter() - began)
            await permit.report()
        tell_waits(waits)

        async def call(count: int) -> None:
            for _ in range(count):
                permit = await client.acquire(BUDGET, tokens=1)
                await permit.report()

        for _ in range(5):
            began = time.perf_counter()
            await asyncio.gather(*(call(permits // 5 // callers) for _ in range(callers)))
            tell_rate(permits // 5 // callers * callers, began)


def run_threads(endpoint: str, permits: int, callers: int) -> None:
    """Threads that share a client."""
    with permitd.connect(endpoint) as client:
        waits = []
        for _ in range(ALONE):
            began = time.perf_counter()
            permit = client.acquire(BUDGET, tokens=1)
            waits.append(time.perf_counter() - began)
            permit.report()
        tell_waits(waits)

        def call() -> None:
            for _ in range(permits // 5 // callers):
                client.acquire(BUDGET, tokens=1).report()

        for _ in range(5):
            began = time.perf_counter()
            threads = [threading.Thread(target=call) for _ in range(callers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            tell_rate(permits // 5 // callers * callers, began)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endpoint")
    parser.add_argument("--permits", type=int, default=200_000)
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--threads", action="store_true", help="threads that share a client, instead of tasks")
    asked = parser.parse_args()
    if asked.threads:
        run_threads(asked.endpoint, asked.permits, asked.callers)
    else:
        asyncio.run(run_async(asked.endpoint, asked.permits, asked.callers))


main()
