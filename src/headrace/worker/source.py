"""Attempts from a server: the :class:`~headrace.engine.puller.AttemptSource` of a worker without database access.

**Answers that are not heard.** A claim may have been taken although its answer was lost. As long as that is possible,
what the server says this worker has is compared with what it knows, before it asks for more; so nothing is claimed and
forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import msgspec
from msgspec import UNSET

from headrace.contracts import remote as wire
from headrace.contracts.ready import Beat, Claim, Outcome, Result
from headrace.core.errors import Fenced, HeadraceError, NotAuthorized, ServerError, ServerUnavailable
from headrace.core.ids import Epoch, NodeId
from headrace.engine.holding import Holding
from headrace.engine.keeper import Keeper
from headrace.worker.link import Link

logger = logging.getLogger("headrace.worker")

T = TypeVar("T")

BUSY_WAIT_SECONDS = 1.0
"""How long a claim waits while attempts are under way: what they say, and what is said to them, waits as long."""

BATCH_BYTES_MAX = wire.REQUEST_BYTES_MAX - 4 * 1024 * 1024


class ServerSource:
    """One worker's. ``holding``: its locks, which are renewed with the lease. ``woken`` is called after a claim that
    waited, so that the next one follows at once; ``lost`` when the lease is gone."""

    def __init__(
        self,
        link: Link,
        join: wire.Join,
        holding: Holding,
        *,
        woken: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._link = link
        self._join = join
        self._holding = holding
        self._woken = woken
        self._lost = lost
        self.worker = ""
        self._epoch = Epoch(0)
        self._keeper: Keeper | None = None
        self._joined = False
        self._wait = wire.WAIT_SECONDS_MAX
        self._mine: dict[str, int] = {}
        self._unsure_until = 0.0
        self._asking: asyncio.Task[wire.Claimed] | None = None
        self._stopping = False

    # ---- the lease ---------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> Epoch:
        """That of the last lease."""
        return self._epoch

    def holds(self, epoch: Epoch) -> bool:
        """Whether what was taken under an epoch is still the worker's, as far as it knows."""
        return self._joined and epoch == self._epoch

    async def join(self) -> None:
        """Take a lease and keep it, under the name that was given before if there was one."""
        if self._keeper is not None:
            await self._keeper.stop()
        self._holding.lose_all("the worker joins anew")
        asked = self._join
        if self.worker:
            asked = msgspec.structs.replace(asked, name=self.worker.removeprefix(wire.WORKER_PREFIX))
        begun = time.monotonic()
        joined = await self._link.call("join", asked, wire.Joined)
        self.worker, self._epoch = joined.worker, joined.epoch
        self._wait = min(joined.wait_seconds_max, wire.WAIT_SECONDS_MAX)
        self._mine.clear()
        self._unsure_until = 0.0
        self._joined = True
        self._holding.ttl_seconds = joined.lease_seconds
        self._keeper = Keeper(
            self,
            NodeId(joined.worker),
            joined.epoch,
            joined.lease_seconds,
            self._lease_lost,
            taken_at=begun,
            holding=self._holding,
        )
        self._keeper.start()

    def renew(self, node: NodeId, epoch: Epoch, lease_seconds: float) -> bool:
        """See :class:`headrace.engine.keeper.Renewing`: from the keeper's thread."""
        try:
            asked = wire.Asked(worker=node, epoch=epoch)
            self._link.call_now("renew", asked, wire.Renewed, max(1.0, lease_seconds / 4))
        except Fenced:
            return False
        return True

    def may_begin(self) -> bool:
        """Whether user code may begin: not under a lease that was slept through, for others may have done it by now."""
        if self._keeper is None or time.monotonic() < self._keeper.trusted_until:
            return True
        why = "the lease had not been renewed when an attempt was about to begin"
        asyncio.get_running_loop().call_soon(self._lease_lost, why)
        return False

    def _lease_lost(self, why: str) -> None:
        logger.warning("the lease is lost; the worker joins anew", extra={"worker": self.worker, "why": why})
        self._joined = False
        self._holding.lose_all("the worker lost its lease")
        self._lost()

    async def leave(self) -> None:
        """Give the lease up; claims that are left are offered to others. Never raises."""
        if self._keeper is not None:
            await self._keeper.stop()
        if self._joined:
            self._joined = False
            try:
                await self._link.call("leave", self._me(), wire.Nothing)
            except HeadraceError as error:
                logger.warning("the lease could not be given up; it ends by itself", extra={"error": str(error)})

    def _me(self) -> wire.Asked:
        return wire.Asked(worker=self.worker, epoch=self._epoch)

    async def _ask(self, verb: str, asked: wire.Asked, answer: type[T], *, wait_seconds: float = 0.0) -> T:
        if not self._joined:
            raise Fenced("the worker has no lease")
        try:
            return await self._link.call(verb, asked, answer, wait_seconds=wait_seconds)
        except Fenced:
            if asked.epoch == self._epoch:
                self._joined = False
            raise

    # ---- attempts ----------------------------------------------------------------------------------------------------

    async def claim(self, room: Mapping[str, int]) -> list[Claim]:
        """See there. Waits for something to come: for long if nothing is under way."""
        if not self._joined:
            await self.join()
        if time.monotonic() < self._unsure_until:
            missed = await self._missed()
            if missed:
                return missed
        wait = BUSY_WAIT_SECONDS if self._mine else self._wait
        asked = wire.AskClaim(
            worker=self.worker,
            epoch=self._epoch,
            queues=self._join.queues,
            labels=self._join.labels,
            room=dict(room),
            wait_seconds=wait,
        )
        if self._stopping:
            return []
        before = self._unsure_until
        # Until the answer is here; a server that did not notice may go on waiting for so long.
        self._unsure_until = time.monotonic() + 3 * wait + 60.0
        self._asking = asyncio.ensure_future(self._ask("claim", asked, wire.Claimed, wait_seconds=wait))
        begun = time.monotonic()
        try:
            claimed = await self._asking
        except asyncio.CancelledError:
            if self._stopping and self._asking.cancelled():
                return []
            raise
        finally:
            self._asking = None
        self._unsure_until = before
        if claimed.claims or time.monotonic() - begun > wait / 2:  # a server that does not wait is not asked at once
            self._woken()
        return self._took(claimed)

    def _took(self, claimed: wire.Claimed) -> list[Claim]:
        claims = [wire.from_wire(one) for one in claimed.claims]
        self._mine.update((one.key, one.delivery) for one in claims)
        return claims

    async def _missed(self) -> list[Claim]:
        """Claims that this worker has and does not know of."""
        held = await self._ask("held", self._me(), wire.Claimed)
        return self._took(wire.Claimed(claims=[one for one in held.claims if self._mine.get(one.key) != one.delivery]))

    async def stop_claiming(self) -> None:
        """Claim nothing more: end a wait, and give back what it may have brought."""
        self._stopping = True
        if self._asking is not None:
            self._asking.cancel()
        if self._joined and time.monotonic() < self._unsure_until:
            try:
                missed = await self._missed()
                await self.give_back([Beat(one.key, one.delivery) for one in missed])
            except HeadraceError as error:
                logger.warning("claims could not be given back", extra={"error": str(error)})

    async def report(self, beats: Sequence[Beat]) -> dict[str, Literal["stop", "lost"]]:
        """See there."""
        asked = wire.AskReport(worker=self.worker, epoch=self._epoch, beats=[_to_wire(beat) for beat in beats])
        return (await self._ask("report", asked, wire.Reported)).verdicts

    async def complete(self, results: Sequence[Result]) -> int:
        """See there. An outcome that the server will never take is given up: it counts as refused."""
        refused = 0
        for batch in _batches(results):
            asked = wire.AskComplete(worker=self.worker, epoch=self._epoch, results=batch)
            try:
                answers = (await self._ask("complete", asked, wire.Completed)).answers
            except (ServerUnavailable, NotAuthorized):
                raise
            except ServerError as error:
                if len(batch) > 1:
                    refused += sum([await self.complete([_to_result(one)]) for one in batch])
                    continue
                logger.error("an outcome was refused", extra={"key": batch[0].key, "error": str(error)})
                answers = ["refused"]
            for one in batch:
                self._mine.pop(one.key, None)
            refused += answers.count("refused")
        return refused

    async def give_back(self, claims: Sequence[Beat]) -> None:
        """See there."""
        if not claims:
            return
        asked = wire.AskGiveBack(worker=self.worker, epoch=self._epoch, claims=[_to_wire(one) for one in claims])
        await self._ask("give-back", asked, wire.Nothing)
        for one in claims:
            self._mine.pop(one.key, None)


def _to_wire(beat: Beat) -> wire.WireBeat:
    details = UNSET if beat.details is None else msgspec.Raw(beat.details)
    return wire.WireBeat(key=beat.key, delivery=beat.delivery, details=details)


def _to_result(one: wire.WireResult) -> Result:
    return Result(one.key, one.delivery, msgspec.to_builtins(one.outcome))


def _batches(results: Sequence[Result]) -> list[list[wire.WireResult]]:
    """In requests of a bounded size."""
    batches: list[list[wire.WireResult]] = []
    size = 0
    for one in results:
        told = wire.WireResult(key=one.key, delivery=one.delivery, outcome=msgspec.convert(one.outcome, type=Outcome))
        length = len(msgspec.json.encode(told))
        if not batches or size + length > BATCH_BYTES_MAX:
            batches.append([])
            size = 0
        batches[-1].append(told)
        size += length
    return batches
