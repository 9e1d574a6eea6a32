"""A test bench for workflows: the real engine, on virtual time, with stand-ins for tasks and crashes on demand.

::

    async with Environment() as env:
        env.stub(charge, lambda order: "receipt")
        env.fail(ship, times=2, error=ConnectionError("no route"))
        run = await env.start(order, "A-1")
        await env.advance("30d")
        await run.signal("shipped")
        assert await run.result() == "receipt"

It needs no test framework: use it in ``asyncio.run(...)``, in a fixture, or under a plug-in for asynchronous tests. Time
passes only while the test itself waits and nothing else is left to do; then it jumps to the next timer, so a run that
waits for a year ends at once. What a task's own code sleeps with ``asyncio.sleep`` is virtual too; what it does in
threads, processes or over the network takes the time that it takes, and virtual time stands still meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

import msgspec

from headrace.assembly import Headrace
from headrace.authoring.tasks import TaskFunction
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.client.definitions import Definition
from headrace.contracts.store import RunFilter, Store
from headrace.core import events as ev
from headrace.core.codec import decode_event
from headrace.core.durations import parse_duration
from headrace.core.errors import HeadraceError, InvalidCommand, NotFound
from headrace.core.ids import RunId
from headrace.core.states import FINAL_RUN_STATES
from headrace.durable.expected import expect_workflow
from headrace.durable.looking import close as close_code
from headrace.durable.run import CodeRun
from headrace.durable.workflow import WorkflowFunction
from headrace.testing.crashes import Crashes, CrashReport, Drive
from headrace.testing.environment_run import EnvironmentRun
from headrace.testing.histories import assert_order, numbered
from headrace.testing.mortal import CrashPlan, MortalStore
from headrace.testing.stubs import Call, StubbedExecutor, Stubs, Target
from headrace.testing.virtual_time import VirtualTime
from headrace.testing.witness import Witness

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

LEASE_SECONDS = 9e9
"""No lease ends in a test."""

CHILD_CHECK_SECONDS = 86_400.0
HORIZON_DEFAULT = "3650d"

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class Environment:
    """The bench. ``async with`` starts it.

    ``store``: ``memory://``, ``sqlite://`` (a temporary file) or the URL of an SQLite file. ``now``: where virtual time
    begins. ``workflows``: definitions of children that nothing else names. ``always_replay``: after every flush the
    run is built again from its stored history, which must fit. ``horizon``: how long a run may take in virtual time
    before the test fails. ``options`` go to :class:`~headrace.Headrace`.
    """

    def __init__(
        self,
        store: str = "memory://",
        *,
        now: datetime.datetime | str = "2030-01-01T00:00:00+00:00",
        workflows: Iterable[Definition] = (),
        always_replay: bool = False,
        horizon: str | float | datetime.timedelta = HORIZON_DEFAULT,
        **options: Any,
    ) -> None:
        begin = datetime.datetime.fromisoformat(now) if isinstance(now, str) else now
        self._begin = begin.timestamp()
        self._url = store
        self._workflows = tuple(workflows)
        self._always_replay = always_replay
        self._horizon = parse_duration(horizon)
        self._options = options
        self._stubs = Stubs(lambda: self.time, self._call_begins)
        self._functions: dict[str, Callable[..., Any]] = {}
        self._plan: CrashPlan | None = None
        self._names = 0
        self._worlds = 0
        self._lives = 0
        self._handle: MortalStore | None = None
        self._reviving: asyncio.Task[None] | None = None
        self._forget()

    def _forget(self) -> None:
        """A new world: no run has ever been."""
        self._database = MemoryDatabase(lambda: self.time)
        self._witness = Witness(lambda: self.headrace, always_replay=self._always_replay)
        self._names = 0
        self._worlds += 1
        self._stubs.reset()

    # ---- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="headrace-test-")
        self._time = VirtualTime(self._is_busy)
        self._time.install(self._begin)
        self._fds = 0
        try:
            await self._boot()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()
        if error is None:
            self.check()
            if (misspelt := self._stubs.misspelt()) is not None:
                raise AssertionError(misspelt)

    async def _close(self) -> None:
        try:
            if self._handle is not None:
                await self._until_alive()
                await self._witness.replayed()
                self._time.uninstall()
                await self.headrace.close()
        finally:
            self._time.uninstall()
            self._folder.cleanup()

    def _open_store(self) -> Store:
        if self._url == "memory://":
            return MemoryStore(self._database)
        if self._url.startswith("sqlite:"):
            from headrace.backends.stores.sqlite import SqliteStore  # noqa: PLC0415 - loaded when needed

            file = f"sqlite:///{self._folder.name}/{self._worlds}.db"
            return SqliteStore(file if self._url == "sqlite://" else self._url, clock=lambda: self.time)
        raise HeadraceError(f"{self._url!r} is no store for tests", hint='use "memory://" or "sqlite://"')

    async def _boot(self) -> None:
        """Start an engine; one that dies while it starts is followed by another."""
        while True:
            self._lives += 1
            self._handle = handle = MortalStore(self._open_store(), self._witness.committed, self._on_death)
            handle.plan = self._plan
            self._died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.headrace = hr = self._assemble(handle)
            starting = asyncio.ensure_future(self._start(hr))
            await asyncio.wait({starting, self._died}, return_when=asyncio.FIRST_COMPLETED)
            if not handle.dead:
                starting.result()
                self._fds = self._open_files()
                return
            starting.cancel()
            handle.bury()
            await asyncio.gather(starting, return_exceptions=True)
            await self._bury(hr, handle)

    def _assemble(self, handle: MortalStore) -> Headrace:
        options = {"workflows": self._workflows, "data_dir": Path(self._folder.name) / "files", **self._options}
        hr = Headrace(handle, now=lambda: self.time, node="environment", lease_seconds=LEASE_SECONDS, **options)  # type: ignore[arg-type]
        self._functions.update(hr._binder.functions)
        hr._binder.functions = self._functions
        hr._node.library.give_functions = hr._definitions.give_functions = self._functions.update
        for name, executor in hr._executors.items():
            hr._executors[name] = StubbedExecutor(executor, self._stubs)  # type: ignore[assignment]
        hr._node.options = msgspec.structs.replace(
            hr._node.options, poll_seconds=LEASE_SECONDS, child_check_seconds=CHILD_CHECK_SECONDS
        )
        return hr

    async def _start(self, hr: Headrace) -> None:
        await hr.__aenter__()
        last: RunId | None = None
        while True:  # in production the watchdog finds them; here it never looks
            rows = await hr.store.runs(RunFilter(before=last, limit=500))
            for row in rows:
                if row.wake_at is not None and row.ended_at is None:
                    hr._node.parker.wake_at(row.wake_at)
            if len(rows) < 500:
                return
            last = rows[-1].run_id

    def _on_death(self) -> None:
        """Nothing that was ready in the dead engine may run on."""
        if not self._died.done():
            self._died.set_result(None)
        self._witness.engine_died()
        self.headrace._node.abandon()

    async def _bury(self, hr: Headrace, handle: MortalStore) -> None:
        hr._node.abandon()
        handle.bury()
        await hr._stop_executors()
        await handle.inner.close()

    async def _until_alive(self) -> None:
        """See to it that there is an engine."""
        while self._handle is not None and self._handle.dead:
            if self._reviving is None:
                self._reviving = asyncio.ensure_future(self._revive())
            await asyncio.shield(self._reviving)

    async def _revive(self) -> None:
        try:
            assert self._handle is not None
            await self._bury(self.headrace, self._handle)
            await self._boot()
        finally:
            self._reviving = None

    # ---- time --------------------------------------------------------------------------------------------------------

    @property
    def time(self) -> float:
        """Virtual time in seconds since the epoch."""
        return self._time.time()

    @property
    def now(self) -> datetime.datetime:
        """Virtual time, in UTC."""
        return datetime.datetime.fromtimestamp(self.time, datetime.UTC)

    async def advance(self, duration: str | float | datetime.timedelta) -> None:
        """Let that much time pass, and everything that happens by then happen."""
        due = self._time.time() + parse_duration(duration)
        while (left := due - self._time.time()) > 0:
            await self._or_death(asyncio.sleep(left))
        await self.settle()

    async def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        while True:
            await self._until_alive()
            await self._time.idle()
            if self._handle is None or not self._handle.dead:
                return

    async def _or_death(self, awaitable: Coroutine[Any, Any, None]) -> None:
        """Await, or at least until the engine dies; then there is a new one."""
        task = asyncio.ensure_future(awaitable)
        await asyncio.wait({task, self._died}, return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        await self._until_alive()

    def _is_busy(self) -> bool:
        """Whether somebody outside of the event loop is at work on what the engine waits for."""
        if self._handle is not None and self._handle.calls > 0:
            return True
        stubbed = [executor for executor in self.headrace._executors.values() if isinstance(executor, StubbedExecutor)]
        if any(executor.outside for executor in stubbed):
            return True
        others = self.headrace.under_way - self.headrace.runs_awaited - sum(executor.inside for executor in stubbed)
        inline = any(executor.inside for executor in stubbed)
        return others > 0 or (inline and self._open_files() > self._fds)

    @staticmethod
    def _open_files() -> int:
        """Sockets and pipes that the event loop watches: an attempt with one of its own may be waiting for it."""
        loop: Any = asyncio.get_running_loop()
        return len(loop._selector.get_map())

    # ---- running -----------------------------------------------------------------------------------------------------

    async def start(self, workflow: WorkflowFunction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> EnvironmentRun[R]:
        """Start a run of a code workflow; durable on return. ``workflow.options(...)`` carries a key and the like."""
        expect_workflow(workflow, "start", graphs="start it with start_graph(graph, {...})")
        options = msgspec.structs.asdict(workflow.start_options)
        run = await self._start_run(workflow, workflow.bind(*args, **kwargs), options)
        return EnvironmentRun(self, run.id, workflow.convert_result)

    async def run(self, workflow: WorkflowFunction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Start a run and let time pass until it has ended: its result."""
        return await (await self.start(workflow, *args, **kwargs)).result()

    async def start_graph(self, workflow: Any, params: dict[str, Any] | None = None) -> EnvironmentRun:
        """Start a run of a graph."""
        return await self._start_run(workflow, params or {}, {})

    async def _start_run(self, workflow: Any, params: dict[str, Any], options: dict[str, Any]) -> EnvironmentRun:
        run_id = self._new_run_id()

        async def start(hr: Headrace) -> RunId:
            if await hr.store.run(run_id) is not None:
                return run_id  # the engine that was asked first died after it had done so
            return (await hr.run(workflow, params, run_id=run_id, **options)).id

        return EnvironmentRun(self, await self.ask(start))

    async def get(self, run_id: str) -> EnvironmentRun:
        """A run by its id: a child, say. Raises :class:`NotFound`."""
        row = await self.ask(lambda hr: hr.row(run_id))
        return EnvironmentRun(self, row.run_id)

    async def runs(self, workflow: str | None = None) -> list[EnvironmentRun]:
        """All runs, oldest first: children and continuations too. At most 10,000."""
        rows = await self.ask(lambda hr: hr.runs(workflow=workflow, limit=10_000))
        return [EnvironmentRun(self, row.run_id) for row in reversed(rows)]

    def new_name(self, kind: str) -> str:
        """A name nobody else has; the same in every scenario of a crash test."""
        self._names += 1
        return f"{kind}-{self._names}"

    def _new_run_id(self) -> RunId:
        self._names += 1
        number = (int(self.time * 1000) & (1 << 48) - 1) << 80 | self._names
        return RunId("".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5)))

    async def tell(self, command: Callable[[Headrace], Awaitable[object]]) -> None:
        """Bring a command to the engine, and if it dies before it acknowledges, to the next one. That one may refuse what
        its predecessor has applied: the run may have ended by it."""
        lives = self._lives
        try:
            await self.ask(command)
        except InvalidCommand:
            if self._lives == lives:
                raise

    async def ask(self, question: Callable[[Headrace], Awaitable[T]]) -> T:
        """Ask the engine, and if it dies before it answers, the next one."""
        while True:
            await self._until_alive()
            died = self._died
            answer = asyncio.ensure_future(question(self.headrace))
            try:
                await asyncio.wait({answer, died}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not answer.done():
                    answer.cancel()
            if not died.done():
                return answer.result()
            with contextlib.suppress(asyncio.CancelledError, HeadraceError):
                return await answer

    async def until_ended(self, run_id: str) -> None:
        """Let time pass until a run has ended. Raises ``AssertionError`` beyond the horizon."""
        try:
            async with asyncio.timeout(self._horizon):
                while True:
                    changed = self._witness.change()
                    row = await self.ask(lambda hr: hr.row(run_id))
                    if row.state in FINAL_RUN_STATES:
                        break
                    while not changed.done():
                        await self._until_alive()
                        await asyncio.wait({changed, self._died}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            self.check()
            raise AssertionError(await self._why_not_ended(run_id)) from None
        self.check()

    async def _why_not_ended(self, run_id: str) -> str:
        text = f"run {run_id} has not ended within {self._horizon / 86_400:g} days of virtual time"
        try:
            run = await self.headrace._node.adopter.replay(RunId(run_id))
        except HeadraceError as error:
            return f"{text}: {error}"
        waits = ""
        if isinstance(run, CodeRun):
            waits = f"; it waits for {', '.join(_waited_for(run)) or 'nothing'}"
            close_code(run)
        if run.reason:
            waits = f": {run.reason}"
        return f"{text}: it is {run.state}{waits}\n{numbered(await self.history(run_id))}"

    # ---- stand-ins ---------------------------------------------------------------------------------------------------

    @overload
    def stub(self, task: TaskFunction[P, Coroutine[Any, Any, R]], function: Callable[P, R | Awaitable[R]]) -> None: ...
    @overload
    def stub(self, task: TaskFunction[P, R], function: Callable[P, R | Awaitable[R]]) -> None: ...
    @overload
    def stub(self, task: Target, function: Callable[..., Any]) -> None: ...
    def stub(self, task: Any, function: Callable[..., Any]) -> None:
        """Run ``function`` (plain or asynchronous) whenever the task is called, with the same arguments.

        Raises ``ValueError`` for a name that its module does not have. Names that only runs can tell (of functions in
        files beside a workflow) are judged at the end: ``AssertionError`` if nothing had this name, but one like it."""
        self._stubs.stand_in(task, function)

    def fail(
        self,
        task: Target,
        *,
        times: int | None = 1,
        error: BaseException | type[BaseException] | None = None,
    ) -> None:
        """Let the next ``times`` calls raise ``error`` (all, with None; default: a ``RuntimeError``); calls after that go
        on as usual."""
        self._stubs.fail(task, times, error or RuntimeError("failed by the test"))

    def hang(self, task: Target, *, times: int | None = 1) -> None:
        """Let the next calls never end: until their timeout, or a cancellation."""
        self._stubs.hang(task, times)

    def calls(self, task: Target | None = None) -> list[Call]:
        """What was run, in order: every attempt whose code began, crashes included."""
        return list(self._stubs.calls) if task is None else self._stubs.calls_of(task)

    # ---- histories ---------------------------------------------------------------------------------------------------

    async def history(self, run: EnvironmentRun | str) -> list[ev.Event]:
        """A run's events so far. Raises :class:`NotFound`."""
        run_id = RunId(run if isinstance(run, str) else run.id)
        events = await self.ask(lambda hr: hr.store.history(run_id))
        if not events:
            raise NotFound(f"there is no run {run_id}")
        return [decode_event(data) for _, data in events]

    async def assert_history(self, run: EnvironmentRun | str, expected: Iterable[str], *, exact: bool = False) -> None:
        """Assert that these events are in a run's history, in this order; with ``exact``, these and no others.

        An event is its type and what it is about: ``"task.succeeded charge"``, ``"signal.received shipped"``,
        ``"run.finished succeeded"``; the end may be left out: ``"timer.set"``."""
        assert_order(await self.history(run), expected, exact=exact)

    # ---- crashes -----------------------------------------------------------------------------------------------------

    async def crash(self) -> None:
        """Let the engine die, with all it has not stored, and start another one on the same store."""
        assert self._handle is not None
        self._handle.die()
        await self._until_alive()

    async def crash_after_every_flush(self) -> None:
        """From here on, let every engine die after the first thing that it stores (other than that attempts start; and
        not so often that an attempt is given up as lost)."""
        await self.use_plan(CrashPlan(relentless=True))

    async def use_plan(self, plan: CrashPlan | None) -> None:
        """Let engines die by a plan; None lets them live."""
        await self._until_alive()
        assert self._handle is not None
        self._plan = self._handle.plan = plan

    async def run_with_crashes(
        self,
        workflow: WorkflowFunction[P, R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> CrashReport:
        """:meth:`crash_everywhere` for a workflow that needs nothing but its arguments."""
        return await self.crash_everywhere(lambda env: env.start(workflow, *args, **kwargs))

    async def crash_everywhere(
        self,
        start: Callable[[Environment], Awaitable[EnvironmentRun]],
        drive: Drive | None = None,
        *,
        reset: Callable[[], None] | None = None,
        step: int = 1,
    ) -> CrashReport:
        """Play a scenario again and again, in a new world each time: without a crash, with one crash before and one
        after every flush, and with a crash after every flush.

        ``start`` starts the run, ``drive(env, run)`` sends it what it waits for, ``reset`` sets the test's own counters
        back. ``step`` tries every n-th flush only. Raises ``AssertionError``, naming the crash, if the run does not
        end as it does without one, or if a task ran again after its outcome was recorded.
        """
        return await Crashes(self, start, drive, reset).everywhere(step)

    async def new_world(self, plan: CrashPlan | None = None) -> None:
        """Begin again: an empty store, the time it was at first, and every planned failure still to come."""
        await self._until_alive()
        assert self._handle is not None
        await self._witness.replayed()
        self._handle.dead = True
        await self._bury(self.headrace, self._handle)
        self._forget()
        self._time.set(self._begin)
        self._plan = plan
        await self._boot()

    @property
    def lost(self) -> Counter[tuple[str, str, int | None, int]]:
        """How often an attempt (run, task, item, number) was begun by an engine that died before its outcome was
        recorded."""
        return self._witness.lost

    def _call_begins(self, call: Call) -> None:
        self._witness.call_begins(call)  # that of the world that is now

    def check(self) -> None:
        """Raise ``AssertionError`` for what has gone wrong unseen: a replay that does not fit, a task that ran again."""
        if self._witness.problems:
            raise AssertionError("\n".join(self._witness.problems))


def _waited_for(run: CodeRun) -> list[str]:
    """What a run's code waits for, in words."""
    signals = [f"signal {name}" for name, waiting in run.waiters.items() if waiting]
    conditions = ["a condition"] * len(run.conditions)
    return [*run.futures, *signals, *(f"timer {number}" for number in run.timers), *conditions]
