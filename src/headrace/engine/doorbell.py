"""Wakes a node at once when something was put into its inbox.

A node listens for empty datagrams on a loopback port and publishes ``host:port`` with its lease. A ring is a hint: it may
be lost or repeated and carries nothing; the inbox is the truth and a slow poll is the safety net.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

HOST = "127.0.0.1"


class _Protocol(asyncio.DatagramProtocol):
    def __init__(self, rung: Callable[[], None]) -> None:
        self._rung = rung

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._rung()


class Doorbell:
    """One node's bell. ``address`` is empty when no port can be had: then the slow poll has to do."""

    def __init__(self, rung: Callable[[], None]) -> None:
        self._rung = rung
        self._transport: asyncio.DatagramTransport | None = None
        self.address = ""

    async def start(self) -> None:
        """Begin to listen."""
        with contextlib.suppress(OSError):
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_datagram_endpoint(
                lambda: _Protocol(self._rung), local_addr=(HOST, 0), family=socket.AF_INET
            )
            host, port = self._transport.get_extra_info("sockname")
            self.address = f"{host}:{port}"

    def stop(self) -> None:
        """Stop listening. Idempotent."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None


def ring(address: str) -> None:
    """Ring a node's bell; does nothing for an empty or unusable address."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(b"", (host, int(port)))
