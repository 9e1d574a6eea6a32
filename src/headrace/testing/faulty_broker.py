"""A broker that does its worst: loses, repeats, delays and reorders wake-ups, as a seed says."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection

from headrace.contracts.broker import Broker, BrokerHealth


class FaultyBroker:
    """Any broker with faults in front of it. ``lose``, ``repeat`` and ``delay`` are shares of the wake-ups that are
    published; a delayed one is sent after later ones, ``delay_seconds`` later at most. ``faults`` counts them."""

    def __init__(
        self,
        inner: Broker,
        *,
        seed: int,
        lose: float = 0.0,
        repeat: float = 0.0,
        delay: float = 0.0,
        delay_seconds: float = 0.05,
    ) -> None:
        self.url = inner.url
        self.faults: Counter[str] = Counter()
        self._inner = inner
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        self._lose, self._repeat, self._delay = lose, repeat, delay
        self._delay_seconds = delay_seconds
        self._later: set[asyncio.TimerHandle] = set()

    async def start(self, heard: Callable[[str], None]) -> None:
        """See the contract."""
        await self._inner.start(heard)

    async def stop(self) -> None:
        """See the contract. What is delayed is lost."""
        for timer in self._later:
            timer.cancel()
        self._later.clear()
        await self._inner.stop()

    def subscribe(self, topics: Collection[str]) -> None:
        """See the contract."""
        self._inner.subscribe(topics)

    def publish(self, topic: str) -> None:
        """See the contract, which allows all of this."""
        chance = self._random.random
        if chance() < self._lose:
            self.faults["lost"] += 1
            return
        if chance() < self._delay:
            self.faults["delayed"] += 1
            self._publish_later(topic)
        else:
            self._inner.publish(topic)
        if chance() < self._repeat:
            self.faults["repeated"] += 1
            self._publish_later(topic)

    def _publish_later(self, topic: str) -> None:
        def publish() -> None:
            self._later.discard(timer)
            self._inner.publish(topic)

        timer = asyncio.get_running_loop().call_later(self._random.uniform(0, self._delay_seconds), publish)
        self._later.add(timer)

    def health(self) -> BrokerHealth:
        """See the contract."""
        return self._inner.health()
