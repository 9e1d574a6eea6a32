"""The conformance suite of executors: every sentence of :class:`headrace.contracts.execution.Executor` as a scenario.

A new executor inherits it and says how to make one::

    class TestMyExecutor(ExecutorConformance):
        @pytest.fixture
        def executor(self):
            return MyExecutor()

The functions that are called live in this module, at its top level, so that executors can import them elsewhere. For
readable failures name the module to pytest before importing it:
``pytest.register_assert_rewrite("headrace.testing.executor_conformance")``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from headrace.contracts.current import current_attempt
from headrace.contracts.execution import Attempt, Executor
from headrace.contracts.outcome import failure_of
from headrace.core.errors import PermanentError, RetryableError, SkipTask

SCENARIO_SECONDS_MAX = 100.0
"""A scenario that takes longer has failed."""


class MemoryLog:
    """An attempt log that remembers, for tests."""

    def __init__(self) -> None:
        self.written: list[tuple[str, bytes]] = []
        self.closed = False

    def write(self, stream: str, data: bytes) -> None:
        """Remember."""
        self.written.append((stream, data))

    def close(self) -> None:
        """Remember that too."""
        self.closed = True

    def text(self, *streams: str) -> str:
        """Everything written to these streams (default: all), as text."""
        chosen = [data for stream, data in self.written if not streams or stream in streams]
        return b"".join(chosen).decode("utf-8", "replace")


def make_attempt(number: int = 1, **fields: Any) -> Attempt:
    """An attempt of task ``t`` in run ``R``; ``fields`` override."""
    chosen: dict[str, Any] = {
        "run_id": "R",
        "workflow": "w",
        "task": "t",
        "attempt": number,
        "config": {},
        "args": {},
        **fields,
    }
    return Attempt(**chosen)


# ---- what is called -------------------------------------------------------------------------------------------------


class Refused(ValueError):
    """An exception whose constructor nobody can guess."""

    def __init__(self, *, code: int, why: str) -> None:
        super().__init__(f"{why} ({code})")
        self.code = code


def add(a: int, b: int = 0) -> int:
    """A plain function."""
    return a + b


async def add_later(a: int, b: int = 0) -> int:
    """A coroutine function."""
    await asyncio.sleep(0)
    return a + b


def refuse() -> None:
    """Raises an exception of its own class, with a cause."""
    try:
        raise KeyError("deep")
    except KeyError as error:
        raise Refused(code=7, why="no room") from error


def raise_by_name(name: str) -> None:
    """Raises something an executor has to treat with care."""
    if name == "exit":
        sys.exit(3)
    raise {
        "skip": SkipTask("nothing to do"),
        "later": RetryableError("busy", after=12.5),
        "never": PermanentError("hopeless"),
        "stop": StopIteration("odd"),
        "cancelled": asyncio.CancelledError("by itself"),
    }[name]


def who_am_i(n: int) -> list[Any]:
    """What the current attempt says, and a line in its log."""
    me = current_attempt()
    me.log("line %d of %s", n, me.key)
    return [me.run_id, me.task, me.attempt, me.key, n]


async def wait_for(started: str, release: str) -> str:
    """Says that it runs by making one file, and goes on until there is another."""
    mark, gate = Path(started), Path(release)
    await asyncio.to_thread(mark.touch)
    while not await asyncio.to_thread(gate.exists):  # noqa: ASYNC110 - it may run in another process
        await asyncio.sleep(0.01)
    return "released"


# ---- the scenarios --------------------------------------------------------------------------------------------------


class Stage:
    """One started executor and short ways to call it."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.log = MemoryLog()

    async def call(self, function: Callable[..., Any], number: int = 1, **args: Any) -> Any:
        """Call one of this module's functions."""
        target = f"{__name__}:{function.__name__}"
        return await self.executor.call(target, function, args, make_attempt(number, args=args), self.log)

    async def error_of(self, function: Callable[..., Any], **args: Any) -> Exception:
        """The exception such a call ends with."""
        try:
            result = await self.call(function, **args)
        except Exception as error:
            return error
        raise AssertionError(f"{function.__name__} returned {result!r} instead of raising")


def play(executor: Executor, scenario: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario on a started executor, and stop it twice."""

    async def run() -> None:
        await executor.start()
        await executor.start()
        try:
            async with asyncio.timeout(SCENARIO_SECONDS_MAX):
                await scenario(Stage(executor))
        finally:
            await executor.stop()
            await executor.stop()

    asyncio.run(run())


class ExecutorConformance:
    """Inherit this; provide the fixture ``executor``."""

    def test_results_come_back(self, executor: Executor) -> None:
        async def scenario(stage: Stage) -> None:
            assert await stage.call(add, a=2, b=3) == 5
            assert await stage.call(add, a=2) == 2
            assert await stage.call(add_later, a=20, b=3) == 23

        play(executor, scenario)

    def test_exceptions_come_back_with_class_message_and_the_users_frames(self, executor: Executor) -> None:
        async def scenario(stage: Stage) -> None:
            error = await stage.error_of(refuse)
            assert type(error).__name__ == "Refused"
            assert isinstance(error, ValueError)
            assert str(error) == "no room (7)"
            failure = failure_of(error)
            assert failure.type == "Refused"
            assert failure.message == "no room (7)"
            assert failure.bases[:2] == ("ValueError", "Exception")
            assert "in refuse" in failure.traceback
            assert "KeyError: 'deep'" in failure.traceback
            assert "backends/executors" not in failure.traceback
            assert await stage.call(add, a=1) == 1

        play(executor, scenario)

    def test_a_wrong_argument_is_an_error_of_the_call(self, executor: Executor) -> None:
        async def scenario(stage: Stage) -> None:
            error = await stage.error_of(add, colour="red")
            assert type(error).__name__ == "TypeError"
            assert "colour" in str(error)

        play(executor, scenario)

    def test_steering_exceptions_keep_their_class(self, executor: Executor) -> None:
        async def scenario(stage: Stage) -> None:
            skip = await stage.error_of(raise_by_name, name="skip")
            assert isinstance(skip, SkipTask)
            assert str(skip) == "nothing to do"
            later = await stage.error_of(raise_by_name, name="later")
            assert isinstance(later, RetryableError)
            assert later.after == 12.5
            assert failure_of(later).retryable is True
            assert failure_of(later).retry_after == 12.5
            never = await stage.error_of(raise_by_name, name="never")
            assert isinstance(never, PermanentError)
            assert failure_of(never).retryable is False

        play(executor, scenario)

    def test_what_a_future_cannot_carry_becomes_a_failure(self, executor: Executor) -> None:
        async def scenario(stage: Stage) -> None:
            exit_failure = failure_of(await stage.error_of(raise_by_name, name="exit"))
            assert exit_failure.type == "SystemExit"
            assert exit_failure.code == 3
            assert "in raise_by_name" in exit_failure.traceback
            for name, kind in (("stop", "StopIteration"), ("cancelled", "CancelledError")):
                assert failure_of(await stage.error_of(raise_by_name, name=name)).type == kind
            assert await stage.call(add, a=1) == 1

        play(executor, scenario)

    def test_the_current_attempt_is_known_and_can_log(self, executor: Executor) -> None:
        async def scenario(stage: Stage) -> None:
            assert await stage.call(who_am_i, number=4, n=9) == ["R", "t", 4, "R/t/4", 9]
            assert stage.log.text("log") == "line 9 of R/t/4\n"

        play(executor, scenario)

    def test_many_calls_at_once_do_not_mix(self, executor: Executor) -> None:
        async def scenario(stage: Stage) -> None:
            answers = await asyncio.gather(*(stage.call(who_am_i, number=n, n=n) for n in range(200)))
            assert answers == [["R", "t", n, f"R/t/{n}", n] for n in range(200)]
            assert sorted(stage.log.text("log").splitlines()) == sorted(f"line {n} of R/t/{n}" for n in range(200))

        play(executor, scenario)

    def test_a_cancelled_call_ends_at_once_and_the_executor_goes_on(self, executor: Executor, tmp_path: Path) -> None:
        started, release = tmp_path / "started", tmp_path / "release"

        async def scenario(stage: Stage) -> None:
            call = asyncio.ensure_future(stage.call(wait_for, started=str(started), release=str(release)))
            while not started.exists():  # noqa: ASYNC110 - it may be made by another process
                await asyncio.sleep(0.01)
            call.cancel()
            await asyncio.wait([call])  # the function itself goes on until it is released, further down
            assert call.cancelled()
            assert await stage.call(add, a=1) == 1
            release.touch()

        play(executor, scenario)

    def test_cancelled_before_it_begins(self, executor: Executor) -> None:
        async def scenario(stage: Stage) -> None:
            calls = [asyncio.ensure_future(stage.call(add, a=n)) for n in range(100)]
            await asyncio.sleep(0)
            for call in calls[::2]:
                call.cancel()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert results[1::2] == list(range(1, 100, 2))
            assert all(isinstance(result, asyncio.CancelledError | int) for result in results[::2])
            assert await stage.call(add, a=1) == 1

        play(executor, scenario)
