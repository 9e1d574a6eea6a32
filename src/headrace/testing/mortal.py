"""A store handle through which an engine sees the database, and loses sight of it when it "dies"."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from headrace.contracts.store import Flush, Store


class CrashPlan:
    """When an engine dies: at flush number ``at`` of the scenario (1, 2, ...), before or ``after`` it took effect; or,
    ``relentless``, after every flush that holds something new of a run."""

    def __init__(self, at: int | None = None, *, after: bool = True, relentless: bool = False) -> None:
        self.at = at
        self.after = after
        self.relentless = relentless
        self.flushes = 0
        self.crashes = 0

    def __str__(self) -> str:
        if self.relentless:
            return "crash after every flush"
        if self.at is None:
            return "no crash"
        return f"crash {'after' if self.after else 'before'} flush {self.at}"

    def dies_before(self) -> bool:
        """Asked as a flush begins."""
        self.flushes += 1
        return self.flushes == self.at and not self.after

    def dies_after(self, *, is_progress: bool) -> bool:
        """Asked once it is durable. An engine that always dies before an attempt has ended would get nowhere: relentless
        crashes need progress."""
        if self.relentless:
            return is_progress
        return self.flushes == self.at and self.after


class MortalStore:
    """One engine's handle. ``committed`` is told of every flush that is durable, and says whether it is progress."""

    def __init__(self, inner: Store, committed: Callable[[Flush], bool], died: Callable[[], None]) -> None:
        self.inner = inner
        self.plan: CrashPlan | None = None
        self.calls = 0
        """Calls under way: while there are some, no time passes."""
        self.dead = False
        self._committed = committed
        self._died = died
        self._buried = False
        self._lost: set[asyncio.Future[None]] = set()

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.inner, name)
        if not inspect.iscoroutinefunction(member) or name == "close":
            return member

        async def call(*args: Any, **options: Any) -> Any:
            await self._gate()
            self.calls += 1
            try:
                result = await member(*args, **options)
            finally:
                self.calls -= 1
            await self._gate()
            return result

        return call

    def die(self) -> None:
        """From here on the engine gets no answer. Idempotent."""
        if not self.dead:
            self.dead = True
            self._died()

    def bury(self) -> None:
        """End the calls that will never be answered, and those to come."""
        self._buried = True
        for future in self._lost:
            future.cancel()
        self._lost.clear()

    async def _gate(self) -> None:
        if self._buried:
            raise asyncio.CancelledError
        if self.dead:
            never = asyncio.get_running_loop().create_future()
            self._lost.add(never)
            await never

    def renew(self, *args: Any) -> bool:
        """The lease outlives every test."""
        return True if self.dead else self.inner.renew(*args)

    def commit_now(self, flush: Flush) -> bool:
        """See the contract."""
        if self.dead or self._dies_before():
            return False  # it will ask for a commit in the store's own time, and wait for ever
        if not self.inner.commit_now(flush):
            if self.plan is not None:
                self.plan.flushes -= 1  # the same flush comes again, to `commit`
            return False
        return not self._dies_after(flush)

    async def commit(self, flush: Flush) -> None:
        """See the contract."""
        await self._gate()
        if self._dies_before():
            await self._gate()
        self.calls += 1
        try:
            await self.inner.commit(flush)
        finally:
            self.calls -= 1
        self._dies_after(flush)
        await self._gate()

    def _dies_before(self) -> bool:
        if self.plan is not None and self.plan.dies_before():
            self.plan.crashes += 1
            self.die()
        return self.dead

    def _dies_after(self, flush: Flush) -> bool:
        if not self.dead:
            is_progress = self._committed(flush)
            if self.plan is not None and self.plan.dies_after(is_progress=is_progress):
                self.plan.crashes += 1
                self.die()
        return self.dead
