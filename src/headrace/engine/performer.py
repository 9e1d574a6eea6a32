"""Carries out what code runs owe besides attempts: timers, children, messages, replies; and parks runs that only wait.

Everything is called after the commit that caused it, and is safe to repeat: whoever takes a run over is given the same
effects again by :func:`headrace.durable.effects.pending`.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.contracts.outcome import failure_of
from headrace.contracts.store import RunFilter
from headrace.core import inputs as inp
from headrace.core.errors import EngineStopped, HeadraceError, InvalidCommand, NotFound, UpdateRejected
from headrace.core.events import Failure
from headrace.core.ids import RunId
from headrace.core.params import resolve_params
from headrace.core.states import FINAL_RUN_STATES, RunState
from headrace.core.where import And, Compare, Field, Not, Null
from headrace.durable import effects
from headrace.durable.run import CodeRun, Update
from headrace.engine import payloads
from headrace.engine.adopter import read_run
from headrace.engine.asker import Asker, following_run, suspended, unanswered
from headrace.engine.extras import RunExtras
from headrace.engine.live import LiveRun

if TYPE_CHECKING:
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.performer")

PARK_AFTER_SECONDS = 1.0
"""How long a run has had nothing to do before it leaves the memory."""

SWEEP_SECONDS_MAX = 60.0
"""How long a node that has only runs which cannot be parked goes without looking for some that can."""

PARK_TIMER_SECONDS = 5.0
"""A run whose next timer is due sooner stays."""

PARK_EVENTS_PER_SECOND = 1_000
"""A run is replayed when it comes back, some 100,000 events a second. So one with a long history stays for longer, a
second for that many events: a call that is retried again and again costs at most a hundredth of its delays."""

ANSWER_LOOK_SECONDS = 5.0
"""How often whoever waits for an update's answer looks into the store, should the run have gone to another node."""

CHILD_LOOK_SECONDS = 0.01
"""How often a message for a child looks whether the child is there by now: it is being created."""

TELLING = "headrace-tell-parent"
"""The name of the duty that brings word of a child's end; a node that stops waits for it."""

TOLD_AGAIN_MAX = 1_000
"""Children whose parents are told again after a node was lost; others are found when their parent looks after them."""

_ENDED_AT, _PARENT = Field("column", "ended_at", "time"), Field("column", "parent", "text")

NEVER = 4e9
"""A ``wake_at`` for runs that only a message wakes (the year 2096; a message clears it)."""


class Performer:
    """One node's effects."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._asker = Asker(node)
        self._replies: dict[tuple[RunId, str], list[asyncio.Future[Update]]] = {}
        self._starting: dict[str, asyncio.Event] = {}
        """Children that are just being started, by run id."""
        self.parking: dict[RunId, LiveRun] = {}
        """Runs whose parking is on its way to the store."""
        self.parked_at = -math.inf
        """When the last one arrived there, by the monotonic clock."""
        self._wakes: list[float] = []
        self._wake_timer: asyncio.TimerHandle | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_pause = PARK_AFTER_SECONDS

    def perform(self, live: LiveRun, owed: Iterable[Any]) -> None:
        """Carry out effects whose cause is durable."""
        for effect in owed:
            _WAYS[type(effect)](self, live, effect)
        self.consider_parking(live)

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
            self.consider_parking(live)

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
        if any(run_id == live.run_id for run_id, _ in self._replies):
            self.forget(live, unanswered(live.run_id, run.state, accepted=True))
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
            payload = {"name": effect.name, "payload": effect.payload, "key": key, "headers": effect.headers}
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

    # ---- replies -----------------------------------------------------------------------------------------------------

    def reply_to(self, run_id: RunId, update: str) -> asyncio.Future[Update]:
        """The answer, once it is durable."""
        future: asyncio.Future[Update] = asyncio.get_running_loop().create_future()
        self._replies.setdefault((run_id, update), []).append(future)
        return future

    async def update(self, run_id: RunId, given: inp.Update) -> Any:
        """Bring a request to a run and wait for its answer, whoever holds the run. What came too late for a run that
        continues as another is for the one that follows.

        Raises :class:`UpdateRejected` if the validator or the handler refuses, :class:`InvalidCommand` if the run has
        ended, ends before it answers, or is suspended."""
        while True:
            try:
                answer = await self._answer(run_id, given)
                break
            except InvalidCommand:
                following = await following_run(self._node, run_id, unless=given.update)
                if following is None:
                    raise
                run_id = following
        if answer.failure is not None:
            raise UpdateRejected(f"update {given.name!r} failed: {answer.failure.text}")
        return answer.output

    async def _answer(self, run_id: RunId, given: inp.Update) -> Update:
        answer = await self._recorded_answer(run_id, given)
        while answer is None:
            live = await self._code_run(run_id)
            answer = await (self._asker.ask(run_id, given) if live is None else self._ask(live, given))
        return answer

    async def _code_run(self, run_id: RunId) -> LiveRun | None:
        """A run in this node's memory; it is taken up for that if nobody has it. None if another node holds it."""
        node = self._node
        if run_id not in node.live:
            row = await node.store.run(run_id)
            if row is not None and row.live and row.owner != node.id:
                return None
            await node.commander.send(run_id, "wake", {})
        live = node.live.get(run_id)
        if live is None:
            return None
        if not isinstance(live.run, CodeRun):
            raise InvalidCommand(f"run {run_id} is a graph: it takes no updates")
        if live.run.state is RunState.SUSPENDED:
            raise suspended(live.run)
        return live

    async def _ask(self, live: LiveRun, given: inp.Update) -> Update:
        run, run_id, node = live.run, live.run_id, self._node
        assert isinstance(run, CodeRun)
        known = run.updates.get(given.update)
        if known is not None and known.done:
            return known
        answered = self.reply_to(run_id, given.update)
        try:
            node.decider.feed(live, given)
        except HeadraceError:
            self._replies.get((run_id, given.update), []).remove(answered)
            if run.spoiled:
                await node.adopter.refresh(live)
            raise
        while not answered.done():
            await asyncio.wait({answered}, timeout=ANSWER_LOOK_SECONDS)
            if not answered.done() and run_id not in node.live:  # parked, or gone to another node
                found = await self._recorded_answer(run_id, given)
                if found is not None:
                    return found
        return answered.result()

    async def _recorded_answer(self, run_id: RunId, given: inp.Update) -> Update | None:
        """The answer of a run that is not in this node's memory; None while it may still come."""
        if run_id in self._node.live:
            return None
        row = await self._node.store.run(run_id)
        if row is None:
            raise NotFound(f"there is no run {run_id}", hint="headrace runs list")
        ended = row.state in FINAL_RUN_STATES
        if not ended and row.owner in (None, self._node.id):
            return None
        run = await read_run(self._node, run_id)
        known = run.updates.get(given.update) if isinstance(run, CodeRun) else None
        if known is not None and known.done:
            return known
        if ended:
            raise unanswered(run_id, row.state, accepted=known is not None)
        return None

    def _reply(self, live: LiveRun, effect: effects.Reply) -> None:
        assert isinstance(live.run, CodeRun)
        for future in self._replies.pop((live.run_id, effect.update), ()):
            if not future.done():
                future.set_result(live.run.updates[effect.update])

    def forget(self, live: LiveRun, error: HeadraceError) -> None:
        """No answer will come from this run any more."""
        for key in [key for key in self._replies if key[0] == live.run_id]:
            for future in self._replies.pop(key):
                if not future.done():
                    future.set_exception(error)

    def _withdraw(self, live: LiveRun, _effect: effects.Withdraw) -> None:
        self._node.planner.retract(live)

    def _stop(self, live: LiveRun, effect: effects.Stop) -> None:
        unit = live.run.unit(effect.task, None)
        if unit is not None and not unit.done and not live.closed:
            self._node.planner.stop_unit(live, unit)

    # ---- parking -----------------------------------------------------------------------------------------------------

    def consider_parking(self, live: LiveRun) -> None:
        """See to it that the run leaves the memory once it has only waited for a while; at once if it is suspended."""
        run = live.run
        if not isinstance(run, CodeRun) or live.closed or run.done:
            return
        if run.state is RunState.SUSPENDED and self._only_waits(live):
            asyncio.get_running_loop().call_soon(self._park, live, run.seq)
        elif self._sweep is None or self._sweep_pause > PARK_AFTER_SECONDS:
            self._arm_sweep(PARK_AFTER_SECONDS)

    def _arm_sweep(self, pause: float) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep_pause = pause
        self._sweep = asyncio.get_running_loop().call_later(pause, self._park_idle)

    def _park_idle(self) -> None:
        """Park the runs that have only waited since the last sweep. Where nothing changes, sweeps become rare."""
        self._sweep = None
        changed = left = False
        for live in list(self._node.live.values()):
            run = live.run
            if not isinstance(run, CodeRun) or live.closed or run.done:
                continue
            if live.rested_at != run.seq:
                live.rested_at = run.seq
                changed = True
            elif self._only_waits(live):
                self._park(live, run.seq)
                continue
            left = True
        if left and not self._node.stopping:
            self._arm_sweep(PARK_AFTER_SECONDS if changed else min(2 * self._sweep_pause, SWEEP_SECONDS_MAX))

    def _only_waits(self, live: LiveRun) -> bool:
        run = live.run
        assert isinstance(run, CodeRun)
        if live.tickets or live.unsettled or run.fresh or run.commands:
            return False
        due = self._next_due(live)
        if due is None or run.state is RunState.SUSPENDED:
            return True
        return due - self._node.now() > PARK_TIMER_SECONDS + run.seq / PARK_EVENTS_PER_SECOND

    def _next_due(self, live: LiveRun) -> float | None:
        """When something happens to a waiting run by itself: a timer of its code, a retry, the end of its time."""
        run = live.run
        assert isinstance(run, CodeRun)
        dues = [timer.due for key, timer in live.timers.items() if type(key) is not tuple or key[0] != "timer"]
        due = run.next_due()  # without timers that are no longer wanted
        return min(dues if due is None else [due, *dues], default=None)

    def _park(self, live: LiveRun, seq: int) -> None:
        run, node = live.run, self._node
        assert isinstance(run, CodeRun)
        if live.closed or run.seq != seq or run.done or node.stopping or not self._only_waits(live):
            return
        if not node.options.adopt and run.state is not RunState.SUSPENDED:
            self._refresh_row(live)
            return  # nobody here would wake it
        due = self._next_due(live)
        wake_at = NEVER if due is None or run.state is RunState.SUSPENDED else due
        if run.state is not RunState.SUSPENDED and any(child.state is None for child in run.children.values()):
            wake_at = min(wake_at, node.now() + node.options.child_check_seconds)
        update = live.update(release=True, wake_at=wake_at)
        node.live.pop(live.run_id, None)
        node.teller.forget(live.run_id)
        live.parked = True
        for timer in live.timers.values():  # a process that dies before the commit leaves none behind
            timer.cancel()

        begun = time.monotonic()

        def parked(_error: HeadraceError | None) -> None:
            self.parking.pop(live.run_id, None)
            live.close()
            self.parked_at = time.monotonic()
            if node.commander.rung_at >= begun:
                node.adopter.wake()
            self.wake_at(wake_at)

        self.parking[live.run_id] = live
        try:
            node.journal.append([], parked, update=update)
        except HeadraceError:
            parked(None)

    def _refresh_row(self, live: LiveRun) -> None:
        """A run that rests here for long is not to be listed as it was while it was busy."""
        if live.listed_at != live.run.seq:
            live.listed_at = live.run.seq
            with contextlib.suppress(HeadraceError):
                self._node.journal.append([], None, update=live.update(release=False))

    def wake_at(self, when: float) -> None:
        """Remember to look for parked runs at that time."""
        if when >= NEVER:
            return
        heapq.heappush(self._wakes, when)
        self._arm_wake()

    def _arm_wake(self) -> None:
        if self._wake_timer is not None:
            self._wake_timer.cancel()
            self._wake_timer = None
        if self._wakes and not self._node.stopping:
            delay = max(0.0, self._wakes[0] - self._node.now())
            self._wake_timer = asyncio.get_running_loop().call_later(min(delay, 3600.0), self._wake)

    def _wake(self) -> None:
        self._wake_timer = None
        now = self._node.now()
        due = False
        while self._wakes and self._wakes[0] <= now:
            heapq.heappop(self._wakes)
            due = True
        if due:
            self._node.spawn(self._adopt(), "headrace-wake-parked")
        self._arm_wake()

    async def _adopt(self) -> None:
        await self._node.adopter.adopt_waiting()

    def stop(self) -> None:
        """Wake nothing more; whoever waits for a reply learns that it will not come from here."""
        for waiting in self._replies.values():
            for future in waiting:
                if not future.done():
                    future.set_exception(EngineStopped("the engine stopped before the update was answered"))
        self._replies.clear()
        self._wakes.clear()
        if self._wake_timer is not None:
            self._wake_timer.cancel()
            self._wake_timer = None


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
