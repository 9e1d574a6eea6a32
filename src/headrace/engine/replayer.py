"""Runs the code of today against stored histories, for looking only: does it still do what they say?"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from headrace.contracts.store import RunFilter
from headrace.core import events as ev
from headrace.core.codec import encode_event
from headrace.core.errors import HeadraceError, InvalidCommand
from headrace.core.ids import RunId
from headrace.core.states import RunState
from headrace.durable.run import CodePlan, CodeRun
from headrace.engine import outcomes, payloads

if TYPE_CHECKING:
    from headrace.engine.live import Binding
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.replayer")

PAGE_RUNS = 500
YIELD_EVENTS = 5_000
"""Events folded before others have their turn on the loop."""


class Replayed(msgspec.Struct, frozen=True):
    """How the replay of one history went. ``difference`` is where code and history part, None if they agree; ``place``
    the line of code (``file.py:line``) where that shows, and ``source`` its text, if there is one."""

    run_id: str
    workflow: str
    events: int
    difference: str | None = None
    place: str | None = None
    source: str | None = None


def _of(run_id: str, workflow: str, events: int, run: CodeRun) -> Replayed:
    place = run.diverged_at
    if place is None:
        return Replayed(run_id, workflow, events, run.diverged)
    return Replayed(run_id, workflow, events, run.diverged, str(place), place.source)


async def replay_events(node: Node, events: list[ev.Event], plan: CodePlan, binding: Binding) -> Replayed:
    """Replay a history that need not be in the store. Raises :class:`InvalidCommand` if it does not begin as one."""
    created = events[0] if events else None
    if not isinstance(created, ev.RunCreated):
        raise InvalidCommand("a history begins with the event run.created")
    run = plan.brain.new(plan, binding.code)
    assert isinstance(run, CodeRun)
    run.prepare(len(events), {event.patch for event in events if isinstance(event, ev.Patched)})
    try:
        for number, event in enumerate(events, 1):
            if outcomes.MARK in encode_event(event):
                payloads.fold_restored(run, event, await payloads.restore(event, node.artifacts))
            else:
                plan.brain.fold(run, event)
            if run.diverged is not None:
                break
            if not number % YIELD_EVENTS:
                await asyncio.sleep(0)
        return _of(created.run_id, created.workflow, len(events), run)
    finally:
        plan.brain.close(run)


async def replay_stored(node: Node, run_id: RunId) -> Replayed | None:
    """Replay a run of the store; None for a graph, which has nothing to replay."""
    row = await node.store.run(run_id)
    if row is None or not isinstance(await node.library.fetch(row.version), CodePlan):
        return None
    run = await node.adopter.replay(run_id)
    assert isinstance(run, CodeRun)
    try:
        return _of(run_id, row.workflow, run.seq, run)
    finally:
        run.plan.brain.close(run)


async def suspend_misfits(node: Node) -> list[RunId]:
    """Replay every run that waits in the store; those whose code no longer fits are suspended with the reason. Runs that
    others hold are theirs to judge."""
    suspended: list[RunId] = []
    before: RunId | None = None
    while True:
        states = (str(RunState.RUNNING), str(RunState.CANCELLING))
        page = await node.store.runs(RunFilter(states=states, before=before, limit=PAGE_RUNS))
        suspended += [row.run_id for row in page if row.owner is None and await _misfit(node, row.run_id)]
        if len(page) < PAGE_RUNS:
            return suspended
        before = page[-1].run_id


async def _misfit(node: Node, run_id: RunId) -> bool:
    try:
        replayed = await replay_stored(node, run_id)
    except HeadraceError as error:
        if error.retryable:
            raise
        logger.warning("a run cannot be replayed", extra={"run_id": run_id, "error": error.message})
        return False  # whoever takes it over says so, too
    if replayed is None or replayed.difference is None:
        return False
    epoch = node.epoch
    if not await node.ownership.claim(1, [run_id]):
        return False
    logger.warning("a run's code does not fit", extra={"run_id": run_id, "difference": replayed.difference})
    live = await node.adopter.adopt(run_id, epoch)  # records the suspension and lets go
    if live is None:
        await node.ownership.give_back([run_id], epoch)
    await node.journal.drained()
    return live is not None
