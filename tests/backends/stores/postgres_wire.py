"""PostgreSQL's protocol: where to break it, and a pooler in transaction mode."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

SSL_REQUEST = 80877103
CANCEL_REQUEST = 80877102


class PostgresWire:
    """See :class:`network.Wire`."""

    def asks(self, data: bytes) -> bool:
        return data[:1] == b"B"  # Bind: a statement is to be carried out

    async def answered(self, from_server: asyncio.StreamReader) -> None:
        await from_server.read(1)  # it answers when it has committed


class Pooler:
    """A pooler in transaction mode, as little as it takes: each transaction of a client gets the session whose turn it is.
    Simple and extended queries, no copying, no authentication."""

    def __init__(self, server_port: int, user: str, database: str, sessions: int = 3) -> None:
        self._server_port = server_port
        parameters = f"user\0{user}\0database\0{database}\0\0".encode()
        self._startup = struct.pack("!ii", 8 + len(parameters), 3 << 16) + parameters
        self._sessions = sessions
        self._idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._greeting = b""
        self.transactions = 0
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Pooler"]:
        opened = []
        for _ in range(self._sessions):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._server_port)
            writer.write(self._startup)
            self._greeting = b""
            while not self._greeting.endswith(b"Z\0\0\0\x05I"):
                self._greeting += b"".join(await frame(reader))
            opened.append(writer)
            self._idle.put_nowait((reader, writer))
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in opened:
                writer.close()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (length,) = struct.unpack("!i", await client.readexactly(4))
                startup = await client.readexactly(length - 4)
                if struct.unpack("!i", startup[:4])[0] != SSL_REQUEST:
                    break
                to_client.write(b"N")
            if struct.unpack("!i", startup[:4])[0] != CANCEL_REQUEST:
                to_client.write(self._greeting)
                while await self._transaction(client, to_client):
                    pass
        to_client.close()

    async def _transaction(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> bool:
        """One transaction on one session; False when the client has said goodbye."""
        message = await frame(client)
        if message[0] == b"X":
            return False
        reader, writer = await self._idle.get()
        try:
            while True:
                writer.write(b"".join(message))
                if message[0] == b"H":
                    # A flush counts as an end, too: what was parsed before it is not to be relied upon after it.
                    await self._answers(reader, to_client, b"TnE")
                    writer.write(b"S\0\0\0\x04")
                    if await self._answers(reader, None, b"Z") == b"I":
                        return True
                elif message[0] in (b"S", b"Q"):
                    self.transactions += message[0] == b"S"
                    if await self._answers(reader, to_client, b"Z") == b"I":
                        return True
                message = await frame(client)
        finally:
            self._idle.put_nowait((reader, writer))

    @staticmethod
    async def _answers(reader: asyncio.StreamReader, to_client: asyncio.StreamWriter | None, last: bytes) -> bytes:
        """Hand answers on (or swallow them) until one of a type in ``last``; returns its content."""
        while True:
            answer = await frame(reader)
            if to_client is not None:
                to_client.write(b"".join(answer))
            if answer[0] in last:
                return answer[2]


async def frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes, bytes]:
    """One message: its type, its length, its content."""
    head = await reader.readexactly(5)
    (length,) = struct.unpack("!i", head[1:])
    return head[:1], head[1:], await reader.readexactly(length - 4)
