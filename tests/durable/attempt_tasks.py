"""Task functions that other processes can import, and a look at what became of a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from headrace import Headrace, complete_later, current_attempt, task
from headrace.core.codec import decode_event
from headrace.core.events import Event
from headrace.core.ids import RunId

T = TypeVar("T")

WAIT_SECONDS_MAX = 100.0


def play(test: Callable[[], Awaitable[T]]) -> T:
    """Run a test's coroutine, for a bounded time."""

    async def bounded() -> T:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            return await test()

    return asyncio.run(bounded())


async def history(hr: Headrace, run_id: str) -> list[Event]:
    """A run's stored events."""
    return [decode_event(data) for _, data in await hr.store.history(RunId(run_id))]


async def found(file: Path) -> str:
    """The text of a file, as soon as a task has written it."""
    while not (file.exists() and file.read_text()):
        await asyncio.sleep(0.002)
    return file.read_text()


@task
def count(rows: int, fail_at: int) -> list[int]:
    """Counts on from where the attempt before has come to, and fails once on its way."""
    attempt = current_attempt()
    first = attempt.heartbeat_details or 0
    for row in range(first, rows):
        attempt.heartbeat(row)
        if row == fail_at and first == 0:
            raise ConnectionError("lost")
    return [first, rows]


@task
async def count_inline(rows: int, fail_at: int) -> list[int]:
    """The same on the engine's loop."""
    return count(rows, fail_at)


@task
def falls_silent(file: str) -> str:
    """Beats once, then hangs; the second attempt tells what the first one said."""
    attempt = current_attempt()
    if attempt.heartbeat_details is not None:
        return f"{attempt.heartbeat_details} of attempt {attempt.attempt - 1}"
    attempt.heartbeat("half way")
    while not attempt.cancelled:
        time.sleep(0.005)
    Path(file).write_text("saw it")
    return "too late"


@task
async def falls_silent_inline(file: str) -> str:
    """The same, waiting."""
    attempt = current_attempt()
    if attempt.heartbeat_details is not None:
        return f"{attempt.heartbeat_details} of attempt {attempt.attempt - 1}"
    attempt.heartbeat("half way")
    try:
        await asyncio.Event().wait()
    finally:
        Path(file).write_text("saw it")
    return "too late"


@task
def keeps_beating(seconds: float) -> str:
    """Longer than its heartbeat bound, but never silent."""
    attempt = current_attempt()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        attempt.heartbeat()
        time.sleep(0.005)
    return "done"


@task
def ask_a_person(file: str) -> str:
    """Leaves its outcome to whoever reads the file."""
    attempt = current_attempt()
    Path(file).write_text(attempt.token)
    if attempt.heartbeat_details is not None:
        return f"was at {attempt.heartbeat_details}"
    return complete_later()


@task
async def ask_a_person_inline(file: str) -> str:
    """The same on the engine's loop; its own ``except Exception`` must not keep it from leaving."""
    try:
        return ask_a_person(file)
    except Exception:
        return "caught"
