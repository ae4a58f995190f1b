"""A way to a server that can be cut, or go silent, as networks do."""

from __future__ import annotations

import asyncio
import contextlib


class Proxy:
    """Passes bytes on to ``port`` of this machine. ``async with Proxy(port) as proxy``."""

    def __init__(self, port):
        self.target = port
        self.connections = 0
        self.writers = set()
        self.silent = asyncio.Event()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        self.cut()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def cut(self):
        """Every connection that stands ends."""
        for writer in self.writers:
            writer.transport.abort()

    async def serve(self, reader, writer):
        self.connections += 1
        silent = self.silent
        with contextlib.suppress(OSError):
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self.writers |= {writer, onward_writer}
            await asyncio.gather(self.pass_on(reader, onward_writer, silent), self.pass_on(onward_reader, writer, silent))
            self.writers -= {writer, onward_writer}

    async def pass_on(self, reader, writer, silent):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if silent.is_set():
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()

    def go_silent(self):
        """The connections that stand pass nothing more, and do not end; new ones do."""
        self.silent.set()
        self.silent = asyncio.Event()
