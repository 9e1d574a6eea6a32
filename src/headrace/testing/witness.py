"""Watches what an engine under test makes durable, and what must not have happened."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from headrace.contracts.store import Flush
from headrace.core.errors import HeadraceError
from headrace.core.ids import RunId
from headrace.core.states import RunState
from headrace.durable.decide import STARTS_MAX
from headrace.durable.looking import close as close_code
from headrace.durable.run import CodeRun
from headrace.testing.stubs import Call

if TYPE_CHECKING:
    from headrace.assembly import Headrace

_OUTCOMES = frozenset({"task.succeeded", "task.failed", "attempt.failed", "task.skipped"})

Unit = tuple[str, str, int | None, int]
"""An attempt: run, task, item, number."""


class _Clear(msgspec.Struct):
    """What can be read of an event, also of one that a codec has sealed."""

    type: str
    event: str = ""
    task: str = ""
    item: int | None = None
    attempt: int = 0


_read_clear = msgspec.json.Decoder(_Clear).decode


class Witness:
    """One world's. ``engine`` gives the engine that lives now; with ``always_replay`` every run that something was stored
    of is built again from its history."""

    def __init__(self, engine: Callable[[], Headrace], *, always_replay: bool) -> None:
        self._engine = engine
        self._always_replay = always_replay
        self._changed: list[asyncio.Future[None]] = []
        self._recorded: set[Unit] = set()
        self._starts: Counter[Unit] = Counter()
        self._begun: set[Unit] = set()
        self._replays: set[asyncio.Task[None]] = set()
        self.lost: Counter[Unit] = Counter()
        """How often an attempt was begun by an engine that died before its outcome was recorded."""
        self.problems: list[str] = []
        """What has gone wrong unseen."""

    def change(self) -> asyncio.Future[None]:
        """Done when something else has become durable."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.append(future)
        return future

    def committed(self, flush: Flush) -> bool:
        """Something is durable; True if it is more than that attempts have started, and none has started so often that it
        would be given up as lost."""
        is_progress = False
        for run_id, _, data in flush.events:
            event = _read_clear(data)
            kind, unit = event.event or event.type, (run_id, event.task, event.item, event.attempt)
            if kind == "task.started":
                self._starts[unit] += 1
                continue
            is_progress = True
            if kind in _OUTCOMES:
                self._recorded.add(unit)
                self._starts.pop(unit, None)
        waiting, self._changed = self._changed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        if self._always_replay:
            for run_id in {run_id for run_id, _, _ in flush.events}:
                task = asyncio.ensure_future(self._replay(run_id))
                self._replays.add(task)
                task.add_done_callback(self._replays.discard)
        return is_progress and all(starts < STARTS_MAX - 1 for starts in self._starts.values())

    async def _replay(self, run_id: RunId) -> None:
        """Build a run again from what is stored: the code must ask for the same things in the same order."""
        try:
            run = await self._engine()._node.adopter.replay(run_id)
        except HeadraceError as error:
            self.problems.append(f"run {run_id} cannot be replayed: {error}")
            return
        if isinstance(run, CodeRun):
            if run.diverged is not None and run.state is not RunState.SUSPENDED:  # not known of
                self.problems.append(f"run {run_id} does not fit its own history: {run.diverged}")
            for command in run.commands:
                if command.wanted is None or command.wanted():
                    what = f"{command.kind.__struct_config__.tag} at {command.place}"  # type: ignore[attr-defined]
                    self.problems.append(f"run {run_id}, replayed, asks for {what}; its history does not have it")
            close_code(run)

    async def replayed(self) -> None:
        """Wait until every replay under way is done."""
        await asyncio.gather(*self._replays, return_exceptions=True)

    def call_begins(self, call: Call) -> None:
        """A task's code is run."""
        self._begun.add(call.unit)
        if call.unit in self._recorded:
            self.problems.append(f"task {call.task} of run {call.run_id} ran again after its outcome was recorded")

    def engine_died(self) -> None:
        """What it had begun and not recorded is lost."""
        self.lost.update(self._begun - self._recorded)
        self._begun.clear()
