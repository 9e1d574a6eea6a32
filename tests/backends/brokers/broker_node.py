"""A node in a process of its own, as if on a host of its own: ``broker_node.py STORE BROKER FOLDER``.

It owns a run that counts signals. It answers to lines on stdin: ``result`` (the run's result, once it has ended) and
``stop``; when stdin ends it stops, too. Its polls are an hour away, so whatever reaches it in time was brought by the
broker.
"""

import asyncio
import logging
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

from headrace import Headrace, wait_for_signal, workflow
from headrace.engine import doorbell, parker, waker

HOUR_SECONDS = 3600.0


@workflow
async def listener() -> int:
    """Counts signals until one says that it is enough."""
    count = 0
    while True:
        got: Any = await wait_for_signal("news")
        count += 1
        if got == "end":
            return count


def elsewhere() -> None:
    """This process is on another host from now on: nobody can ring at its door, and it at nobody's."""
    place = uuid.uuid4().hex[:12]
    for module in (doorbell, waker):
        module.here = lambda: place  # type: ignore[attr-defined]
    parker.PARK_AFTER_SECONDS = HOUR_SECONDS  # a run that is parked just as it is rung for waits for the adopter's look


def engine(store: str, broker: str, folder: Path, **options: Any) -> Headrace:
    """A node that looks into the store once an hour, unless it is told to."""
    return Headrace(
        store,
        broker=broker,
        workflows=[listener],
        data_dir=folder,
        poll_seconds=HOUR_SECONDS,
        lease_seconds=3 * HOUR_SECONDS,  # unowned runs are looked for three times per lease
        **options,
    )


def say(*words: object) -> None:
    print(*words, flush=True)


def lines_of_stdin() -> asyncio.Queue[str]:
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        while line := sys.stdin.readline():
            loop.call_soon_threadsafe(lines.put_nowait, line.strip())
        loop.call_soon_threadsafe(lines.put_nowait, "stop")

    threading.Thread(target=read, daemon=True).start()
    return lines


async def main(store: str, broker: str, folder: str) -> None:
    elsewhere()
    logging.basicConfig(level=logging.WARNING)
    async with engine(store, broker, Path(folder), node="owner") as headrace:
        run = await headrace.start(listener)
        while headrace.broker_health.state != "up":
            await asyncio.sleep(0.02)
        say("run", run.id)
        lines = lines_of_stdin()
        while (line := await lines.get()) != "stop":
            assert line == "result"
            say("result", await run.result())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
