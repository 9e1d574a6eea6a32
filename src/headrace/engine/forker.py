"""Makes a new run of a code workflow from the beginning of another's history: *reset* (the new one takes the old one's
place) and *fork* (the old one goes its own way).

The new run's history is a copy up to the chosen event, then ``run.forked``; everything after that is done again, by the
code as it is now. It replays the copy before anything is stored: code that does not fit is refused. The copy, the
messages applied again and the end of the old run are one flush.

What was under way at the chosen event is begun anew: calls are launched, messages are sent and children are started
again, as new runs of their own; nobody waits for the old ones.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.core import events as ev
from headrace.core import inputs as inp
from headrace.core.codec import decode_event, encode_event
from headrace.core.errors import Diverged, Fenced, InvalidCommand, NotFound, UpdateRejected
from headrace.core.ids import RunId
from headrace.core.states import FINAL_RUN_STATES, RunState
from headrace.durable.run import CodePlan, CodeRun
from headrace.engine import outcomes, payloads
from headrace.engine.live import LiveRun
from headrace.engine.minting import new_run_id

if TYPE_CHECKING:
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.forker")

EVENTS_MAX = 100_000
"""The longest history that is copied: it is one transaction."""

HISTORY_PAGE = 20_000
TRIES_MAX = 20
"""How often the old run may go on while its history is being copied."""

Stored = list[tuple[int, bytes]]


class ForkPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the copy ends: after event ``event``, or before the first event about ``task``."""

    event: int | None = None
    task: str | None = None

    def find(self, run_id: str, stored: Stored) -> int:
        """The number of the last event to copy. Raises :class:`InvalidCommand`."""
        if (self.event is None) == (self.task is None):
            raise InvalidCommand("say to which event or to which task, and not both")
        if self.event is not None:
            if not 1 <= self.event <= len(stored):
                raise InvalidCommand(f"run {run_id} has no event {self.event}: it has 1 to {len(stored)}")
            cut = self.event
        else:
            cut = self._before_task(run_id, stored)
        last = decode_event(stored[cut - 1][1])
        if isinstance(last, ev.RunFinished):
            raise InvalidCommand(
                f"event {cut} is the end of run {run_id}: nothing would be done again",
                hint=f"choose an earlier one: headrace runs history {run_id}",
            )
        return cut

    def _before_task(self, run_id: str, stored: Stored) -> int:
        known: dict[str, None] = {}
        for number, data in stored:
            task = getattr(decode_event(data), "task", None)
            if task == self.task:
                return number - 1
            if task is not None:
                known[task] = None
        names = ", ".join(list(known)[:10]) or "none"
        raise InvalidCommand(f"the history of run {run_id} has no task {self.task!r}", hint=f"it has: {names}")


async def fork(
    node: Node, run_id: RunId, point: ForkPoint, *, replace: bool, reapply_signals: bool, reason: str
) -> LiveRun:
    """Make the new run; durable on return, and this node's. With ``replace`` the old run is terminated if it has not
    ended, the new one takes over its key and parent, and who waits for the old one's result gets the new one's.

    Raises :class:`NotFound`, :class:`InvalidCommand`, :class:`Diverged` (the code does not fit the copy; nothing has
    been done), and what binding raises."""
    for _ in range(TRIES_MAX):
        old, claimed = await _hold(node, run_id) if replace else (None, False)
        try:
            stored = await _history(node, run_id)
            live, row, encoded, blobs = await _build(node, run_id, stored, point, replace, reapply_signals, reason)
            if replace and old is None and row.key is not None:
                await node.starter.reserve_key(row.workflow, row.key, live.run_id)
        except BaseException:
            if claimed and old is not None:
                await node.let_go(old)
            raise
        if old is None or (not old.closed and not old.parked and old.run.seq == len(stored)):
            break
        live.run.plan.brain.close(live.run)
    else:
        raise InvalidCommand(f"run {run_id} goes on too quickly to be reset", hint=f"headrace runs pause {run_id}")
    durable = asyncio.get_running_loop().create_future()
    # No await between the two: what is handed to the journal in one turn of the loop is one flush.
    if old is not None:
        node.decider.feed(old, inp.Terminate(reason or f"reset as {live.run_id}", live.run_id))
    live.run.effects.clear()
    node.starter.record_run(live, row, encoded, blobs, live.run.plan.brain.pending(live.run), durable)
    await durable
    return live


async def _hold(node: Node, run_id: RunId) -> tuple[LiveRun | None, bool]:
    """The old run in this node's hands, and whether it was claimed for that; (None, False) if it has ended."""
    live = node.live.get(run_id)
    if live is not None and not live.closed and not live.parked:
        await node.journal.drained()
        return (None if live.run.done else live), False
    row = await node.store.run(run_id)
    if row is None:
        raise NotFound(f"there is no run {run_id}", hint="headrace runs list")
    if row.state in FINAL_RUN_STATES:
        return None, False
    lost = await node.store.expire_lost() if row.owner is not None else []  # without a term: see Commander.send
    epoch = node.epoch
    try:
        is_claimed = await node.ownership.claim(1, [run_id])
    finally:
        node.watchdog.found_lost(lost)
    if not is_claimed:
        raise InvalidCommand(
            f"run {run_id} is held by another process", hint="reset it from there, or stop that process first"
        )
    try:
        return await node.adopter.load(run_id, epoch), True
    except Fenced:
        raise
    except BaseException:
        await node.ownership.give_back([run_id], epoch)
        raise


async def _history(node: Node, run_id: RunId) -> Stored:
    stored: Stored = []
    while True:
        page = await node.store.history(run_id, after=len(stored), limit=HISTORY_PAGE)
        stored += page
        if len(page) < HISTORY_PAGE:
            break
        if len(stored) > EVENTS_MAX:
            raise InvalidCommand(f"run {run_id} has more than {EVENTS_MAX:,} events: too many to copy")
    if not stored:
        raise NotFound(f"there is no run {run_id}", hint="headrace runs list")
    return stored


async def _build(
    node: Node, run_id: RunId, stored: Stored, point: ForkPoint, replace: bool, reapply_signals: bool, reason: str
) -> Any:
    """The new run in memory, its row, its encoded history and its large values. Nothing is stored."""
    created = decode_event(stored[0][1])
    assert isinstance(created, ev.RunCreated)
    former = await node.library.fetch(created.version)
    if not isinstance(former, CodePlan):
        raise InvalidCommand(
            f"run {run_id} is a graph: it cannot be reset", hint=f"headrace runs retry {run_id} --task TASK"
        )
    cut = point.find(run_id, stored)
    # The code as it is now, under the version it has now.
    spec = node.library.binding(created.version, created.source_dir).code.workflow.spec
    version = await node.library.register(spec, now=node.now())
    binding = node.library.binding(version, created.source_dir)
    now = node.now()
    first = msgspec.structs.replace(
        created,
        run_id=new_run_id(now),
        version=version,
        trigger="reset" if replace else "fork",
        parent=created.parent if replace else None,
        key=created.key if replace else None,
        reset_from=f"{run_id}/{cut}",
        seed=created.seed or created.run_id,
    )
    events = [first, *_with_new_children([decode_event(data) for _, data in stored[1:cut]], now)]
    patches = {event.patch for event in events if isinstance(event, ev.Patched)}
    plan = node.library.plan(version)
    run = plan.brain.new(plan, binding.code)
    # Of what the code asked for after the last event of the copy nothing is kept: it decides on that anew, and comes to
    # its patches there for the first time, those that the old run had taken among them.
    run.prepare(cut - 1, patches)
    for event in events:
        restored = await payloads.restore(event, node.artifacts) if outcomes.MARK in encode_event(event) else event
        payloads.fold_restored(run, event, restored)
    if run.diverged is not None:
        plan.brain.close(run)
        raise Diverged(f"the code does not fit the history of run {run_id}: {run.diverged}")
    more: list[ev.Event] = [ev.RunForked(now, reason)]
    plan.brain.fold(run, more[0])
    messages = await _later_messages(node, stored[cut:]) if reapply_signals else []
    for given in (inp.Resume() if run.state in _HELD else inp.ValuesLoaded(), *messages):
        if not run.done:
            more += _again(run, given, now)
    live = LiveRun(run, binding)
    encoded = [(live.run_id, number, encode_event(event)) for number, event in enumerate(events, 1)]
    added, _, blobs = payloads.encode(run, cut + 1, more)
    row = live.row()
    row.key, row.params = first.key, first.params
    return live, row, encoded + added, blobs


_HELD = (RunState.PAUSED, RunState.SUSPENDED)


def _with_new_children(events: list[ev.Event], now: float) -> list[ev.Event]:
    """Children that had not ended in the copy are other runs here: the old ones belong to the old run."""
    ended = {event.child for event in events if isinstance(event, ev.ChildEnded)}
    return [
        msgspec.structs.replace(event, run_id=new_run_id(now))
        if isinstance(event, ev.ChildStarted) and event.child not in ended
        else event
        for event in events
    ]


def _again(run: CodeRun, given: inp.Input, now: float) -> list[ev.Event]:
    """Decide on a message once more. An update that the code refuses now is left out: whoever sent it has had its
    answer, and the run may be where it makes no sense."""
    try:
        return run.plan.brain.decide(run, given, now)
    except (InvalidCommand, UpdateRejected) as error:
        if not isinstance(given, inp.Update) or run.spoiled:
            run.plan.brain.close(run)
            raise
        what = {"run_id": run.run_id, "update": given.update, "error": error.message}
        logger.warning("an update is not applied again", extra=what)
        return []


async def _later_messages(node: Node, stored: Stored) -> list[inp.Input]:
    """The signals that came, and the updates that were accepted, after the copy, in their order."""
    found: list[inp.Input] = []
    for _, data in stored:
        event = decode_event(data)
        given: inp.Input | None = None
        if isinstance(event, ev.SignalReceived):
            given = inp.Signal(event.name, event.payload, event.key, event.headers)
        elif isinstance(event, ev.UpdateAccepted):
            given = inp.Update(event.update, event.name, event.payload, event.headers)
        if given is not None:
            found.append(await payloads.restore_input(given, node.artifacts))
    return found


__all__ = ["ForkPoint", "fork"]
