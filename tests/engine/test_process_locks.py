"""Locks in tasks of executor `process`: the engine takes them over the child's socket."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, LockLost, RunCancelled, RunFailed, dag, lock, task
from headrace.backends.executors.process import ProcessExecutor
from headrace.testing.executor_conformance import MemoryLog, make_attempt

from test_user_locks import engine, held_by, play, take_away, until  # isort: skip

import far_locks  # isort: skip


def far(function: Callable[..., Any]) -> Any:
    return task(function).options(executor="process")


def one(function: Callable[..., Any], *arguments: object) -> Any:
    with dag(function.__name__.replace("_", "-")) as made:
        far(function).options(id="it")(*arguments)
    return made


async def result(headrace: Headrace, workflow: Any) -> Any:
    return (await (await headrace.run(workflow)).result())["it"]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("function", [far_locks.in_a_process, far_locks.coroutine_in_a_process])
def test_one_attempt_at_a_time_in_processes_and_out_of_them(function: Callable[..., Any], tmp_path: Path) -> None:
    """Over two nodes; under rising tokens."""

    @task
    async def near() -> None:
        async with lock("door") as held:
            far_locks.enter(str(tmp_path), held.token)

    with dag("many") as many:
        for number in range(4):
            far(function).options(id=f"far{number}")(str(tmp_path))
            near.options(id=f"near{number}")()

    async def test() -> None:
        async with (
            engine(tmp_path, many, name="a", processes=2) as a,
            engine(tmp_path, many, name="b", processes=2, pull=False) as b,
        ):
            for run in [await a.run(many), await b.run(many)]:
                await run.result()
            tokens = [int(line) for line in (tmp_path / "tokens").read_text().split()]
            assert len(tokens) == 16
            assert tokens == sorted(set(tokens))
            assert await held_by(a) == {}

    play(test())


def test_threads_of_a_process_take_locks_at_the_same_time(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path) as headrace:
            assert await result(headrace, one(far_locks.many_threads, str(tmp_path))) == 5
            assert await held_by(headrace) == {}

    play(test())


def test_a_child_that_has_taken_locks_serves_on(tmp_path: Path) -> None:
    """Somebody else reads its calls from then on."""

    async def test() -> None:
        async with engine(tmp_path, processes=1) as headrace:
            workflow = one(far_locks.in_a_process, str(tmp_path))
            pids = {await result(headrace, workflow) for _ in range(3)}
            assert len(pids) == 1
            large = far(far_locks.enter)
            with dag("large") as made:
                large.options(id="it")(str(tmp_path), int("9" * 4000))
            await result(headrace, made)
            assert headrace._processes.pids == list(pids)

    play(test())


def test_a_lock_that_is_not_free_is_told_as_in_a_thread(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path) as headrace:
            async with headrace.lock("door"):
                name, node, said = await result(headrace, one(far_locks.only_asks))
                assert (name, node) == ("door", "n")
                assert "node n has it" in said
            assert await result(headrace, one(far_locks.only_asks)) == []

    play(test())


def test_who_gives_up_waiting_does_not_get_the_lock_later(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path) as headrace:
            async with headrace.lock("door"):
                run = await headrace.run(one(far_locks.gives_up, str(tmp_path)))
                await until((tmp_path / "gave up").exists)
            async with headrace.lock("door"):  # although the attempt goes on
                pass
            (tmp_path / "go").touch()
            await run.result()

    play(test())


def test_twice_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path) as headrace:
            run = await headrace.run(one(far_locks.twice))
            with pytest.raises(RunFailed, match="held by this attempt already"):
                await run.result()
            assert await held_by(headrace) == {}

    play(test())


def test_the_lock_of_a_process_that_dies_is_given_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path) as headrace:
            run = await headrace.run(one(far_locks.crashes, str(tmp_path)))
            with pytest.raises(RunFailed, match="exit code 3"):
                await run.result()
            async with headrace.lock("door"):
                pass

    play(test())


@pytest.mark.parametrize("function", [far_locks.never_ends, far_locks.waits_for_ever])
def test_a_cancelled_attempt_gives_back_what_it_has_and_wants(function: Callable[..., Any], tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path) as headrace:
            blocker = headrace.lock("door")
            if function is far_locks.waits_for_ever:
                await blocker.__aenter__()
            run = await headrace.run(one(function, str(tmp_path)))
            wanted = {"door": 1} if function is far_locks.waits_for_ever else {"door": 0}
            while await held_by(headrace) != wanted:
                await asyncio.sleep(0.001)
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
            if function is far_locks.waits_for_ever:
                while await held_by(headrace) != {"door": 0}:
                    await asyncio.sleep(0.001)
                await blocker.__aexit__(None, None, None)
            async with headrace.lock("door"):
                pass

    play(test())


def test_a_process_that_loses_its_lock_is_killed(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path) as headrace:
            run = await headrace.run(one(far_locks.never_ends, str(tmp_path)))
            await until(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").read_text())
            pid = int((tmp_path / "begun").read_text())
            await take_away(headrace, "door")
            with pytest.raises(RunFailed, match="LockLost"):
                await run.result()
            assert is_gone(pid)

    play(test())


@pytest.mark.parametrize("takes_one", [True, False])
@pytest.mark.parametrize("is_between_calls", [True, False])
def test_a_thread_that_outlives_its_call_gets_no_lock(is_between_calls: bool, takes_one: bool, tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path, processes=1) as headrace:
            await result(headrace, one(far_locks.leaves_a_thread, str(tmp_path), takes_one))
            [pid] = headrace._processes.pids
            if is_between_calls:
                (tmp_path / "next").touch()
                await until((tmp_path / "said").exists)
            else:
                await result(headrace, one(far_locks.another, str(tmp_path)))
            assert "the attempt that wants the lock is over" in (tmp_path / "said").read_text()
            assert await held_by(headrace) == {}
            assert await result(headrace, one(far_locks.in_a_process, str(tmp_path))) == pid  # it serves on

    play(test())


class Grip:
    """A lock on the engine's side, of which this test says until when it is held."""

    token = 7

    def __init__(self, answers: list[float]) -> None:
        self._answers = answers

    @property
    def held_until(self) -> float:
        return self._answers.pop(0)

    @property
    def is_held(self) -> bool:
        return True


class Locker:
    """Gives one grip."""

    def __init__(self, answers: list[float]) -> None:
        self.loop = asyncio.get_running_loop()
        self.grip = Grip(answers)

    async def acquire(
        self, name: str, timeout_seconds: float | None, owner: str, on_lost: Callable[[LockLost], None]
    ) -> Grip:
        return self.grip

    async def release(self, grip: Any) -> None:
        assert grip is self.grip

    def interrupt(self, owner: str, error: LockLost) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("after", "found"),
    [
        ([0.0, math.inf], [7, False, True]),  # it may have been renewed meanwhile: the engine is asked again
        ([math.inf], [7, True, True]),  # what was said once is good until then: nobody is asked
        ([0.0, -math.inf, -math.inf, 0.0], [7, False, False, 7]),
    ],
)
def test_whether_it_is_held_is_known_by_the_clock_and_else_asked(
    after: list[float], found: list[object], tmp_path: Path
) -> None:
    async def test() -> None:
        locker = Locker([time.monotonic() - 1, *after] if after[0] != math.inf else after)
        executor = ProcessExecutor(1)
        attempt = make_attempt(args={}, source_dir=str(Path(far_locks.__file__).parent))
        attempt.locker = locker  # type: ignore[assignment]
        try:
            call = executor.call("far_locks:looks", far_locks.looks, {}, attempt, MemoryLog())
            if found[-1] == 7:
                with pytest.raises(Exception, match="was lost while it was held"):
                    await call
            else:
                assert await call == found
        finally:
            await executor.stop()
        assert locker.grip._answers == []

    play(test())
