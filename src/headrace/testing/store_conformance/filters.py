"""Catalog: the filter language, and the attributes it searches."""

from __future__ import annotations

from headrace.contracts.store import RunFilter
from headrace.core.where import parse_where
from headrace.testing.store_conformance.stage import Node, Stage, new_run, run_id, scenario

NOW = 1_000_000.0


async def _found(node: Node, text: str, **fields: object) -> list[int]:
    rows = await node.store.runs(RunFilter(where=parse_where(text, NOW), **fields))  # pyright: ignore[reportArgumentType]
    return [int(row.run_id[4:]) for row in rows]


class FiltersConformance:
    """Scenarios of :class:`headrace.contracts.store.RunFilter`'s ``where``."""

    @scenario
    async def test_attributes_are_kept_and_replaced(self, stage: Stage) -> None:
        """As they were given, by the newest update that names them."""
        node = await stage.node()
        given = {"amount": 12.5, "city": "Köln", "open": True, "items": ["a", "b", 3], "deep": {"x": 1}}
        await node.start(new_run(1, attributes=given))
        row = await node.store.run(run_id(1))
        assert row is not None
        assert row.attributes == given
        await node.go_on(run_id(1), 2)
        assert await _found(node, "amount = 12.5") == [1]
        await node.go_on(run_id(1), 3, attributes={"amount": 13})
        assert await _found(node, "amount = 12.5") == []
        assert await _found(node, "amount = 13 and city is null") == [1]
        await node.finish(run_id(1), 4)
        assert (await node.store.runs(RunFilter()))[0].attributes == {"amount": 13}

    @scenario
    async def test_values_of_different_kinds_never_compare(self, stage: Stage) -> None:
        """Texts, numbers and truth values."""
        node = await stage.node()
        values: list[object] = [1, "1", True, 1.5, "a", False, None]
        await node.start(*(new_run(number, attributes={"v": value}) for number, value in enumerate(values, 1)))
        assert await _found(node, "v = 1") == [1]
        assert await _found(node, "v = '1'") == [2]
        assert await _found(node, "v = true") == [3]
        assert await _found(node, "v >= 1") == [4, 1]
        assert await _found(node, "v >= '1'") == [5, 2]
        assert await _found(node, "v != 1") == [6, 5, 4, 3, 2]
        assert await _found(node, "v in (1, 'a', false)") == [6, 5, 1]
        assert await _found(node, "v is null") == [7]
        assert await _found(node, "not v = 1") == [7, 6, 5, 4, 3, 2]

    @scenario
    async def test_a_list_fits_if_one_of_its_items_does(self, stage: Stage) -> None:
        """And differs from what none of its items is."""
        node = await stage.node()
        lists: list[object] = [["a", "b"], ["b", "c"], [], "b"]
        await node.start(*(new_run(number, attributes={"l": value}) for number, value in enumerate(lists, 1)))
        assert await _found(node, "l = 'b'") == [4, 2, 1]
        assert await _found(node, "l != 'a'") == [4, 2]
        assert await _found(node, "l = 'a' and l = 'b'") == [1]
        assert await _found(node, "not l in ('a', 'c')") == [4, 3]

    @scenario
    async def test_texts_by_pattern_and_prefix(self, stage: Stage) -> None:
        """``like`` in either case, ``prefix`` letter by letter; of columns, tags and attributes."""
        node = await stage.node()
        await node.start(
            new_run(1, workflow="order", key="order-1", tags={"team": "Blue"}, attributes={"note": "50%"}),
            new_run(2, workflow="Order", tags={"team": "blue-sky"}, attributes={"note": "5_"}),
            new_run(3, workflow="reorder", key="o", error="it's broken"),
        )
        assert await _found(node, "workflow like 'order'") == [2, 1]
        assert await _found(node, "workflow prefix 'ord'") == [1]
        assert await _found(node, "workflow like '%ORDER'") == [3, 2, 1]
        assert await _found(node, "workflow not like 'o%'") == [3]
        assert await _found(node, "tag.team like 'blue%'") == [2, 1]
        assert await _found(node, "tag.team = 'Blue' or tags.team is null") == [3, 1]
        assert await _found(node, "note like '5_'") == [2]
        assert await _found(node, "note prefix '5'") == [2, 1]
        assert await _found(node, "key prefix 'order-'") == [1]
        assert await _found(node, "key is null") == [2]
        assert await _found(node, "not key = 'o'") == [2, 1]
        assert await _found(node, "error = 'it''s broken'") == [3]
        assert await _found(node, "tag.team != 'Blue'") == [2]
        assert await _found(node, "tag.`team` is not null and attr.`note` is not null") == [2, 1]
        assert await _found(node, "attr.`team` is not null or tag.`note` is not null") == []

    @scenario
    async def test_columns_times_and_logic(self, stage: Stage) -> None:
        """Together with the other fields of the filter and paging."""
        node = await stage.node()
        await node.start(
            *(
                new_run(number, created_at=NOW - 1000 * number, tasks_total=number, attributes={"amount": number * 10})
                for number in range(1, 7)
            )
        )
        await node.finish(run_id(2), ended_at=NOW - 1990.0)
        await node.finish(run_id(3), ended_at=NOW, state="failed")
        assert await _found(node, "created_at > now - 1h") == [3, 2, 1]
        assert await _found(node, "started_at >= now - 50m and state = 'running'") == [1]
        assert await _found(node, "duration <= 10s") == [2]
        assert await _found(node, "ended_at is not null and duration > 45m") == [3]
        assert await _found(node, "tasks_total in (1, 5) or amount > 50") == [6, 5, 1]
        assert await _found(node, "not (amount >= 30 and amount < 60)") == [6, 2, 1]
        assert await _found(node, "amount > 10", limit=2, before=run_id(6)) == [5, 4]
        assert await _found(node, "amount > 10", states=("failed", "succeeded")) == [3, 2]
        assert await _found(node, "amount > 10 and state != 'running'", limit=1) == [3]
        assert await _found(node, f"id = '{run_id(4)}'") == [4]
        assert await _found(node, "created_at < '1970-01-12T12:41:00Z'") == [6, 5, 4]

    @scenario
    async def test_status_is_what_people_see(self, stage: Stage) -> None:
        """Parked runs wait until their time comes, runs nobody carries out are interrupted."""
        node, other = await stage.node("a"), await stage.node("b", lease_seconds=1.0)
        await node.start(*(new_run(number) for number in (1, 2, 3, 5)))
        await other.start(new_run(4))
        await node.park(run_id(1), wake_at=4e9)
        await node.park(run_id(2))
        await node.park(run_id(5), wake_at=0.001)  # its time has come, and nobody has taken it up
        await stage.advance(2)
        assert await _found(node, "status = 'waiting'") == [1]
        assert await _found(node, "status = 'interrupted'") == [5, 4, 2]
        assert await _found(node, "status = 'running'") == [3]
        assert await _found(node, "status in ('running', 'waiting')") == [3, 1]
        assert await _found(node, "state = 'running'") == [5, 4, 3, 2, 1]

    @scenario
    async def test_retention_forgets_attributes(self, stage: Stage) -> None:
        """Nothing is left to be found."""
        node = await stage.node()
        await node.start(new_run(1, attributes={"a": 1}), new_run(2, attributes={"a": 1}))
        await node.finish(run_id(1), ended_at=1.0)
        await node.store.delete_runs(10.0)
        assert await _found(node, "a = 1") == [2]
