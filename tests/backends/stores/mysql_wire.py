"""MySQL's protocol: where to break it."""

import asyncio

QUERY, OK, END, ERROR = 0x03, 0x00, 0xFE, 0xFF
MORE_RESULTS = 0x0008


class MysqlWire:
    """See :class:`network.Wire`."""

    def asks(self, data: bytes) -> bool:
        return data[3:5] == bytes((0, QUERY)) and not data[5:].startswith(b"SET SESSION sql_mode")

    async def answered(self, from_server: asyncio.StreamReader) -> None:
        """Every statement of a packet has an answer of its own; all but the last say that more follow."""
        while True:
            packet = await _packet(from_server)
            if packet[0] not in (OK, ERROR):  # a number of columns: their descriptions and the rows follow
                for _ in range(packet[0]):
                    await _packet(from_server)
                while (packet := await _packet(from_server))[0] not in (END, ERROR):
                    pass
            if packet[0] == ERROR or not _status(packet) & MORE_RESULTS:
                return


async def _packet(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return await reader.readexactly(int.from_bytes(head[:3], "little"))


def _status(packet: bytes) -> int:
    """Of an OK packet: after its first byte and two numbers of variable length."""
    place = 1
    for _ in range(2):
        place += {0xFC: 3, 0xFD: 4, 0xFE: 9}.get(packet[place], 1)
    return int.from_bytes(packet[place : place + 2], "little")
