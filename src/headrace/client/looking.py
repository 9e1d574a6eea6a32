"""What a client can see: runs with their tasks, histories and logs, workflows, nodes, locks. Nothing here changes it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from headrace.client.references import resolve_references
from headrace.client.why import Reason, reasons
from headrace.contracts.execution import LogEntry, LogStore
from headrace.contracts.locks import LockRow
from headrace.contracts.store import NodeRow, RunFilter, RunRow, WorkflowRow
from headrace.core.codec import decode_event
from headrace.core.errors import NotDeterministic, NotFound
from headrace.core.events import Event
from headrace.core.ids import RunId
from headrace.core.run import has_reference
from headrace.core.spec import AnySpec
from headrace.core.suggest import did_you_mean
from headrace.core.view import RunView
from headrace.core.where import SHOWN_STATES, And, Compare, Field, of_states, parse_where
from headrace.durable.access import run_or_none
from headrace.durable.run import CodeRun, calling_place
from headrace.engine import payloads
from headrace.engine.adopter import read_run
from headrace.engine.node import Node
from headrace.engine.peers import refused_by

RUN_ID_LENGTH = 26


class Looking:
    """The reading half of :class:`~headrace.client.client.Client`."""

    def __init__(self, node: Node, logs: LogStore) -> None:
        self._engine = node
        self._logs = logs

    @property
    def _node(self) -> Node:
        """The engine. Raises :class:`NotDeterministic` in workflow code: its event loop hears of nothing from
        outside, such as the store's answers, and a replay would do again what was asked for."""
        run = run_or_none()
        if run is not None:
            raise run.loop.refused(
                NotDeterministic(
                    f"workflow code used the engine at {calling_place()}: a replay would do it again",
                    hint="inside of a workflow start_child(...) starts runs, signal_run(...) and cancel_run(...) send "
                    "messages; for everything else the engine is asked by a @task function",
                )
            )
        return self._engine

    async def _full_id(self, run_id: str) -> RunId:
        if len(run_id) == RUN_ID_LENGTH:
            return RunId(run_id.lower())
        found = await self._node.store.find_runs(run_id) if run_id else []
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotFound(f"there is no run {run_id!r}", hint="headrace runs list")
        raise NotFound(f"{run_id!r} could be {len(found)} runs: {', '.join(found[:5])}", hint="give more characters")

    async def runs(
        self,
        *,
        workflow: str | None = None,
        states: tuple[str, ...] = (),
        tags: Mapping[str, str] | None = None,
        before: str | None = None,
        limit: int = 50,
        where: str | None = None,
        since: float | None = None,
    ) -> list[RunRow]:
        """Runs, newest first. ``states`` are stored ones, or ``waiting`` and ``interrupted`` as lists show them.
        ``before`` is the id of the last run of the page before. ``where`` is a filter such as
        ``status = 'waiting' and amount > 100``, see :mod:`headrace.core.where`; raises its :class:`InvalidFilter`.
        ``since``: created then or later, in seconds since the epoch."""
        condition = None if where is None else parse_where(where, self._node.now())
        if since is not None:
            recent = Compare(Field("column", "created_at", "time"), ">=", since)
            condition = recent if condition is None else And((condition, recent))
        if any(state in SHOWN_STATES for state in states):
            shown = of_states(states)
            states, condition = (), shown if condition is None else And((condition, shown))
        wanted = RunFilter(
            workflow=workflow,
            states=states,
            tags=dict(tags or {}),
            before=RunId(before) if before else None,
            limit=limit,
            where=condition,
        )
        return await self._node.store.runs(wanted)

    async def row(self, run_id: str) -> RunRow:
        """A run's row: its state, owner and counts. Raises :class:`NotFound`."""
        full = await self._full_id(run_id)
        row = await self._node.store.run(full)
        if row is None:
            raise NotFound(f"there is no run {run_id}", hint="headrace runs list")
        return row

    async def show(self, run_id: str, *, items: bool = False) -> RunView:
        """A run with its tasks; large outputs show as references. Raises :class:`NotFound`."""
        full = await self._full_id(run_id)
        live = self._node.live.get(full)
        run = live.run if live is not None else await read_run(self._node, full)
        return run.plan.brain.view(run, items=items)

    async def definition_of(self, run_id: str) -> AnySpec:
        """The definition a run keeps. Raises :class:`NotFound`."""
        return (await self._node.library.fetch((await self.row(run_id)).version)).spec

    async def why(self, run_id: str) -> list[Reason]:
        """What keeps a run from its end, by what is stored or in memory here: which tasks wait for what, and what is
        stuck; empty if it has ended. Raises :class:`NotFound`."""
        row = await self.row(run_id)
        store = self._node.store
        live = self._node.live.get(row.run_id)
        # What code waits for is known best where it runs: a call that is on offer is in no history yet.
        run: Any = (
            live.run if live is not None and isinstance(live.run, CodeRun) else await read_run(self._node, row.run_id)
        )
        standings = await store.offered(row.owner) if row.owner is not None else []
        return reasons(row, run, await store.nodes(), standings, await store.now())

    async def refused_by(self, run_id: str) -> dict[str, str]:
        """The nodes that are up and cannot take a run over (its code is gone, say), with the reason each gives; empty
        for a run that a node has. Raises :class:`NotFound`."""
        row = await self.row(run_id)
        return {} if row.live else refused_by(await self._node.store.nodes(), row.run_id)

    async def value(self, value: Any) -> Any:
        """Replace references to large values, wherever they are, by what they stand for."""
        if not has_reference(value):
            return value  # the usual case is not worth a thread
        return await asyncio.to_thread(resolve_references, value, self._node.artifacts)

    async def logs(self, run_id: str, task: str | None = None) -> list[LogEntry]:
        """The text output of a run's attempts. Raises :class:`NotFound`."""
        full = await self._full_id(run_id)
        if await self._node.store.run(full) is None:
            raise NotFound(f"there is no run {run_id}", hint="headrace runs list")
        return await asyncio.to_thread(self._logs.read_logs, full, task)

    async def workflow(self, name: str) -> WorkflowRow:
        """The latest version of a stored workflow. Raises :class:`NotFound`."""
        row = await self._node.store.workflow_named(name)
        if row is None:
            known = [known.name for known in await self.workflows()]
            near = did_you_mean(name, known, what="stored workflows")
            raise NotFound(f"there is no stored workflow named {name!r}", hint=near or "none is stored yet")
        return row

    async def workflows(self) -> list[WorkflowRow]:
        """The latest version of every stored workflow."""
        return await self._node.store.workflows()

    async def history(self, run_id: str, *, resolve: bool = False) -> list[Event]:
        """A run's events, in order; with ``resolve`` large values stand for themselves, so that the history can be
        replayed elsewhere. Raises :class:`NotFound`."""
        full = await self._full_id(run_id)
        stored = await self._node.store.history(full)
        if not stored:
            raise NotFound(f"there is no run {run_id}", hint="headrace runs list")
        events = [decode_event(data) for _, data in stored]
        return [await payloads.restore(event, self._node.artifacts) for event in events] if resolve else events

    async def locks(self) -> list[LockRow]:
        """The locks that are held, the leader's (``headrace.leader``) among them."""
        return await self._node.locks.locks()

    async def nodes(self) -> list[NodeRow]:
        """The nodes and workers of the store, those that were lost lately among them."""
        return await self._node.store.nodes()
