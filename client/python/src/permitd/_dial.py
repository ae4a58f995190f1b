"""Opens one session on one endpoint, and says in words what went wrong if it cannot."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import Any, Optional

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from . import _errors as errors
from ._credentials import Endpoint, Tls
from ._settings import Settings
from ._within import within
from .v1 import session_pb2 as sb

METHOD = "/permitd.v1.PermitService/Session"
#: Bytes of one answer. The server bounds its own.
RESPONSE_BYTES_MAX = 16 * 1024 * 1024
#: How long a second look at what does not speak gRPC may take, in seconds.
LOOK_PATIENCE = 0.5


@dataclass(frozen=True)
class Problem:
    """Why there is no session (any more)."""

    #: For people.
    text: str
    #: Trying the same endpoint again will not help by itself.
    definitive: bool = False
    #: The server asks to be left alone.
    elsewhere: bool = False
    #: The ErrorInfo's, if the server gave one.
    reason: str = ""

    #: Definitive where a session begins; in the middle of one trying again may help: credentials that have ended may have been
    #: renewed, and one message that makes no sense need not be followed by another.
    first_only: bool = False

    def midway(self) -> Problem:
        """The problem of a session that was let in."""
        return replace(self, definitive=self.definitive and not self.first_only)

    def at(self, endpoint: Endpoint) -> Problem:
        """Whose problem it is."""
        return replace(self, text=f"{endpoint.text} {self.text}")

    @classmethod
    def of(cls, code: grpc.StatusCode, message: str, reason: str = "") -> Problem:
        """Reads how a stream ended."""
        if code is grpc.StatusCode.OK:
            return cls("ended the session")
        if code is grpc.StatusCode.UNAVAILABLE:
            return cls(f"is unavailable ({message})", elsewhere=True, reason=reason)
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return cls("speaks gRPC but has no permit service: it is not a permitd server", definitive=True)
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            renewable = code is grpc.StatusCode.UNAUTHENTICATED
            text = f"does not let this client in: {message}"
            return cls(text, definitive=True, reason=reason, first_only=renewable)
        if code in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.FAILED_PRECONDITION,
            grpc.StatusCode.OUT_OF_RANGE,
        ):
            return cls(f"refused the session: {message}", definitive=True, reason=reason)
        return cls(f"broke the session ({code.name}: {message})", reason=reason)


class Lost(Exception):
    """A session ended, or never began."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


class Session:
    """One stream on one connection of its own."""

    def __init__(self, endpoint: Endpoint, settings: Settings) -> None:
        self.endpoint = endpoint
        metadata = settings.credentials.metadata()
        self._channel: Optional[grpc.aio.Channel] = _channel(endpoint, settings)
        # Answers are read here, since gRPC only logs those that it can't read.
        method: Any = self._channel.stream_stream(METHOD, request_serializer=sb.SessionRequest.SerializeToString)
        self._call: Any = method(metadata=metadata)

    async def send(self, message: sb.SessionRequest) -> None:
        """Returns once there is room for another. A stream that ended meanwhile loses nothing: what has no answer is sent
        again; why it ended is told by :meth:`receive`."""
        if not await self.write(message):
            await asyncio.Event().wait()

    async def write(self, message: sb.SessionRequest) -> bool:
        """False if the stream has ended. Not to be cancelled while the stream is wanted: gRPC breaks it off then."""
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await self._call.write(message)
            return True
        return False

    async def receive(self) -> sb.SessionResponse:
        """The next message, or :class:`Lost`."""
        try:
            message = await self._call.read()
        except grpc.RpcError:
            # Raised from here, the problem would keep gRPC's objects alive, and with them its thread.
            message = grpc.aio.EOF
        if message is grpc.aio.EOF:
            raise Lost(await self._problem())
        try:
            return sb.SessionResponse.FromString(message)
        except DecodeError:
            text = "answered with bytes that make no sense: not permitd, or not this version"
            problem = Problem(text, definitive=True, first_only=True)
            raise Lost(problem.at(self.endpoint)) from None

    async def half_close(self) -> None:
        """Says that nothing more comes; the server then ends its side."""
        # A stream that ended by itself needs no more.
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await self._call.done_writing()

    async def close(self) -> None:
        """Breaks it off, if it stands. gRPC's own thread ends with the last of its objects, so they are let go, whoever still
        holds this one: a traceback may."""
        channel, self._channel = self._channel, None
        if channel is not None:
            self._call = None
            await channel.close()

    async def _problem(self) -> Problem:
        code, message = await self._call.code(), await self._call.details()
        info = _error_info(await self._call.trailing_metadata())
        return Problem.of(code, message or "", info.reason if info else "").at(self.endpoint)


async def dial(endpoint: Endpoint, settings: Settings, hello: sb.Hello) -> tuple[Session, sb.SessionResponse]:
    """A session that was welcomed, and its first message."""
    try:
        session = Session(endpoint, settings)
    except errors.Error as error:
        raise Lost(Problem(f"can't be connected to: {error}", definitive=True).at(endpoint)) from None
    try:
        first = await within(settings.connect_timeout, _open(session, hello))
    except asyncio.TimeoutError:
        await session.close()
        problem = Problem(f"does not answer within {settings.connect_timeout:g} s")
        raise Lost(await _looked_at(problem.at(endpoint), endpoint)) from None
    except Lost as lost:
        await session.close()
        raise Lost(await _looked_at(lost.problem, endpoint)) from None
    except BaseException:
        await session.close()
        raise
    return session, first


async def _open(session: Session, hello: sb.Hello) -> sb.SessionResponse:
    opening = asyncio.ensure_future(session.write(sb.SessionRequest(hello=hello)))
    try:
        first = await session.receive()
    except BaseException:
        opening.cancel()
        raise
    # The Welcome may be here before gRPC says that the Hello went out. If the stream has ended since, it is read next.
    await opening
    if not first.HasField("welcome"):
        problem = Problem("answered without a Welcome: not permitd, or not this version", definitive=True)
        raise Lost(problem.at(session.endpoint))
    return first


def _channel(endpoint: Endpoint, settings: Settings) -> grpc.aio.Channel:
    keepalive = int(settings.keepalive * 1000)
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", RESPONSE_BYTES_MAX),
        ("grpc.keepalive_time_ms", keepalive),
        # gRPC waits for the longer of the two.
        ("grpc.keepalive_timeout_ms", max(1, keepalive // 2)),
        ("grpc.http2.ping_timeout_ms", max(1, keepalive // 2)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # When to try again is decided here, so the library keeps nothing from one connection for the next.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        # Servers are reached directly, as the other clients do it.
        ("grpc.enable_http_proxy", 0),
    ]
    if not endpoint.is_secure:
        return grpc.aio.insecure_channel(endpoint.target, options)
    tls = settings.credentials.tls or Tls()
    if tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return grpc.aio.secure_channel(endpoint.target, tls.credentials(), options)


def _error_info(metadata: Any) -> Optional[error_details_pb2.ErrorInfo]:
    """The ErrorInfo of a status, if there is one that can be read."""
    for name, value in metadata or ():
        if name != "grpc-status-details-bin":
            continue
        status, info = status_pb2.Status(), error_details_pb2.ErrorInfo()
        try:
            status.ParseFromString(value)
            if any(detail.Unpack(info) for detail in status.details):
                return info
        except DecodeError:
            return None
    return None


async def _looked_at(problem: Problem, endpoint: Endpoint) -> Problem:
    """Most of what is not permitd breaks the connection off, as a server that is killed does, or is silent; another look
    tells them apart. HTTP/2 speaks in frames, which begin with the high byte of a length: a zero. Others speak in text."""
    if problem.definitive or endpoint.is_secure:
        return problem
    try:
        first = await within(LOOK_PATIENCE, _first_byte(endpoint))
    except (OSError, asyncio.TimeoutError):
        return problem
    if not 0x21 <= first <= 0x7E:
        return problem
    return Problem("does not speak HTTP/2, so it is not a permitd server; check the port", definitive=True).at(endpoint)


async def _first_byte(endpoint: Endpoint) -> int:
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    try:
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        return (await reader.read(1) or b"\0")[0]
    finally:
        writer.close()
