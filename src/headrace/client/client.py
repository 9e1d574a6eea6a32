"""The client: everything a program or the CLI can ask of Headrace.

This one works on an engine node in the same process; the node reaches runs of other processes through the store.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, overload

from headrace.client import completing, messages
from headrace.client.conflicts import settle
from headrace.client.definitions import Definitions, Loader, Workflow
from headrace.client.handle import RunHandle
from headrace.client.looking import Looking
from headrace.client.plain import plain
from headrace.client.replaying import replay
from headrace.client.schedules import Schedules
from headrace.client.starting import Asked, Create, start, start_options, start_run
from headrace.contracts.execution import LogStore
from headrace.contracts.interceptor import Interceptors
from headrace.contracts.locking import Lock, make_lock
from headrace.contracts.store import RunRow
from headrace.core.errors import AlreadyRunning
from headrace.core.events import Event, Failure
from headrace.core.ids import RunId
from headrace.core.spec import AnySpec
from headrace.core.view import RunView
from headrace.durable.expected import expect_workflow
from headrace.durable.start import OnConflict, OnReuse
from headrace.durable.workflow import WorkflowFunction
from headrace.engine.forker import ForkPoint, fork
from headrace.engine.minting import new_run_id
from headrace.engine.node import Node
from headrace.engine.replayer import Replayed
from headrace.engine.wisher import Word

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Client(Looking):
    """Asynchronous; use from one event loop."""

    def __init__(
        self,
        node: Node,
        load: Loader,
        logs: LogStore,
        give_functions: Callable[[Mapping[str, Callable[..., Any]]], None],
        interceptors: Interceptors,
    ) -> None:
        super().__init__(node, logs)
        self._definitions = Definitions(node, load, give_functions)
        self.interceptors = interceptors
        self.schedules = Schedules(self)
        """What runs when its time has come."""

    # ---- starting ----------------------------------------------------------------------------------------------------

    @overload
    async def run(
        self,
        workflow: WorkflowFunction[..., R],
        params: Mapping[str, Any] | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        from_strings: bool | AbstractSet[str] = False,
        trigger: str = "manual",
        run_id: str | None = None,
        key: str | None = None,
        on_conflict: OnConflict = "fail",
        on_reuse: OnReuse = "allow",
        attributes: Mapping[str, Any] | None = None,
        memo: Mapping[str, Any] | None = None,
    ) -> RunHandle[R]: ...
    @overload
    async def run(
        self,
        workflow: Workflow,
        params: Mapping[str, Any] | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        from_strings: bool | AbstractSet[str] = False,
        trigger: str = "manual",
        run_id: str | None = None,
        key: str | None = None,
        on_conflict: OnConflict = "fail",
        on_reuse: OnReuse = "allow",
        attributes: Mapping[str, Any] | None = None,
        memo: Mapping[str, Any] | None = None,
    ) -> RunHandle[Any]: ...
    async def run(
        self,
        workflow: Workflow,
        params: Mapping[str, Any] | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        from_strings: bool | AbstractSet[str] = False,
        trigger: str = "manual",
        run_id: str | None = None,
        key: str | None = None,
        on_conflict: OnConflict = "fail",
        on_reuse: OnReuse = "allow",
        attributes: Mapping[str, Any] | None = None,
        memo: Mapping[str, Any] | None = None,
    ) -> RunHandle[Any]:
        """Start a run. On return it is durable: it will reach a final state whatever happens to this process.

        ``params`` are checked against the workflow's; with ``from_strings`` texts are converted (command lines), all of
        them or those of the given names. The rest is described at :class:`~headrace.durable.start.StartOptions`.
        Raises :class:`InvalidDefinition`, :class:`InvalidParams`, :class:`UserCodeError`, :class:`NotFound`,
        :class:`AlreadyRunning` before anything is stored, :class:`StoreError` if it cannot be.
        """
        options = start_options(
            key=key, on_conflict=on_conflict, on_reuse=on_reuse, tags=tags, attributes=attributes, memo=memo
        )
        asked = Asked(options, from_strings=from_strings, trigger=trigger, run_id=run_id)
        handle = await start_run(self, workflow, params, asked)
        return handle.returning(workflow.convert_result) if isinstance(workflow, WorkflowFunction) else handle

    async def start(self, workflow: WorkflowFunction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Start a run of a code workflow with its own arguments, checked by the type checker. ``workflow.options(...)``
        carries a key, tags and the like. See :meth:`run`. Raises ``TypeError`` for what is no code workflow."""
        expect_workflow(workflow, "start", graphs="start it with run(graph, {...})")
        handle = await start_run(self, workflow, workflow.bind(*args, **kwargs), Asked(workflow.start_options))
        return handle.returning(workflow.convert_result)

    async def run_as_task(
        self, workflow: Workflow, params: Mapping[str, Any], *, attempt: str, tags: Mapping[str, str]
    ) -> RunHandle[Any]:
        """Start the run that an attempt of a graph's task is, or find the one it had started. The attempt's name is the
        run's key and its parent: the graph's owner is told of its end. Raises like :meth:`run`."""
        options = start_options(key=attempt, on_conflict="use_existing", on_reuse="reject", tags=tags)
        asked = Asked(options, parent=attempt)
        try:
            return await start_run(self, workflow, params, asked)
        except AlreadyRunning as known:  # it ended while nobody waited
            return await self.get(known.run_id)

    async def signal_with_start(
        self,
        workflow: Workflow,
        params: Mapping[str, Any] | None = None,
        *,
        key: str,
        name: str,
        payload: Any = None,
        on_reuse: OnReuse = "allow",
        tags: Mapping[str, str] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> RunHandle:
        """Send a signal to the run of a key; if there is no unfinished one, start it with the signal waiting for it.
        One fact either way: no run is started without its signal. Raises like :meth:`run`."""
        options = start_options(
            key=key, on_conflict="use_existing", on_reuse=on_reuse, tags=tags, attributes=attributes
        )
        given = plain(payload)

        def send(run_id: RunId) -> Awaitable[RunHandle]:
            return self.signal(run_id, name, given)

        asked = Asked(options, signal=(name, given))
        return await start(self, workflow, params, asked, lambda create: settle(self, create, send, options))

    async def update_with_start(
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
        """Ask the run of a key to change, starting it first if there is no unfinished one; its answer. Repeat with the
        same ``update_id`` if the answer was lost: nothing is done twice. Raises like :meth:`run` and :meth:`update`."""
        options = start_options(key=key, on_conflict="use_existing", on_reuse=on_reuse)
        number = update_id or new_run_id()

        async def ask_it(run_id: RunId) -> Any:
            return await self.update(run_id, name, *args, update_id=number, **kwargs)

        async def begin(create: Create) -> Any:
            async def create_and_ask() -> Any:
                return await ask_it((await create()).id)

            return await settle(self, create_and_ask, ask_it, options)

        return await start(self, workflow, params, Asked(options), begin)

    async def find(self, workflow: str, key: str) -> RunHandle | None:
        """The latest run of a workflow's business key, ended or not; None if there is none."""
        holder = await self._node.store.key_holder(workflow, key)
        return None if holder is None else await self.get(holder.run_id)

    async def register(self, workflow: Workflow) -> AnySpec:
        """Check a definition like :meth:`check` and store it, so that runs of it can be started by its name. Durable on
        return; storing the same again changes nothing."""
        return await self._definitions.register(workflow)

    async def check(self, workflow: Workflow) -> AnySpec:
        """Everything that :meth:`run` would refuse a definition for, without starting anything: the graph, the templates,
        the task kinds' settings, the functions. Returns the spec; raises like :meth:`run`."""
        return await self._definitions.check(workflow)

    async def get(self, run_id: str) -> RunHandle:
        """A run by its id or the beginning of it. Raises :class:`NotFound`, also for an ambiguous beginning."""
        full = await self._full_id(run_id)
        return RunHandle(self, full, self._node.live.get(full))

    # ---- commanding --------------------------------------------------------------------------------------------------

    async def cancel(self, run_id: str, reason: str = "") -> RunHandle:
        """Cancel a run: nothing new starts, attempts under way are stopped. Durable on return; the run's end follows."""
        return await self._command(run_id, "cancel", {"reason": reason})

    async def pause(self, run_id: str, reason: str = "") -> RunHandle:
        """Start nothing new in a run until it is resumed; attempts under way go on."""
        return await self._command(run_id, "pause", {"reason": reason})

    async def resume(self, run_id: str) -> RunHandle:
        """Go on with a run that was paused, or whose process ended before it did."""
        return await self._command(run_id, "resume", {})

    async def retry(self, run_id: str, tasks: tuple[str, ...] = (), reason: str = "") -> RunHandle:
        """Run again what failed in a run that has ended, or the given tasks and what follows from them."""
        return await self._command(run_id, "retry", {"tasks": tasks, "reason": reason})

    async def terminate(self, run_id: str, reason: str = "") -> RunHandle:
        """End a run of a code workflow without running any more of its code; clean-up does not happen."""
        return await self._command(run_id, "terminate", {"reason": reason})

    async def reset(
        self,
        run_id: str,
        *,
        to_event: int | None = None,
        to_task: str | None = None,
        reapply_signals: bool = True,
        reason: str = "",
    ) -> RunHandle:
        """Do part of a code workflow's run again: a new run with its history up to event ``to_event``, or up to where
        ``to_task`` began, carried on by the code as it is now. The old run is terminated if it has not ended; its key,
        its parent and whoever waits for its result go over to the new one. With ``reapply_signals`` the signals that
        came later, and the updates that were accepted, are applied again, in their order; an update that the code
        refuses now is left out. Durable on return, in one transaction.

        Raises :class:`InvalidCommand`, and :class:`Diverged` if the code does not fit: nothing has happened then."""
        point = ForkPoint(event=to_event, task=to_task)
        full = await self._full_id(run_id)
        live = await fork(self._node, full, point, replace=True, reapply_signals=reapply_signals, reason=reason)
        return RunHandle(self, live.run_id, live)

    async def fork(
        self,
        run_id: str,
        *,
        to_event: int | None = None,
        to_task: str | None = None,
        reapply_signals: bool = False,
        reason: str = "",
    ) -> RunHandle:
        """Like :meth:`reset`, but the old run goes its own way; the new one has no key and no parent."""
        point = ForkPoint(event=to_event, task=to_task)
        full = await self._full_id(run_id)
        live = await fork(self._node, full, point, replace=False, reapply_signals=reapply_signals, reason=reason)
        return RunHandle(self, live.run_id, live)

    async def replay(
        self, history: str | Sequence[Event], workflow: WorkflowFunction[..., Any] | str | Path | None = None
    ) -> Replayed:
        """Run the code of today against a history, for looking only: a run's id, or events from :meth:`history`.

        ``workflow`` is the code for events; by default that of the stored version. Raises :class:`InvalidCommand` for a
        graph, :class:`NotFound`, and what binding raises."""
        return await replay(self, history, workflow)

    async def signal(self, run_id: str, name: str, payload: Any = None, *, key: str | None = None) -> RunHandle:
        """Send a named message to a run of a code workflow. Durable on return: it will be applied once, in order. With
        ``key`` a repeated signal is dropped."""
        return await messages.signal(self, await self._full_id(run_id), name, payload, key)

    async def query(self, run_id: str, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Ask a run of a code workflow, living or ended: its ``@query`` function's answer. Changes nothing. Of a run that
        continues as another, the one that follows answers.

        Raises :class:`NotFound` for an unknown query, :class:`InvalidCommand` if the run's code does not fit."""
        return await messages.query(self, await self._full_id(run_id), name, args, kwargs)

    async def update(self, run_id: str, name: str, /, *args: Any, update_id: str | None = None, **kwargs: Any) -> Any:
        """Ask a run of a code workflow to change and wait for the answer of its ``@update`` function.

        ``update_id`` names the request: a repeated one is not run again, its answer is returned. Raises
        :class:`UpdateRejected` if the validator or the handler refuses."""
        number = update_id or new_run_id()
        return await messages.update(self, await self._full_id(run_id), name, args, kwargs, number)

    # ---- waiting for what a command does -----------------------------------------------------------------------------

    async def settled(self, run_id: str) -> None:
        """Wait until everything this engine has decided about a run is durable, or the run is not this engine's."""
        live = self._node.live.get(RunId(run_id))
        if live is not None and not live.closed:
            await self._node.journal.drained()

    async def heard(self, run_id: str, *, seconds: float = 5.0) -> bool:
        """Wait until the owner of a run has taken up every message that waits for it; False if it has not in time."""
        pause = 0.01
        until = time.monotonic() + seconds
        while await self._node.store.inbox([RunId(run_id)], self._node.id, limit=1):
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.25)
        return True

    # ---- locks -------------------------------------------------------------------------------------------------------

    def lock(self, name: str, *, timeout: str | float | datetime.timedelta | None = None) -> Lock:
        """The lock of that name, for this program: ``async with headrace.lock("name") as held:``. The same lock as
        :func:`headrace.lock` takes in tasks; see there. If it is lost, the block is cancelled and :class:`LockLost` is
        raised."""
        return make_lock(name, timeout, self._node.locker)

    # ---- attempts completed from outside -----------------------------------------------------------------------------

    async def complete(self, token: str, output: Any = None) -> None:
        """Report the output of an attempt whose task left it to others (:func:`headrace.complete_later`).

        Durable on return. Raises :class:`InvalidCommand` for what is no token, and for an attempt that is over: completed
        before, timed out, cancelled."""
        await completing.complete(self._node, token, output)

    async def fail(self, token: str, error: BaseException | str | Failure, *, retryable: bool | None = None) -> None:
        """Report that such an attempt failed: it is tried again as the task's ``retries`` say. ``retryable`` overrules
        them. Raises like :meth:`complete`."""
        await completing.fail(self._node, token, error, retryable)

    async def heartbeat(self, token: str, details: Any = None) -> None:
        """Say that such an attempt lives, and how far it is. Each one is recorded: every few seconds is often enough.
        Raises like :meth:`complete`, which is how the caller hears that nobody waits for it any more."""
        await completing.heartbeat(self._node, token, details)

    async def _command(self, run_id: str, kind: str, payload: dict[str, Any]) -> RunHandle:
        full = await self._full_id(run_id)
        await self._node.command(full, kind, payload)
        return RunHandle(self, full, self._node.live.get(full))

    # ---- for handles -------------------------------------------------------------------------------------------------

    def live(self, run_id: RunId) -> Any:
        """The run in this node's memory, if it is there."""
        return self._node.live.get(run_id)

    async def stored_row(self, run_id: RunId) -> RunRow | None:
        """The run's row."""
        return await self._node.store.run(run_id)

    def waiting(self, run_id: RunId, *, changes: bool = False) -> AbstractContextManager[Word]:
        """Hear of the end of a run, or of every change of it, wherever it is; see :class:`.engine.wisher.Wisher`."""
        return self._node.wisher.waiting(run_id, changes=changes)

    def broken(self) -> BaseException | None:
        """Why the engine can no longer work, or None."""
        return self._node.broken

    @property
    def stopping(self) -> bool:
        """Whether the engine is being stopped."""
        return self._node.stopping

    async def watch(self, run_id: str, *, interval_seconds: float = 0.2) -> AsyncIterator[RunView]:
        """The run again and again: now, whenever it has changed (at most once per interval), and at its end."""
        handle = await self.get(run_id)
        async for view in handle.watch(interval_seconds=interval_seconds):
            yield view
