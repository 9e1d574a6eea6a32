"""Brings updates to runs that another node holds, and waits for their answers.

The request goes through the inbox like every message. If the answer takes a while, the owner is asked to tell of changes
of the run (:mod:`headrace.engine.wisher`). What it decides is read where it is recorded: an accepted
update is in the history, its answer too. A refused one leaves no trace but that its message is gone; why it was refused
is found by asking the same code on the same history here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import msgspec

from headrace.core import events as ev
from headrace.core.codec import decode_event
from headrace.core.errors import HeadraceError, InvalidCommand, NotFound, UpdateRejected
from headrace.core.ids import RunId
from headrace.core.states import FINAL_RUN_STATES, RunState
from headrace.durable.looking import close
from headrace.durable.run import CodeRun, Update
from headrace.engine import payloads
from headrace.engine.adopter import read_run

if TYPE_CHECKING:
    from headrace.core import inputs as inp
    from headrace.engine.node import Node
    from headrace.engine.wisher import Word

LOOK_SECONDS_MIN = 0.01
LOOK_SECONDS_MAX = 1.0
"""How often the history is asked for an answer: at first at once; later, where the owner's word cannot come, as seldom as
this."""

WISH_SECONDS = 0.1
"""The pause between two looks from which on the owner's word is waited for instead. Most updates are answered sooner, and
a wish costs more than the looks that it spares them."""

OWNER_SECONDS = 1.0
"""How often to see whether the owner is still there."""

PAGE = 1_000


class Asker:
    """One node's requests to others."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def ask(self, run_id: RunId, given: inp.Update) -> Update | None:
        """The answer of a run that another node holds; None if that no longer does: then the run is to be asked anew.

        Raises :class:`UpdateRejected` if the owner refused it, :class:`InvalidCommand` if the run ended first."""
        node = self._node
        run = await read_run(node, run_id)
        if not isinstance(run, CodeRun):
            raise InvalidCommand(f"run {run_id} is a graph: it takes no updates")
        known = run.updates.get(given.update)
        if known is not None and known.done:
            return await payloads.restored_answer(known, node.artifacts)
        if run.state is RunState.SUSPENDED:
            raise suspended(run)
        with contextlib.ExitStack() as waits:
            return await self._answer(run, given, waits, accepted=known is not None)

    async def _answer(
        self, run: CodeRun, given: inp.Update, waits: contextlib.ExitStack, *, accepted: bool
    ) -> Update | None:
        node, run_id = self._node, RunId(run.run_id)
        message = None if accepted else await self._post(run_id, given)
        seen = run.seq
        word: Word | None = None
        pause = LOOK_SECONDS_MIN
        looked_at = time.monotonic()
        while True:
            # Asked before the history: message and acceptance change in one commit.
            gone = message is not None and not await self._is_waiting(run_id, message)
            events = await self._since(run_id, seen)
            seen += len(events)
            for event in events:
                if isinstance(event, ev.UpdateAccepted) and event.update == given.update:
                    accepted = True
                elif isinstance(event, ev.UpdateCompleted) and event.update == given.update:
                    restored = await payloads.restore(event, node.artifacts)
                    assert isinstance(restored, ev.UpdateCompleted)
                    return Update(given.name, True, restored.output, restored.failure)
                elif isinstance(event, ev.RunFinished):
                    raise unanswered(run_id, event.state, accepted=accepted)
            if gone and not accepted:
                raise await self._refusal(run_id, given)
            if accepted:
                message = None
            if time.monotonic() - looked_at >= OWNER_SECONDS:
                looked_at = time.monotonic()
                row = await node.store.run(run_id)
                if row is None or not row.live or row.owner == node.id:
                    return None
            if word is None and pause >= WISH_SECONDS:
                word = waits.enter_context(node.wisher.waiting(run_id, changes=True))
            await (asyncio.sleep(pause) if word is None else word.next(pause))
            pause = LOOK_SECONDS_MIN if events else min(pause * 1.5, LOOK_SECONDS_MAX)

    async def _since(self, run_id: RunId, seen: int) -> list[ev.Event]:
        """The events after that one: all of them, or a message's absence could not be judged."""
        events: list[ev.Event] = []
        while True:
            page = await self._node.store.history(run_id, after=seen + len(events), limit=PAGE)
            events += [decode_event(data) for _, data in page]
            if len(page) < PAGE:
                return events

    async def _post(self, run_id: RunId, given: inp.Update) -> int:
        node = self._node
        short = await payloads.shorten_message(msgspec.structs.asdict(given), node.artifacts)
        message, bell = await node.store.post(run_id, "update", short)
        node.waker.ring(bell)
        return message

    async def _is_waiting(self, run_id: RunId, message: int) -> bool:
        return any(row.id == message for row in await self._node.store.inbox([run_id], self._node.id))

    async def _refusal(self, run_id: RunId, given: inp.Update) -> HeadraceError:
        """Why the owner refused an update: what its code says here, on what is stored."""
        row = await self._node.store.run(run_id)
        if row is None:
            return NotFound(f"there is no run {run_id}", hint="headrace runs list")
        if row.state in FINAL_RUN_STATES:
            return unanswered(run_id, row.state, accepted=False)
        try:
            run = await self._node.adopter.replay(run_id)
        except HeadraceError:
            return UpdateRejected(
                f"update {given.name!r} was rejected by run {run_id}",
                hint="the workflow's code is not here to say why; the log of the run's node does",
            )
        assert isinstance(run, CodeRun)
        from headrace.durable.decide import judge_update  # noqa: PLC0415 - only programs with code workflows need it

        try:
            judge_update(run, given)
        except (InvalidCommand, UpdateRejected) as error:
            return error
        finally:
            close(run)
        return UpdateRejected(
            f"update {given.name!r} was rejected by run {run_id}, which has changed since", hint="try again"
        )


async def following_run(node: Node, run_id: RunId, *, unless: str | None = None) -> RunId | None:
    """The run that an ended one continues as, for whom its messages are now; None if there is none. ``unless``: an update
    that the ended run had accepted stays with it."""
    row = await node.store.run(run_id)
    if row is None or row.state not in FINAL_RUN_STATES:
        return None
    ended = await read_run(node, run_id)
    if not isinstance(ended, CodeRun) or ended.next_run is None or unless in ended.updates:
        return None
    return RunId(ended.next_run)


def unanswered(run_id: str, state: str, *, accepted: bool) -> InvalidCommand:
    """No answer will come from a run that has ended."""
    if accepted:
        return InvalidCommand(f"run {run_id} ended ({state}) before it answered the update")
    return InvalidCommand(f"run {run_id} takes no updates: it has ended ({state})")


def suspended(run: CodeRun) -> InvalidCommand:
    """The code of a run does not fit: nothing is asked of it."""
    return InvalidCommand(
        f"run {run.run_id} takes no updates: it is suspended: {run.reason}",
        hint=f"mend its code, then: headrace runs resume {run.run_id}",
    )
