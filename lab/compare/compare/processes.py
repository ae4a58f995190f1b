"""The programs that a run needs, each on a port of its own of this machine, and each ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Optional

REPOSITORY = Path(__file__).resolve().parents[3]
#: Seconds that a program may take until it is ready, on a busy machine.
READY_WITHIN = 120.0
#: Ports for servers that are started again.
PORTS = range(20_000, 30_000)


#: No proxy stands before this machine's own ports.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Missing(Exception):
    """Something has to be built or installed first; says what."""


def program(variable: str, name: str) -> str:
    """A program of this repository: as named in the environment, or built for release."""
    path = Path(os.environ.get(variable, REPOSITORY / "target/release" / name))
    if not path.exists():
        raise Missing(f"{path} is missing: build it with `cargo build --release -p {name}`, or name another in {variable}")
    return str(path)


class Provider:
    """The simulator."""

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    @contextlib.asynccontextmanager
    async def serve(cls, seed: int, limits: dict, behaviour: dict) -> AsyncIterator[Provider]:
        """As long as the block lasts."""
        command = [program("PERMITD_LAB_BIN", "permitd-lab"), "provider", "--seed", str(seed)]
        async with running(command, stdout=asyncio.subprocess.PIPE) as process:
            provider = cls(await announced(process, r"(http://127\.0\.0\.1:\d+)"))
            await provider.put("limits", limits)
            await provider.put("behaviour", behaviour)
            yield provider

    async def put(self, what: str, patch: dict) -> None:
        """Changes limits or behaviour from now on."""
        await asyncio.to_thread(self._ask, "PUT", what, patch)

    async def reset(self) -> None:
        """Full buckets, and nothing counted."""
        await asyncio.to_thread(self._ask, "POST", "reset", {})

    async def stats(self) -> dict:
        """What it has counted."""
        return json.loads(await asyncio.to_thread(self._ask, "GET", "stats", None))

    def _ask(self, method: str, what: str, sent: Optional[dict]) -> bytes:
        data = None if sent is None else json.dumps(sent).encode()
        request = urllib.request.Request(f"{self.url}/sim/{what}", data, method=method)
        with _DIRECT.open(request, timeout=30) as response:
            return response.read()


class Providers:
    """Several simulators as one: what is told to them is told to all, and what they count is added up."""

    def __init__(self, each: list[Provider]) -> None:
        self.urls = [provider.url for provider in each]
        self._each = each

    async def put(self, what: str, patch: dict) -> None:
        """Changes limits or behaviour from now on."""
        await asyncio.gather(*(provider.put(what, patch) for provider in self._each))

    async def reset(self) -> None:
        """Full buckets, and nothing counted."""
        await asyncio.gather(*(provider.reset() for provider in self._each))

    async def stats(self) -> dict:
        """What they have counted."""
        return added(await asyncio.gather(*(provider.stats() for provider in self._each)))


def added(counted: list[dict]) -> dict:
    """The sums, figure by figure."""
    sums: dict = {}
    for stats in counted:
        for name, value in stats.items():
            if isinstance(value, dict):
                sums[name] = added([sums.get(name, {}), value])
            elif isinstance(value, (int, float)):
                sums[name] = sums.get(name, 0) + value
    return sums


class Permitd:
    """The server, which can be killed and started again on the same port with the same data. Limits of several budgets are
    those of a pool, whose members have their places for keys."""

    BUDGET = "anthropic/compare"

    def __init__(self, folder: Path, limits: list[list[str]]) -> None:
        self._folder, self._port = folder, free_port()
        pooled = [f"anthropic/{place}" for place in range(len(limits))] if len(limits) > 1 else [self.BUDGET]
        lines = [f'[budgets."{name}"]\nlimits = {json.dumps(some)}\n' for name, some in zip(pooled, limits)]
        if len(pooled) > 1:
            lines.append(f'[pools."{self.BUDGET}"]\nmembers = {json.dumps(pooled)}\n')
        (folder / "permitd.toml").write_text("\n".join(lines))
        self._process: Optional[asyncio.subprocess.Process] = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Until it listens."""
        command = [program("PERMITD_BIN", "permitd"), "serve", "--listen", f"127.0.0.1:{self._port}", "--http", "off"]
        command += ["--data", str(self._folder / "data"), "--config", str(self._folder / "permitd.toml")]
        self._process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        await announced(self._process, r"gRPC at (127\.0\.0\.1:\d+)")

    async def end(self) -> None:
        """As if it lost its power."""
        await end(self._process, signal.SIGKILL)


class Redis:
    """The system's own, with nothing on disk but what it needs to come back: every write, once a second."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._process: Optional[asyncio.subprocess.Process] = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Until it listens."""
        redis = shutil.which("redis-server")
        if redis is None:
            raise Missing("redis-server is missing: install it with `apt-get install redis-server`")
        command = [redis, "--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
        command += ["--dir", str(self._folder)]
        self._process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        await announced(self._process, r"(Ready to accept connections)")

    async def end(self) -> None:
        """As if it lost its power."""
        await end(self._process, signal.SIGKILL)


def free_port() -> int:
    """One that nobody uses at the moment, below those that connections go out from: it has to be free after a restart, too."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise Missing(f"no port of {PORTS.start} to {PORTS.stop - 1} is free")


@contextlib.asynccontextmanager
async def running(command: list[str], **more: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(*command, limit=64 << 20, **more)
    try:
        yield process
    finally:
        await end(process, signal.SIGKILL)


async def end(process: Optional[asyncio.subprocess.Process], number: signal.Signals) -> None:
    """Ends a program that may have ended already."""
    if process is not None and process.returncode is None:
        process.send_signal(number)
        await process.wait()


async def announced(process: asyncio.subprocess.Process, pattern: str) -> str:
    """What a program says when it is ready. What it says after that is read and forgotten."""
    assert process.stdout is not None

    async def until_ready() -> str:
        async for line in process.stdout:
            if found := re.search(pattern, line.decode()):
                return found.group(1)
        raise Missing(f"a program ended with {await process.wait()} before it was ready")

    try:
        ready = await asyncio.wait_for(until_ready(), READY_WITHIN)
    except TimeoutError:
        raise Missing(f"a program was not ready after {READY_WITHIN:.0f} s") from None
    task = asyncio.create_task(_forget(process.stdout))
    _FORGETTING.add(task)
    task.add_done_callback(_FORGETTING.discard)
    return ready


#: Tasks that nobody else holds.
_FORGETTING: set[asyncio.Task] = set()


async def _forget(stream: asyncio.StreamReader) -> None:
    while await stream.read(1 << 16):
        pass
