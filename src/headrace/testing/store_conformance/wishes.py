"""Wishes: whoever has a run, or claims it, learns who waits for it."""

from __future__ import annotations

from headrace.contracts.wishes import Wish, Wished
from headrace.core.ids import NodeId
from headrace.testing.store_conformance.stage import Stage, new_run, run_id, scenario

R1, R2, R3 = run_id(1), run_id(2), run_id(3)
NOBODY = NodeId("nobody")


def _sorted(wishes: list[Wish]) -> list[Wish]:
    return sorted(wishes, key=lambda wish: (wish.run_id, wish.node))


class WishesConformance:
    """Scenarios of :class:`headrace.contracts.wishes.Wishes`."""

    @scenario
    async def test_an_owner_reads_the_wishes_for_its_runs(self, stage: Stage) -> None:
        """Across handles, with the bells of those who wait; another node reads nothing of them."""
        owner, waiting, other = await stage.node("a"), await stage.node("b", bell="bell b"), await stage.node("c")
        await owner.start(new_run(1), new_run(2), new_run(3))
        assert await owner.store.wishes(owner.name) == []
        assert sorted(await waiting.store.wish(waiting.name, [R1, R2]), key=lambda one: one.run_id) == [
            Wished(R1, False, owner.name),
            Wished(R2, False, owner.name),
        ]
        await other.store.wish(other.name, [R2])
        assert _sorted(await owner.store.wishes(owner.name)) == [
            Wish(R1, waiting.name, "bell b", False, False),
            Wish(R2, waiting.name, "bell b", False, False),
            Wish(R2, other.name, "", False, False),
        ]
        assert await owner.store.wishes(waiting.name) == []
        assert await owner.store.wishes(waiting.name, [R1, R3]) == [Wish(R1, waiting.name, "bell b", False, False)]
        assert await owner.store.wishes(owner.name, []) == []

    @scenario
    async def test_wishing_again_changes_nothing_but_what_is_wished(self, stage: Stage) -> None:
        """A wish for all changes stays one."""
        owner = await stage.node("a")
        await owner.start(new_run(1), new_run(2))
        for changes in ([], [], [R1], []):
            await owner.store.wish(owner.name, [R1, R2], changes)
        assert [wish.changes for wish in _sorted(await owner.store.wishes(owner.name))] == [True, False]
        assert await owner.store.wish(owner.name, []) == []

    @scenario
    async def test_a_wish_outlives_the_owners_of_its_run(self, stage: Stage) -> None:
        """It does not make a parked run claimable, and is there for whoever claims it."""
        owner, waiting, next_owner = await stage.node("a"), await stage.node("b"), await stage.node("c")
        await owner.start(new_run(1))
        await waiting.store.wish(waiting.name, [R1])
        await owner.park(R1, wake_at=4e9)
        assert await waiting.store.wish(waiting.name, [R1], [R1]) == [Wished(R1, False, None)]
        assert await next_owner.claim() == []
        assert await next_owner.store.waiting_runs() == []
        assert await next_owner.store.wishes(owner.name) == []
        assert await next_owner.claim(1, [R1]) == [R1]
        assert await next_owner.store.wishes(next_owner.name) == [Wish(R1, waiting.name, "", True, False)]
        assert await waiting.store.wish(waiting.name, [R1]) == [Wished(R1, False, next_owner.name)]

    @scenario
    async def test_wishes_for_ended_runs_are_due_to_whoever_asks(self, stage: Stage) -> None:
        """The owner may have ended the run before it heard of the wish. None is kept for a run that has ended."""
        owner, waiting, other = await stage.node("a"), await stage.node("b", bell="bell b"), await stage.node("c")
        await owner.start(new_run(1), new_run(2))
        await waiting.store.wish(waiting.name, [R1])
        await owner.finish(R1)
        await owner.finish(R2)
        due = [Wish(R1, waiting.name, "bell b", False, True)]
        assert await owner.store.wishes(owner.name) == due
        assert await other.store.wishes(other.name) == due
        seen = await waiting.store.wish(waiting.name, [R1, R2, run_id(99)])
        assert sorted(seen, key=lambda one: one.run_id) == [Wished(R1, True, None), Wished(R2, True, None)]
        assert await other.store.wishes(other.name) == due

    @scenario
    async def test_wishes_are_forgotten(self, stage: Stage) -> None:
        """Those that are named, and once is enough."""
        owner, waiting = await stage.node("a"), await stage.node("b")
        await owner.start(new_run(1), new_run(2))
        for node in (owner, waiting):
            await node.store.wish(node.name, [R1, R2])
        for _ in range(2):
            await owner.store.forget_wishes([(R1, waiting.name), (R2, owner.name), (R3, NOBODY)])
        await owner.store.forget_wishes([])
        left = [(wish.run_id, wish.node) for wish in _sorted(await owner.store.wishes(owner.name))]
        assert left == [(R1, owner.name), (R2, waiting.name)]

    @scenario
    async def test_what_is_left_behind_is_found(self, stage: Stage) -> None:
        """By any node: wishes of nodes whose lease has ended, or that have left, and for runs that retention deleted."""
        owner, lost = await stage.node("a"), await stage.node("b", lease_seconds=5)
        left = await stage.node("c")
        await owner.start(new_run(1), new_run(2))
        await owner.store.wish(owner.name, [R2])
        await lost.store.wish(lost.name, [R1])
        await left.store.wish(left.name, [R1])
        await left.store.leave(left.name, left.epoch)
        await stage.advance(6)
        await owner.finish(R2)
        await owner.store.delete_runs(1e9)
        assert _sorted(await owner.store.wishes(NOBODY)) == [
            Wish(R1, lost.name, None, False, False),
            Wish(R1, left.name, None, False, False),
            Wish(R2, owner.name, "", False, True),
        ]
