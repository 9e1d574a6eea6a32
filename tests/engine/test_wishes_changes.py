"""Whoever watches a run that another node has, or asks it for an update, is told of changes; and where no word can come,
callers look for themselves. As in ``test_wishes.py``, polls are an hour away."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from wishes_rig import HOUR, basket, calls, counting, known, listener, node, play, promised, until

from headrace import InvalidCommand, UpdateRejected, dag, task
from headrace.client import handle
from headrace.contracts.broker import EVERYTHING
from headrace.core.errors import StoreUnavailable
from headrace.core.ids import RunId
from headrace.engine import asker, parker, wisher
from headrace.engine.wisher import WISHES_INFO


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks for himself."""
    for name in ("MIN", "MAX"):
        monkeypatch.setattr(handle, f"POLL_SECONDS_{name}", HOUR)
        monkeypatch.setattr(asker, f"LOOK_SECONDS_{name}", HOUR)


@pytest.fixture
def staying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parker, "PARK_AFTER_SECONDS", HOUR)


# ---- changes ---------------------------------------------------------------------------------------------------------


def test_a_watcher_elsewhere_sees_changes_and_the_end(
    tmp_path: Path, staying: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle, "POLL_SECONDS_MIN", 0.0)
    gate = asyncio.Event()

    @task
    async def first() -> int:
        return 1

    @task
    async def second(x: int) -> int:
        await gate.wait()
        return x + 1

    @task
    async def third(x: int) -> int:
        await asyncio.Event().wait()
        return x

    @dag
    def three() -> int:
        return third(second(first()))

    async def test() -> None:
        async with node(tmp_path, "a", workflows=[three]) as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(three)
            states: list[str] = []
            done = asyncio.Event()

            async def watch() -> None:
                async for view in (await waiting.get(run.id)).watch(interval_seconds=0.001):
                    states.append(view.state)
                    if view.tasks["second"].state == "succeeded":
                        done.set()

            watching = asyncio.ensure_future(watch())
            await known(owner, run.id)
            await promised(waiting, run.id)
            await until(lambda: owner.live(RunId(run.id)).is_watched_elsewhere)
            gate.set()
            await done.wait()
            await run.cancel()
            await watching
            assert states[-1] == "cancelled"

    play(test)


def test_a_watcher_of_a_parked_run_sees_its_changes_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parker, "PARK_AFTER_SECONDS", 0.01)
    monkeypatch.setattr(handle, "POLL_SECONDS_MIN", 0.0)

    async def test() -> None:
        async with (
            node(tmp_path, "a") as first,
            node(tmp_path, "b", adopt=False) as waiting,
            node(tmp_path, "c", adopt=False) as last,
        ):
            last._node.teller.look = lambda: None  # type: ignore[method-assign]
            run = await first.run(counting)
            await until(lambda: not first.runs_in_memory)
            seen: list[Any] = []

            async def watch() -> None:
                async for view in (await waiting.get(run.id)).watch(interval_seconds=0.001):
                    seen.append(view.details)

            watching = asyncio.ensure_future(watch())
            await promised(waiting, run.id)
            for number in range(1, 4):
                await last.signal(run.id, "news", number)
                await until(lambda number=number: seen[-1:] == [str(number)])
            await last.signal(run.id, "news", 4)
            await watching

    play(test)


def test_who_wishes_for_changes_while_another_wish_is_made_is_told_of_them(
    tmp_path: Path, staying: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle, "POLL_SECONDS_MIN", 0.0)

    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(counting)
            inner, words = waiting.store.wish, waiting._node.wisher._words
            conditions = iter((lambda: len(words[RunId(run.id)]) == 2, lambda: run.id in owner._node.teller.known))

            async def wish(*args: Any) -> Any:
                found = await inner(*args) if len(words[RunId(run.id)]) == 1 else None
                await until(next(conditions, lambda: True))
                return found or await inner(*args)

            waiting.store.wish = wish  # type: ignore[method-assign]
            there = await waiting.get(run.id)
            result = asyncio.ensure_future(there.result())
            await until(lambda: words)

            async def watch() -> None:
                async for _ in there.watch(interval_seconds=0.001):
                    pass

            watching = asyncio.ensure_future(watch())
            await until(lambda: owner.live(RunId(run.id)).is_watched_elsewhere)
            await owner.signal(run.id, "news", 4)
            await asyncio.gather(result, watching)

    play(test)


def test_a_change_before_the_owner_hears_of_the_wish_is_told(
    tmp_path: Path, staying: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle, "POLL_SECONDS_MIN", 0.0)

    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            hear, heard = owner._node.teller.look, asyncio.Event()
            owner._node.teller.look = heard.set  # type: ignore[method-assign]
            run = await owner.run(counting)
            seen: list[Any] = []

            async def watch() -> None:
                async for view in (await waiting.get(run.id)).watch(interval_seconds=0.001):
                    seen.append(view.details)

            watching = asyncio.ensure_future(watch())
            await heard.wait()
            await promised(waiting, run.id)
            (word,) = waiting._node.wisher._words[RunId(run.id)]
            await until(lambda: not word._told.is_set())  # it has looked once more since it was promised word
            await owner.signal(run.id, "news", 1)
            hear()
            await until(lambda: seen[-1:] == ["1"])
            await owner.signal(run.id, "news", 4)
            await watching

    play(test)


def test_a_refusal_is_told_to_who_has_asked_from_elsewhere(tmp_path: Path, staying: None) -> None:
    """It leaves no event, so nothing else would wake who asked."""

    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as asking:
            run = await owner.run(basket)
            await owner.update(run.id, "add", "x")
            read, may_read = owner._node.commander.apply_inbox, asyncio.Event()

            async def hold(run_ids: Any) -> None:
                await may_read.wait()
                await read(run_ids)

            owner._node.commander.apply_inbox = hold  # type: ignore[method-assign]
            looks = calls(asking, "wish")
            refused = asyncio.ensure_future(asking.update(run.id, "add", "x"))
            await known(owner, run.id)
            await promised(asking, run.id)
            (word,) = asking._node.wisher._words[RunId(run.id)]
            await until(lambda: len(looks) > 1 and not word._told.is_set())  # word that the wish is known has come
            may_read.set()
            with pytest.raises(UpdateRejected, match="there already"):
                await refused

    play(test)


def test_answers_and_refusals_of_updates_are_told(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as asking:
            run = await owner.run(basket)
            assert await asking.update(run.id, "add", "x") == ["x"]
            with pytest.raises(UpdateRejected, match="there already"):
                await asking.update(run.id, "add", "x")
            later = asyncio.ensure_future(asking.update(run.id, "later"))
            await promised(asking, run.id)
            await owner.signal(run.id, "open")
            assert await later == "now"
            never = asyncio.ensure_future(asking.update(run.id, "add", "y"))
            assert await never == ["x", "y"]
            await owner.signal(run.id, "close")
            await run.result()
            with pytest.raises(InvalidCommand, match="it has ended"):
                await asking.update(run.id, "add", "z")

    play(test)


# ---- where no word comes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["an older version", "another host without a broker"])
def test_without_a_promise_the_caller_looks_for_itself(
    tmp_path: Path, staying: None, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    for name in ("POLL_SECONDS_MIN", "POLL_SECONDS_MAX"):
        monkeypatch.setattr(handle, name, 0.01)

    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            row = next(row for row in await owner.store.nodes() if row.node == "a")
            if why == "an older version":
                owner._node.teller.look = lambda: None  # type: ignore[method-assign]
                info = {key: value for key, value in row.info.items() if key != WISHES_INFO}
                await owner.store.describe_node(row.node, row.epoch, info)
            else:
                monkeypatch.setattr("headrace.engine.doorbell.here", lambda: "elsewhere")
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await until(lambda: RunId(run.id) in waiting._node.wisher._owners)
            (word,) = waiting._node.wisher._words[RunId(run.id)]
            assert not word.will_come
            await owner.signal(run.id, "news", 7)
            assert await result == 7

    play(test)


def test_lost_word_is_made_up_for_by_a_slow_look(
    tmp_path: Path, staying: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wisher, "LOOK_SECONDS", 0.01)

    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False, poll_seconds=0.01) as waiting:
            waiting._node.waker._doorbell.stop()
            run = await owner.run(listener)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await promised(waiting, run.id)
            await owner.signal(run.id, "news", 7)
            assert await result == 7

    play(test)


def test_word_is_promised_once_a_broker_is_there(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            waiting._node.waker.is_in_reach = lambda row: False  # type: ignore[method-assign]
            run = await owner.run(listener)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await known(owner, run.id)
            (word,) = waiting._node.wisher._words[RunId(run.id)]
            assert not word.will_come
            waiting._node.waker.is_in_reach = lambda row: True  # type: ignore[method-assign]
            waiting._node.waker._heard(EVERYTHING)
            await promised(waiting, run.id)
            await owner.signal(run.id, "news", 7)
            assert await result == 7

    play(test)


def test_after_a_broker_was_away_who_waits_looks_once(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            waiting._node.waker._doorbell.stop()
            run = await owner.run(listener)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await promised(waiting, run.id)
            await owner.signal(run.id, "news", 7)
            await run.result()
            waiting._node.waker._heard(EVERYTHING)
            assert await result == 7

    play(test)


def test_an_engine_that_can_no_longer_work_tells_its_callers(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await promised(waiting, run.id)
            waiting._node.journal_broke(StoreUnavailable("the disk is gone"))
            with pytest.raises(StoreUnavailable, match="the disk is gone"):
                await result

    play(test)


def test_a_store_out_of_reach_is_told_to_the_caller(tmp_path: Path, staying: None) -> None:
    async def test() -> None:
        async with node(tmp_path, "a") as owner, node(tmp_path, "b", adopt=False) as waiting:
            run = await owner.run(listener)
            result = asyncio.ensure_future((await waiting.get(run.id)).result())
            await promised(waiting, run.id)

            async def gone(*_: Any) -> Any:
                raise StoreUnavailable("nobody answers")

            waiting.store.wish = waiting.store.run = gone  # type: ignore[method-assign]
            waiting._node.wisher.look()
            with pytest.raises(StoreUnavailable):
                await result

    play(test)
