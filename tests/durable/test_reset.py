"""Reset and fork: part of a run is done again, the rest is kept; nothing happens that was not asked for."""

import asyncio
import uuid
from collections import Counter

import pytest

from headrace import (
    AlreadyRunning,
    Diverged,
    Headrace,
    InvalidCommand,
    continue_as_new,
    dag,
    info,
    patched,
    set_attributes,
    start_child,
    task,
    update,
    wait_for_signal,
    workflow,
)
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.core import events as ev

done: Counter[str] = Counter()
declined = asyncio.Event()
"""Set once a charge that is to fail may do so."""


@task
async def reserve(number: int) -> int:
    done["reserve"] += 1
    return number * 10


@task
async def charge(amount: int) -> int:
    done["charge"] += 1
    if done["fail"]:
        await declined.wait()
        raise ValueError("declined")
    return amount + 1


@workflow
async def order(number: int) -> list[object]:
    token = str(uuid.uuid4())
    amount = await reserve(number)
    set_attributes(amount=amount)
    paid = await charge(amount)
    notes = [await wait_for_signal("note"), await wait_for_signal("note")]
    return [amount, paid, *notes, token]


def play(test, **options):
    async def run():
        done.clear()
        declined.clear()
        async with asyncio.timeout(100), Headrace("memory://", **options) as hr:
            await test(hr)

    asyncio.run(run())


async def kinds(hr: Headrace, run_id: str) -> list[str]:
    return [type(event).__name__ for event in await hr.history(run_id)]


async def number_of(hr: Headrace, run_id: str, kind: type, nth: int = 1) -> int:
    numbers = [number for number, event in enumerate(await hr.history(run_id), 1) if isinstance(event, kind)]
    return numbers[nth - 1]


async def finished(hr: Headrace, first: str, *notes: str, **start: object):
    run = await hr.run(order, {"number": 4}, **start)
    for note in notes:
        await hr.signal(run.id, "note", note)
    return run


def test_a_failed_run_goes_on_from_where_a_task_began():
    async def test(hr: Headrace) -> None:
        done["fail"] = 1
        run = await hr.start(order.options(key="o"), 4)
        await hr.signal(run.id, "note", "early")
        declined.set()
        assert (await run.wait()).state == "failed"
        done["fail"] = 0
        again = await hr.reset(run.id, to_task="charge", reason="the card works now")
        await hr.signal(again.id, "note", "late")
        output = await again.result()
        assert output[:4] == [40, 41, "early", "late"]
        assert (done["reserve"], done["charge"]) == (1, 2)
        old, new = await hr.history(run.id), await hr.history(again.id)
        created = new[0]
        assert isinstance(created, ev.RunCreated)
        assert created.reset_from == f"{run.id}/{created.reset_from.partition('/')[2]}"
        cut = int(created.reset_from.partition("/")[2])
        assert new[1:cut] == old[1:cut]
        assert new[cut] == ev.RunForked(new[cut].at, "the card works now")
        row = await hr.row(again.id)
        assert (row.trigger, row.key, row.attributes) == ("reset", "o", {"amount": 40})
        assert (await hr.find("order", "o")).id == again.id
        # The history replays: a query needs that.
        assert (await hr._node.adopter.replay(again.id)).diverged is None

    play(test)


def test_a_live_run_is_replaced_in_one_flush_and_who_waits_gets_the_new_result():
    async def test(hr: Headrace) -> None:
        run = await hr.start(order.options(key="o"), 4)
        await hr.signal(run.id, "note", "one")
        waiting = asyncio.create_task(run.result())
        while done["charge"] == 0:
            await asyncio.sleep(0)
        commits = hr._node.journal.commits
        again = await hr.reset(run.id, to_task="charge")
        assert hr._node.journal.commits - commits <= 2
        assert (await hr.row(run.id)).state == "terminated"
        assert (await hr.show(run.id)).next_run == again.id
        await hr.signal(again.id, "note", "two")
        assert (await waiting)[2:4] == ["one", "two"]
        with pytest.raises(AlreadyRunning):
            third = await hr.run(order, {"number": 1}, key="o")
            await hr.run(order, {"number": 1}, key="o")
        assert third.id

    play(test)


def test_signals_may_be_left_out():
    async def test(hr: Headrace) -> None:
        run = await finished(hr, "x", "a", "b")
        await run.wait()
        again = await hr.reset(run.id, to_event=1, reapply_signals=False)
        for note in ("c", "d"):
            await hr.signal(again.id, "note", note)
        assert (await again.result())[2:4] == ["c", "d"]
        with_them = await hr.reset(run.id, to_event=1)
        assert (await with_them.result())[2:4] == ["a", "b"]
        assert done["reserve"] == 3

    play(test)


@workflow
async def basket() -> list[str]:
    held: list[str] = []
    is_open = True

    @update
    async def add(item: str) -> int:
        held.append(item)
        return len(held)

    @add.validator
    def _(item: str) -> None:
        if not is_open or (item == "second" and not held):
            raise ValueError("not now")

    held.append(await wait_for_signal("item"))
    is_open = False
    return held


def test_updates_are_applied_again_in_order_with_signals(caplog: pytest.LogCaptureFixture):
    async def test(hr: Headrace) -> None:
        run = await hr.start(basket)
        assert await hr.update(run.id, "add", "first", update_id="u1") == 1
        cut = await number_of(hr, run.id, ev.UpdateCompleted)
        assert await hr.update(run.id, "add", "second", update_id="u2") == 2
        await hr.signal(run.id, "item", "last")
        assert await run.result() == ["first", "second", "last"]
        again = await hr.reset(run.id, to_event=1)
        assert await again.result() == ["first", "second", "last"]
        assert await hr.update(again.id, "add", "x", update_id="u1") == 1, "it has its id, and its answer"
        later = await hr.reset(run.id, to_event=cut)
        assert await later.result() == ["first", "second", "last"]
        without = await hr.fork(run.id, to_event=1)
        await hr.signal(without.id, "item", "only")
        assert await without.result() == ["only"]

    play(test)
    assert not [record for record in caplog.records if "not applied again" in record.message]


@workflow
async def late_basket() -> list[str]:
    held: list[str] = []
    await reserve(1)
    await wait_for_signal("begin")

    @update
    async def add(item: str) -> None:
        held.append(item)

    await wait_for_signal("end")
    return held


def test_an_update_that_is_refused_there_is_left_out(caplog: pytest.LogCaptureFixture):
    async def test(hr: Headrace) -> None:
        run = await hr.start(late_basket)
        while "TaskSucceeded" not in await kinds(hr, run.id):
            await asyncio.sleep(0)
        await hr.signal(run.id, "begin")
        await hr.update(run.id, "add", "one")
        await hr.signal(run.id, "end")
        assert await run.result() == ["one"]
        again = await hr.reset(run.id, to_event=1)
        assert await again.result() == []

    play(test)
    [record] = [record for record in caplog.records if "not applied again" in record.message]
    assert "has no update 'add'" in record.error


def test_a_fork_leaves_the_old_run_alone():
    async def test(hr: Headrace) -> None:
        run = await hr.start(order.options(key="o"), 4)
        while done["charge"] == 0:
            await asyncio.sleep(0)
        await hr._node.journal.drained()
        event = await number_of(hr, run.id, ev.TaskSucceeded)
        twin = await hr.fork(run.id, to_event=event)
        assert (await hr.row(twin.id)).key is None
        for one in (run, twin):
            for note in ("a", "b"):
                await hr.signal(one.id, "note", f"{note} of {'run' if one is run else 'twin'}")
        first, second = await run.result(), await twin.result()
        assert first[2:4] == ["a of run", "b of run"]
        assert second[2:4] == ["a of twin", "b of twin"]
        assert first[4] == second[4]  # chance before the fork is copied
        assert (done["reserve"], done["charge"]) == (1, 2)

    play(test)


@workflow
async def chancy() -> list[str]:
    first = str(uuid.uuid4())
    await wait_for_signal("go")
    return [first, str(uuid.uuid4()), info().run_id]


def test_chance_after_the_fork_is_its_own():
    async def test(hr: Headrace) -> None:
        run = await hr.start(chancy)
        await hr.signal(run.id, "go")
        one = await run.result()
        two = await (await hr.reset(run.id, to_event=1, reapply_signals=True)).result()
        assert one[0] == two[0]
        assert one[1] != two[1]

    play(test)


@workflow
async def child(number: int) -> list[object]:
    done["child"] += 1
    return [number, await wait_for_signal("go"), info().run_id]


@workflow
async def parent() -> list[object]:
    first = await reserve(1)
    handle = start_child(child, {"number": first})
    result = await handle
    return [handle.run_id, *result]


def test_children_that_were_open_are_started_anew():
    async def test(hr: Headrace) -> None:
        run = await hr.start(parent)
        while done["child"] == 0:
            await asyncio.sleep(0)
        await hr._node.journal.drained()
        started = await number_of(hr, run.id, ev.ChildStarted)
        old_child = (await hr.history(run.id))[started - 1].run_id
        for cut in (started, started - 1):
            again = await hr.fork(run.id, to_event=cut)
            await hr._node.journal.drained()
            new_child = (await hr.history(again.id))[await number_of(hr, again.id, ev.ChildStarted) - 1].run_id
            assert new_child != old_child
            while await hr.stored_row(new_child) is None:
                await asyncio.sleep(0)
            await hr.signal(new_child, "go", cut)
            assert await again.result() == [new_child, 10, cut, new_child]
        again = await hr.reset(run.id, to_event=started)
        assert (await (await hr.get(old_child)).wait()).state == "terminated"
        await hr.terminate(again.id)

    play(test)


@workflow
async def rounds(left: int) -> int:
    await wait_for_signal("go")
    if left:
        continue_as_new(left=left - 1)
    return left


def test_a_run_that_continued_can_be_reset_to_just_before_that():
    async def test(hr: Headrace) -> None:
        run = await hr.start(rounds, 1)
        await hr.signal(run.id, "go")
        while (await hr.show(run.id)).next_run is None:
            await asyncio.sleep(0)
        first_next = (await hr.show(run.id)).next_run
        again = await hr.reset(run.id, to_event=len(await hr.history(run.id)) - 1)
        view = await hr.show(again.id)
        assert (view.state, view.next_run != first_next) == ("continued", True)
        await hr.signal(view.next_run, "go")
        assert await again.result() == 0

    play(test)


@workflow
async def newer(number: int) -> list[object]:
    amount = await reserve(number)
    side = "new" if patched("charge-first") else "old"
    return [side, await charge(amount)]


def test_a_cut_before_a_patch_takes_its_new_side_as_the_old_run_did():
    async def test(hr: Headrace) -> None:
        run = await hr.start(newer, 4)
        assert await run.result() == ["new", 41]
        before = await number_of(hr, run.id, ev.Patched) - 1
        again = await hr.fork(run.id, to_event=before)
        assert await again.result() == ["new", 41]
        assert (await hr.replay(again.id, newer)).difference is None

    play(test)


def test_code_that_was_patched_meanwhile_takes_the_new_side_where_it_is_run_again():
    @workflow(name="newer")
    async def older(number: int) -> list[object]:
        amount = await reserve(number)
        return ["old", await charge(amount)]

    async def test(hr: Headrace) -> None:
        run = await hr.start(older, 4)
        assert await run.result() == ["old", 41]
        older.function.__code__, code = newer.function.__code__, older.function.__code__
        try:
            again = await hr.fork(run.id, to_task="charge")
            assert await again.result() == ["new", 41]
            assert (await hr.replay(again.id, older)).difference is None
        finally:
            older.function.__code__ = code

    play(test)


def test_what_cannot_be_meant_is_refused():
    @task
    async def plain_work() -> int:
        return 1

    with dag("graph") as graph:
        plain_work()

    async def test(hr: Headrace) -> None:
        run = await finished(hr, "x", "a", "b")
        await run.wait()
        total = len(await hr.history(run.id))
        for options, what in (
            ({}, "to which event or to which task"),
            ({"to_event": 1, "to_task": "charge"}, "not both"),
            ({"to_event": 0}, f"1 to {total}"),
            ({"to_event": total + 1}, f"1 to {total}"),
            ({"to_event": total}, "is the end"),
            ({"to_task": "chrge"}, "no task 'chrge'"),
        ):
            with pytest.raises(InvalidCommand, match=what):
                await hr.reset(run.id, **options)
        of_graph = await hr.run(graph)
        await of_graph.wait()
        with pytest.raises(InvalidCommand, match="graph"):
            await hr.reset(of_graph.id, to_event=1)
        assert len(await hr.runs()) == 2

    play(test, workflows=[graph])


def old_code():
    @workflow(name="changing")
    async def changing() -> object:
        first = await reserve(1)
        return [first, await wait_for_signal("go")]

    return changing


def new_code():
    @workflow(name="changing")
    async def changing() -> object:
        await charge(1)
        first = await reserve(1)
        return [first, await wait_for_signal("go")]

    changing.function.__qualname__ = old_code().function.__qualname__
    return changing


def test_code_that_does_not_fit_is_refused_and_harms_nothing():
    async def test() -> None:
        done.clear()
        database = MemoryDatabase()
        async with asyncio.timeout(100):
            async with Headrace(MemoryStore(database)) as hr:
                run = await hr.start(old_code())
                while done["reserve"] == 0:
                    await asyncio.sleep(0)
                await hr.settled(run.id)
                before = await hr.history(run.id)
            async with Headrace(MemoryStore(database), adopt=False, workflows=[new_code()]) as hr:
                with pytest.raises(Diverged, match="reserve"):
                    await hr.reset(run.id, to_event=len(before))
                assert await hr.history(run.id) == before
                assert (await hr.row(run.id)).owner is None
                assert len(await hr.runs()) == 1
                # Before the difference begins, the new code may take over.
                again = await hr.reset(run.id, to_event=1)
                await hr.signal(again.id, "go", "new")
                assert await again.result() == [10, "new"]
                assert (await hr.row(run.id)).state == "terminated"
                assert (await hr.row(again.id)).version != (await hr.row(run.id)).version

    asyncio.run(test())


def test_a_paused_run_goes_on_after_a_reset():
    async def test(hr: Headrace) -> None:
        run = await finished(hr, "x", "a")
        while done["charge"] == 0:
            await asyncio.sleep(0)
        await hr.pause(run.id)
        again = await hr.reset(run.id, to_event=len(await hr.history(run.id)))
        assert (await hr.show(again.id)).state == "running"
        await hr.signal(again.id, "note", "b")
        assert (await again.result())[2:4] == ["a", "b"]

    play(test)


@pytest.mark.parametrize("cut", range(1, 8))
def test_every_cut_leads_to_the_same_result(cut: int):
    async def test(hr: Headrace) -> None:
        run = await finished(hr, "x", "a", "b")
        output = await run.result()
        if cut >= len(await hr.history(run.id)):
            pytest.skip("the history is shorter")
        again = await hr.reset(run.id, to_event=cut)
        assert await again.result() == output
        assert (await hr._node.adopter.replay(again.id)).diverged is None

    play(test)
