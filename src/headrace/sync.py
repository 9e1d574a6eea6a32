"""The synchronous twin: the same engine for programs without an event loop.

``with Headrace("sqlite:///x.db") as hr: result = hr.run(my_dag, {...}).result()``

The engine runs on an event loop in a thread of its own; calls wait for it. Safe to use from several threads.
"""

from __future__ import annotations

import asyncio
import datetime
import threading
from collections.abc import Coroutine, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self

from headrace.assembly import STORE_DEFAULT
from headrace.assembly import Headrace as AsyncHeadrace
from headrace.client.definitions import Workflow
from headrace.client.handle import RunHandle as AsyncRunHandle
from headrace.client.schedules import Schedules as AsyncSchedules
from headrace.client.schedules import ScheduleView
from headrace.config.changes import Reloaded
from headrace.config.settings import Settings
from headrace.contracts.execution import LogEntry
from headrace.contracts.locking import Lock
from headrace.contracts.store import RunRow, Store
from headrace.core.errors import EngineStopped
from headrace.core.schedule_checks import Instant
from headrace.core.view import RunView
from headrace.durable.start import OnConflict, OnReuse
from headrace.durable.workflow import WorkflowFunction

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")  # a default is for type checkers, and newer Pythons

P = ParamSpec("P")
T = TypeVar("T")


class Headrace:
    """Takes the same arguments as :class:`headrace.Headrace`; its methods return instead of awaiting."""

    def __init__(self, store: str | Store = STORE_DEFAULT, **options: Any) -> None:
        self._inner = AsyncHeadrace(store, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event

    def __enter__(self) -> Self:
        started = threading.Event()

        def serve() -> None:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._stop = asyncio.Event()
                started.set()
                runner.run(self._stop.wait())

        self._thread = threading.Thread(target=serve, name="headrace-loop", daemon=True)
        self._thread.start()
        started.wait()
        try:
            self._call(self._inner.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._call(self._inner.close())
        finally:
            self._end()

    def _end(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop = None

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            coroutine.close()
            raise EngineStopped("the engine is not running", hint="use it inside `with Headrace(...) as hr:`")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def run(
        self,
        workflow: Workflow,
        params: Mapping[str, Any] | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        key: str | None = None,
        on_conflict: OnConflict = "fail",
        on_reuse: OnReuse = "allow",
        attributes: Mapping[str, Any] | None = None,
        memo: Mapping[str, Any] | None = None,
    ) -> RunHandle:
        """Start a run; durable on return. See :meth:`headrace.client.client.Client.run`."""
        started = self._inner.run(
            workflow,
            params,
            tags=tags,
            key=key,
            on_conflict=on_conflict,
            on_reuse=on_reuse,
            attributes=attributes,
            memo=memo,
        )
        return RunHandle(self, self._call(started))

    def start(self, workflow: WorkflowFunction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Start a run of a code workflow with its own arguments. See :meth:`headrace.client.client.Client.start`."""
        return RunHandle(self, self._call(self._inner.start(workflow, *args, **kwargs)))

    def signal_with_start(
        self,
        workflow: Workflow,
        params: Mapping[str, Any] | None = None,
        *,
        key: str,
        name: str,
        payload: Any = None,
        on_reuse: OnReuse = "allow",
    ) -> RunHandle:
        """Send a signal to the run of a key, starting it if need be. See
        :meth:`headrace.client.client.Client.signal_with_start`."""
        sent = self._inner.signal_with_start(workflow, params, key=key, name=name, payload=payload, on_reuse=on_reuse)
        return RunHandle(self, self._call(sent))

    def update_with_start(
        self,
        workflow: Workflow,
        params: Mapping[str, Any] | None,
        name: str,
        /,
        *args: Any,
        key: str,
        update_id: str | None = None,
        on_reuse: OnReuse = "allow",
        **kwargs: Any,
    ) -> Any:
        """Ask the run of a key to change, starting it if need be. See
        :meth:`headrace.client.client.Client.update_with_start`."""
        return self._call(
            self._inner.update_with_start(
                workflow, params, name, *args, key=key, update_id=update_id, on_reuse=on_reuse, **kwargs
            )
        )

    def find(self, workflow: str, key: str) -> RunHandle | None:
        """The latest run of a workflow's business key, ended or not; None if there is none."""
        found = self._call(self._inner.find(workflow, key))
        return None if found is None else RunHandle(self, found)

    def get(self, run_id: str) -> RunHandle:
        """A run by its id or the beginning of it."""
        return RunHandle(self, self._call(self._inner.get(run_id)))

    def runs(self, **where: Any) -> list[RunRow]:
        """Runs, newest first. See :meth:`headrace.client.client.Client.runs`."""
        return self._call(self._inner.runs(**where))

    def logs(self, run_id: str, task: str | None = None) -> list[LogEntry]:
        """The text output of a run's attempts."""
        return self._call(self._inner.logs(run_id, task))

    def lock(self, name: str, *, timeout: str | float | datetime.timedelta | None = None) -> Lock:
        """The lock of that name: ``with hr.lock("name") as held:``. If it is lost, :class:`LockLost` is raised at the end
        of the block; ``held.check()`` tells before. See :func:`headrace.lock`."""
        return self._inner.lock(name, timeout=timeout)

    def reload(self, settings: Settings) -> Reloaded:
        """Go by other settings from now on. See :meth:`headrace.Headrace.reload`."""
        return self._call(self._inner.reload(settings))

    @property
    def schedules(self) -> Schedules:
        """What runs when its time has come. See :class:`headrace.client.schedules.Schedules`."""
        return Schedules(self, self._inner.schedules)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the asynchronous client on the engine's loop and wait for it."""
        return self._call(coroutine)


class Schedules:
    """See :class:`headrace.client.schedules.Schedules`: the same methods, returning instead of awaiting."""

    def __init__(self, owner: Headrace, inner: AsyncSchedules) -> None:
        self._owner = owner
        self._inner = inner

    def add(self, name: str, workflow: Workflow, **options: Any) -> ScheduleView:
        """Run a workflow whenever a time has come. See :meth:`headrace.client.schedules.Schedules.add`."""
        return self._owner.call(self._inner.add(name, workflow, **options))

    def list(self) -> list[ScheduleView]:
        """All of them, by name."""
        return self._owner.call(self._inner.list())

    def get(self, name: str) -> ScheduleView:
        """One of them."""
        return self._owner.call(self._inner.get(name))

    def remove(self, name: str) -> None:
        """It fires no more."""
        self._owner.call(self._inner.remove(name))

    def pause(self, name: str, reason: str = "") -> ScheduleView:
        """Nothing fires until it is resumed."""
        return self._owner.call(self._inner.pause(name, reason))

    def resume(self, name: str) -> ScheduleView:
        """Fire again."""
        return self._owner.call(self._inner.resume(name))

    def trigger(self, name: str) -> ScheduleView:
        """Start a run now."""
        return self._owner.call(self._inner.trigger(name))

    def backfill(self, name: str, begin: Instant, to: Instant, *, parallel: bool = False) -> tuple[ScheduleView, int]:
        """Start runs for fire times of the past."""
        return self._owner.call(self._inner.backfill(name, begin, to, parallel=parallel))


class RunHandle(Generic[R]):
    """One run; see :class:`headrace.client.handle.RunHandle`."""

    def __init__(self, owner: Headrace, inner: AsyncRunHandle[R]) -> None:
        self._owner = owner
        self._inner = inner
        self.id = inner.id

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    def wait(self, timeout: float | None = None) -> RunView:
        """Wait for the run's end."""
        return self._owner.call(self._inner.wait(timeout))

    def result(self, timeout: float | None = None) -> R:
        """Wait for the run's end and return its output. See :meth:`headrace.client.handle.RunHandle.result`."""
        return self._owner.call(self._inner.result(timeout))

    def show(self, *, items: bool = False) -> RunView:
        """The run with its tasks as of now."""
        return self._owner.call(self._inner.show(items=items))

    def watch(self, *, interval_seconds: float = 0.2) -> Iterator[RunView]:
        """The run now, whenever it has changed, and at its end."""
        views = self._inner.watch(interval_seconds=interval_seconds)
        while True:
            try:
                yield self._owner.call(anext(views))  # type: ignore[arg-type]
            except StopAsyncIteration:
                return

    def cancel(self, reason: str = "") -> None:
        """Cancel the run."""
        self._owner.call(self._inner.cancel(reason))

    def terminate(self, reason: str = "") -> None:
        """End a run of a code workflow without running any more of its code."""
        self._owner.call(self._inner.terminate(reason))

    def signal(self, name: str, payload: Any = None, *, key: str | None = None) -> None:
        """Send a signal; durable on return. See :meth:`headrace.client.client.Client.signal`."""
        self._owner.call(self._inner.signal(name, payload, key=key))

    def query(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Ask a query. See :meth:`headrace.client.client.Client.query`."""
        return self._owner.call(self._inner.query(name, *args, **kwargs))

    def update(self, name: str, /, *args: Any, update_id: str | None = None, **kwargs: Any) -> Any:
        """Request an update and wait for its answer. See :meth:`headrace.client.client.Client.update`."""
        return self._owner.call(self._inner.update(name, *args, update_id=update_id, **kwargs))

    def pause(self, reason: str = "") -> None:
        """Start nothing new in the run until it is resumed."""
        self._owner.call(self._inner.pause(reason))

    def resume(self) -> None:
        """Go on with a paused run."""
        self._owner.call(self._inner.resume())

    def retry(self, tasks: tuple[str, ...] = (), reason: str = "") -> None:
        """Run again what failed."""
        self._owner.call(self._inner.retry(tasks, reason))
