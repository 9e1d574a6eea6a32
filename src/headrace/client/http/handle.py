"""One run of a server's, as the program that started or found it sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, cast

from headrace.client.handle import RunHandle
from headrace.client.http.parse import view_of
from headrace.client.http.stream import messages
from headrace.contracts.api import answers
from headrace.contracts.api.bounds import WAIT_SECONDS_MAX
from headrace.core.ids import RunId
from headrace.core.states import FINAL_RUN_STATES
from headrace.core.view import RunView

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from headrace.client.http.client import HttpClient

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")  # a default is for type checkers, and newer Pythons


class HttpRunHandle(RunHandle[R]):
    """Like :class:`headrace.RunHandle`, with the server's words: a wait is one request that the server holds for up to a
    minute, and a watcher is told by a stream."""

    def __init__(self, client: HttpClient, run_id: str, convert: Callable[[Any], R] | None = None) -> None:
        super().__init__(cast("Any", client), RunId(run_id), None, convert)
        self._link = client.link
        self._seen: RunView | None = None

    def returning(self, convert: Callable[[Any], R] | None) -> HttpRunHandle[R]:
        """The same handle, whose result is made what the workflow's annotation says."""
        return HttpRunHandle(cast("Any", self._client), self.id, convert)

    async def _ended_within(self, seconds: float | None) -> None:
        until = None if seconds is None else time.monotonic() + seconds
        self._seen = None
        while True:
            wait = WAIT_SECONDS_MAX if until is None else max(min(until - time.monotonic(), WAIT_SECONDS_MAX), 0.0)
            view = await self._read(wait=wait)
            if view.state in FINAL_RUN_STATES:
                self._seen = view
                return
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"run {self.id} has not ended within {seconds:g} s")

    async def show(self, *, items: bool = False) -> RunView:
        """The run with its tasks as of now; after a wait, as it was at its end."""
        seen, self._seen = self._seen, None
        return seen if seen is not None and not items else await self._read(items=items)

    async def _read(self, *, wait: float = 0.0, items: bool = False) -> RunView:
        query = {"wait": f"{wait:.3f}s", "items": items}
        return view_of(await self._link.get(f"/runs/{self.id}", answers.Run, query, wait=wait))

    async def watch(self, *, interval_seconds: float = 0.2) -> AsyncIterator[RunView]:
        """The run now, whenever it has changed (at most once per interval), and at its end."""
        changed = asyncio.Event()
        following = asyncio.create_task(self._follow(changed))
        try:
            while True:
                changed.clear()
                begun = time.monotonic()
                view = await self.show()
                yield view
                if view.state in FINAL_RUN_STATES:
                    return
                waiting = asyncio.create_task(changed.wait())
                await asyncio.wait({waiting, following}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if following.done():
                    following.result()  # what went wrong; else the run has ended
                await asyncio.sleep(max(0.0, begun + interval_seconds - time.monotonic()))
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self, changed: asyncio.Event) -> None:
        async for _ in messages(self._link, self.id):
            changed.set()

    async def retry(self, tasks: tuple[str, ...] = (), reason: str = "") -> None:
        """Run again what failed; the handle then waits for the new end."""
        self._seen = None
        await self._client.retry(self.id, tasks, reason)
