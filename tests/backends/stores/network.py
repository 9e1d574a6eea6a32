"""A network that breaks where it hurts, between a store and its server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol


class Wire(Protocol):
    """As much of a database's protocol as it takes to break it at a chosen place."""

    def asks(self, data: bytes) -> bool:
        """Whether a client's bytes carry a statement of the store's."""
        ...

    async def answered(self, from_server: asyncio.StreamReader) -> None:
        """Read until the server has carried out everything that was asked."""
        ...


class Network:
    """Forwards TCP connections to the server's port. ``cut`` says how the next request of the client ends:

    ``answer``: it reaches the server and is carried out, the answer is lost; ``sent``: it reaches the server, nobody waits
    for what becomes of it; ``half``: only its first half arrives; ``before``: nothing does. Then the connection is closed.
    """

    def __init__(self, server_port: int, wire: Wire) -> None:
        self._server_port = server_port
        self._wire = wire
        self.cut = ""
        self.cuts = 0
        self.connections = 0
        self.refuses = False
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Network"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.refuses:
            to_client.close()
            return
        self.connections += 1
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:  # the server is down
            to_client.transport.abort()
            return
        back = asyncio.create_task(self._forward(from_server, to_client))
        try:
            while data := await from_client.read(1 << 20):
                if self.cut and self._wire.asks(data):
                    how, self.cut = self.cut, ""
                    self.cuts += 1
                    back.cancel()
                    await asyncio.wait([back])
                    if how == "half":
                        to_server.write(data[: len(data) // 2])
                    elif how != "before":
                        to_server.write(data)
                    await to_server.drain()
                    if how == "answer":
                        await self._wire.answered(from_server)
                    return
                to_server.write(data)
                await to_server.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass  # asyncio's server reports a cancelled handler as an error; this one is over either way
        finally:
            back.cancel()
            to_server.close()
            to_client.transport.abort()

    @staticmethod
    async def _forward(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1 << 20):
                target.write(data)
                await target.drain()
        target.close()
