"""One strategy in one scenario with one seed: sets up, runs for the scenario's time, and hands back what everybody counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from . import jobs, strategies
from .processes import READY_WITHIN, REPOSITORY, Missing, Permitd, Provider, Providers, Redis, program, running
from .scenarios import BEHAVIOUR, Change, Scenario

HERE = Path(__file__).resolve().parents[1]
SAMPLE_EVERY = 0.5
#: Seconds that clients get to say what they did.
RECORD_WITHIN = 60.0
REPLICAS = 9
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cell:
    """What is run."""

    scenario: Scenario
    strategy: str
    seed: int


@dataclass
class Running:
    """One client process."""

    client: jobs.Client
    process: asyncio.subprocess.Process
    cpu_before: float = 0.0
    has_begun: bool = False


async def run(cell: Cell, together: asyncio.Barrier) -> dict:
    """All of it; the clients begin when those of the other cells at the barrier do."""
    scenario, entry = cell.scenario, strategies.entry(cell.strategy)
    async with contextlib.AsyncExitStack() as stack:
        try:
            behaviour = BEHAVIOUR | scenario.behaviour
            each = [Provider.serve(cell.seed, scenario.limits_of(part), behaviour) for part in scenario.parts]
            provider = Providers([await stack.enter_async_context(one) for one in each])
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="permitd-compare-")))
            server = await _server(entry, scenario, folder, stack)
            everybody = jobs.fleet(cell.seed, scenario.seconds, scenario.max_tokens, scenario.jobs_of)
            if any(change.what == "replicas" for change in scenario.changes):
                everybody += [
                    jobs.batch("worker-1", jobs.SLOTS, cell.seed, scenario.max_tokens, replica=n + 1) for n in range(REPLICAS)
                ]
            started = [_start(at, client, cell, entry, provider, server, stack) for at, client in enumerate(everybody)]
            clients = await asyncio.gather(*started)
        except BaseException:
            await together.abort()
            raise
        await together.wait()
        await provider.reset()
        return await _measure(cell, provider, server, clients)


async def _server(
    entry: strategies.Entry, scenario: Scenario, folder: Path, stack: contextlib.AsyncExitStack
) -> Optional[Permitd | Redis]:
    if not entry.server:
        return None
    server = (
        Permitd(folder, [scenario.permitd_limits(part) for part in scenario.parts])
        if entry.server == "permitd"
        else Redis(folder)
    )
    stack.push_async_callback(server.end)
    await server.start()
    return server


async def _start(
    place: int,
    client: jobs.Client,
    cell: Cell,
    entry: strategies.Entry,
    provider: Providers,
    server: Optional[Permitd | Redis],
    stack: contextlib.AsyncExitStack,
) -> Running:
    """A client that is ready to go."""
    behaviour = BEHAVIOUR | cell.scenario.behaviour
    assignment = {
        "strategy": entry.name,
        "name": client.name,
        "role": client.role,
        "slots": client.slots,
        "jobs": client.jobs,
        "provider": provider.urls[0],
        "providers": provider.urls,
        "parts": cell.scenario.parts,
        entry.server: server.url if server else "",
        "budget": Permitd.BUDGET,
        "limits": cell.scenario.known_limits(),
        "clients": jobs.WORKERS + 2,
        "place": place,
        "latency_mean": behaviour["latency_median_ms"] / 1000 * math.exp(behaviour["latency_sigma"] ** 2 / 2),
    }
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await stack.enter_async_context(running(command(entry), cwd=HERE, **pipes))
    _tell(process, json.dumps(assignment))
    try:
        async with asyncio.timeout(READY_WITHIN):
            line = await process.stdout.readline()
    except TimeoutError:
        raise Missing(f"a client of {entry.name} was not ready after {READY_WITHIN:.0f} s") from None
    if line != b"ready\n":
        raise Missing(f"a client of {entry.name} said {line!r} instead of ready")
    return Running(client, process)


def command(entry: strategies.Entry) -> list[str]:
    """What starts a client."""
    if entry.made_by == "rust":
        return [program("PERMITD_COMPARE_CLIENT_BIN", "permitd-compare-client")]
    if entry.made_by == "typescript":
        return ["node", str(HERE / "clients/typescript.js")]
    if entry.environment == "main":
        return [sys.executable, "-m", "compare.client"]
    python = Path(os.environ.get("COMPARE_ENVIRONMENTS", REPOSITORY / "target/compare")) / entry.environment / "bin/python"
    return [str(python), "-m", "compare.client"]


def _tell(process: asyncio.subprocess.Process, line: str) -> None:
    process.stdin.write(f"{line}\n".encode())


async def _measure(cell: Cell, provider: Providers, server: Optional[Permitd | Redis], clients: list[Running]) -> dict:
    loop = asyncio.get_running_loop()
    began, seconds = loop.time(), cell.scenario.seconds
    first = clients[: jobs.WORKERS + 2]
    idle_before, all_before = _processors()
    for client in first:
        _go(client)
    meanwhile = [asyncio.create_task(_change(change, began, cell, provider, server, clients)) for change in cell.scenario.changes]
    samples = []
    while (at := loop.time() - began) < seconds:
        samples.append({"at": at} | await provider.stats())
        await asyncio.sleep(max(0.0, began + SAMPLE_EVERY * len(samples) - loop.time()))
    samples.append({"at": loop.time() - began} | await provider.stats())
    await asyncio.gather(*meanwhile)
    ended = loop.time() - began
    idle, everything = _processors()
    going = [client for client in clients if client.has_begun]
    cpu = sum(_cpu(client) - client.cpu_before for client in going)
    records = await asyncio.gather(*(_stop(client) for client in going))
    rest = (idle - idle_before) / (everything - all_before)
    return {"seconds": ended, "samples": samples, "cpu_seconds": cpu, "idle_share": rest, "records": records}


def _go(client: Running) -> None:
    client.cpu_before, client.has_begun = _cpu(client), True
    _tell(client.process, "go")


async def _stop(client: Running) -> dict:
    try:
        _tell(client.process, "stop")
        async with asyncio.timeout(RECORD_WITHIN):
            line = await client.process.stdout.readline()
    except TimeoutError:
        raise Missing(f"{client.client.name} did not say within {RECORD_WITHIN:.0f} s what it did") from None
    if not line:
        raise _ended_early(client)
    return {"role": client.client.role} | json.loads(line)


def _ended_early(client: Running) -> Missing:
    return Missing(f"{client.client.name} ended before it was told to: what it said stands above")


async def _change(
    change: Change, began: float, cell: Cell, provider: Providers, server: Optional[Permitd | Redis], clients: list[Running]
) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(began + change.at * cell.scenario.seconds - loop.time())
    if change.what == "replicas":
        for client in clients[jobs.WORKERS + 2 :]:
            _go(client)
    elif change.what == "restart":
        if server is not None:
            await server.end()
            await server.start()
    else:
        await provider.put(change.what, change.patch)


def _processors() -> tuple[int, int]:
    """How long this machine's processors were idle, and how long in all, in ticks."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def _cpu(client: Running) -> float:
    """Seconds of processor time that a client has used, in user and kernel."""
    try:
        fields = Path(f"/proc/{client.process.pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        raise _ended_early(client) from None
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
