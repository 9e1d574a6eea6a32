"""Carries out what code runs owe besides attempts: timers, children, messages, replies.

Everything is called after the commit that caused it, and is safe to repeat: whoever takes a run over is given the same
effects again by :func:`headrace.durable.effects.pending`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.contracts.outcome import failure_of
from headrace.contracts.store import RunFilter
from headrace.core import inputs as inp
from headrace.core.errors import HeadraceError, InvalidCommand, NotFound
from headrace.core.events import Failure
from headrace.core.ids import RunId
from headrace.core.params import resolve_params
from headrace.core.states import FINAL_RUN_STATES, RunState
from headrace.core.where import And, Compare, Field, Not, Null
from headrace.durable import effects
from headrace.durable.run import CodeRun
from headrace.engine import payloads
from headrace.engine.adopter import read_run
from headrace.engine.extras import RunExtras
from headrace.engine.live import LiveRun

if TYPE_CHECKING:
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.performer")

CHILD_LOOK_SECONDS = 0.01
"""How often a message for a child looks whether the child is there by now: it is being created."""

TELLING = "headrace-tell-parent"
"""The name of the duty that brings word of a child's end; a node that stops waits for it."""

TOLD_AGAIN_MAX = 1_000
"""Children whose parents are told again after a node was lost; others are found when their parent looks after them."""

_ENDED_AT, _PARENT = Field("column", "ended_at", "time"), Field("column", "parent", "text")


class Performer:
    """One node's effects."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._starting: dict[str, asyncio.Event] = {}
        """Children that are just being started, by run id."""

    def perform(self, live: LiveRun, owed: Iterable[Any]) -> None:
        """Carry out effects whose cause is durable."""
        for effect in owed:
            _WAYS[type(effect)](self, live, effect)
        self._node.parker.consider(live)

    # ---- timers ------------------------------------------------------------------------------------------------------

    def _set_timer(self, live: LiveRun, effect: effects.SetTimer) -> None:
        number = effect.timer
        if ("timer", number) in live.timers:
            return
        self._node.planner.arm(
            live, ("timer", number), effect.due, lambda: self._node.decider.feed(live, inp.TimerDue(number))
        )

    def _drop_timer(self, live: LiveRun, effect: effects.DropTimer) -> None:
        timer = live.timers.pop(("timer", effect.timer), None)
        if timer is not None:
            timer.cancel()

    # ---- children ----------------------------------------------------------------------------------------------------

    def _start_child(self, live: LiveRun, effect: effects.StartChild) -> None:
        self._node.spawn(self._insist(live, lambda: self._child(live, effect)), "headrace-child")

    async def _insist(self, live: LiveRun, act: Callable[[], Awaitable[None]]) -> None:
        """Carry an effect out, again while the store is out of reach: nobody else does, as long as this node has the
        run. Until it is done the run stays in memory: what comes of it is told here, and nowhere else."""
        delay = 0.1
        live.unsettled += 1
        try:
            while not live.lost:
                try:
                    await act()
                    return
                except HeadraceError as error:
                    if not error.retryable:
                        raise
                    logger.warning("an effect waits for the store", extra={"run_id": live.run_id, "error": str(error)})
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, 5.0)
        finally:
            live.unsettled -= 1
            self._node.parker.consider(live)

    async def _child(self, live: LiveRun, effect: effects.StartChild) -> None:
        """Once at a time: a run that is taken over again asks for its children again, and a run created twice would be
        two writers of one history."""
        while (under_way := self._starting.get(effect.run_id)) is not None:
            await under_way.wait()
        done = self._starting[effect.run_id] = asyncio.Event()
        try:
            await self._start_or_report(live, effect)
        finally:
            del self._starting[effect.run_id]
            done.set()

    async def _start_or_report(self, live: LiveRun, effect: effects.StartChild) -> None:
        node = self._node
        run_id = RunId(effect.run_id)
        if run_id in node.live:
            return  # it tells its parent when it ends
        row = await node.store.run(run_id)
        if row is not None:
            if row.state in FINAL_RUN_STATES:
                await self._report_end(live, effect.child, run_id)
            return
        try:
            assert isinstance(live.run, CodeRun)
            workflow = live.run.child_code[effect.child]
            spec = workflow.spec
            functions = getattr(workflow, "functions", None)
            if functions:
                node.library.give_functions(functions)
            version = await node.library.register(spec, now=node.now())
            await node.starter.create_run(
                version,
                resolve_params(spec.params, effect.params, workflow=spec.name),
                trigger="child",
                source_dir=live.run.source_dir,
                run_id=run_id,
                parent=f"{live.run_id}/{effect.child}",
                extras=RunExtras(key=effect.key, headers=effect.headers),
                wanted=lambda: not live.lost,
            )
        except HeadraceError as error:
            if error.retryable:
                raise
            if node.broken is None and not node.stopping and not live.closed:
                node.decider.feed(live, inp.ChildDone(effect.child, RunState.FAILED, None, failure_of(error)))

    async def _report_end(self, live: LiveRun, child: str, run_id: RunId) -> None:
        """A child that had ended before this node took its parent over."""
        for _ in range(1_000):
            ended = await read_run(self._node, run_id)
            following = getattr(ended, "next_run", None)
            if following is None:
                if ended.done:
                    await self._give_end(live, inp.ChildDone(child, ended.state, ended.output, ended.failure))
                return
            run_id = RunId(following)

    async def _give_end(self, live: LiveRun, done: inp.ChildDone) -> None:
        self._node.decider.feed(live, await self._restored(done))

    async def _restored(self, done: inp.ChildDone) -> inp.Input:
        """Code is given values: what the child's outputs refer to is loaded first."""
        try:
            return await payloads.restore_input(done, self._node.artifacts)
        except HeadraceError as error:
            return inp.ChildDone(done.child, RunState.FAILED, None, failure_of(error))

    def tell_parent(self, live: LiveRun) -> None:
        """A run that somebody wants the result of has ended."""
        run = live.run
        if run.parent is None or getattr(run, "next_run", None) is not None:
            return  # nobody waits for it, or who waits is told by the run that follows
        parent_id, _, child = run.parent.partition("/")
        done = inp.ChildDone(child, str(run.state), run.output, run.failure)
        parent = self._node.live.get(RunId(parent_id))
        if parent is not None and not isinstance(parent.run, CodeRun):
            self._node.awaited.tell(run.parent)
        elif parent is not None and not parent.closed and not payloads.references(done.output):
            self._node.decider.feed(parent, done)
        else:
            self._node.spawn(self._tell(RunId(parent_id), done), TELLING)

    async def _tell(self, parent_id: RunId, done: inp.ChildDone) -> None:
        """Bring word of a child's end to its parent, wherever that is by now; again while the store is out of reach."""
        node, delay = self._node, 0.1
        while True:
            try:
                parent = node.live.get(parent_id)
                if parent is None or parent.closed:
                    await node.commander.deliver(parent_id, "child_done", msgspec.to_builtins(done))
                    return
                if not isinstance(parent.run, CodeRun):
                    node.awaited.tell(f"{parent_id}/{done.child}")
                    return
                given = await self._restored(done)
                if not parent.closed and not parent.parked:
                    node.decider.feed(parent, given)
                    return
            except HeadraceError as error:
                if not error.retryable:
                    raise
                logger.warning("a parent cannot be told yet", extra={"run_id": parent_id, "error": str(error)})
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)

    async def tell_again(self) -> None:
        """A node was lost: tell the parents of children that ended lately. The dead process may have had no time for it,
        and a parent that is parked looks after its children only now and then. Who knows already takes no notice."""
        node = self._node
        since = node.now() - node.options.child_check_seconds
        lately = And((Compare(_ENDED_AT, ">=", since), Not(Null(_PARENT))))
        for row in await node.store.runs(RunFilter(where=lately, limit=TOLD_AGAIN_MAX)):
            parent_id, _, child = (row.parent or "").partition("/")
            parent = await node.store.run(RunId(parent_id))
            if parent is None or parent.state in FINAL_RUN_STATES:
                continue
            ended = await read_run(node, row.run_id)
            if ended.done and getattr(ended, "next_run", None) is None:
                await self._tell(parent.run_id, inp.ChildDone(child, str(ended.state), ended.output, ended.failure))

    def _ended(self, live: LiveRun, _effect: effects.Ended) -> None:
        run = live.run
        assert isinstance(run, CodeRun)
        self._node.updater.ended(live)
        for child in run.children.values():
            if child.state is None and child.policy != "abandon":
                kind = "terminate" if child.policy == "terminate" else "cancel"
                reason = {"reason": f"its parent {run.run_id} ended"}
                self._node.spawn(self._try_command(RunId(child.run_id), kind, reason), "headrace-close-child")

    async def check_parent(self, live: LiveRun) -> None:
        """A run that was taken over may be one that its parent wanted closed, but died before it could."""
        parent_id, _, name = (live.run.parent or "").partition("/")
        row = await self._node.store.run(RunId(parent_id))
        if row is None or row.state not in FINAL_RUN_STATES:
            return
        parent = await read_run(self._node, RunId(parent_id))
        child = parent.children.get(name) if isinstance(parent, CodeRun) else None
        if child is not None and child.state is None and child.policy != "abandon":
            kind = "terminate" if child.policy == "terminate" else "cancel"
            await self._try_command(live.run_id, kind, {"reason": f"its parent {parent_id} ended"})

    async def _try_command(self, run_id: RunId, kind: str, payload: dict[str, Any]) -> None:
        with contextlib.suppress(InvalidCommand, NotFound):  # it has ended already
            await self._node.command(run_id, kind, payload)

    # ---- messages ----------------------------------------------------------------------------------------------------

    def _send(self, live: LiveRun, effect: effects.SendMessage) -> None:
        self._node.spawn(self._insist(live, lambda: self._send_message(live, effect)), "headrace-send")

    async def _send_message(self, live: LiveRun, effect: effects.SendMessage) -> None:
        payload: dict[str, Any] = {"reason": effect.name}
        if effect.kind == "signal":
            key = f"{live.run_id}/{effect.message}"
            value = await payloads.quoted(effect.payload, self._node.artifacts)
            payload = {"name": effect.name, "payload": value, "key": key, "headers": effect.headers}
        failure: Failure | None = None
        await self._until_there(live, effect.run_id)
        try:
            await self._node.command(RunId(effect.run_id), effect.kind, payload)
        except (InvalidCommand, NotFound) as error:
            failure = failure_of(error)
        self._node.decider.feed(live, inp.MessageDone(effect.message, failure))

    async def _until_there(self, live: LiveRun, run_id: str) -> None:
        """A child of the run itself, which its code may write to as soon as it has asked for it, is waited for."""
        assert isinstance(live.run, CodeRun)
        child = next((child for child in live.run.children.values() if child.run_id == run_id), None)
        while child is not None and child.state is None and not live.closed:
            if await self._node.store.run(RunId(run_id)) is not None:
                return
            await asyncio.sleep(CHILD_LOOK_SECONDS)

    def _reply(self, live: LiveRun, effect: effects.Reply) -> None:
        self._node.updater.reply(live, effect.update)

    # ---- attempts ----------------------------------------------------------------------------------------------------

    def _withdraw(self, live: LiveRun, _effect: effects.Withdraw) -> None:
        self._node.planner.retract(live)

    def _stop(self, live: LiveRun, effect: effects.Stop) -> None:
        unit = live.run.unit(effect.task, None)
        if unit is not None and not unit.done and not live.closed:
            self._node.planner.stop_unit(live, unit)


_WAYS: dict[type, Callable[[Performer, LiveRun, Any], None]] = {
    effects.SetTimer: Performer._set_timer,
    effects.DropTimer: Performer._drop_timer,
    effects.StartChild: Performer._start_child,
    effects.SendMessage: Performer._send,
    effects.Reply: Performer._reply,
    effects.Withdraw: Performer._withdraw,
    effects.Stop: Performer._stop,
    effects.Ended: Performer._ended,
}
