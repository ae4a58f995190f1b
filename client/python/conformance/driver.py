"""Reads commands as JSON lines on stdin and writes events as JSON lines on stdout, as client/conformance/README.md says.

Each command is a task; a command never waits for another.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import sys
import threading
from pathlib import Path
from typing import Any, Awaitable, Callable, Dict, Optional

import httpx

import permitd
import permitd.aio
from permitd._http.estimate import estimate
from permitd._http.exchange import Exchange
from permitd.httpx import AsyncPermitTransport

#: Bytes in one command.
LINE_BYTES_MAX = 16 * 1024 * 1024
#: Seconds until what was closed has ended.
END_MAX = 10.0

Command = Dict[str, Any]


def tell(event: str, **fields: Any) -> None:
    """Writes one event."""
    print(json.dumps({"event": event, **fields}), flush=True)


class Driver:
    """One client, and what the case has asked of it."""

    def __init__(self) -> None:
        #: The last is in use.
        self.clients: list[permitd.aio.Client] = []
        self.acquiring: Dict[str, asyncio.Task[None]] = {}
        self.permits: Dict[str, permitd.aio.Permit] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.connecting: Optional[asyncio.Task[None]] = None

    def take(self, command: Command) -> None:
        """Begins to do it."""
        operations: Dict[str, Callable[[Command], Awaitable[None]]] = {
            "connect": self.connect,
            "acquire": self.acquire,
            "several": self.several,
            "cancel": self.cancel,
            "drop": self.drop,
            "report": self.report,
            "call": self.call,
            "many": self.many,
            "http": self.http,
            "estimate": self.estimate,
            "usage": self.usage,
        }
        operation = operations.get(command["op"])
        if operation is None:
            tell("unknown", op=command["op"])
            return
        task = asyncio.ensure_future(operation(command))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        if command["op"] == "connect":
            self.connecting = task
        if command["op"] in ("acquire", "several"):
            self.acquiring[command["id"]] = task

    async def connect(self, command: Command) -> None:
        """Makes the client."""
        names = {"tenant": "tenant", "outage": "outage", "token": "token"}
        spans = {"outage_after_ms": "outage_after", "connect_timeout_ms": "connect_timeout", "keepalive_ms": "keepalive"}
        options = {ours: command[theirs] for theirs, ours in names.items() if command.get(theirs) is not None}
        options.update({ours: command[theirs] / 1000 for theirs, ours in spans.items() if command.get(theirs) is not None})
        if command.get("ca") is not None:
            options["tls"] = permitd.Tls(ca=Path(command["ca"]))
        if command.get("token_file") is not None:
            options["token"] = Path(command["token_file"])
        try:
            self.clients.append(await permitd.aio.connect(command["endpoints"], **options))
        except permitd.Error as error:
            tell("failed", **facts(error))
        else:
            tell("connected")

    async def acquire(self, command: Command) -> None:
        """Asks for one permit."""
        name = command["id"]
        try:
            permit = await self.ready().request(request_of(command))
        except permitd.Error as error:
            tell("refused", id=name, **facts(error))
        except asyncio.CancelledError:
            tell("cancelled", id=name)
        else:
            self.hold(name, permit)
        finally:
            del self.acquiring[name]

    async def several(self, command: Command) -> None:
        """Asks for several permits by one request."""
        name, options = command["id"], request_of(command).__dict__.copy()
        number = 0
        try:
            async for permit in self.ready().acquire_many(**options, count=command["count"]):
                number += 1
                self.hold(f"{name}{number}", permit)
        except permitd.Error as error:
            tell("refused", id=name, **facts(error))
        except asyncio.CancelledError:
            tell("cancelled", id=name)
        else:
            tell("complete", id=name)
        finally:
            del self.acquiring[name]

    def hold(self, name: str, permit: permitd.aio.Permit) -> None:
        """Keeps a permit that was granted."""
        self.permits[name] = permit
        tell("granted", id=name, **{"from": permit.source}, charged=amounts(permit.charged))

    async def cancel(self, command: Command) -> None:
        """Withdraws it, or gives the permit back."""
        name = command["id"]
        if name in self.acquiring:
            self.acquiring[name].cancel()
        elif name in self.permits:
            self.permits.pop(name).cancel()
            tell("cancelled", id=name)

    async def drop(self, command: Command) -> None:
        """Leaves the guard's block without a report."""
        async with self.permits[command["id"]]:
            pass
        tell("dropped", id=command["id"])

    async def report(self, command: Command) -> None:
        """Says how it went."""
        name = command["id"]
        try:
            reporting = self.permits[name].report(report_of(command))
        except permitd.InvalidRequest:
            # The library does not send a second report.
            tell("repeated", id=name)
            return
        try:
            advice = await reporting
        except permitd.Error as error:
            tell("failed", id=name, **facts(error))
        else:
            outcome, wait = advice.outcome.name.lower(), milliseconds(advice.retry_after)
            tell("reported", id=name, outcome=outcome, settled=advice.settled, retry=advice.retry, retry_after_ms=wait)

    async def call(self, command: Command) -> None:
        """The library's ``call`` around a function that answers as told."""
        name, answers, attempts = command["id"], command["answers"], 0

        async def fn(_permit: permitd.aio.Permit) -> Command:
            nonlocal attempts
            attempts += 1
            answer: Command = answers[min(attempts, len(answers)) - 1]
            if answer.get("raises"):
                raise RaisedError
            return answer

        def classify(result: Any) -> permitd.Report:
            return permitd.Report("failed") if isinstance(result, Exception) else report_of(result)

        options = {"attempts": command["attempts"]} if command.get("attempts") is not None else {}
        try:
            answer = await self.ready().call(fn, request_of(command), classify=classify, **options)
        except permitd.Error as error:
            tell("refused", id=name, **facts(error))
        except RaisedError:
            tell("raised", id=name, attempts=attempts)
        else:
            tell("called", id=name, attempts=attempts, status=answer.get("status"))

    async def many(self, command: Command) -> None:
        """Asks for all at once, and reports each as it comes."""
        client, request = self.ready(), request_of(command)

        async def one() -> bool:
            try:
                permit = await client.request(request)
            except permitd.Error:
                return False
            await permit.report()
            return True

        granted = sum(await asyncio.gather(*(one() for _ in range(command["count"]))))
        tell("many", id=command["id"], granted=granted, refused=command["count"] - granted)

    async def http(self, command: Command) -> None:
        """One request through the adapter for httpx."""
        transport = AsyncPermitTransport(self.ready(), request_of(command))
        try:
            async with httpx.AsyncClient(transport=transport, timeout=None) as http:
                response = await http.request(
                    command["method"], command["url"], headers=command.get("headers"), content=command.get("body")
                )
        except permitd.Error as error:
            tell("refused", id=command["id"], **facts(error))
        else:
            tell("responded", id=command["id"], status=response.status_code, body=response.text)

    async def estimate(self, command: Command) -> None:
        """What the adapter would ask for."""
        told = estimate(command.get("body") or "")
        usage = told.usage if told is not None else permitd.Usage()
        tell(
            "estimated",
            id=command["id"],
            input_tokens=decimal(usage.input_tokens),
            max_output_tokens=decimal(usage.max_output_tokens),
            model=told.model if told is not None else "",
        )

    async def usage(self, command: Command) -> None:
        """What the adapter would report."""
        headers = {name.lower(): value for name, value in (command.get("headers") or {}).items()}
        exchange = Exchange(Nobody(), 0.0, command["status"], headers)
        exchange.take(command["body"].encode())
        usage = exchange.report().usage or permitd.Usage()
        tell(
            "used",
            id=command["id"],
            input_tokens=decimal(usage.input_tokens),
            output_tokens=decimal(usage.output_tokens),
            cached_input_tokens=decimal(usage.cached_input_tokens),
        )

    async def close(self) -> None:
        """Ends everything, and counts what is left."""
        if self.connecting is not None:
            await self.connecting
        for client in self.clients:
            await client.close()
        if self.tasks:
            await asyncio.wait(self.tasks)
        # gRPC's own tasks end a turn of the loop later.
        patience = asyncio.get_running_loop().time() + END_MAX
        while (left := left_behind()) and asyncio.get_running_loop().time() < patience:
            await asyncio.sleep(0.01)
        for one in left:
            print("left behind:", one, file=sys.stderr)
        tell("closed", leaked=len(left))

    def ready(self) -> permitd.aio.Client:
        """The client, which the case has connected."""
        return self.clients[-1]


def left_behind() -> list[object]:
    """Tasks and threads beside those of this program."""
    # gRPC's thread ends with the last of its objects, some of which wait for the collector.
    gc.collect()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    threads = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    return [*tasks, *threads]


class Nobody:
    """Has no permit to report."""

    def report_detached(self, report: permitd.Report) -> None:
        """Takes it."""


class RaisedError(Exception):
    """What the application's own function raises."""


def request_of(command: Command) -> permitd.Request:
    """What is asked for."""
    known = {name: command[name] for name in ("key", "model", "tenant", "priority") if command.get(name)}
    return permitd.Request(
        command["provider"],
        tokens=None if command.get("tokens") is None else int(command["tokens"]),
        usage=usage_of(command.get("usage")),
        max_wait=None if command.get("max_wait_ms") is None else command["max_wait_ms"] / 1000,
        timeout=None if command.get("deadline_ms") is None else command["deadline_ms"] / 1000,
        **known,
    )


def report_of(command: Command) -> permitd.Report:
    """What is reported."""
    usage = usage_of(command.get("usage"))
    if command.get("tokens") is not None:
        usage = permitd.Usage(tokens=int(command["tokens"]))
    return permitd.Report(
        outcome=command.get("outcome") or None,
        retry_after=None if command.get("retry_after_ms") is None else command["retry_after_ms"] / 1000,
        usage=usage,
        status=command.get("status"),
        headers=command.get("headers"),
        body=command.get("body"),
    )


def usage_of(amounts: Optional[Dict[str, Any]]) -> Optional[permitd.Usage]:
    """From decimal strings."""
    if amounts is None:
        return None
    other = {unit: int(amount) for unit, amount in (amounts.get("other") or {}).items()}
    known = {unit: int(amount) for unit, amount in amounts.items() if unit != "other" and amount is not None}
    return permitd.Usage(**known, other=other)


def amounts(usage: permitd.Usage) -> Dict[str, Any]:
    """As decimal strings, the units that are known."""
    known: Dict[str, Any] = {unit: str(amount) for unit, amount in vars(usage).items() if unit != "other" and amount is not None}
    if usage.other:
        known["other"] = {unit: str(amount) for unit, amount in usage.other.items()}
    return known


def facts(error: permitd.Error) -> Dict[str, Any]:
    """What an error says."""
    return {
        "code": error.code,
        "reason": error.reason,
        "limit": error.limit or "",
        "retry_after_ms": milliseconds(error.retry_after),
        "message": error.message,
    }


def decimal(amount: Optional[int]) -> Optional[str]:
    """As the protocol has amounts."""
    return None if amount is None else str(amount)


def milliseconds(span: Optional[float]) -> Optional[int]:
    """Rounded up."""
    return None if span is None else math.ceil(round(span * 1000, 6))


async def main() -> None:
    """Until ``close``, or the end of stdin."""
    driver = Driver()
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while True:
        line = await reader.readline()
        command: Command = json.loads(line) if line.strip() else {"op": "close"}
        if command["op"] == "close":
            break
        driver.take(command)
    await driver.close()
    transport.close()


asyncio.run(main())
