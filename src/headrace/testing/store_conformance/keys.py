"""Keys: one unfinished run per workflow and business key."""

from __future__ import annotations

from headrace.contracts.store import KeyHolder
from headrace.core.errors import Fenced
from headrace.testing.store_conformance.stage import Node, Stage, new_run, run_id, scenario


async def _reserve(node: Node, number: int, key: str = "k", kept_by: tuple[str, ...] = ()) -> KeyHolder | None:
    return await node.store.reserve_key(node.name, node.epoch, "nightly", key, run_id(number), kept_by)


class KeysConformance:
    """Scenarios of :class:`headrace.contracts.store.Keys`."""

    @scenario
    async def test_an_unfinished_run_holds_its_key(self, stage: Stage) -> None:
        """Until it ends; other keys and other workflows are free."""
        node = await stage.node()
        assert await _reserve(node, 1) is None
        assert await _reserve(node, 1) is None
        await node.start(new_run(1, key="k"))
        row = await node.store.run(run_id(1))
        assert row is not None
        assert row.key == "k"
        assert await _reserve(node, 2) == KeyHolder(run_id(1), "running")
        assert await _reserve(node, 2, "other") is None
        assert await node.store.reserve_key(node.name, node.epoch, "hourly", "k", run_id(3)) is None
        await node.park(run_id(1))
        assert await _reserve(node, 2) == KeyHolder(run_id(1), "running")
        await node.claim()
        await node.finish(run_id(1), 3)
        assert await _reserve(node, 2) is None

    @scenario
    async def test_a_key_is_held_while_its_run_is_being_created(self, stage: Stage) -> None:
        """By whoever was first; not longer than that node lives."""
        one, two = await stage.node("a"), await stage.node("b")
        assert await _reserve(one, 1) is None
        assert await _reserve(two, 2) == KeyHolder(run_id(1), None)
        assert await two.store.key_holder("nightly", "k") is None
        await one.store.leave(one.name, one.epoch)
        assert await _reserve(two, 2) is None

    @scenario
    async def test_a_lost_node_cannot_create_what_it_reserved(self, stage: Stage) -> None:
        """The fence that voids the reservation refuses the run."""
        one, two = await stage.node("a"), await stage.node("b")
        assert await _reserve(one, 1) is None
        again = await stage.node("a")
        assert await _reserve(two, 2) is None
        await two.start(new_run(2, key="k"))
        for late in (_reserve(one, 1), one.start(new_run(1, key="k"))):
            try:
                await late
            except Fenced:
                pass
            else:
                raise AssertionError("a fenced node wrote")
        assert await again.store.key_holder("nightly", "k") == KeyHolder(run_id(2), "running")

    @scenario
    async def test_an_ended_run_keeps_its_key_where_the_caller_says_so(self, stage: Stage) -> None:
        """By state."""
        node = await stage.node()
        await node.start(new_run(1, key="k"))
        await node.finish(run_id(1), state="failed")
        assert await _reserve(node, 2, kept_by=("succeeded", "failed")) == KeyHolder(run_id(1), "failed")
        assert await node.store.key_holder("nightly", "k") == KeyHolder(run_id(1), "failed")
        assert await _reserve(node, 2, kept_by=("succeeded",)) is None

    @scenario
    async def test_a_run_that_follows_takes_the_key_over(self, stage: Stage) -> None:
        """In the flush that ends the former run; a repeated flush changes nothing."""
        node = await stage.node()
        await node.start(new_run(1, key="k"))
        await node.finish(run_id(1), state="continued")
        await node.start(new_run(2, key="k"))
        await node.start(new_run(2, key="k"))
        assert await node.store.key_holder("nightly", "k") == KeyHolder(run_id(2), "running")
        assert await _reserve(node, 3) == KeyHolder(run_id(2), "running")

    @scenario
    async def test_retention_forgets_keys(self, stage: Stage) -> None:
        """A deleted run keeps no key, whatever the caller says."""
        node = await stage.node()
        await node.start(new_run(1, key="k"), new_run(2, key="l"))
        for number in (1, 2):
            await node.finish(run_id(number), ended_at=float(number))
        await node.start(new_run(3, key="l"))
        assert sorted(await node.store.delete_runs(10.0)) == [run_id(1), run_id(2)]
        assert await node.store.key_holder("nightly", "k") is None
        assert await _reserve(node, 4, kept_by=("succeeded",)) is None
        assert await node.store.key_holder("nightly", "l") == KeyHolder(run_id(3), "running")
