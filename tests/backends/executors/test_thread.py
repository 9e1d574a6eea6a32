"""What only threads do: grow to a bound, be abandoned, be replaced."""

import asyncio
import contextvars
import threading

import pytest

from headrace.backends.executors.thread import ThreadExecutor
from headrace.contracts.current import current_attempt
from headrace.contracts.execution import AttemptError
from headrace.core.errors import EngineStopped
from headrace.testing.executor_conformance import Stage, play

colour = contextvars.ContextVar("colour", default="none")


class Gate:
    """Lets a test see that functions run, and lets them end."""

    def __init__(self) -> None:
        self.running = threading.Semaphore(0)
        self.open = threading.Event()

    def pass_through(self) -> str:
        self.running.release()
        assert self.open.wait(60)
        return threading.current_thread().name

    async def until_running(self, count: int = 1) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(self.running.acquire, timeout=60)


def pool_threads() -> int:
    return sum(thread.name.startswith("headrace-thread") for thread in threading.enumerate())


def test_calls_up_to_the_bound_run_at_the_same_time():
    gate = Gate()

    async def scenario(stage: Stage) -> None:
        calls = [asyncio.ensure_future(stage.call(gate.pass_through)) for _ in range(5)]
        await gate.until_running(3)
        assert not gate.running.acquire(blocking=False)
        gate.open.set()
        assert len(set(await asyncio.gather(*calls))) == 3

    play(ThreadExecutor(3), scenario)


def test_idle_threads_are_used_before_new_ones_are_made():
    async def scenario(stage: Stage) -> None:
        before = pool_threads()
        for _ in range(20):
            await stage.call(threading.get_ident)
        assert pool_threads() - before <= 1

    play(ThreadExecutor(8), scenario)


def test_context_variables_of_the_caller_are_seen_and_not_changed():
    def paint() -> str:
        seen = colour.get()
        colour.set("red")
        return seen

    async def scenario(stage: Stage) -> None:
        colour.set("blue")
        assert await stage.call(paint) == "blue"
        assert colour.get() == "blue"

    play(ThreadExecutor(1), scenario)


def test_abandoned_threads_are_replaced_counted_and_forgotten_when_they_return(caplog):
    gate = Gate()
    executor = ThreadExecutor(1)

    async def scenario(stage: Stage) -> None:
        before = pool_threads()
        for expected in (1, 2):
            call = asyncio.ensure_future(stage.call(gate.pass_through))
            await gate.until_running()
            call.cancel()
            await asyncio.wait([call])
            assert executor.abandoned == expected
            assert await stage.call(threading.get_ident)  # the pool still works
        assert "cannot be stopped" in caplog.text
        gate.open.set()
        async with asyncio.timeout(60):
            while executor.abandoned or pool_threads() - before > 1:
                await asyncio.sleep(0.01)

    play(executor, scenario)


def test_too_many_abandoned_threads_stop_new_calls_with_advice():
    gate = Gate()
    executor = ThreadExecutor(1, abandoned_max=1)

    async def scenario(stage: Stage) -> None:
        call = asyncio.ensure_future(stage.call(gate.pass_through))
        await gate.until_running()
        call.cancel()
        await asyncio.wait([call])
        with pytest.raises(AttemptError, match="executor: process") as caught:
            await stage.call(threading.get_ident)
        assert caught.value.type == "abandoned"
        gate.open.set()
        async with asyncio.timeout(60):
            while executor.abandoned:
                await asyncio.sleep(0.01)
        assert await stage.call(threading.get_ident)

    play(executor, scenario)


def test_a_function_can_see_that_it_was_cancelled():
    seen = threading.Event()
    running = Gate()

    def patient() -> None:
        me = current_attempt()
        running.running.release()
        while not me.cancelled:
            pass
        seen.set()

    async def scenario(stage: Stage) -> None:
        call = asyncio.ensure_future(stage.call(patient))
        await running.until_running()
        assert not seen.is_set()
        call.cancel()
        assert await asyncio.to_thread(seen.wait, 60)

    play(ThreadExecutor(1), scenario)


def test_a_queued_call_that_is_cancelled_never_runs():
    gate = Gate()
    ran: list[int] = []

    async def scenario(stage: Stage) -> None:
        first = asyncio.ensure_future(stage.call(gate.pass_through))
        await gate.until_running()
        second = asyncio.ensure_future(stage.call(lambda: ran.append(2)))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        gate.open.set()
        await first
        await stage.call(threading.get_ident)
        assert ran == []

    play(ThreadExecutor(1), scenario)


def test_stopping_ends_calls_under_way_and_refuses_new_ones():
    gate = Gate()
    executor = ThreadExecutor(1)

    async def scenario(stage: Stage) -> None:
        call = asyncio.ensure_future(stage.call(gate.pass_through))
        await gate.until_running()
        await executor.stop()
        with pytest.raises(EngineStopped):
            await call
        with pytest.raises(EngineStopped):
            await stage.call(threading.get_ident)
        await executor.start()
        gate.open.set()
        assert await stage.call(threading.get_ident)

    play(executor, scenario)


def test_threads_end_when_the_executor_stops(eventually):
    before = pool_threads()

    async def scenario(stage: Stage) -> None:
        await asyncio.gather(*(stage.call(threading.get_ident) for _ in range(50)))

    play(ThreadExecutor(4), scenario)
    eventually(lambda: pool_threads() <= before)


def test_an_impossible_bound_is_refused():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        ThreadExecutor(0)
