"""A process that dies at a chosen call to its store, and the world that outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from headrace.backends.artifacts.files import FileArtifacts
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.contracts.execution import Attempt
from headrace.contracts.store import Store
from headrace.core import events as ev
from headrace.core.codec import decode_event
from headrace.core.ids import RunId
from headrace.core.plan import Plan
from headrace.core.spec import WorkflowSpec
from headrace.engine.node import Node
from headrace.engine.options import NodeOptions

from rig import Clock, Work, binder, unit_name  # isort: skip

LEASE_SECONDS = 50.0
LIFE_SECONDS_MAX = 20.0
NOT_COUNTED = frozenset({"renew", "renew_locks", "close", "url"})
"""``renew`` comes from a thread in its own time; a process that closes its store has nothing left to lose."""

ENDS = (ev.TaskSucceeded, ev.TaskFailed, ev.TaskSkipped, ev.TaskCancelled, ev.TaskUpstreamFailed)


class Death(BaseException):
    """The process ends here: no ``except``, no ``finally`` of it has any effect on the world."""


class MortalStore:
    """A store handle whose process dies at call number ``at``, before it took effect or after."""

    def __init__(self, inner: Store, at: int | None = None, *, after: bool = False) -> None:
        self.inner = inner
        self.calls = 0
        self.names: list[str] = []
        self.dead = False
        self.died = asyncio.Event()
        self._at = at
        self._after = after

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.inner, name)
        if name in NOT_COUNTED or not callable(member):
            return member
        if inspect.iscoroutinefunction(member):

            async def call(*args: Any, **options: Any) -> Any:
                mine = self._enter(name)
                result = await member(*args, **options)
                self._leave(mine)
                return result

            return call

        def call_now(*args: Any, **options: Any) -> Any:
            mine = self._enter(name)
            result = member(*args, **options)
            self._leave(mine)
            return result

        return call_now

    def _enter(self, name: str) -> int:
        if self.dead:
            raise Death
        self.calls += 1
        self.names.append(name)
        if self.calls == self._at and not self._after:
            self._die()
        return self.calls

    def _leave(self, mine: int) -> None:
        if self.dead:
            raise Death
        if mine == self._at:
            self._die()

    def _die(self) -> None:
        self.dead = True
        self.died.set()
        raise Death


class World:
    """What outlives a process: the database, the artifacts, the side effects of tasks, the promises to clients."""

    def __init__(self, folder: Path, spec: WorkflowSpec, open_handle: Callable[[], Store] | None = None) -> None:
        self.clock = Clock()
        self.database = MemoryDatabase(self.clock)
        self.open_handle = open_handle or (lambda: MemoryStore(self.database))
        self.peeks = open_handle is None
        self.spec = spec
        self.folder = folder
        self.work = Work()
        self.acknowledged: list[RunId] = []
        self.promised: list[str] = []
        self.defects: list[str] = []
        self.process: MortalStore

    def bind(self, plan: Plan, source_dir: str | None) -> Any:
        """Tasks whose code first looks whether it may run at all."""
        process = self.process
        binding = binder(self.work)(plan, source_dir)
        for bound, node in zip(binding.bound, plan.nodes, strict=True):
            bound.run = self._guarded(process, node.spec.needs, bound.run)  # type: ignore[attr-defined]
        return binding

    def _guarded(self, process: MortalStore, needs: tuple[str, ...], run: Callable[[Attempt], Awaitable[Any]]) -> Any:
        async def guarded(attempt: Attempt) -> Any:
            if process.dead:
                await asyncio.Event().wait()  # a dead process runs no code
            if self.peeks:
                try:
                    self._may_run(attempt, needs)
                except AssertionError as error:
                    self.defects.append(str(error))
            return await run(attempt)

        return guarded

    def _may_run(self, attempt: Attempt, needs: tuple[str, ...]) -> None:
        """Code runs only after everything it follows from is durable, and never after its own outcome is."""
        events = self.stored(RunId(attempt.run_id))
        ended: set[str] = set()
        for event in events:
            if isinstance(event, ENDS):
                ended |= {name_of(event), event.task}
            elif isinstance(event, ev.TaskMapped) and not event.items:
                ended.add(event.task)
            elif isinstance(event, ev.RunRetried):
                ended = {name for name in ended if name.partition("[")[0] not in event.tasks}
        assert unit_name(attempt) not in ended, f"{attempt.key} runs, but its outcome is recorded"
        early = [need for need in needs if need not in ended]
        assert not early, f"{attempt.key} runs before the end of {early} is durable"

    def stored(self, run_id: RunId) -> list[ev.Event]:
        """A run's durable history (of a memory database)."""
        return [decode_event(data) for _, data in sorted(self.database.events.get(run_id, {}).items())]

    def node_on(self, process: MortalStore) -> Node:
        """A node of that process, not yet started."""
        options = NodeOptions(lease_seconds=LEASE_SECONDS, stop_seconds=2.0)
        return Node(process, FileArtifacts(self.folder / "artifacts"), self.bind, options, now=self.clock)  # type: ignore[arg-type]

    def live(
        self, client: Callable[[World, Node], Awaitable[None]], at: int | None = None, *, after: bool = False
    ) -> MortalStore:
        """One process: a node and its client, until the client is done or the process dies."""
        return asyncio.run(self._live(client, at, after))

    async def _live(self, client: Callable[[World, Node], Awaitable[None]], at: int | None, after: bool) -> MortalStore:
        defects: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: defects.append(context))
        self.clock.offset += 2 * LEASE_SECONDS  # whoever died before has lost its lease
        process = self.process = MortalStore(self.open_handle(), at, after=after)
        node = self.node_on(process)

        async def serve() -> None:
            await node.start()
            await client(self, node)

        served = asyncio.ensure_future(serve())
        died = asyncio.ensure_future(process.died.wait())
        await asyncio.wait({served, died}, timeout=LIFE_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)
        if not process.dead:
            assert served.done(), f"the client waits for ever; calls: {process.names}"
            served.result()
            with contextlib.suppress(Death):
                await node.stop()
        if process.dead:
            if node.membership.keeper is not None:  # the thread is part of the process
                node.membership.keeper._stop.set()
            node.waker.fall_silent()
        with contextlib.suppress(BaseException):
            await process.inner.close()
        real = [context for context in defects if not isinstance(context.get("exception"), Death)]
        assert not real, f"something went wrong in the background: {real}"
        return process


def name_of(event: Any) -> str:
    """The unit an event is about."""
    item = getattr(event, "item", None)
    return event.task if item is None else f"{event.task}[{item}]"
