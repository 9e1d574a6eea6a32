"""Catalog: lists, searches and retention."""

from __future__ import annotations

from headrace.contracts.store import RunFilter, RunRow
from headrace.testing.store_conformance.stage import Stage, event, new_run, run_id, scenario, version


def _numbers(rows: list[RunRow]) -> list[int]:
    return [int(row.run_id[4:]) for row in rows]


class CatalogConformance:
    """Scenarios of :class:`headrace.contracts.store.Catalog`."""

    @scenario
    async def test_a_run_is_shown_with_everything_it_was_created_with(self, stage: Stage) -> None:
        """Every field survives, odd keys and values included."""
        node = await stage.node()
        tags = {"a.b": "1", "quote'\"": "$.x", "": "empty", "ü": "€"}
        params = {"n": 1, "f": 0.5, "none": None, "list": [{"x": True}], "text": "line\nbreak"}
        given = new_run(
            1, tags=tags, params=params, trigger="schedule", parent="p/1", error="e", tasks_total=9, wake_at=4.0
        )
        await node.start(given)
        row = await node.store.run(given.run_id)
        assert row is not None
        assert (row.tags, row.params, row.trigger, row.parent, row.error) == (tags, params, "schedule", "p/1", "e")
        assert (row.workflow, row.version, row.state, row.created_at) == ("nightly", "0" * 16, "running", 1.0)
        assert (row.tasks_total, row.tasks_done, row.last_seq, row.wake_at) == (9, 0, 1, 4.0)
        assert await node.store.runs(RunFilter()) == [row]
        assert await node.store.run(run_id(2)) is None

    @scenario
    async def test_runs_are_listed_newest_first_in_pages(self, stage: Stage) -> None:
        """Walking with ``before`` meets every run once."""
        node = await stage.node()
        await node.start(*(new_run(number) for number in (5, 3, 9, 1, 7, 2, 8)))
        assert _numbers(await node.store.runs(RunFilter())) == [9, 8, 7, 5, 3, 2, 1]
        first = await node.store.runs(RunFilter(limit=3))
        second = await node.store.runs(RunFilter(limit=3, before=first[-1].run_id))
        third = await node.store.runs(RunFilter(limit=3, before=second[-1].run_id))
        assert [_numbers(page) for page in (first, second, third)] == [[9, 8, 7], [5, 3, 2], [1]]
        assert await node.store.runs(RunFilter(limit=3, before=third[-1].run_id)) == []
        assert await node.store.runs(RunFilter(limit=0)) == []

    @scenario
    async def test_every_filter_narrows(self, stage: Stage) -> None:
        """Workflow, states, tags, and all of them together with paging."""
        node = await stage.node()
        rows = [
            new_run(1, workflow="nightly", tags={"env": "prod", "team": "x"}),
            new_run(2, workflow="hourly", tags={"env": "prod"}),
            new_run(3, workflow="nightly", tags={"env": "test", "team": "x"}),
            new_run(4, workflow="nightly", tags={"env": "prod", "team": "x"}),
            new_run(5, workflow="nightly"),
            new_run(6, workflow="hourly", tags={"env": "prod", "team": "x"}),
        ]
        await node.start(*rows)
        await node.finish(run_id(1), state="failed")
        await node.finish(run_id(4))

        async def found(**fields: object) -> list[int]:
            return _numbers(await node.store.runs(RunFilter(**fields)))  # pyright: ignore[reportArgumentType]

        assert await found(workflow="nightly") == [5, 4, 3, 1]
        assert await found(workflow="night") == []
        assert await found(states=("running",)) == [6, 5, 3, 2]
        assert await found(states=("failed", "succeeded")) == [4, 1]
        assert await found(states=("failed", "running", "failed")) == [6, 5, 3, 2, 1]
        assert await found(states=("running", "failed"), limit=2, before=run_id(5)) == [3, 2]
        assert await found(tags={"env": "prod"}) == [6, 4, 2, 1]
        assert await found(tags={"env": "prod", "team": "x"}) == [6, 4, 1]
        assert await found(tags={"team": "x", "env": "dev"}) == []
        assert await found(tags={"env": "prod", "team": "x"}, workflow="nightly", states=("failed", "running")) == [1]
        assert await found(tags={"env": "prod"}, before=run_id(6), limit=2) == [4, 2]

    @scenario
    async def test_a_state_filter_follows_the_run(self, stage: Stage) -> None:
        """Lists show what the last commit said."""
        node = await stage.node()
        await node.start(new_run(1))
        await node.go_on(run_id(1), 2, state="paused")
        assert _numbers(await node.store.runs(RunFilter(states=("paused",)))) == [1]
        assert await node.store.runs(RunFilter(states=("running",))) == []

    @scenario
    async def test_a_few_characters_find_a_run(self, stage: Stage) -> None:
        """Case does not matter, newest first, wildcards of SQL are plain characters."""
        node = await stage.node()
        await node.start(*(new_run(number) for number in (1, 2, 30)))
        assert await node.store.find_runs("01hz") == [run_id(30), run_id(2), run_id(1)]
        assert await node.store.find_runs("01HZ", limit=2) == [run_id(30), run_id(2)]
        assert await node.store.find_runs(run_id(2).lower()) == [run_id(2)]
        assert await node.store.find_runs("01HZ%") == []
        assert await node.store.find_runs("_1HZ") == []
        assert await node.store.find_runs("") == [run_id(30), run_id(2), run_id(1)]

    @scenario
    async def test_workflows_are_listed_by_name(self, stage: Stage) -> None:
        """The version put last of each."""
        store = await stage.store()
        for row in (version("b", 1, 1.0), version("a", 1, 5.0), version("b", 2, 0.5), version("c", 1, 2.0)):
            await store.put_workflow(row)
        rows = await store.workflows()
        assert [(row.name, row.version) for row in rows] == [("a", "a-1"), ("b", "b-2"), ("c", "c-1")]
        assert rows[1] == version("b", 2, 0.5)

    @scenario
    async def test_retention_deletes_old_finished_unowned_runs(self, stage: Stage) -> None:
        """With their events, tags and messages; nothing else."""
        node = await stage.node()
        await node.start(*(new_run(number, tags={"k": "v"}) for number in range(1, 7)))
        for number in (1, 2, 3):
            await node.finish(run_id(number), ended_at=10.0 * number)
        await node.go_on(run_id(4), 2, state="succeeded", ended_at=1.0)  # finished, still owned
        await node.park(run_id(5))
        await node.store.post(run_id(1), "retry", {})
        await node.store.post(run_id(6), "signal", {})
        assert sorted(await node.store.delete_runs(30.0)) == [run_id(1), run_id(2)]
        assert await node.store.delete_runs(30.0) == []
        assert _numbers(await node.store.runs(RunFilter())) == [6, 5, 4, 3]
        assert _numbers(await node.store.runs(RunFilter(tags={"k": "v"}))) == [6, 5, 4, 3]
        assert await node.store.run(run_id(1)) is None
        assert await node.store.history(run_id(1)) == []
        assert await node.store.history(run_id(3)) == [event(run_id(3), 1)[1:], event(run_id(3), 2)[1:]]
        assert await node.store.waiting_runs() == []
        assert [row.run_id for row in await node.store.inbox(None, node.name)] == [run_id(6)]

    @scenario
    async def test_retention_is_bounded(self, stage: Stage) -> None:
        """Oldest end first, ``limit`` at a time, long histories included."""
        node = await stage.node()
        await node.start(*(new_run(number) for number in range(1, 6)))
        await node.commit([event(run_id(2), seq) for seq in range(3, 12_003)])
        for number in range(1, 6):
            await node.finish(run_id(number), ended_at=float(100 - number))
        assert sorted(await node.store.delete_runs(1000.0, limit=2)) == [run_id(4), run_id(5)]
        assert sorted(await node.store.delete_runs(1000.0, limit=2)) == [run_id(2), run_id(3)]
        assert await node.store.history(run_id(2)) == []
        assert await node.store.delete_runs(1000.0, limit=2) == [run_id(1)]
        assert await node.store.delete_runs(1000.0, limit=2) == []

    @scenario
    async def test_the_clock_is_that_of_the_database(self, stage: Stage) -> None:
        """It moves forward, the same for every handle."""
        one, two = await stage.store(), await stage.store()
        before = await one.now()
        await stage.advance(3)
        assert 3 <= await two.now() - before < 30

    @scenario
    async def test_closing_is_idempotent_and_what_was_written_is_there_again(self, stage: Stage) -> None:
        """Another handle finds it."""
        node = await stage.node()
        keeper = await stage.store()
        await node.start(new_run(1))
        await node.store.close()
        await node.store.close()
        assert _numbers(await keeper.runs(RunFilter())) == [1]
        assert _numbers(await (await stage.store()).runs(RunFilter())) == [1]
