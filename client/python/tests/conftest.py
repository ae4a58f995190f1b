"""Real servers to test against: permitd, and the simulated provider."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


def binary(variable: str, name: str) -> str:
    """A program of this repository, which the Makefile has built."""
    path = Path(os.environ.get(variable, REPOSITORY / "target/debug" / name))
    assert path.exists(), f"{path} is missing: build it with `cargo build -p {name}`, or name it in {variable}"
    return str(path)


class Process:
    """A program that says where it listens."""

    def __init__(self, command, announces):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            found = re.search(announces, line)
            if found:
                self.address = found.group(1)
                return
        pytest.fail(f"{command[0]} ended with {self.process.wait()} before it listened")

    def end(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait(30)
        self.process.stdout.close()


class Server:
    """A permitd that can be ended and started again on the same port."""

    def __init__(self, folder, limits, pools):
        self.config = folder / "permitd.toml"
        text = "".join(f'[budgets."{name}"]\nlimits = {list(limits)!r}\n' for name, limits in limits.items())
        text += "".join(f'[pools."{name}"]\nmembers = {list(members)!r}\n' for name, members in pools.items())
        self.config.write_text(text.replace("'", '"'))
        self.port = 0
        self.process = None
        self.start()

    def start(self):
        command = [binary("PERMITD_BIN", "permitd"), "serve", "--listen", f"127.0.0.1:{self.port}", "--http", "off"]
        self.process = Process([*command, "--data", "none", "--config", str(self.config)], r"gRPC at (127\.0\.0\.1:\d+)")
        self.port = int(self.process.address.rpartition(":")[2])

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def state(self, budget):
        """The server's own word on a budget."""
        command = [binary("PERMITD_BIN", "permitd"), "budgets", "get", budget, "--json", "--server", self.endpoint]
        return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=30).stdout)

    async def until_waiting(self, budget, count):
        """Until so many requests wait there."""
        while (await asyncio.to_thread(self.state, budget))["waiting"] < count:
            pass

    def used(self, budget, unit):
        """What is gone of a limit that does not refill while the test runs."""
        (limit,) = [each for each in self.state(budget)["limits"] if each["unit"] == unit]
        return int(limit["effective_amount"]) - int(limit["level"])

    def kill(self):
        if self.process is not None:
            self.process.end()
            self.process = None


def threads_left():
    """Threads besides the first that do not end. gRPC's own is told to with the last of its objects, some of which wait for the
    collector, and nobody waits until it has."""
    gc.collect()
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    for thread in others:
        thread.join(timeout=10)
    return [thread for thread in others if thread.is_alive()]


@pytest.fixture
def serve(tmp_path):
    """Starts servers with limits of budgets and members of pools: ``serve({"p/k": ["in_flight=1"]}, {"p/any": ["p/k"]})``."""
    servers = []

    def start(limits, pools=None):
        folder = tmp_path / f"server-{len(servers)}"
        folder.mkdir()
        servers.append(Server(folder, limits, pools or {}))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def provide():
    """Starts simulated providers with the given flags."""
    providers = []

    def start(*flags):
        command = [binary("PERMITD_LAB_BIN", "permitd-lab"), "provider", *flags]
        providers.append(Process(command, r"(http://127\.0\.0\.1:\d+)"))
        return providers[-1].address

    yield start
    for provider in providers:
        provider.end()
