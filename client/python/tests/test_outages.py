"""Sessions that break, servers that go away and come back, and what is granted meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from proxy import Proxy

import permitd
import permitd.aio
from permitd import Usage

ONE_SLOT = {"p/k": ["in_flight=1"]}


async def hold(client, **options):
    return await client.acquire("p/k", timeout=30, **options)


async def in_outage(client):
    while not client._driver._in_outage:
        await asyncio.sleep(0.01)


def test_a_broken_session_is_resumed_and_keeps_its_places(serve):
    """Goal: who waits through a broken connection is served before who came later, and nobody notices."""
    server = serve(ONE_SLOT)

    async def run():
        async with Proxy(server.port) as proxy, permitd.aio.connect(proxy.endpoint) as client:
            first = await client.acquire("p/k")
            second = asyncio.create_task(hold(client))
            await server.until_waiting("p/k", 1)
            async with permitd.aio.connect(server.endpoint) as other:
                third = asyncio.create_task(hold(other))
                await server.until_waiting("p/k", 2)
                proxy.cut()
                assert (await first.report()).settled
                permit = await second
                assert proxy.connections == 2
                assert not third.done()
                await permit.report()
                await (await third).report()

    asyncio.run(run())


def test_a_grant_that_was_lost_on_its_way_comes_again(serve):
    """Goal: a grant into a connection that is silent is not lost with it."""
    server = serve(ONE_SLOT)

    async def run():
        async with Proxy(server.port) as proxy, permitd.aio.connect(proxy.endpoint) as client:
            async with permitd.aio.connect(server.endpoint) as other:
                first = await other.acquire("p/k")
                waiter = asyncio.create_task(hold(client))
                await server.until_waiting("p/k", 1)
                proxy.go_silent()
                await first.report()
                with pytest.raises(permitd.NotInTime):
                    await other.acquire("p/k", max_wait=0)
                proxy.cut()
                await (await waiter).report()
                await (await other.acquire("p/k", timeout=20)).report()

    asyncio.run(run())


def test_a_connection_that_is_half_open_is_replaced(serve):
    """Goal: a connection whose other end is gone without a word is found out by its keepalive, though nothing is sent on it."""
    server = serve(ONE_SLOT)

    async def run():
        async with Proxy(server.port) as proxy, permitd.aio.connect(proxy.endpoint, keepalive=0.3) as client:
            first = await client.acquire("p/k")
            waiter = asyncio.create_task(client.acquire("p/k").__aenter__())
            await server.until_waiting("p/k", 1)
            proxy.go_silent()
            while proxy.connections < 2:
                assert not waiter.done()
                await asyncio.sleep(0.01)
            await first.report()
            await (await waiter).report()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_restart_in_mid_wait_is_not_noticed(serve):
    """Goal: requests are asked again at a server that knows nothing of them; reports of before are answered."""
    server = serve(ONE_SLOT)

    async def run():
        async with permitd.aio.connect(server.endpoint, outage_after=30) as client:
            first = await client.acquire("p/k")
            waiters = [asyncio.create_task(hold(client)) for _ in range(3)]
            await server.until_waiting("p/k", 3)
            server.kill()
            report = first.report()
            server.start()
            assert not (await report).settled
            for waiter in waiters:
                assert (await (await waiter).report()).settled

    asyncio.run(run())


def test_a_server_that_drains_is_left_for_the_next(serve):
    """Goal: who waits at a server that stops is asked for at another, and the permit of before is still reported."""
    servers = [serve(ONE_SLOT), serve(ONE_SLOT)]

    async def run():
        async with permitd.aio.connect([each.endpoint for each in servers]) as client:
            first = await client.acquire("p/k")
            waiter = asyncio.create_task(hold(client))
            await servers[0].until_waiting("p/k", 1)
            servers[0].process.process.terminate()
            permit = await waiter
            assert (await permit.report()).settled
            assert not (await first.report()).settled, "the second server does not know it"

    asyncio.run(run())


def test_endpoints_are_tried_in_turn(serve):
    """Goal: an endpoint where nobody is does no harm beside one where a server is."""
    server = serve(ONE_SLOT)

    async def run():
        async with permitd.aio.connect(["http://127.0.0.1:1", server.endpoint]) as client:
            await (await client.acquire("p/k")).report()

    asyncio.run(run())


def test_fail_closed(serve):
    """Goal: once the outage began, requests fail at once; once it is over, they are served again."""
    server = serve(ONE_SLOT)

    async def run():
        async with permitd.aio.connect(server.endpoint, outage_after=0.05) as client:
            held = await client.acquire("p/k")
            waiter = asyncio.create_task(hold(client))
            await server.until_waiting("p/k", 1)
            server.kill()
            with pytest.raises(permitd.Unavailable) as error:
                await waiter
            assert (error.value.code, error.value.reason) == ("UNAVAILABLE", "NO_SERVER")
            assert isinstance(error.value, ConnectionError)
            with pytest.raises(permitd.Unavailable):
                await client.acquire("p/k")
            with pytest.raises(permitd.Unavailable, match="it is kept"):
                await held.report()
            server.start()
            while not client.is_connected:
                await asyncio.sleep(0.01)
            await (await client.acquire("p/k")).report()

    asyncio.run(run())


def test_fail_open():
    """Goal: requests are granted by nobody, and their reports change nothing."""

    async def run():
        async with permitd.aio.connect("http://127.0.0.1:1", outage="fail_open", outage_after=0) as client:
            permit = await client.acquire("p/k", tokens=7)
            assert (permit.source, permit.is_managed, permit.permit_id) == ("fail_open", False, "")
            assert permit.charged == Usage(tokens=7)
            assert permit.expires_at is None
            advice = await permit.report(status=429)
            assert (advice.settled, advice.retry) == (False, False)

    asyncio.run(run())


def test_a_local_share_is_kept_to(serve):
    """Goal: without a server as many are in flight as the share says, counting those from before; others wait for them."""
    server = serve({"p/k": ["in_flight=3"]})

    async def run():
        async with permitd.aio.connect(server.endpoint, outage="local_share", outage_after=0.05) as client:
            before = await client.acquire("p/k")
            await in_shares(client)
            server.kill()
            await in_outage(client)
            permits = [await client.acquire("p/k") for _ in range(2)]
            assert {permit.source for permit in permits} == {"local_share"}
            waiters = [asyncio.create_task(hold(client)) for _ in range(2)]
            with pytest.raises(permitd.NotInTime, match="local share"):
                await client.acquire("p/k", max_wait=0)
            with pytest.raises(permitd.Unavailable):
                await before.report()
            advice = await (await waiters[0]).report(status=503, retry_after=0)
            assert (advice.settled, advice.retry) == (True, True)
            await (await waiters[1]).report()
            for permit in permits:
                permit.cancel()
            with pytest.raises(permitd.Unavailable) as unknown:
                await client.acquire("p/other")
            assert unknown.value.reason == "NO_LOCAL_SHARE"

    asyncio.run(run())


def test_a_local_share_starts_empty_and_refills(serve):
    """Goal: a rate begins with nothing, since the server may just have granted it all, and what is too much is refused."""
    server = serve({"p/k": ["requests=600/1m", "tokens=1000/1h"]})

    async def run():
        async with permitd.aio.connect(server.endpoint, outage="local_share", outage_after=0.05) as client:
            await (await client.acquire("p/k")).report()
            await in_shares(client)
            server.kill()
            await in_outage(client)
            with pytest.raises(permitd.NotInTime) as late:
                await client.acquire("p/k", max_wait=0)
            assert 0 < late.value.retry_after <= 0.1
            permit = await client.acquire("p/k", timeout=20)
            assert permit.source == "local_share"
            permit.cancel()
            with pytest.raises(permitd.Refused) as impossible:
                await client.acquire("p/k", tokens=1001)
            assert impossible.value.is_impossible

    asyncio.run(run())


async def in_shares(client):
    while not client._driver._shares._known:
        await asyncio.sleep(0.01)
