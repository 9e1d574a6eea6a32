"""Brings updates to runs, whoever holds them, and waits for their answers.

A run in this node's memory is asked here, and answers once what it decided is durable; one that another node holds is
asked by :mod:`headrace.engine.asker`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from headrace.core.errors import EngineStopped, HeadraceError, InvalidCommand, NotFound, UpdateRejected
from headrace.core.ids import RunId
from headrace.core.states import FINAL_RUN_STATES, RunState
from headrace.durable.run import CodeRun, Update
from headrace.engine import payloads
from headrace.engine.adopter import read_run
from headrace.engine.asker import Asker, following_run, suspended, unanswered
from headrace.engine.live import LiveRun

if TYPE_CHECKING:
    from headrace.core import inputs as inp
    from headrace.engine.node import Node

ANSWER_LOOK_SECONDS = 5.0
"""How often whoever waits for an update's answer looks into the store, should the run have gone to another node."""


class Updater:
    """One node's updates that wait for answers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._asker = Asker(node)
        self._replies: dict[tuple[RunId, str], list[asyncio.Future[Update]]] = {}

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

    def _reply_to(self, run_id: RunId, update: str) -> asyncio.Future[Update]:
        """The answer, once it is durable."""
        future: asyncio.Future[Update] = asyncio.get_running_loop().create_future()
        self._replies.setdefault((run_id, update), []).append(future)
        return future

    async def _ask(self, live: LiveRun, given: inp.Update) -> Update:
        run, run_id, node = live.run, live.run_id, self._node
        assert isinstance(run, CodeRun)
        known = run.updates.get(given.update)
        if known is not None and known.done:
            return known
        answered = self._reply_to(run_id, given.update)
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
            return await payloads.restored_answer(known, self._node.artifacts)
        if ended:
            raise unanswered(run_id, row.state, accepted=known is not None)
        return None

    def reply(self, live: LiveRun, update: str) -> None:
        """The answer is durable."""
        assert isinstance(live.run, CodeRun)
        for future in self._replies.pop((live.run_id, update), ()):
            if not future.done():
                future.set_result(live.run.updates[update])

    def ended(self, live: LiveRun) -> None:
        """The run has ended: what it has not answered stays so."""
        if any(run_id == live.run_id for run_id, _ in self._replies):
            self.forget(live, unanswered(live.run_id, live.run.state, accepted=True))

    def forget(self, live: LiveRun, error: HeadraceError) -> None:
        """No answer will come from this run any more."""
        for key in [key for key in self._replies if key[0] == live.run_id]:
            for future in self._replies.pop(key):
                if not future.done():
                    future.set_exception(error)

    def stop(self) -> None:
        """Whoever waits for a reply learns that it will not come from here."""
        for waiting in self._replies.values():
            for future in waiting:
                if not future.done():
                    future.set_exception(EngineStopped("the engine stopped before the update was answered"))
        self._replies.clear()
