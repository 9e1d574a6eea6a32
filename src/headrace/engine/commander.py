"""Applies commands: directly to a run this node owns, through the inbox to a run that another node owns, and by taking it
over to a run that nobody owns."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import msgspec

from headrace.contracts.ready import OUTCOME_KIND
from headrace.contracts.store import InboxRow, RunRow
from headrace.core import inputs as inp
from headrace.core.decide import attempt_is_over
from headrace.core.errors import Fenced, HeadraceError, InvalidCommand, NotFound, UpdateRejected, UserCodeError
from headrace.core.ids import Epoch, RunId
from headrace.core.run import Run
from headrace.core.states import FINAL_RUN_STATES, RunState
from headrace.durable.run import CodePlan, CodeRun
from headrace.engine import payloads
from headrace.engine.adopter import read_run
from headrace.engine.arrivals import Arrival
from headrace.engine.live import LiveRun

if TYPE_CHECKING:
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.commander")

COMMANDS: dict[str, Any] = {
    "cancel": inp.Cancel,
    "terminate": inp.Terminate,
    "signal": inp.Signal,
    "update": inp.Update,
    "child_done": inp.ChildDone,
    "pause": inp.Pause,
    "resume": inp.Resume,
    "retry": inp.Retry,
    "wake": inp.ValuesLoaded,
    "outcome": inp.Outcome,
    "heartbeat": inp.Heartbeat,
}
CLAIM_TRIES = 50
CLAIM_DELAY_SECONDS = 0.1
BELL_SECONDS_MAX = 5.0
"""A bell that rings so soon after a run was parked may have rung for it."""


class Commander:
    """One node's commands."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._rung = asyncio.Event()
        self.rung_at = -math.inf
        """When the bell last rang, by the monotonic clock."""
        self._applying: set[int] = set()
        """Messages handed to the journal, until a read that begins after their commit: an earlier one may still show
        them, and they must not be applied twice."""
        self._applied: set[int] = set()
        self._reading = asyncio.Lock()
        self._turns: WeakValueDictionary[RunId, asyncio.Lock] = WeakValueDictionary()
        """Whose turn it is to take a run over for a command; each is there while a command holds or awaits it."""

    def wake(self) -> None:
        """The bell rang: look into the inbox now. It may have rung for a run that was just leaving the memory, whose
        message only :mod:`~headrace.engine.adopter` finds."""
        self._rung.set()
        self.rung_at = time.monotonic()
        if self.rung_at - self._node.parker.parked_at < BELL_SECONDS_MAX:
            self._node.adopter.wake()

    def input_of(self, kind: str, payload: dict[str, Any]) -> inp.Input:
        """The core's input for a command. Raises :class:`InvalidCommand` for one that does not exist or fit."""
        command = COMMANDS.get(kind)
        if command is None:
            raise InvalidCommand(f"there is no command {kind!r}; commands are {', '.join(COMMANDS)}")
        try:
            return msgspec.convert(payload, command)
        except msgspec.ValidationError as error:
            raise InvalidCommand(f"command {kind}: {error}") from None

    async def serve(self) -> None:
        """Apply what arrives, when the bell rings and, as a safety net, every few seconds."""
        while True:
            try:
                async with asyncio.timeout(self._node.options.poll_seconds):
                    await self._rung.wait()
            except TimeoutError:
                pass
            self._rung.clear()
            if self._node.live:
                try:
                    await self.apply_inbox(None)
                except HeadraceError as error:
                    logger.warning("the inbox could not be read", extra={"error": str(error)})

    async def apply_inbox(self, run_ids: Sequence[RunId] | None) -> None:
        """Apply the messages waiting for runs this node owns, oldest first."""
        async with self._reading:  # or the message after a large one would overtake it while that is loaded
            await self._apply_inbox(run_ids)

    async def _apply_inbox(self, run_ids: Sequence[RunId] | None) -> None:
        node = self._node
        self._applying -= self._applied  # gone before this read began, so it cannot show them again
        self._applied.clear()
        for row in await node.store.inbox(run_ids, node.id):
            live = node.live.get(row.run_id)
            if live is None or live.closed or row.id in self._applying:
                continue
            self._applying.add(row.id)
            try:
                if row.kind.startswith(OUTCOME_KIND):
                    arrivals = node.dispatcher.arrivals
                    arrivals.receive(live, await arrivals.prepare(live.run, row), self._forget(row))
                    continue
                given = self.input_of(row.kind, row.payload)
                if isinstance(live.run, CodeRun):
                    given = await payloads.restore_input(given, node.artifacts)
                elif isinstance(given, inp.ChildDone):
                    node.awaited.tell(f"{row.run_id}/{given.child}")
                    node.journal.append([], lambda _error, row=row: self._applied.add(row.id), inbox_id=row.id)
                    continue
                node.decider.feed(live, given, inbox_id=row.id, then=self._forget(row))
            except (InvalidCommand, UpdateRejected) as error:
                node.counts.commands_refused += 1
                # A refused update is told to who asked; nobody hears of the others.
                level = logging.INFO if isinstance(error, UpdateRejected) else logging.WARNING
                logger.log(level, "a command was refused", extra={"run_id": row.run_id, "error": error.message})
                node.journal.append([], lambda _error, row=row, live=live: self._refused(row, live), inbox_id=row.id)
                if isinstance(live.run, CodeRun) and live.run.spoiled:
                    await node.adopter.refresh(live)
            except HeadraceError as error:
                # A large message that cannot be read waits for the artifacts to be mended.
                self._applying.discard(row.id)
                logger.warning("a message cannot be read", extra={"run_id": row.run_id, "error": error.message})

    def _refused(self, row: InboxRow, live: LiveRun) -> None:
        """The message is gone, which is how somebody who asked from another node sees that it was refused."""
        self._applied.add(row.id)
        live.notify()

    async def arrivals(self, run: Run) -> list[Arrival]:
        """What became of attempts elsewhere, of a run that is being taken over."""
        rows = await self._node.store.inbox([RunId(run.run_id)], self._node.id)
        return [
            await self._node.dispatcher.arrivals.prepare(run, row)
            for row in rows
            if row.kind.startswith(OUTCOME_KIND) and row.id not in self._applying
        ]

    def apply_arrivals(self, live: LiveRun, arrivals: Sequence[Arrival]) -> None:
        """Apply them, before anything of the run is planned."""
        for arrival in arrivals:
            if arrival.id not in self._applying:
                self._applying.add(arrival.id)
                self._node.dispatcher.arrivals.receive(live, arrival, self._forget(arrival))

    def _forget(self, row: InboxRow | Arrival) -> Any:
        return lambda: self._applied.add(row.id)

    async def send(self, run_id: RunId, kind: str, payload: dict[str, Any]) -> None:
        """Bring a command to a run that is not in this node's memory."""
        node = self._node
        given = self.input_of(kind, payload)
        for _ in range(CLAIM_TRIES):
            row = await node.store.run(run_id)
            if row is None:
                raise NotFound(f"there is no run {run_id}", hint="headrace runs list")
            if row.state in FINAL_RUN_STATES and isinstance(given, inp.Signal | inp.Cancel | inp.Terminate):
                ended = await read_run(node, run_id)
                if isinstance(given, inp.Signal) and given.key is not None and given.key in _keys_of(ended):
                    return  # it was received; whoever sent it died before hearing of that
                following = getattr(ended, "next_run", None)
                if following is not None:  # messages for the old id are for the run that follows
                    await node.command(RunId(following), kind, payload)
                    return
            await self._check_fits(row, given)
            if isinstance(given, inp.Retry) and isinstance(await node.library.fetch(row.version), CodePlan):
                raise InvalidCommand(
                    f"run {run_id} is code: what failed in it cannot be retried by itself",
                    hint=f"to do part of it again: headrace runs reset {run_id} --to-task TASK",
                )
            if row.live and row.owner != node.id:
                if isinstance(given, inp.Outcome | inp.Heartbeat):
                    await self._check_open(run_id, given)
                short = await payloads.shorten_message(payload, node.artifacts)
                _, bell = await node.store.post(run_id, kind, short)
                node.waker.ring(bell)
                return
            if isinstance(given, inp.ChildDone) and not isinstance(await node.library.fetch(row.version), CodePlan):
                return  # whoever takes a graph up begins its attempts, and they look what became of their runs
            if await self._apply_to_unowned(row, given, kind, payload):
                return
            if self._is_here(run_id, given):  # taken up meanwhile, for another command or by the adopter
                await node.command(run_id, kind, payload)
                return
            await asyncio.sleep(CLAIM_DELAY_SECONDS)
        raise InvalidCommand(f"run {run_id} is held by a node that does not answer; try again in a few seconds")

    def _is_here(self, run_id: RunId, given: inp.Input) -> bool:
        """Whether the run goes on in this node's memory, so that it can be told there."""
        live = self._node.live.get(run_id)
        if live is None or live.run.done or live.inert:  # inert: here for one command only, and let go of after it
            return False
        return isinstance(live.run, CodeRun) or not isinstance(given, inp.ChildDone)

    async def _apply_to_unowned(self, row: RunRow, given: inp.Input, kind: str, payload: dict[str, Any]) -> bool:
        """Take the run over and apply a command to it; False if somebody has it. One command at a time for each run: the
        others find it in memory then, instead of claiming what this node itself has just claimed."""
        node = self._node
        run_id = row.run_id
        turn = self._turns.get(run_id)
        if turn is None:
            turn = self._turns[run_id] = asyncio.Lock()
        async with turn:
            if self._is_here(run_id, given):
                return False
            # Without a term: whoever brings a command need not lead, and the store judges leases by its own clock alone.
            lost = await node.store.expire_lost() if row.owner is not None else []
            try:
                if row.key is not None and isinstance(given, inp.Retry):
                    await node.starter.reserve_key(row.workflow, row.key, run_id)  # another run may have it by now
                epoch = node.epoch
                if not await node.ownership.claim(1, [run_id]):
                    return False
                return await self._apply_to_claimed(row, epoch, given, kind, payload)
            finally:
                node.watchdog.found_lost(lost)

    async def _check_fits(self, row: RunRow, given: inp.Input) -> None:
        """Refuse early what the owner would refuse, so that the sender hears of it."""
        ended = row.state in FINAL_RUN_STATES
        if isinstance(given, inp.Retry):
            if not ended:
                raise InvalidCommand(f"run {row.run_id} cannot be retried: it has not ended ({row.state})")
        elif ended:
            verbs: dict[type, str] = {
                inp.Cancel: "cancelled",
                inp.Pause: "paused",
                inp.Resume: "resumed",
                inp.Terminate: "terminated",
            }
            verb = verbs.get(type(given))
            what = f"cannot be {verb}" if verb else f"takes no {type(given).__name__.lower()}s"
            if isinstance(given, inp.Outcome | inp.Heartbeat):
                what = f"takes no more word on attempts, such as {given.attempt} of task {given.task}"
            raise InvalidCommand(
                f"run {row.run_id} {what}: it has ended ({row.state})",
                hint=await self._to_do_it_again(row) if isinstance(given, inp.Resume) else None,
            )

    async def _to_do_it_again(self, row: RunRow) -> str | None:
        if row.state == RunState.SUCCEEDED:
            return None
        if isinstance(await self._node.library.fetch(row.version), CodePlan):
            return f"to do part of it again: headrace runs reset {row.run_id} --to-task TASK"
        return f"to run again what failed: headrace runs retry {row.run_id}"

    async def _check_open(self, run_id: RunId, given: inp.Outcome | inp.Heartbeat) -> None:
        """Tell whoever reports on an attempt that is over, also when the run's owner is another node."""
        run = await read_run(self._node, run_id)
        unit = run.unit(given.task, given.item)
        if unit is None or unit.done or given.attempt != unit.attempt + 1:
            raise attempt_is_over(run, given)

    async def deliver(self, run_id: RunId, kind: str, payload: dict[str, Any]) -> None:
        """Bring a message to a run, wherever it is; nothing happens if it has ended."""
        try:
            await self.send(run_id, kind, payload)
        except (InvalidCommand, NotFound) as error:
            logger.info("a message came too late", extra={"run_id": run_id, "kind": kind, "error": error.message})

    async def _apply_to_claimed(
        self, row: RunRow, epoch: Epoch, given: inp.Input, kind: str, payload: dict[str, Any]
    ) -> bool:
        """False if the run has left this node again before the command's turn came."""
        node = self._node
        run_id = row.run_id
        is_signal = waits = False
        try:
            if isinstance(await node.library.fetch(row.version), CodePlan):
                is_signal = isinstance(given, inp.Signal)
                waits = is_signal and bool(await node.store.inbox([run_id], node.id, limit=1))
                # Before the run is in memory, where other commands would find it before it was taken up.
                given = await payloads.restore_input(given, node.artifacts)
            if isinstance(given, inp.Terminate):
                live = await node.adopter.load(run_id, epoch, bind=False, blind=True)  # also a run whose code is gone
            else:
                live = await node.adopter.load(run_id, epoch, bind=not isinstance(given, inp.Cancel | inp.Pause))
        except UserCodeError as error:
            if is_signal:
                await self._leave_signal(run_id, epoch, kind, payload, error)
                return True
            await node.ownership.give_back([run_id], epoch)
            without = f"to end the run without its code: headrace runs terminate {run_id}"
            error.hint = f"{error.hint}; {without}" if error.hint else without
            raise
        except Fenced:
            raise
        except BaseException:
            await node.ownership.give_back([run_id], epoch)
            raise
        if live.run.done and row.state not in FINAL_RUN_STATES:  # it ended before it was claimed: look again
            await node.let_go(live)
            return False
        node.adopter.take_up(live)
        if waits and await self._apply_earlier(live):
            return False
        durable = asyncio.get_running_loop().create_future()
        try:
            node.decider.feed(live, given, then=lambda: None if durable.done() else durable.set_result(None))
        except InvalidCommand:
            await node.let_go(live)
            raise
        await durable
        if live.error is not None:
            raise live.error
        if not live.closed and (live.inert or (live.run.done and not live.unsettled)):  # done: as it was before
            await node.let_go(live)
        return True

    async def _leave_signal(
        self, run_id: RunId, epoch: Epoch, kind: str, payload: dict[str, Any], error: HeadraceError
    ) -> None:
        """Store a signal for whoever has the run's code: to send one needs none. Durable on return."""
        node = self._node
        try:
            _, bell = await node.store.post(run_id, kind, await payloads.shorten_message(payload, node.artifacts))
        finally:
            node.adopter.refuse(run_id, error)
            await node.ownership.give_back([run_id], epoch)
        node.waker.ring(bell)

    async def _apply_earlier(self, live: LiveRun) -> bool:
        """Apply messages that wait for a run that was taken up for a signal, which must not overtake them. Returns
        whether the run has left this node by that: it has ended, or is parked."""
        await self.apply_inbox([live.run_id])
        if live.run.done and not live.closed:
            await live.until_closed()
        return live.closed


def _keys_of(run: Any) -> Collection[str]:
    """The keys of the signals that a run has received."""
    return getattr(run, "seen_keys", ())
