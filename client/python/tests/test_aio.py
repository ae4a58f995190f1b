"""The asyncio client against a real server."""

from __future__ import annotations

import asyncio

import pytest
from conftest import threads_left

import permitd
import permitd.aio
from permitd import Outcome, Usage


def test_acquires_and_reports(serve):
    """Goal: what is charged, settled and advised comes through, in units and in time."""
    server = serve({"p/k": ["tokens=1000/1m", "in_flight=2"]})

    async def run():
        async with permitd.aio.connect(server.endpoint, tenant="web") as client:
            assert client.is_connected
            permit = await client.acquire("p/k", usage=Usage(input_tokens=70, output_tokens=30), model="m")
            assert (permit.provider, permit.key, permit.source, permit.is_managed) == ("p", "k", "server", True)
            assert permit.permit_id
            assert permit.charged.tokens == 100
            assert permit.waited == 0
            assert permit.expires_at is not None
            advice = await permit.report(usage=Usage(input_tokens=70, output_tokens=5))
            assert (advice.outcome, advice.settled, advice.retry) == (Outcome.SUCCESS, True, False)
            async with client.acquire("p", "k", tokens=100) as permit:
                advice = await permit.report(status=429, headers={"Retry-After": "0"}, body=b"{}")
            assert (advice.outcome, advice.retry, advice.retry_after) == (Outcome.RATE_LIMITED, True, 0)

    asyncio.run(run())
    assert threads_left() == []


def test_refusals_say_what_they_know(serve):
    """Goal: a refusal is an exception of its kind, with code, reason, limit and wait."""
    server = serve({"p/k": ["tokens=60/1m"]})

    async def run():
        async with permitd.aio.connect(server.endpoint) as client:
            with pytest.raises(permitd.Refused, match="nobody declared") as unknown:
                await client.acquire("p/other")
            assert (unknown.value.code, unknown.value.reason) == ("NOT_FOUND", "BUDGET_UNKNOWN")
            with pytest.raises(permitd.Refused) as impossible:
                await client.acquire("p/k", tokens=61)
            assert impossible.value.is_impossible
            assert (impossible.value.limit, impossible.value.retry_after) == ("tokens/1m", None)
            await (await client.acquire("p/k", tokens=60)).report()
            with pytest.raises(permitd.NotInTime) as late:
                await client.acquire("p/k", tokens=60, max_wait=0)
            assert isinstance(late.value, TimeoutError)
            assert late.value.reason == "NOT_IN_TIME"
            assert 0 < late.value.retry_after < 70

    asyncio.run(run())


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"provider": ""}, "provider"),
        ({"provider": "p", "key": "k" * 257}, "key"),
        ({"provider": "p", "model": 7}, "model"),
        ({"provider": "p", "tenant": "\ud800"}, "tenant"),
        ({"provider": "p", "tokens": -1}, "tokens"),
        ({"provider": "p", "tokens": 2**64}, "tokens"),
        ({"provider": "p", "tokens": 1.5}, "tokens"),
        ({"provider": "p", "usage": Usage(other={"": 1})}, "usage.other"),
        ({"provider": "p", "usage": Usage(input_tokens=-1)}, "usage.input_tokens"),
        ({"provider": "p", "priority": "urgent"}, "priority"),
        ({"provider": "p", "max_wait": -1}, "max_wait"),
        ({"provider": "p", "timeout": "soon"}, "timeout"),
    ],
)
def test_bad_input_names_the_field(serve, asked, field):
    """Goal: what makes no sense is refused before it is sent, in words that name it."""
    server = serve({"p/k": ["in_flight=1"]})

    async def run():
        async with permitd.aio.connect(server.endpoint) as client:
            with pytest.raises(permitd.InvalidRequest, match=f"^{field}") as error:
                await client.acquire(**asked)
            assert isinstance(error.value, ValueError)

    asyncio.run(run())


def test_a_report_that_makes_no_sense_leaves_the_permit(serve):
    """Goal: bad input in a report is told, and the permit can still be reported; but once only."""
    server = serve({"p/k": ["in_flight=1"]})

    async def run():
        async with permitd.aio.connect(server.endpoint) as client:
            permit = await client.acquire("p/k")
            for bad, field in [
                ({"status": -1}, "status"),
                ({"retry_after": -1}, "retry_after"),
                ({"outcome": "fine"}, "outcome"),
            ]:
                with pytest.raises(permitd.InvalidRequest, match=f"^{field}"):
                    permit.report(**bad)
            assert (await permit.report("failed")).settled
            with pytest.raises(permitd.InvalidRequest, match="reported already"):
                permit.report()

    asyncio.run(run())


def test_a_cancelled_task_leaves_the_queue(serve):
    """Goal: asyncio's own cancel withdraws a request, and the next in line goes."""
    server = serve({"p/k": ["in_flight=1"]})

    async def run():
        async with permitd.aio.connect(server.endpoint) as client:
            first = await client.acquire("p/k")
            second = asyncio.create_task(hold(client))
            third = asyncio.create_task(hold(client))
            await server.until_waiting("p/k", 2)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            await first.report()
            await (await third).report()
            await (await client.acquire("p/k", max_wait=0)).report()

    asyncio.run(run())


def test_a_grant_that_crosses_a_cancel_goes_back(serve):
    """Goal: whenever the cancel comes, before, with or after the grant, the slot is free again."""
    server = serve({"p/k": ["in_flight=1"]})

    async def run():
        async with permitd.aio.connect(server.endpoint) as client:
            for turns in range(40):
                task = asyncio.create_task(hold(client))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    permit = await task
                except asyncio.CancelledError:
                    pass
                else:
                    permit.cancel()
            async with client.acquire("p/k", max_wait=5) as permit:
                await permit.report()

    asyncio.run(run())


def test_deadlines_are_kept(serve):
    """Goal: the caller's own deadline is kept, whoever holds the slot, and leaves nothing behind."""
    server = serve({"p/k": ["in_flight=1"]})

    async def run():
        async with permitd.aio.connect(server.endpoint) as client:
            first = await client.acquire("p/k")
            with pytest.raises(TimeoutError):
                await client.acquire("p/k", timeout=0.05)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.request(permitd.Request("p/k")).__aenter__(), 0.05)
            await first.report()
            await (await client.acquire("p/k", max_wait=0)).report()

    asyncio.run(run())


def test_a_guard_that_is_left_or_dropped_frees_its_slot(serve):
    """Goal: the end of the block, an exception, and the garbage collector all settle the permit."""
    server = serve({"p/k": ["in_flight=1"]})

    async def run():
        async with permitd.aio.connect(server.endpoint) as client:
            async with client.acquire("p/k", timeout=5):
                pass
            with pytest.raises(KeyError):
                async with client.acquire("p/k", timeout=5):
                    raise KeyError
            permit = await client.acquire("p/k", timeout=5)
            forget = [permit]
            del permit
            with pytest.warns(ResourceWarning, match="p/k was dropped"):
                forget.clear()
            await (await client.acquire("p/k", timeout=5)).report()

    asyncio.run(run())


def test_close_ends_what_waits(serve):
    """Goal: a close tells those who wait, settles what is held, and leaves no task."""
    server = serve({"p/k": ["in_flight=1"]})

    async def run():
        client = await permitd.aio.connect(server.endpoint)
        held = await client.acquire("p/k")
        waiter = asyncio.create_task(hold(client))
        await server.until_waiting("p/k", 1)
        await client.close()
        with pytest.raises(permitd.Closed):
            await waiter
        with pytest.raises(permitd.Closed):
            await client.acquire("p/k")
        with pytest.raises(permitd.Closed):
            held.report()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        async with permitd.aio.connect(server.endpoint) as other:
            await (await other.acquire("p/k", timeout=5)).report()

    asyncio.run(run())


def test_ten_thousand_at_once(serve):
    """Goal: many requests share the stream, in messages within the server's bounds, and beyond what the client lets wait."""
    server = serve({"p/k": ["requests=100000000/1m", "in_flight=500"]})

    async def run():
        async with permitd.aio.connect(server.endpoint, waiting_max=2000) as client:

            async def one():
                async with client.acquire("p/k", tokens=1) as permit:
                    return await permit.report()

            advices = await asyncio.gather(*(one() for _ in range(10_000)))
            assert sum(advice.settled for advice in advices) == 10_000

    asyncio.run(run())


async def hold(client):
    return await client.acquire("p/k", timeout=20)
