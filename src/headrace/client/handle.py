"""One run, as the program that started or found it sees it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Generic

from headrace.core.errors import EngineStopped, Fenced, HeadraceError, NotFound, RunCancelled, RunFailed
from headrace.core.events import Failure
from headrace.core.ids import RunId
from headrace.core.states import FINAL_RUN_STATES, RunState
from headrace.core.view import RunView
from headrace.durable.run import CodeRun
from headrace.engine.live import LiveRun
from headrace.engine.wisher import Word

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from headrace.client.client import Client

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")  # a default is for type checkers, and newer Pythons

POLL_SECONDS_MIN = 0.05
POLL_SECONDS_MAX = 1.0
"""How often a run of another process is looked at where that one's word cannot come: at first, and later."""

WATCH_PAUSES = 9
"""A watcher rests this many times as long as its last look took."""


class RunHandle(Generic[R]):
    """A run, with the type of its result as far as it is known. Works the same whether this process owns the run or
    another does, which tells this one of the run's end (:mod:`headrace.engine.wisher`).

    All methods are safe to cancel; cancelling a wait does not cancel the run."""

    def __init__(
        self, client: Client, run_id: RunId, live: LiveRun | None, convert: Callable[[Any], R] | None = None
    ) -> None:
        self._client = client
        self._live = live
        self._convert = convert
        self._told: tuple[asyncio.Event, float] | None = None
        self.id = run_id

    def told_by(self, event: asyncio.Event, look_seconds: float) -> RunHandle[R]:
        """The same handle, for somebody who is told of the run's end: ``event`` is set then. While the run is not in this
        process's memory it is looked at only then, and as rarely as this, lest the word was lost."""
        handle = RunHandle(self._client, self.id, self._live, self._convert)
        handle._told = (event, look_seconds)
        return handle

    def returning(self, convert: Callable[[Any], R] | None) -> RunHandle[R]:
        """The same handle, whose result is made what the workflow's annotation says."""
        return RunHandle(self._client, self.id, self._live, convert)

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    async def wait(self, timeout: float | None = None) -> RunView:  # noqa: ASYNC109 - the name users expect
        """Wait for the run's end (at most ``timeout`` seconds: ``TimeoutError``) and return it with its tasks.

        Raises :class:`EngineStopped` if this engine stops first, and the store's error if the store fails for good; the
        run is not lost then."""
        await self._ended_within(timeout)
        return await self.show()

    async def result(self, timeout: float | None = None) -> R:  # noqa: ASYNC109
        """Wait for the run's end and return its output: of the type that the workflow function says, if the run was
        started with the function, else plain values.

        Raises :class:`RunFailed`, :class:`RunCancelled`, ``TimeoutError`` and what :meth:`wait` raises."""
        output = await self._output(timeout)
        return output if self._convert is None else self._convert(output)

    async def _output(self, timeout: float | None) -> Any:  # noqa: ASYNC109
        await self._ended_within(timeout)
        live = self._live
        if live is not None and live.done:
            run = live.run
            following = getattr(run, "next_run", None)
            if following is not None:
                return await (await self._next(following)).result()
            state, output = str(run.state), run.output
            if not isinstance(run, CodeRun) or run.blind:  # code is given values
                output = await self._client.value(output)
            return self._result_of(state, output, run.failure, run.failed_task, run.reason)
        view = await self.show()
        if view.next_run is not None:
            return await (await self._next(view.next_run)).result()
        output = await self._client.value(view.output)
        return self._result_of(view.state, output, view.error, view.failed_task, view.reason)

    async def _next(self, run_id: str) -> RunHandle[Any]:
        """The run that goes on in the place of this one; its end is told to the same."""
        following = await self._client.get(run_id)
        return following if self._told is None else following.told_by(*self._told)

    def _result_of(self, state: str, output: Any, failure: Failure | None, task: str | None, reason: str | None) -> Any:
        if state == RunState.SUCCEEDED:
            return output
        if state == RunState.CANCELLED:
            raise RunCancelled(f"run {self.id} was cancelled" + (f": {reason}" if reason else ""), run_id=self.id)
        what = failure.text if failure else "no reason was recorded"
        where = f"task {task!r}: " if task else ""
        raise RunFailed(f"run {self.id} failed: {where}{what}", run_id=self.id, error=failure)

    async def _ended_within(self, seconds: float | None) -> None:
        if seconds is None:
            await self._until_ended()
            return
        async with asyncio.timeout(seconds):
            await self._until_ended()

    async def _until_ended(self) -> None:
        with contextlib.ExitStack() as waits:
            await self._look_until_ended(waits)

    async def _look_until_ended(self, waits: contextlib.ExitStack) -> None:
        delay = POLL_SECONDS_MIN
        word: Word | None = None
        while True:
            live = self._live = self._client.live(self.id) or self._live
            if live is not None and not live.closed:
                await live.until_closed()
            if live is not None and live.done:
                return
            broken = self._client.broken()
            if broken is not None:
                raise broken
            if self._client.stopping:
                raise self._stopped(live)
            self._let_go(live)
            row = await self._client.stored_row(self.id)
            if row is None:
                raise NotFound(f"there is no run {self.id}", hint="headrace runs list")
            if row.state in FINAL_RUN_STATES:
                return
            if self._told is not None:
                await self._until_told(*self._told)
                continue
            if word is None:
                word = waits.enter_context(self._client.waiting(self.id))
            if not await word.next(delay):
                delay = min(delay * 1.5, POLL_SECONDS_MAX)

    @staticmethod
    async def _until_told(event: asyncio.Event, look_seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(look_seconds):
                await event.wait()
        event.clear()

    def _let_go(self, live: LiveRun | None) -> None:
        """This engine no longer carries the run out. Raises the reason, unless it is that others may own it now."""
        if live is None or not live.closed:
            return
        if live.error is not None and not isinstance(live.error, Fenced):
            raise live.error
        self._live = None

    def _stopped(self, live: LiveRun | None) -> HeadraceError:
        if live is not None and live.error is not None:
            return live.error
        return EngineStopped("the engine stopped before the run had ended")

    async def show(self, *, items: bool = False) -> RunView:
        """The run with its tasks as of now."""
        live = self._live
        if live is not None and (live.done or not live.closed):
            return live.run.plan.brain.view(live.run, items=items)
        return await self._client.show(self.id, items=items)

    async def watch(self, *, interval_seconds: float = 0.2) -> AsyncIterator[RunView]:
        """The run now, whenever it has changed (at most once per interval), and at its end.

        The interval grows with the cost of a look: watching takes a tenth of the time at most, however large the run.
        While the engine drains, watching goes on; when it has stopped before the run had ended, the run is shown as it
        was left, and :class:`EngineStopped` is raised."""
        with contextlib.ExitStack() as waits:
            async for view in self._views(interval_seconds, waits):
                yield view

    async def _views(self, interval_seconds: float, waits: contextlib.ExitStack) -> AsyncIterator[RunView]:
        word: Word | None = None
        while True:
            begun = time.monotonic()
            live = self._live = self._client.live(self.id) or self._live
            if self._client.stopping and (live is None or (live.closed and not live.done)):
                if live is not None:
                    yield live.run.plan.brain.view(live.run)  # the store may be closed by now
                raise self._stopped(live)
            view = await self.show()
            yield view
            cost = time.monotonic() - begun
            if view.state in FINAL_RUN_STATES and (live is None or live.closed):
                return
            broken = self._client.broken()
            if broken is not None:
                raise broken
            if live is None or live.closed:
                self._let_go(live)
                rest = max(interval_seconds, POLL_SECONDS_MIN, WATCH_PAUSES * cost)
                if word is None:
                    word = waits.enter_context(self._client.waiting(self.id, changes=True))
                loop = asyncio.get_running_loop()
                looked_at = loop.time()
                await word.next(rest)
                await asyncio.sleep(looked_at + rest - loop.time())
                continue
            changed = asyncio.Event()
            live.watchers.add(changed)
            try:
                await changed.wait()
            finally:
                live.watchers.discard(changed)
            if not live.closed:
                await self._until_closed(live, max(interval_seconds, WATCH_PAUSES * cost))

    async def _until_closed(self, live: LiveRun, seconds: float) -> None:
        """Sleep, but no longer than the run lives here."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await live.until_closed()

    async def cancel(self, reason: str = "") -> None:
        """Cancel the run; durable on return, its end follows."""
        await self._client.cancel(self.id, reason)

    async def terminate(self, reason: str = "") -> None:
        """End a run of a code workflow without running any more of its code; durable on return."""
        await self._client.terminate(self.id, reason)

    async def signal(self, name: str, payload: Any = None, *, key: str | None = None) -> None:
        """Send a signal: :meth:`Client.signal`."""
        await self._client.signal(self.id, name, payload, key=key)

    async def query(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Ask a query: :meth:`Client.query`."""
        return await self._client.query(self.id, name, *args, **kwargs)

    async def update(self, name: str, /, *args: Any, update_id: str | None = None, **kwargs: Any) -> Any:
        """Request an update and wait for its answer: :meth:`Client.update`."""
        return await self._client.update(self.id, name, *args, update_id=update_id, **kwargs)

    async def pause(self, reason: str = "") -> None:
        """Start nothing new in the run until it is resumed."""
        await self._client.pause(self.id, reason)

    async def resume(self) -> None:
        """Go on with a paused run."""
        await self._client.resume(self.id)

    async def retry(self, tasks: tuple[str, ...] = (), reason: str = "") -> None:
        """Run again what failed; the handle then waits for the new end."""
        await self._client.retry(self.id, tasks, reason)
        self._live = self._client.live(self.id)
