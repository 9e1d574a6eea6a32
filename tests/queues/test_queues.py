"""Attempts that other nodes carry out: two engines on one store, in one process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, RunCancelled, RunFailed
from headrace.config.keys import settings_of
from headrace.core import events as ev
from headrace.core.errors import StoreUnavailable
from headrace.core.ids import RunId
from headrace.engine import peers
from headrace.engine.routes import OFFERS_MIN
from headrace.service import files

import far_tasks as tasks  # isort: skip
from queue_rig import cluster, history, play, until  # isort: skip


@pytest.mark.parametrize("shared", [True, False], ids=["one folder", "two folders"])
def test_tasks_of_a_queue_run_where_it_is_served(tmp_path: Path, shared: bool) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, worker = await nodes.owner(), await nodes.worker(shared=shared)
            run = await owner.run(tasks.through)
            assert await run.result() == {"near_2": 5}
            assert worker._node.puller is not None
            assert worker._node.puller.done == 1
            assert await owner.store.queues() == []

    play(test)


@pytest.mark.parametrize("shared", [True, False], ids=["one folder", "two folders"])
def test_logs_are_found_where_the_run_is(tmp_path: Path, shared: bool) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, _ = await nodes.owner(), await nodes.worker(shared=shared)
            run = await owner.run(tasks.logged)
            await run.result()
            (entry,) = await owner.logs(run.id, "say")
            assert entry.text == "far from home\n"

    play(test)


@pytest.mark.parametrize("shared", [True, False], ids=["one folder", "two folders"])
def test_large_values_travel_both_ways(tmp_path: Path, shared: bool) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, _ = await nodes.owner(), await nodes.worker(shared=shared)
            assert await (await owner.run(tasks.values)).result() == {"length": 200_000}

    play(test)


def test_a_queue_that_nobody_serves_waits_until_somebody_does(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner()
            run = await owner.run(tasks.through)
            rows = []
            while not rows:
                rows = await owner.store.queues()
            assert [(row.queue, row.waiting) for row in rows] == [("gpu", 1)]
            await nodes.worker()
            assert await run.result() == {"near_2": 5}

    play(test)


def test_labels_choose(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner(queues=("default", "gpu"), labels={"zone": "b"})
            other = await nodes.worker("other", labels={"zone": "c"})
            right = await nodes.worker("right", labels={"zone": "a", "disk": "ssd"})
            assert await (await owner.run(tasks.labelled)).result() == {"zoned": "zoned"}
            assert (other._node.puller.done, right._node.puller.done) == (0, 1)

    play(test)


def test_failures_come_home(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, _ = await nodes.owner(), await nodes.worker(shared=False)
            run = await owner.run(tasks.failing)
            with pytest.raises(RunFailed, match="ValueError: no luck"):
                await run.result()
            (failed,) = [event for event in await history(owner, run.id) if isinstance(event, ev.TaskFailed)]
            assert "far_tasks.py" in failed.failure.traceback

    play(test)


def test_a_wide_run_is_spread_and_never_floods_the_table(tmp_path: Path) -> None:
    items = list(range(1_000))

    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner()
            one, two = await nodes.worker("one", threads=4), await nodes.worker("two", threads=4)
            run = await owner.run(tasks.wide, {"items": items})
            most = 0
            done = asyncio.ensure_future(run.result())
            while not done.done():
                most = max(most, *(row.waiting + row.claimed for row in await owner.store.queues() or ()), 0)
                await asyncio.sleep(0.005)
            assert await done == [2 * item for item in items]
            assert 0 < most <= OFFERS_MIN
            assert one._node.puller.done + two._node.puller.done == 1_000
            assert one._node.puller.done > 0 < two._node.puller.done
            assert one._node.puller.refused == two._node.puller.refused == 0

    play(test)


def test_a_leader_that_was_alone_hears_of_a_worker_at_once(tmp_path: Path) -> None:
    """It looks for lost claims rarely as long as it believes that there is nobody who could lose any."""

    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner()
            watchdog = owner._node.watchdog
            await until(lambda: watchdog._counted_at > float("-inf"))
            assert watchdog._is_alone
            await nodes.worker()
            async with asyncio.timeout(20):
                await until(lambda: not watchdog._is_alone)

    play(test)


def test_limits_hold_across_nodes(tmp_path: Path) -> None:
    async def test() -> None:
        tasks.Inside.most = 0
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner()
            for name in ("one", "two"):
                await nodes.worker(name, threads=8)
            run = await owner.run(tasks.narrow, {"items": list(range(60))})
            await run.result()
            assert 1 <= tasks.Inside.most <= 2

    play(test)


def test_what_finds_no_slot_at_home_goes_to_others(tmp_path: Path) -> None:
    items = list(range(200))

    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner(threads=1)
            helper = await nodes.worker("helper", queues=("default",), threads=4)
            run = await owner.run(tasks.spilling, {"items": items})
            assert await run.result() == items
            assert 0 < helper._node.puller.done < 200

    play(test)


def test_workflow_code_calls_tasks_elsewhere(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, worker = await nodes.owner(), await nodes.worker(shared=False)
            assert await (await owner.run(tasks.code, {"n": 10})).result() == 90
            assert worker._node.puller.done == 10

    play(test)


def test_cancelling_stops_the_attempt_elsewhere(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, worker = await nodes.owner(), await nodes.worker()
            run = await owner.run(tasks.waiting, {"folder": str(tmp_path)})
            await until((tmp_path / "begun").exists)
            await run.cancel("enough")
            with pytest.raises(RunCancelled):
                await run.result()
            assert (tmp_path / "cancelled").exists()
            await until(lambda: worker._node.puller.busy == 0)
            assert await owner.store.queues() == []

    play(test)


def test_cancelling_what_nobody_has_claimed(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner()
            run = await owner.run(tasks.waiting, {"folder": str(tmp_path)})
            while not await owner.store.queues():
                await asyncio.sleep(0.01)
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
            assert await owner.store.queues() == []

    play(test)


def test_a_pause_takes_back_what_nobody_has_claimed(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner()
            run = await owner.run(tasks.through)
            while not await owner.store.queues():
                await asyncio.sleep(0.01)
            await run.pause()
            while await owner.store.queues():
                await asyncio.sleep(0.01)
            worker = await nodes.worker()
            await run.resume()
            assert await run.result() == {"near_2": 5}
            assert worker._node.puller.done == 1

    play(test)


@pytest.mark.parametrize(
    ("subject", "result"), [("once", {"waits": "gone"}), ("once_in_code", "gone")], ids=["graph", "code"]
)
def test_a_pause_takes_back_what_must_not_run_twice_and_nobody_has_begun(
    tmp_path: Path, subject: str, result: Any
) -> None:
    async def test() -> None:
        (tmp_path / "go").touch()
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner()
            run = await owner.run(getattr(tasks, subject), {"folder": str(tmp_path)})
            while sum(row.waiting for row in await owner.store.queues()) != 1:
                await asyncio.sleep(0.01)
            await run.pause()
            while not any(isinstance(event, ev.AttemptInterrupted) for event in await history(owner, run.id)):
                await asyncio.sleep(0.01)
            await run.resume()
            await nodes.worker()
            assert await run.result() == result
            assert len((tmp_path / "begun").read_text().splitlines()) == 1

    play(test)


def test_somebody_else_completes_an_attempt_that_was_carried_out_elsewhere(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, _ = await nodes.owner(), await nodes.worker()
            run = await owner.run(tasks.outside, {"folder": str(tmp_path)})
            token = tmp_path / "token"
            await until(lambda: token.exists() and token.read_text())
            await until(lambda: owner._node.live[RunId(run.id)].run.unit("later", None).external)
            await owner.complete(token.read_text(), "done")
            assert await run.result() == {"later": "done"}

    play(test)


def test_a_worker_that_stops_gives_its_attempts_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner()
            async with Headrace(nodes.url, node="first", adopt=False, pull=True, queues=("gpu",)):
                run = await owner.run(tasks.waiting, {"folder": str(tmp_path)})
                await until((tmp_path / "begun").exists)
            (tmp_path / "go").touch()
            await nodes.worker("second")
            assert await run.result() == {"waits": "gone"}
            assert len((tmp_path / "begun").read_text().splitlines()) == 2

    play(test)


def test_details_of_heartbeats_survive_a_lost_worker(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner()
            lost = Headrace(nodes.url, node="lost", adopt=False, pull=True, queues=("gpu",))
            await lost.__aenter__()
            run = await owner.run(tasks.beating, {"folder": str(tmp_path)})
            await until((tmp_path / "begun").exists)
            while not any(row.details for row in await owner.store.offered(owner._node.id)):
                await asyncio.sleep(0.01)
            lost._node.abandon()
            await lost.store.close()  # as the death of its process does
            await nodes.worker("second")
            assert await run.result() == {"beats": {"page": 7}}

    play(test)


def test_an_attempt_that_must_not_run_twice_fails_when_its_worker_is_lost(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner()
            lost = Headrace(nodes.url, node="lost", adopt=False, pull=True, queues=("gpu",))
            await lost.__aenter__()
            run = await owner.run(tasks.once, {"folder": str(tmp_path)})
            await until((tmp_path / "begun").exists)
            lost._node.abandon()
            await lost.store.close()
            await nodes.worker("second")
            with pytest.raises(RunFailed, match="lost: lost was lost while it carried the attempt out"):
                await run.result()
            assert len((tmp_path / "begun").read_text().splitlines()) == 1

    play(test)


@pytest.mark.parametrize("subject", ["waiting", "once"])
def test_the_attempt_outlives_the_owner_of_its_run(tmp_path: Path, subject: str) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            first = Headrace(nodes.url, node="first")
            await first.__aenter__()
            await nodes.worker()
            run = await first.run(getattr(tasks, subject), {"folder": str(tmp_path)})
            await until((tmp_path / "begun").exists)
            first._node.abandon()
            await first.store.close()
            second = await nodes.owner()
            (tmp_path / "go").touch()
            assert await (await second.get(run.id)).result() == {"waits": "gone"}
            assert len((tmp_path / "begun").read_text().splitlines()) == 1

    play(test)


def test_the_outcome_may_come_while_nobody_owns_the_run(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            first = Headrace(nodes.url, node="first")
            await first.__aenter__()
            worker = await nodes.worker()
            run = await first.run(tasks.once, {"folder": str(tmp_path)})
            await until((tmp_path / "begun").exists)
            first._node.abandon()
            await first.store.close()
            (tmp_path / "go").touch()
            await until(lambda: worker._node.puller.done == 1)
            second = await nodes.owner()
            assert await (await second.get(run.id)).result() == {"waits": "gone"}
            assert len((tmp_path / "begun").read_text().splitlines()) == 1

    play(test)


def test_a_lost_row_is_offered_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner = await nodes.owner()
            run = await owner.run(tasks.through)
            while not await owner.store.queues():
                await asyncio.sleep(0.01)
            (row,) = await owner.store.offered(owner._node.id)
            assert await owner.store.withdraw(owner._node.id, owner._node.epoch, [row.key]) == []
            await nodes.worker()
            assert await run.result() == {"near_2": 5}

    play(test)


def test_a_worker_without_the_code_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        from headrace import dag, task

        @task(queue="gpu")
        def here_only() -> None: ...

        with dag("local") as local:
            here_only()
        async with cluster(tmp_path) as nodes:
            owner, _ = await nodes.owner(workflows=[local]), await nodes.worker()
            run = await owner.run(local)
            with pytest.raises(RunFailed, match="unfit: worker cannot run the task"):
                await run.result()

    play(test)


def test_what_shell_tasks_inherit_changes_for_the_attempts_of_others_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAUCE", "pesto")
    file = tmp_path / "sauces.yaml"
    file.write_text("name: sauces\ntasks:\n  say: {run: 'echo ${SAUCE:-none}', queue: gpu}\n")

    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, worker = await nodes.owner(), await nodes.worker()

            async def said() -> Any:
                view = await (await owner.run(str(file))).wait()
                return view.tasks["say"].output

            assert await said() == "none"
            await worker.reload(settings_of({("store",): nodes.url, ("env_allow",): ["SAUCE"]}))
            assert await said() == "pesto"

    play(test)


def test_code_that_changed_is_seen_by_the_attempts_of_others_too(tmp_path: Path) -> None:
    (tmp_path / "soup_of_the_day.py").write_text("def soup() -> str:\n    return 'leek'\n")
    file = tmp_path / "soups.yaml"
    file.write_text("name: soups\ntasks:\n  say: {python: 'soup_of_the_day:soup', queue: gpu}\n")

    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, worker = await nodes.owner(), await nodes.worker()
            assert (await (await owner.run(str(file))).wait()).tasks["say"].output == "leek"
            (tmp_path / "soup_of_the_day.py").write_text("def soup() -> str:\n    return 'pumpkin soup'\n")
            files.forget_modules([tmp_path / "soup_of_the_day.py"])
            worker.forget_code()
            assert (await (await owner.run(str(file))).wait()).tasks["say"].output == "pumpkin soup"

    play(test)


@pytest.mark.parametrize("error", [StoreUnavailable("the connection was lost"), RuntimeError("a defect")])
def test_an_attempt_is_offered_though_nobody_could_be_asked_who_serves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It was the last for a long while: nothing else would have brought it to the store."""
    failed: list[Exception] = []

    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, _ = await nodes.owner(), await nodes.worker()
            ask = owner.store.nodes

            async def out_of_reach() -> Any:
                task = asyncio.current_task()
                if task is not None and task.get_name() == "headrace-offer" and not failed:
                    failed.append(error)
                    raise error
                return await ask()

            monkeypatch.setattr(owner.store, "nodes", out_of_reach)
            monkeypatch.setattr(peers, "FRESH_SECONDS", 0.0)
            run = await owner.run(tasks.through)
            assert await run.result() == {"near_2": 5}
            assert failed

    play(test)


def test_a_claim_whose_answer_got_lost_is_carried_out_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claimer lives, so nobody takes it away."""
    lost: list[str] = []

    async def test() -> None:
        async with cluster(tmp_path) as nodes:
            owner, worker = await nodes.owner(), await nodes.worker()
            claim_attempts = worker.store.claim_attempts

            async def claim(*args: Any) -> Any:
                claims = await claim_attempts(*args)
                if claims and not lost:
                    lost.extend(claim.key for claim in claims)
                    raise StoreUnavailable("the connection was lost before the answer came")
                return claims

            monkeypatch.setattr(worker.store, "claim_attempts", claim)
            run = await owner.run(tasks.through)
            assert await run.result() == {"near_2": 5}
            assert len(lost) == 1
            assert await owner.store.queues() == []

    play(test)
