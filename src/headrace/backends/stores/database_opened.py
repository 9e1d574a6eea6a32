"""The connections of an open store on a server."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, TypeVar

from headrace.backends.stores.database_pool import Pool, Session
from headrace.backends.stores.database_renewal import LeaseLine

C = TypeVar("C", bound=Session)
R = TypeVar("R", bound=LeaseLine[Any])

OTHER_CONNECTIONS = 3
"""Beside the one for flushes and the one for the lease."""


class Opened(Generic[C, R]):
    """What exists only while the store is open. ``writer`` is for flushes, ``others`` for all else but the lease."""

    def __init__(self, writer: Pool[C], others: Pool[C], renewal: R) -> None:
        self.writer = writer
        self.others = others
        self.renewal = renewal
        self._tasks: Pool[C] | None = None
        self._turn = asyncio.Lock()

    async def tasks(self) -> Pool[C]:
        """The connection of database tasks, which users' statements may leave in any state: from the first of them on it
        is one of the others."""
        async with self._turn:
            if self._tasks is None:
                self._tasks = await self.others.split_off()
            return self._tasks

    async def close(self) -> None:
        """Close everything."""
        for connections in (self.writer, self.others, self._tasks):
            if connections is not None:
                await connections.close()
        await asyncio.to_thread(self.renewal.close)
