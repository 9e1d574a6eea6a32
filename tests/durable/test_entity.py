"""One live run per business key, whatever happens around it; retries of whole runs; bounds on their time."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from headrace import (
    AlreadyRunning,
    ChildFailed,
    Headrace,
    InvalidCommand,
    RetryPolicy,
    RunFailed,
    continue_as_new,
    dag,
    info,
    signal,
    start_child,
    task,
    update,
    wait_for_signal,
    workflow,
)
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.core.spec import Backoff, Jitter
from headrace.testing import Environment

SECONDS = 100

calls: Counter[str] = Counter()


@workflow
async def order(number: int) -> object:
    return [number, await wait_for_signal("go")]


@workflow
async def cart(owner: str) -> list[str]:
    items: list[str] = []

    @update
    async def add(item: str) -> int:
        items.append(item)
        return len(items)

    @signal
    def note(text: str) -> None:
        items.append(text)

    await wait_for_signal("buy")
    return items


@workflow
async def rounds(left: int) -> str:
    await wait_for_signal("next")
    if left > 0:
        continue_as_new(left=left - 1)
    return info().key or ""


@task
async def work(number: int) -> int:
    return number


with dag("graph") as graph:
    work(7)


def play(test, **options):
    """Run a test with an engine on a store of its own."""

    async def run():
        async with asyncio.timeout(SECONDS), Headrace("memory://", **options) as hr:
            await test(hr)

    asyncio.run(run())


def test_a_second_run_of_a_key_is_refused_with_the_id_of_the_first():
    async def test(hr: Headrace) -> None:
        first = await hr.start(order.options(key="42"), 1)
        with pytest.raises(AlreadyRunning) as refused:
            await hr.start(order.options(key="42"), 2)
        assert (refused.value.run_id, refused.value.key, refused.value.state) == (first.id, "42", "running")
        assert first.id in str(refused.value)
        other = await hr.start(order.options(key="43"), 3)
        unrelated = await hr.run(cart, {"owner": "x"}, key="42")
        assert len(await hr.runs()) == 3
        await hr.signal(first.id, "go", "now")
        assert await first.result() == [1, "now"]
        again = await hr.start(order.options(key="42"), 4)
        assert (await hr.find("order", "42")).id == again.id
        for run in (other, unrelated, again):
            await hr.terminate(run.id)

    play(test)


def test_a_refusal_spoils_nothing_that_is_written_with_it():
    async def test(hr: Headrace) -> None:
        await hr.start(order.options(key="k"), 0)

        async def one(number: int):
            try:
                return await hr.start(order.options(key="k" if number % 2 else f"k{number}"), number)
            except AlreadyRunning as error:
                return error

        results = await asyncio.gather(*(one(number) for number in range(1, 41)))
        assert [isinstance(result, AlreadyRunning) for result in results] == [
            number % 2 == 1 for number in range(1, 41)
        ]
        assert len(await hr.runs(where="status in ('running', 'waiting')", limit=100)) == 21

    play(test)


def test_of_many_that_start_at_once_one_wins():
    async def test(hr: Headrace) -> None:
        results = await asyncio.gather(
            *(hr.start(order.options(key="k"), number) for number in range(20)), return_exceptions=True
        )
        assert sum(not isinstance(result, BaseException) for result in results) == 1
        assert {type(result) for result in results if isinstance(result, BaseException)} == {AlreadyRunning}
        winner = next(result for result in results if not isinstance(result, BaseException))
        assert {result.run_id for result in results if isinstance(result, AlreadyRunning)} == {winner.id}

    play(test)


def test_use_existing_gives_everybody_the_same_run():
    async def test(hr: Headrace) -> None:
        runs = await asyncio.gather(
            *(hr.start(order.options(key="k", on_conflict="use_existing"), number) for number in range(20))
        )
        assert len({run.id for run in runs}) == 1
        await hr.signal(runs[0].id, "go", 1)
        assert {tuple(await run.result()) for run in runs} == {tuple(await runs[0].result())}

    play(test)


def test_terminate_ends_what_is_in_the_way():
    async def test(hr: Headrace) -> None:
        first = await hr.start(order.options(key="k"), 1)
        second = await hr.start(order.options(key="k", on_conflict="terminate"), 2)
        assert (await first.wait()).state == "terminated"
        assert (await second.show()).state == "running"
        release = asyncio.Event()
        functions = {"work": release}
        del functions
        one = await hr.run(graph, key="g")
        assert await one.result() == {"work": 7}

    play(test)


@pytest.mark.parametrize(
    ("on_reuse", "after_success", "after_failure"),
    [("allow", True, True), ("allow_failed", False, True), ("reject", False, False)],
)
def test_reuse_of_a_key_after_its_run_has_ended(on_reuse: str, after_success: bool, after_failure: bool):
    async def test(hr: Headrace) -> None:
        done = await hr.run(order, {"number": 1}, key="done")
        await hr.signal(done.id, "go")
        await done.wait()
        ended = await hr.run(order, {"number": 1}, key="ended")
        await hr.terminate(ended.id)
        for key, may in (("done", after_success), ("ended", after_failure)):
            if may:
                await hr.run(order, {"number": 2}, key=key, on_reuse=on_reuse)
            else:
                with pytest.raises(AlreadyRunning) as refused:
                    await hr.run(order, {"number": 2}, key=key, on_reuse=on_reuse, on_conflict="use_existing")
                assert refused.value.state in ("succeeded", "terminated")

    play(test)


def test_options_that_cannot_be_meant_are_refused():
    for options, what in (
        ({"on_conflict": "use_existing"}, "give key="),
        ({"key": ""}, "1 to 512"),
        ({"key": "x" * 600}, "1 to 512"),
        ({"key": "x", "on_conflict": "replace"}, "fail, use_existing, terminate"),
        ({"key": "x", "on_reuse": "no"}, "allow, allow_failed, reject"),
        ({"key": "x", "on_conflict": "terminate", "on_reuse": "reject"}, "would end a run"),
        ({"attributes": {"a": {"deep": 1}}}, "attribute 'a' is a dict"),
    ):
        with pytest.raises(InvalidCommand, match=what):
            order.options(**options)


def test_continue_as_new_keeps_the_key():
    async def test(hr: Headrace) -> None:
        first = await hr.start(rounds.options(key="r"), 2)
        ids = {first.id}
        for _ in range(3):
            run = await hr.find("rounds", "r")
            ids.add(run.id)
            with pytest.raises(AlreadyRunning):
                await hr.start(rounds.options(key="r"), 0)
            await hr.signal(run.id, "next")
            live = hr.live(run.id)
            if live is not None:
                await live.until_closed()
        assert len(ids) == 3
        assert await first.result() == "r"

    play(test)


def test_signal_with_start_starts_once_and_loses_nothing():
    async def test(hr: Headrace) -> None:
        runs = await asyncio.gather(
            *(
                hr.signal_with_start(cart, {"owner": "ann"}, key="ann", name="note", payload=f"n{number}")
                for number in range(20)
            )
        )
        assert len({run.id for run in runs}) == 1
        await hr.signal(runs[0].id, "buy")
        assert sorted(await runs[0].result()) == sorted(f"n{number}" for number in range(20))
        again = await hr.signal_with_start(cart, {"owner": "ann"}, key="ann", name="buy")
        assert again.id != runs[0].id
        assert await again.result() == []
        with pytest.raises(InvalidCommand, match="graph"):
            await hr.signal_with_start(graph, key="x", name="n")

    play(test)


def test_update_with_start_asks_one_run():
    async def test(hr: Headrace) -> None:
        counts = await asyncio.gather(
            *(hr.update_with_start(cart, {"owner": "bob"}, "add", f"i{number}", key="bob") for number in range(10))
        )
        assert sorted(counts) == list(range(1, 11))
        same = [
            await hr.update_with_start(cart, {"owner": "bob"}, "add", "twice", key="bob", update_id="u1")
            for _ in (1, 2)
        ]
        assert same == [11, 11]
        run = await hr.find("cart", "bob")
        await hr.signal(run.id, "buy")
        assert len(await run.result()) == 11

    play(test)


@workflow
async def parent(key: str) -> str:
    try:
        return await start_child(order, {"number": 1}, key=key)
    except ChildFailed as error:
        return f"{error.failure.type}"


def test_a_childs_key_counts_too():
    async def test(hr: Headrace) -> None:
        held = await hr.start(order.options(key="c"), 1)
        run = await hr.start(parent, "c")
        assert await run.result() == "AlreadyRunning"
        free = await hr.start(parent, "free")
        while (child := await hr.find("order", "free")) is None:
            await asyncio.sleep(0)
        await hr.signal(child.id, "go", "yes")
        assert await free.result() == [1, "yes"]
        await hr.terminate(held.id)

    play(test)


def test_a_retried_graph_run_needs_its_key_again(tmp_path: Path):
    @task
    async def fails() -> None:
        raise ValueError("no")

    with dag("fragile") as fragile:
        fails()

    async def test(hr: Headrace) -> None:
        first = await hr.run(fragile, key="k")
        assert (await first.wait()).state == "failed"
        second = await hr.run(fragile, key="k")
        assert (await second.wait()).state == "failed"
        blocker = await hr.run(fragile, key="k")
        if (await blocker.show()).state != "failed":
            with pytest.raises(AlreadyRunning):
                await first.retry()
        await blocker.wait()
        await first.retry()
        assert (await first.wait()).state == "failed"

    play(test, workflows=[fragile])


def test_a_key_outlives_the_process_that_took_it():
    """A node that is lost keeps its runs' keys; a reservation without a run is void."""

    async def test() -> None:
        database = MemoryDatabase()
        async with asyncio.timeout(SECONDS):
            async with Headrace(MemoryStore(database)) as hr:
                kept = await hr.start(order.options(key="kept"), 1)
                node = hr._node
                await node.store.reserve_key(node.id, node.epoch, "order", "void", "01never")
            async with Headrace(MemoryStore(database)) as hr:
                with pytest.raises(AlreadyRunning) as refused:
                    await hr.start(order.options(key="kept"), 2)
                assert refused.value.run_id == kept.id
                await hr.start(order.options(key="void"), 3)

    asyncio.run(test())


# ---- retries and bounds of whole runs ----------------------------------------------------------------------------------

QUICK = RetryPolicy(attempts=4, initial=0.01, backoff=Backoff.FIXED, jitter=Jitter.NONE)


@workflow(retries=QUICK)
async def third_time(key: str) -> list[object]:
    calls[key] += 1
    if calls[key] < 3:
        raise ValueError(f"try {info().attempt}")
    return [info().attempt, info().key]


@workflow(retries=QUICK)
async def never(key: str) -> None:
    raise ValueError(f"try {info().attempt}")


@workflow(
    retries=RetryPolicy(attempts=100, initial=50.0, backoff=Backoff.FIXED, jitter=Jitter.NONE), execution_timeout=400.0
)
async def bounded() -> None:
    await asyncio.sleep(50)
    raise ValueError("again")


@workflow(timeout=0.1, retries=RetryPolicy(attempts=2, initial=0.01, jitter=Jitter.NONE))
async def slow() -> None:
    await asyncio.sleep(60)


def test_a_failed_run_starts_again_by_its_policy():
    async def test(hr: Headrace) -> None:
        calls.clear()
        first = await hr.start(third_time.options(key="k", attributes={"size": 3}), "k")
        assert await first.result() == [3, "k"]
        rows = await hr.runs()
        assert [row.state for row in rows] == ["succeeded", "failed", "failed"]
        assert [row.trigger for row in rows] == ["retry", "retry", "manual"]
        assert {(row.key, row.attributes["size"]) for row in rows} == {("k", 3)}
        shown = await hr.show(first.id)
        assert shown.next_run == rows[1].run_id
        assert (await hr.find("third_time", "k")).id == rows[0].run_id

    play(test)


def test_the_last_failure_is_the_result():
    async def test(hr: Headrace) -> None:
        run = await hr.start(never, "n")
        with pytest.raises(RunFailed, match="try 4"):
            await run.result()
        assert [row.state for row in await hr.runs()] == ["failed"] * 4

    play(test)


def test_the_bound_on_all_tries_holds():
    async def test() -> None:
        async with Environment() as env:
            run = await env.start(bounded)
            with pytest.raises(RunFailed):
                await run.result()
            rows = await env.headrace.runs(limit=100)
            assert len(rows) == 4
            assert max(row.ended_at for row in rows) - min(row.created_at for row in rows) <= 400

    asyncio.run(test())


def test_a_run_that_takes_too_long_is_tried_again_too():
    async def test(hr: Headrace) -> None:
        run = await hr.start(slow)
        with pytest.raises(RunFailed, match="run_timeout"):
            await run.result()
        assert len(await hr.runs()) == 2

    play(test)


def test_a_try_that_has_not_begun_can_be_cancelled():
    policy = RetryPolicy(attempts=2, initial=3600, jitter=Jitter.NONE)

    @workflow(retries=policy)
    async def later() -> None:
        calls["later"] += 1
        raise ValueError("no")

    async def test(hr: Headrace) -> None:
        calls.clear()
        run = await hr.start(later)
        while (view := await run.show()).next_run is None:
            await asyncio.sleep(0)
        second = await hr.get(view.next_run)
        await hr.signal(second.id, "early", 1)
        await second.cancel()
        assert (await second.wait()).state == "cancelled"
        assert calls["later"] == 1

    play(test, workflows=[later])


def test_a_parent_waits_for_the_last_try():
    @workflow
    async def waits(key: str) -> object:
        return await third_time(key)

    async def test(hr: Headrace) -> None:
        calls.clear()
        run = await hr.start(waits, "child")
        assert await run.result() == [3, None]

    play(test, workflows=[waits])
