"""Several engines on one store, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from headrace import Headrace
from headrace.core.codec import decode_event
from headrace.core.events import Event
from headrace.core.ids import RunId

T = TypeVar("T")


def play(test: Callable[[], Awaitable[T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(100):
            return await test()

    return asyncio.run(bounded())


async def history(hr: Headrace, run_id: str) -> list[Event]:
    return [decode_event(data) for _, data in await hr.store.history(RunId(run_id))]


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


class Cluster:
    """Engines on one store. ``shared``: they work in one data folder."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.url = f"sqlite:///{folder}/x.db"

    async def node(self, name: str, *, shared: bool = True, **options: Any) -> Headrace:
        data_dir = self.folder / ("files" if shared else name)
        hr = Headrace(self.url, node=name, data_dir=data_dir, **options)
        return await self.stack.enter_async_context(hr)

    async def owner(self, **options: Any) -> Headrace:
        return await self.node("owner", **options)

    async def worker(self, name: str = "worker", *, queues: tuple[str, ...] = ("gpu",), **options: Any) -> Headrace:
        return await self.node(name, adopt=False, pull=True, queues=queues, **options)


@asynccontextmanager
async def cluster(folder: Path) -> Any:
    async with AsyncExitStack() as stack:
        yield Cluster(folder, stack)
