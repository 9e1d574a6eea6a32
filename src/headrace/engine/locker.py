"""Users' locks on this node: waits for them in line, gives them back when their attempt is over, tells who lost one.

A place in the line is kept in the store and lost by those who fall silent, so whoever waits asks again every few seconds.
Whoever gives a lock back rings the bell of the node that is next; there, the first that waits for a lock asks at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from headrace.contracts.locking import lost
from headrace.contracts.locks import PLACE_SECONDS, LockTurn
from headrace.core.errors import EngineStopped, Fenced, HeadraceError, LockLost, LockMisused, LockNotFree
from headrace.core.ids import Epoch, NodeId
from headrace.engine.holding import Held, Holding

if TYPE_CHECKING:
    from headrace.engine.launcher import Launcher

logger = logging.getLogger("headrace.locker")

ASK_SECONDS = PLACE_SECONDS / 3
"""How often those who wait ask again."""

GIVING_BACK = "headrace-give-back"
"""The name of the duties that a node that stops waits for."""

GAP_SECONDS = 0.02
"""The shortest time between two questions of one that waits."""


class Host(Protocol):
    """Whose locks they are: a node, or a worker that asks a server."""

    @property
    def id(self) -> NodeId:
        """Its name."""
        ...

    @property
    def epoch(self) -> Epoch:
        """Of its lease."""
        ...

    @property
    def holding(self) -> Holding:
        """What renews its locks."""
        ...

    def holds(self, epoch: Epoch) -> bool:
        """Whether what was taken under an epoch is still its own."""
        ...

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Run something in the background."""
        ...

    def launchers(self) -> list[Launcher]:
        """Who carries attempts out."""
        ...

    def lock_freed(self, bell: str) -> None:
        """Somebody else is next, whose bell this is."""
        ...


class _Waiter:
    """One that wants a lock. ``ended``: its attempt is over, or the node stops."""

    def __init__(self, name: str, owner: str) -> None:
        self.name = name
        self.owner = owner
        self.rung = asyncio.Event()
        self.ended: HeadraceError | None = None


class Locker:
    """See :class:`headrace.contracts.locking.Locker`. ``patience_seconds``: how long whoever keeps the locks may be out
    of reach. ``ask_seconds``: how often those who wait ask again; ``wait_seconds``: how long an answer may wait for their
    turn, where there is no bell that would tell."""

    def __init__(
        self,
        node: Host,
        *,
        patience_seconds: Callable[[], float],
        ask_seconds: float = ASK_SECONDS,
        wait_seconds: float = 0.0,
    ) -> None:
        self._node = node
        self._patience = patience_seconds
        self._ask_seconds = ask_seconds
        self._wait_seconds = wait_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, list[_Waiter]] = {}
        self.owners: dict[str, set[_Waiter | Held]] = {}
        """What attempts want and have."""
        self._is_closed = False
        self.lost = 0
        """Locks that were lost while they were held."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The engine's."""
        if self._loop is None:
            raise EngineStopped("the engine is not running: it takes no locks")
        return self._loop

    def open(self) -> None:
        """The engine runs."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Nobody waits any more. Idempotent."""
        self._is_closed = True
        for waiters in self._waiting.values():
            for waiter in waiters:
                self._end_wait(waiter, EngineStopped("the engine stopped while the lock was waited for"))

    def wake(self) -> None:
        """Something has changed: the first that waits for each lock asks."""
        for waiters in self._waiting.values():
            waiters[0].rung.set()

    # ---- taking --------------------------------------------------------------------------------------------------------

    async def acquire(
        self, name: str, timeout_seconds: float | None, owner: str, on_lost: Callable[[LockLost], None]
    ) -> Held:
        """See the contract."""
        if self._is_closed:
            raise EngineStopped("the engine is stopping and takes no new locks")
        has = self.owners.setdefault(owner, set()) if owner else set[_Waiter | Held]()
        if any(name == (one.name if isinstance(one, _Waiter) else one.claim.name) for one in has):
            raise LockMisused(
                f"lock {name!r} is held by this attempt already: it would wait for itself",
                hint="take it once, around both",
            )
        waiter = _Waiter(name, owner)
        self._waiting.setdefault(name, []).append(waiter)
        has.add(waiter)
        holder = f"{self._node.id}/{secrets.token_hex(8)}"
        try:
            held = await self._wait(waiter, holder, timeout_seconds, on_lost)
        except BaseException:
            self._node.spawn(self._give_back(name, holder), GIVING_BACK)
            raise
        finally:
            self._forget(owner, waiter)
            self._waiting[name].remove(waiter)
            if not self._waiting[name]:
                del self._waiting[name]
        if owner:
            self.owners.setdefault(owner, set()).add(held)
        return held

    async def _wait(
        self, waiter: _Waiter, holder: str, timeout_seconds: float | None, on_lost: Callable[[LockLost], None]
    ) -> Held:
        node, loop, name = self._node, self.loop, waiter.name
        begun = loop.time()
        until = None if timeout_seconds is None else begun + timeout_seconds
        answered_at = begun
        held: Held | None = None

        def tell(why: str) -> None:
            self.lost += 1
            logger.error("a lock was lost while it was held", extra={"lock": name, "why": why})
            assert held is not None
            self._forget(waiter.owner, held)
            on_lost(lost(name, held.token, why))

        while True:
            if waiter.ended is not None:
                raise waiter.ended
            turn = LockTurn(0)
            pause = self._ask_seconds
            # An answer that waited for long would leave little of the lock's time, which is counted from the question.
            wait = min(self._wait_seconds, node.holding.ttl_seconds / 4)
            if until is not None:
                wait = min(wait, max(until - loop.time(), 0.0))
            try:
                epoch = node.epoch
                answer = await node.holding.ask(
                    name, holder, node.id, epoch, tell, queue=timeout_seconds != 0, wait_seconds=wait
                )
                answered_at = loop.time()
                if isinstance(answer, Held):
                    held = answer
                    if waiter.ended is None and node.holds(epoch):
                        return held
                    node.holding.forget(holder)
                    raise waiter.ended or Fenced(f"node {node.id} lost its lease while it waited for lock {name!r}")
                turn = answer
                if turn.ahead == 0 and turn.node:
                    pause = min(pause, max(turn.frees_in_seconds, 0.0) + GAP_SECONDS)
            except Fenced:
                raise
            except HeadraceError as error:
                if not error.retryable or loop.time() - answered_at > self._patience():
                    raise
                pause = min(1.0, pause)
            if until is not None and loop.time() >= until:
                who = f"node {turn.node} has it" if turn.node else f"{turn.ahead} wait before this one"
                raise LockNotFree(
                    f"lock {name!r} did not become free within {timeout_seconds:g} s: {who}", name=name, node=turn.node
                )
            if until is not None:
                pause = min(pause, until - loop.time())
            await asyncio.sleep(min(GAP_SECONDS, pause))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await waiter.rung.wait()
            waiter.rung.clear()

    # ---- giving back ---------------------------------------------------------------------------------------------------

    async def release(self, grip: Held) -> None:
        """See the contract."""
        for owner, has in list(self.owners.items()):
            if grip in has:
                self._forget(owner, grip)
        if grip.ended:
            return
        self._node.holding.forget(grip.claim.holder)
        giving = asyncio.ensure_future(self._give_back(grip.claim.name, grip.claim.holder))
        await asyncio.shield(giving)

    async def _give_back(self, name: str, holder: str) -> None:
        try:
            bell = await self._node.holding.release(name, holder)
        except HeadraceError as error:  # it falls free when its time is over
            logger.warning("a lock could not be given back", extra={"lock": name, "error": str(error)})
            return
        if name in self._waiting:
            self._waiting[name][0].rung.set()
        if bell:
            self._node.lock_freed(bell)

    def end(self, owner: str) -> None:
        """An attempt is over: what it has is given back, what it wants is not wanted any more."""
        for one in self.owners.pop(owner, ()):
            if isinstance(one, _Waiter):
                self._end_wait(one, EngineStopped(f"the attempt ended while it waited for lock {one.name!r}"))
            elif not one.ended:
                self._node.holding.forget(one.claim.holder)
                self._node.spawn(self._give_back(one.claim.name, one.claim.holder), GIVING_BACK)

    def interrupt(self, owner: str, error: LockLost) -> None:
        """See the contract."""
        for launcher in self._node.launchers():
            launcher.fail(owner, error)

    def _end_wait(self, waiter: _Waiter, error: HeadraceError) -> None:
        waiter.ended = error
        waiter.rung.set()

    def _forget(self, owner: str, one: _Waiter | Held) -> None:
        has = self.owners.get(owner)
        if has is not None:
            has.discard(one)
            if not has:
                del self.owners[owner]
