"""Running the user's code only to look: queries, validators, and the end of a run's stay in memory. The run is left as it
is; :mod:`headrace.durable.running` is what moves it.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Coroutine, Generator
from random import Random
from typing import Any

from headrace.core.errors import (
    HeadraceError,
    InvalidCommand,
    NotFound,
)
from headrace.durable.guard import TooLong, guard_of_thread
from headrace.durable.interrupts import ends_the_run
from headrace.durable.run import CodeRun, code_place_of_thread
from headrace.durable.running import plain, too_long
from headrace.durable.unchanged import changed, seen


@contextlib.contextmanager
def looking(run: CodeRun) -> Generator[None]:
    """User code runs here that must leave the run as it is: it sees the workflow's clock, is refused what would change
    the run or the world, and its random numbers are not those of the workflow.

    What it was refused half-way may have changed something in memory (an ``asyncio.Event`` is set before it wakes
    anybody): ``run.spoiled`` says so, and whoever holds the run rebuilds it from its history."""
    outer = run.loop.enter()
    chance, run.chance = run.chance, Random(run.seq)  # noqa: S311 - repeatable on purpose
    run.read_only = True
    run.loop.freeze()
    guard = guard_of_thread(code_place_of_thread)
    step = guard.enter()
    try:
        yield
    except TooLong:
        raise InvalidCommand(str(too_long(step))) from None
    finally:
        guard.leave(step)
        run.loop.thaw()
        run.read_only = False
        run.chance = chance
        run.loop.leave(outer)


def ask(run: CodeRun, name: str, payload: Any, headers: dict[str, str] | None = None) -> Any:
    """Answer a query from what the code holds now. The run is not changed: whatever the handler asks for is refused, and
    so is a handler that has changed a variable of the code; ``run.spoiled`` says then that the run has to be rebuilt."""
    if run.diverged is not None:
        raise InvalidCommand(f"run {run.run_id} cannot answer: its code does not fit its history: {run.diverged}")
    handler = run.handlers.get(("query", name))
    if handler is None:
        known = ", ".join(sorted(known for kind, known in run.handlers if kind == "query")) or "none"
        raise NotFound(f"the workflow has no query {name!r}; it has: {known}")
    before = seen(handler.function)
    try:
        with looking(run):
            answer = handler.answer
            if run.code is not None and run.code.interceptors is not None:
                from headrace.durable import intercepted  # noqa: PLC0415 - most programs have none

                answer = intercepted.query(run, handler, headers or {})
            found = plain(run.context.run(answer, payload), f"query {name!r} returned a value that")
    except HeadraceError:
        raise
    except BaseException as error:
        if not ends_the_run(error):
            raise
        raise InvalidCommand(f"query {name!r} failed: {type(error).__name__}: {error}") from error
    finally:
        names = changed(handler.function, before)
        run.spoiled = run.spoiled or bool(names)
    if names:
        raise InvalidCommand(
            f"query {name!r} changed {', '.join(names)}: a query may only look, as no replay repeats it",
            hint="change state in an @update or a @signal; in the query, work on a copy",
        )
    return found


def close(run: CodeRun) -> None:
    """Forget the code's coroutines: the run leaves this node's memory. Their ``finally`` blocks are run here, where they
    can do no harm, and not by the garbage collector at some other time."""
    coroutines: list[Coroutine[Any, Any, Any]] = [coroutine for coroutine, _, _ in run.watched.values()]
    for task in list(run.loop.tasks):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine = task.get_coro()
        if inspect.iscoroutine(coroutine):
            coroutines.append(coroutine)
    if not coroutines:
        return
    run.replay_until = sys.maxsize  # what is left of the code is for nobody to hear of
    with looking(run):
        for coroutine in coroutines:
            with contextlib.suppress(BaseException):
                run.context.run(coroutine.close)
    run.read_only = True
    run.watched.clear()
