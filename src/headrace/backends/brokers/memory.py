"""A broker within one process, for tests: the wire of all others is a network, this one's is a list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from headrace.backends.brokers.linked import LinkedBroker, Pace, Wire
from headrace.core.errors import StoreUnavailable


class MemoryHub:
    """The "server": hands every topic to all that listen. :meth:`crash` cuts everybody off until :meth:`recover`."""

    def __init__(self) -> None:
        self.wires: list[_MemoryWire] = []
        self.running = True

    def broker(self, pace: Pace | None = None) -> LinkedBroker:
        """A client of this hub."""

        async def connect(heard: Callable[[str], None]) -> Wire:
            if not self.running:
                raise StoreUnavailable("the hub is down")
            wire = _MemoryWire(self, heard)
            self.wires.append(wire)
            return wire

        return LinkedBroker("memory://", connect, pace=pace)

    def crash(self) -> None:
        """Lose every connection and refuse new ones."""
        self.running = False
        for wire in self.wires:
            wire.gone.set()
        self.wires.clear()

    def recover(self) -> None:
        """Take connections again."""
        self.running = True


class _MemoryWire:
    def __init__(self, hub: MemoryHub, heard: Callable[[str], None]) -> None:
        self._hub = hub
        self._heard = heard
        self._topics: frozenset[str] = frozenset()
        self.gone = asyncio.Event()

    async def listen(self, topics: frozenset[str]) -> None:
        self._topics = topics

    async def send(self, topics: Sequence[str]) -> None:
        if self.gone.is_set():
            raise StoreUnavailable("the hub is down")
        loop = asyncio.get_running_loop()
        for wire in self._hub.wires:
            for topic in topics:
                if topic in wire._topics:
                    loop.call_soon(wire._heard, topic)

    async def lost(self) -> None:
        await self.gone.wait()

    async def close(self) -> None:
        if self in self._hub.wires:
            self._hub.wires.remove(self)
