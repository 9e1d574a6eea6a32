"""Brings new runs into being: a request, a child, the run that follows another, a fork.

A run exists from the commit on that holds its first events and its row; nothing of it is launched before that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.contracts.store import RunRow
from headrace.core import events as ev
from headrace.core.codec import encode_event
from headrace.core.errors import AlreadyRunning, Fenced, HeadraceError
from headrace.core.ids import RunId
from headrace.durable import following
from headrace.durable.run import CodeRun
from headrace.engine import payloads
from headrace.engine.extras import NO_EXTRAS, RunExtras
from headrace.engine.live import Binding, LiveRun, take_effects
from headrace.engine.minting import new_run_id

if TYPE_CHECKING:
    from headrace.engine.node import Node


class Starter:
    """One node's new runs."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def create_run(
        self,
        version: str,
        params: dict[str, Any],
        *,
        tags: dict[str, str] | None = None,
        trigger: str = "manual",
        source_dir: str | None = None,
        run_id: RunId | None = None,
        parent: str | None = None,
        extras: RunExtras = NO_EXTRAS,
        wanted: Callable[[], bool] | None = None,
    ) -> LiveRun:
        """Create a run of a registered workflow version and own it. On return it is durable: it will reach a final
        state whatever happens to this process. ``wanted`` is asked after all waiting, just before the run begins: False
        raises :class:`Fenced`, as whoever wanted it may be somebody else's by then.

        Raises what binding raises, before anything is stored, and :class:`AlreadyRunning` if its key is held."""
        node = self._node
        binding = node.library.binding(version, source_dir)
        await node.until_working()
        if not node.journal.has_room:
            await node.journal.room()
        at = node.now()
        event = ev.RunCreated(
            at,
            run_id or new_run_id(at),
            node.library.plan(version).spec.name,
            version,
            params,
            tags or {},
            trigger,
            source_dir=source_dir,
            parent=parent,
            signals=extras.signals,
            key=extras.key,
            attributes=extras.attributes,
            memo=extras.memo,
            headers=extras.headers,
        )
        if extras.key is None:
            return await self._create(event, binding, wanted)
        # Cancelled between the two, the key would stay reserved for a run that never comes.
        return await asyncio.shield(asyncio.ensure_future(self._create_keyed(event, binding, extras, wanted)))

    async def _create(
        self, event: ev.RunCreated, binding: Binding, wanted: Callable[[], bool] | None = None
    ) -> LiveRun:
        if wanted is not None and not wanted():
            raise Fenced(f"run {event.run_id} is no longer this node's to start")
        durable = asyncio.get_running_loop().create_future()
        live = self._begin_run(event, binding, durable)
        await durable
        return live

    async def _create_keyed(
        self, event: ev.RunCreated, binding: Binding, extras: RunExtras, wanted: Callable[[], bool] | None
    ) -> LiveRun:
        await self.reserve_key(event.workflow, event.key or "", RunId(event.run_id), extras.kept_by)
        self._node.check_working()
        return await self._create(event, binding, wanted)

    async def reserve_key(self, workflow: str, key: str, run_id: RunId, kept_by: tuple[str, ...] = ()) -> None:
        """Get a business key for a run that is about to be created or to go on. Raises :class:`AlreadyRunning`."""
        node = self._node
        holder = await node.store.reserve_key(node.id, node.epoch, workflow, key, run_id, kept_by)
        if holder is not None:
            raise AlreadyRunning(workflow, key, holder.run_id, holder.state)

    def _begin_run(self, event: ev.RunCreated, binding: Binding, durable: asyncio.Future[None] | None) -> LiveRun:
        """Hand a new run to the journal; ``durable`` is told when it is safe."""
        plan = self._node.library.plan(event.version)
        run = plan.brain.new(plan, binding.code)
        run_id = RunId(event.run_id)
        events = plan.brain.create(run, event)
        live = LiveRun(run, binding)
        owed = take_effects(run)
        blobs: list[bytes] = []
        row = live.row()
        if isinstance(run, CodeRun):
            encoded, stored, blobs = payloads.encode(run, 1, events)
            row.params = getattr(stored[0], "params", row.params)
        else:
            if type(events[-1]) is ev.RunFinished:
                events = payloads.with_quoted_output(run, events, blobs)
            encoded = [(run_id, number, encode_event(event)) for number, event in enumerate(events, 1)]
        self.record_run(live, row, encoded, blobs, owed, durable)
        return live

    def record_run(
        self,
        live: LiveRun,
        row: RunRow,
        encoded: list[tuple[RunId, int, bytes]],
        blobs: list[bytes],
        owed: list[Any] | None,
        durable: asyncio.Future[None] | None,
    ) -> None:
        """Hand a run that exists only in memory to the journal, with its whole history; it is this node's from then
        on. ``owed`` are its effects besides attempts."""
        node = self._node
        run = live.run
        live.unsettled += 1

        def release(error: HeadraceError | None) -> None:
            live.unsettled -= 1
            if error is not None:
                live.close(error)
                if durable is not None and not durable.done():
                    durable.set_exception(error)
                return
            if durable is not None and not durable.done():
                durable.set_result(None)
            if run.done:
                node.decider.close_finished(live)
            else:
                node.planner.take_up(live)
            if owed is not None:
                node.performer.perform(live, owed)
            else:
                node.parker.consider(live)

        run.fresh.clear()
        run.stale = False
        node.live[live.run_id] = live
        row.owner = None if run.done else node.id
        try:
            node.journal.append(encoded, release, new_run=row, blobs=blobs)
        except HeadraceError as error:
            node.drop(live, error)
            raise
        if run.wanted:
            node.decider.load_wanted(live)
        if run.done:
            self.begin_next(live)

    def begin_next(self, live: LiveRun) -> None:
        """A run that is followed by another: the other begins in the same flush."""
        event = following.next_run(live.run) if isinstance(live.run, CodeRun) else None
        if event is not None:
            self._begin_run(event, live.binding, None)
