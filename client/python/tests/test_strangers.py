"""Servers that are not what they should be: clear errors, no hang, no busy loop."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import permitd
import permitd.aio
from permitd import _dial
from permitd._credentials import Endpoint
from permitd._settings import settings
from permitd.v1 import session_pb2 as sb

METHOD = "/permitd.v1.PermitService/Session"
WELCOME = sb.SessionResponse(welcome=sb.Welcome(session_id="s")).SerializeToString()


@contextlib.asynccontextmanager
async def scripted(session):
    """A gRPC server whose one method is ``session(requests, context)``, in bytes."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.stream_stream_rpc_method_handler(session) if session and details.method == METHOD else None

    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def plain(answer):
    """A TCP server that is none of gRPC's."""
    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            await answer(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def refusal(endpoint, **options):
    with pytest.raises(permitd.Unavailable) as error:
        await permitd.aio.connect(endpoint, **options)
    return str(error.value)


def test_a_web_server():
    """Goal: something that speaks HTTP/1 is named as such, without waiting for an outage."""

    async def answer(reader, writer):
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
        await writer.drain()

    async def run():
        async with plain(answer) as endpoint:
            text = await refusal(endpoint, outage_after=60)
        assert "does not speak HTTP/2, so it is not a permitd server" in text

    asyncio.run(run())


def test_a_server_that_says_nothing():
    """Goal: a peer that takes connections and says nothing is given up in time."""

    async def listen(reader, _writer):
        await reader.read()

    async def run():
        async with plain(listen) as endpoint:
            text = await refusal(endpoint, outage_after=1.5, connect_timeout=0.1)
        assert "does not answer within 0.1 s" in text

    asyncio.run(run())


def test_another_service():
    """Goal: gRPC without a permit service is named."""

    async def run():
        async with scripted(None) as endpoint:
            assert "it is not a permitd server" in await refusal(endpoint, outage_after=60)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "text"),
    [(b"", "without a Welcome"), (b"\xff\xff\xff\xff", "bytes that make no sense")],
)
def test_an_answer_that_makes_no_sense(answer, text):
    """Goal: a first answer that is no Welcome, or no message, is named."""

    async def session(requests, _context):
        yield answer
        async for _ in requests:
            pass

    async def run():
        async with scripted(session) as endpoint:
            assert text in await refusal(endpoint, outage_after=60)

    asyncio.run(run())


def test_malformed_bytes_in_mid_session():
    """Goal: a session that turns to nonsense is resumed, with patience: no hang, no busy loop."""
    sessions = 0

    async def session(requests, _context):
        nonlocal sessions
        sessions += 1
        yield WELCOME
        async for request in requests:
            if sb.SessionRequest.FromString(request).acquire:
                yield b"\xff\xff\xff\xff"

    async def run():
        async with scripted(session) as endpoint, permitd.aio.connect(endpoint) as client:
            with pytest.raises(permitd.TimedOut):
                await client.acquire("p/k", timeout=0.5)
        assert 2 <= sessions < 50

    asyncio.run(run())


def test_a_server_that_welcomes_and_ends():
    """Goal: sessions that never live long are tried with backoff, and the client closes at once."""
    sessions = 0

    async def session(_requests, _context):
        nonlocal sessions
        sessions += 1
        yield WELCOME

    async def run():
        async with scripted(session) as endpoint, permitd.aio.connect(endpoint) as client:
            with pytest.raises(permitd.TimedOut):
                await client.acquire("p/k", timeout=0.5)
        assert 1 <= sessions < 50

    asyncio.run(run())


def test_credentials_that_end_in_mid_session_are_renewed(tmp_path):
    """Goal: a token that ends is read anew from its file; the request that waited is asked again."""
    token = tmp_path / "token"
    token.write_text("old\n")
    shown = []

    async def session(requests, context):
        shown.append(dict(context.invocation_metadata())["authorization"])
        yield WELCOME
        async for request in requests:
            for acquire in sb.SessionRequest.FromString(request).acquire:
                if shown[-1] == "Bearer old":
                    token.write_text("new\n")
                    await expire(context)
                refused = sb.Refused(request_id=acquire.request_id, code=5, reason="BUDGET_UNKNOWN")
                yield sb.SessionResponse(refused=[refused]).SerializeToString()

    async def run():
        async with scripted(session) as endpoint, permitd.aio.connect(endpoint, token=token) as client:
            with pytest.raises(permitd.Refused) as error:
                await client.acquire("p/k")
        assert error.value.reason == "BUDGET_UNKNOWN"
        assert shown == ["Bearer old", "Bearer new"]

    asyncio.run(run())


def test_credentials_that_are_refused_are_told():
    """Goal: without the right token, the server's own words, at once."""

    async def session(_requests, context):
        await expire(context)
        yield b""

    async def run():
        async with scripted(session) as endpoint:
            text = await refusal(endpoint, outage_after=60, token="t")
        assert "does not let this client in: the token has ended" in text

    asyncio.run(run())


def test_an_older_server_without_fields():
    """Goal: a grant without ttl, times or charges is a permit all the same."""

    async def session(requests, _context):
        yield WELCOME
        async for request in requests:
            message = sb.SessionRequest.FromString(request)
            answer = sb.SessionResponse()
            for acquire in message.acquire:
                answer.granted.add(request_id=acquire.request_id).permit.permit_id = "id"
            for report in message.report:
                answer.reported.add(permit_id=report.permit_id, outcome=99)
            if answer.ByteSize():
                yield answer.SerializeToString()

    async def run():
        async with scripted(session) as endpoint, permitd.aio.connect(endpoint) as client:
            permit = await client.acquire("p/k")
            assert (permit.expires_at, permit.waited, permit.charged) == (None, 0, permitd.Usage())
            assert (await permit.report()).outcome is permitd.Outcome.FAILED

    asyncio.run(run())


class OutLate:
    """A stream of gRPC's on which the Hello is said to be out only after the Welcome was read, as happens once in thousands."""

    def __init__(self):
        self.writing = asyncio.Event()
        self.read_once = asyncio.Event()
        self.broken_off = False

    async def write(self, _message):
        self.writing.set()
        try:
            await self.read_once.wait()
        except asyncio.CancelledError:
            # So does grpc.aio with the whole stream.
            self.broken_off = True
            raise

    async def read(self):
        await self.writing.wait()
        asyncio.get_running_loop().call_soon(self.read_once.set)
        return WELCOME


def test_a_welcome_before_the_hello_is_out():
    """Goal: it does not break the session off."""

    async def run():
        endpoint = "http://127.0.0.1:1"
        session = _dial.Session(Endpoint.parse(endpoint), settings(endpoint, {}))
        session._call = stream = OutLate()
        first = await _dial._open(session, sb.Hello())
        assert first.HasField("welcome")
        await session.close()
        return stream

    assert not asyncio.run(run()).broken_off


async def expire(context):
    info = error_details_pb2.ErrorInfo(reason="CREDENTIALS_EXPIRED", domain="permitd.dev")
    detail = any_pb2.Any()
    detail.Pack(info)
    status = status_pb2.Status(code=16, message="the token has ended", details=[detail])
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token has ended", metadata)


@pytest.mark.parametrize(
    ("endpoints", "options", "field"),
    [
        ([], {}, "endpoints: none"),
        ("ftp://a:1", {}, "endpoints: 'ftp://a:1'"),
        ("http://", {}, "endpoints"),
        ("http://a:99999", {}, "endpoints"),
        ("http://a:1/path", {}, "endpoints"),
        ("http://a:1", {"token": "t"}, "token: would be sent in the clear"),
        ("http://127.0.0.1:1", {"token": " "}, "token: is empty"),
        ("http://127.0.0.1:1", {"token": "a\nb"}, "token: is empty, or has characters"),
        ("http://a:1", {"tls": permitd.Tls()}, "endpoints: .*write https://"),
        ("https://a:1", {"tls": permitd.Tls(ca=b"garbage")}, "tls.ca"),
        ("http://a:1", {"tenant": "x" * 257}, "tenant"),
        ("http://a:1", {"outage": "panic"}, "outage"),
        ("http://a:1", {"keepalive": 0}, "keepalive"),
        ("http://a:1", {"outage_after": -1}, "outage_after"),
        ("http://a:1", {"waiting_max": 0}, "waiting_max"),
    ],
)
def test_bad_settings_name_the_field(endpoints, options, field):
    """Goal: settings that make no sense are refused before anything is connected."""
    with pytest.raises(permitd.InvalidRequest, match=f"^{field}"):
        permitd.aio.connect(endpoints, **options)
