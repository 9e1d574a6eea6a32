"""What brokers over a network have in common: one connection that is made again for ever, wake-ups that wait in a bounded
place, and a probe.

A connection counts as up once a message has gone to the broker and come back, and that is repeated from time to time: it
notices what no socket tells (a subscription that a server forgot, a pooler in between, a half-open connection). After
every connection everything is woken, because nobody knows what was published meanwhile. One warning per outage.

A backend brings a :class:`Wire`: what can be done over one connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

import msgspec

from headrace.contracts.broker import EVERYTHING, TOPICS_PENDING_MAX, BrokerHealth, BrokerState
from headrace.core.errors import StoreUnavailable

logger = logging.getLogger("headrace.broker")

STOP_AGAIN_SECONDS = 1.0
"""After which a task that was told to stop, and has not, is told again."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How patient a link is, in seconds. ``pause_first`` doubles up to ``pause_max`` between connections that fail, each
    taken between half and all of it at random, so that many nodes do not come back at the same moment. ``probe``: between
    two probes. ``answer``: twice this without an answer, and the connection is given up. ``call``: for one call of the
    client. ``flush``: what :meth:`LinkedBroker.stop` spends at most on what waits."""

    pause_first: float = 0.1
    pause_max: float = 1.0
    probe: float = 15.0
    answer: float = 5.0
    call: float = 10.0
    flush: float = 2.0


class Wire(Protocol):
    """One connection. Its methods may raise anything: the connection is given up then, and :meth:`close` is called."""

    async def listen(self, topics: frozenset[str]) -> None:
        """Hear these topics and no others."""
        ...

    async def send(self, topics: Sequence[str]) -> None:
        """Hand wake-ups to the broker; need not wait for its word."""
        ...

    async def lost(self) -> None:
        """Return or raise when the connection is known to be gone."""
        ...

    async def close(self) -> None:
        """Disconnect. Called once, whatever happened before."""
        ...


Connect = Callable[[Callable[[str], None]], Awaitable[Wire]]
"""Makes a connection; the callback is for the topics that are heard over it."""


class LinkedBroker:
    """See :class:`headrace.contracts.broker.Broker`."""

    def __init__(self, url: str, connect: Connect, *, secrets: Sequence[str] = (), pace: Pace | None = None) -> None:
        self.url = url
        self._connect = connect
        self._secrets = secrets
        self._pace = pace or Pace()
        self._heard: Callable[[str], None] = lambda _: None
        self._echo = f"echo.{uuid.uuid4().hex}"
        self._topics: frozenset[str] = frozenset()
        self._pending: dict[str, None] = {}
        self._sending = 0
        self._due = asyncio.Event()
        self._settled = asyncio.Event()
        self._answered = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._state: BrokerState = "connecting"
        self._error = ""
        self._since = 0.0
        self._sent = self._heard_count = self._dropped = self._outages = 0
        self._round_trip: float | None = None

    async def start(self, heard: Callable[[str], None]) -> None:
        """See the contract."""
        self._heard = heard
        if self._task is None:
            self._state = "connecting"
            self._task = asyncio.create_task(self._serve(), name="headrace-broker")

    async def stop(self) -> None:
        """See the contract."""
        task, self._task = self._task, None
        if task is None:
            return
        if (self._pending or self._sending) and self._state != "down":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.flush):
                    await self._settled.wait()
        while not task.done():  # a client, or a timeout that comes at the same moment, may swallow a cancellation
            task.cancel()
            await asyncio.wait({task}, timeout=STOP_AGAIN_SECONDS)
        await asyncio.gather(task, return_exceptions=True)
        self._pending.clear()

    def subscribe(self, topics: Collection[str]) -> None:
        """See the contract."""
        self._topics = frozenset(topics)
        self._due.set()

    def publish(self, topic: str) -> None:
        """See the contract."""
        if topic in self._pending:
            return
        if len(self._pending) >= TOPICS_PENDING_MAX:
            self._dropped += 1
            return
        self._pending[topic] = None
        self._settled.clear()
        self._due.set()

    def health(self) -> BrokerHealth:
        """See the contract."""
        return BrokerHealth(
            state=self._state,
            url=self.url,
            error=self._error,
            sent=self._sent,
            heard=self._heard_count,
            dropped=self._dropped,
            outages=self._outages,
            round_trip_seconds=self._round_trip,
        )

    # ---- connections -------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        pause = self._pace.pause_first
        while True:
            try:
                await self._session()
            except Exception as error:  # clients raise what they like; whatever it is, the broker is down
                if self._state == "up":
                    pause = self._pace.pause_first
                self._down(error)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - not for secrets
            pause = min(pause * 2, self._pace.pause_max)

    async def _session(self) -> None:
        """One connection, from its beginning to its end, which is always an error."""
        async with asyncio.timeout(self._pace.call):
            wire = await self._connect(self._received)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch(wire))
                await self._listen(wire)
                await self._probe(wire)
                self._up()
                group.create_task(self._pump(wire))
                group.create_task(self._keep_probing(wire))
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(self._pace.flush):
                    await wire.close()

    async def _watch(self, wire: Wire) -> None:
        await wire.lost()
        raise StoreUnavailable("the connection was closed")

    async def _listen(self, wire: Wire) -> frozenset[str]:
        topics = self._topics
        async with asyncio.timeout(self._pace.call):
            await wire.listen(topics | {self._echo})
        return topics

    async def _pump(self, wire: Wire) -> None:
        """Send what is published, and hear what is subscribed to."""
        listening = self._topics
        self._due.set()  # something may have changed before there was a connection
        while True:
            await self._due.wait()
            self._due.clear()
            if self._topics != listening:
                listening = await self._listen(wire)
            batch, self._pending = self._pending, {}
            if batch:
                self._sending = len(batch)
                try:
                    async with asyncio.timeout(self._pace.call):
                        await wire.send(list(batch))
                except BaseException:
                    for topic in batch:  # repeated, perhaps; that does no harm
                        self.publish(topic)
                    raise
                finally:
                    self._sending = 0
                self._sent += len(batch)
            if not self._pending:
                self._settled.set()

    async def _keep_probing(self, wire: Wire) -> None:
        while True:
            await asyncio.sleep(self._pace.probe)
            await self._probe(wire)

    async def _probe(self, wire: Wire) -> None:
        """Send a message to this very process. Raises when it does not come back."""
        self._answered.clear()
        begun = time.monotonic()
        async with asyncio.timeout(self._pace.call):
            await wire.send([self._echo])
        for last in (False, True):  # twice: the first time may be over because somebody blocked the event loop
            try:
                async with asyncio.timeout(self._pace.answer):
                    await self._answered.wait()
                break
            except TimeoutError:
                if last:
                    raise StoreUnavailable("messages do not come back") from None
        self._round_trip = time.monotonic() - begun

    def _received(self, topic: str) -> None:
        if topic == self._echo:
            self._answered.set()
        elif topic in self._topics:
            self._heard_count += 1
            self._tell(topic)

    def _tell(self, topic: str) -> None:
        try:
            self._heard(topic)
        except Exception:
            logger.exception("a wake-up was not handled", extra={"broker": self.url, "topic": topic})

    def _up(self) -> None:
        if self._state == "down":
            seconds = round(time.monotonic() - self._since, 1)
            logger.warning("the broker is back", extra={"broker": self.url, "seconds": seconds})
        self._state, self._error = "up", ""
        self._tell(EVERYTHING)

    def _down(self, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup) and error.exceptions:
            error = error.exceptions[0]
        text = str(error) or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "***")
        self._error = text
        self._settled.set()  # whoever waits for it to be sent need not wait
        if self._state != "down":
            self._state, self._since = "down", time.monotonic()
            self._outages += 1
            logger.warning(
                "the broker cannot be reached; wake-ups come by the slow poll",
                extra={"broker": self.url, "error": text},
            )
