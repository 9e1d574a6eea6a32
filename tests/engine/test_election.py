"""Two leaders never act: a seeded simulation of nodes that are suspended, cut off and slow, on clocks that drift."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.contracts.locks import LockClaim, LockRenewal, LockTurn, Term
from headrace.core.errors import Fenced, NotLeader, StoreUnavailable
from headrace.core.ids import Epoch, NodeId
from headrace.engine.holding import Holding
from headrace.engine.keeper import MARGIN_SHARE
from headrace.engine.leader import Leader

TTL_SECONDS = 10.0
STEPS = 400
NODES = 4
DRIFT = 0.03
"""Share by which a node's clock may be too fast or slow; the margin is five times that."""


class World:
    """The store's clock, and the network between it and the nodes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1_000.0
        self.database = MemoryDatabase(lambda: self.now)

    def pass_some(self) -> None:
        """Mostly a little, sometimes longer than a lease."""
        self.now += self.random.choice([0.0, 0.1, 1.0, 2.0, 3.0, TTL_SECONDS * 0.9, TTL_SECONDS * 1.2])


class FarStore(MemoryStore):
    """Calls take time on their way there and back, or fail, before or after they took effect."""

    def __init__(self, world: World) -> None:
        super().__init__(world.database)
        self.world = world
        self.cut = False

    def travel(self) -> None:
        if self.cut:
            raise StoreUnavailable("cut off")
        if self.world.random.random() < 0.1:
            self.world.pass_some()
        if self.world.random.random() < 0.05:
            raise StoreUnavailable("lost on the way")

    async def take_lock(self, claim: LockClaim) -> LockTurn:
        self.travel()
        turn = await super().take_lock(claim)
        self.travel()
        return turn

    def renew_locks(self, node: NodeId, epoch: Epoch, renewals: Sequence[LockRenewal]) -> list[bool]:
        self.travel()
        kept = super().renew_locks(node, epoch, renewals)
        self.travel()
        return kept


class Candidate:
    """A node as far as elections go. ``remembered``: the term of an act that it was suspended in the middle of."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.id = NodeId(name)
        self.epoch = Epoch(0)
        self.store = FarStore(world)
        rate, offset = 1 + world.random.uniform(-DRIFT, DRIFT), world.random.uniform(-1e6, 1e6)
        self.holding = Holding(self.store, TTL_SECONDS, lambda: world.now * rate + offset)
        self.leader = Leader(self.holding, lambda: (self.id, self.epoch))
        self.asleep_until = 0.0
        self.remembered: Term | None = None

    async def join(self) -> None:
        self.holding.lose_all("it joins anew")
        self._trust(self.holding.monotonic())
        self.epoch = await self.store.join(self.id, TTL_SECONDS, "", {})

    def _trust(self, begun: float) -> None:
        self.holding.lease_until = begun + TTL_SECONDS * (1 - MARGIN_SHARE)

    async def keep(self) -> None:
        """A round of its keeper's."""
        begun = self.holding.monotonic()
        try:
            self.store.travel()
            if not self.store.renew(self.id, self.epoch, TTL_SECONDS):
                await self.join()
                return
            self.store.travel()
        except StoreUnavailable:
            return
        self._trust(begun)
        self.holding.renew(self.id, self.epoch)

    async def live(self, acts: list[tuple[NodeId, int]]) -> None:
        """One thing that a node does in its own time."""
        chance = self.world.random
        what = chance.randrange(9)
        if what < 3:
            await self.keep()
        elif what < 6:
            try:
                await self.leader.stand()
            except StoreUnavailable:
                pass
            except Fenced:
                await self.join()
        elif what == 6:
            self.store.cut = chance.random() < 0.3
        elif what == 7:
            self.asleep_until = self.world.now + chance.uniform(0, TTL_SECONDS * 2)
            self.remembered = self.leader.term()
        self.holding.judge()
        await asyncio.sleep(0)  # what the keeper's thread tells the loop
        term, self.remembered = self.remembered or self.leader.term(), None
        if term is not None and self.asleep_until <= self.world.now:
            try:
                await self.store.expire_lost(term)
            except NotLeader:
                self.leader.step_down("refused")
            else:
                acts.append((self.id, term.number))


async def simulate(seed: int) -> tuple[int, int]:
    """The number of terms in which somebody acted, and of acts."""
    world = World(seed)
    nodes = [Candidate(world, f"n{number}") for number in range(NODES)]
    acts: list[tuple[NodeId, int]] = []
    for node in nodes:
        await node.join()
    for _ in range(STEPS):
        world.now += world.random.uniform(0, 1.0)
        node = world.random.choice(nodes)
        if node.asleep_until <= world.now:
            await node.live(acts)
        believers = [node.id for node in nodes if node.leader.term() is not None]
        assert len(believers) <= 1, f"seed {seed}: {believers} believe that they lead"
    terms = [term for _, term in acts]
    assert terms == sorted(terms), f"seed {seed}: a former leader acted after a later one"
    assert len(set(acts)) == len(set(terms)), f"seed {seed}: two nodes acted in one term"
    return len(set(terms)), len(terms)


@pytest.mark.parametrize("seeds", [range(first, first + 25) for first in range(0, 100, 25)])
def test_two_leaders_never_act(seeds: range) -> None:
    async def test() -> None:
        done = [await simulate(seed) for seed in seeds]
        assert sum(terms for terms, _ in done) > 3 * len(seeds), "hardly anybody ever led"
        assert sum(acts for _, acts in done) > 20 * len(seeds), "leaders hardly ever acted"

    asyncio.run(test())


def test_an_act_that_was_begun_in_an_earlier_term_is_refused() -> None:
    """The leader is suspended between looking at its term and acting; another one leads when it wakes up."""

    async def test() -> None:
        world = World(0)
        old, new = Candidate(world, "old"), Candidate(world, "new")
        for node in (old, new):
            await MemoryStore.join(node.store, node.id, 1e6, "", {})
            node.epoch = world.database.nodes[node.id].epoch
            node.store.travel = lambda: None  # type: ignore[method-assign]
        first = await old.leader.stand()
        assert first is not None
        assert await new.leader.stand() is None
        assert (new.leader.leading_node, new.leader.frees_in_seconds) == ("old", TTL_SECONDS)
        world.now += TTL_SECONDS * 1.1
        assert old.leader.term() is None
        second = await new.leader.stand()
        assert second is not None
        assert second.number > first.number
        with pytest.raises(NotLeader):
            await old.store.expire_lost(first)
        assert await old.leader.stand() is None
        assert await new.leader.resign()
        third = await old.leader.stand()
        assert third is not None
        assert third.number > second.number

    asyncio.run(test())
