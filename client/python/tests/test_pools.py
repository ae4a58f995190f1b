"""A pool: the permit says which key to use."""

from __future__ import annotations

import asyncio

import permitd
import permitd.aio

SLOTS = {f"p/{key}": ["in_flight=1", "requests=1000/1m"] for key in "abc"}
ANY = {"p/any": ["p/a", "p/b", "p/c"]}


def test_a_permit_names_the_key(serve):
    """Goal: permits of a pool name its members, a report settles with the one named, and a refused key is left alone."""
    server = serve(SLOTS, ANY)
    with permitd.connect(server.endpoint) as client:
        with client.acquire("p/any") as one, client.acquire("p/any") as two, client.acquire("p/any") as three:
            permits = [one, two, three]
            assert {permit.provider for permit in permits} == {"p"}
            assert sorted(permit.key for permit in permits) == ["a", "b", "c"]
            advice = two.report(status=429, headers={"Retry-After": "600"})
            assert advice.settled
            assert advice.retry
        for _ in range(4):
            with client.acquire("p/any", max_wait=5) as permit:
                assert permit.key != two.key
                assert server.state(f"p/{permit.key}")["in_flight"] == 1


def test_whoever_waits_has_the_key_that_is_free_first(serve):
    """Goal: a permit that had to wait names the member that had room first."""
    server = serve(SLOTS, ANY)

    async def run():
        async with permitd.aio.connect(server.endpoint) as client:
            held = {}
            for _ in range(3):
                permit = await client.acquire("p/any")
                held[permit.key] = permit
            waiting = asyncio.ensure_future(_take(client))
            await server.until_waiting("p/b", 1)
            await held.pop("b").report()
            permit = await waiting
            assert permit.key == "b"
            await permit.report()
            for permit in held.values():
                await permit.report()

    asyncio.run(run())


async def _take(client):
    return await client.acquire("p/any")
