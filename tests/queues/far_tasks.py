"""Tasks that other nodes carry out; importable by every process of the tests."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

from headrace import complete_later, current_attempt, dag, task, workflow


@task
def near(x: int) -> int:
    return x + 1


@task(queue="gpu")
def far(x: int) -> int:
    return x * 2


@task(queue="gpu")
def large(n: int) -> str:
    return "x" * n


@task(queue="gpu")
def length(text: str) -> int:
    return len(text)


@task(queue="gpu")
def fails() -> int:
    raise ValueError("no luck")


@task(queue="gpu", needs_labels={"zone": "a"})
def zoned() -> str:
    return "zoned"


@task(queue="gpu")
async def waits(folder: str) -> str:
    """Runs until the file ``go`` is there; says that it has begun, and how it ended."""
    attempt = current_attempt()
    with Path(folder, "begun").open("a") as file:
        file.write(f"{os.getpid()} {attempt.key}\n")
    try:
        while not Path(folder, "go").exists():
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        Path(folder, "cancelled").touch()
        raise
    return "gone"


@task(queue="gpu")
async def beats(folder: str) -> Any:
    """Gives heartbeats with details; what the attempt before it had said is its result."""
    before = current_attempt().heartbeat_details
    if before is not None:
        return before
    current_attempt().heartbeat({"page": 7})
    Path(folder, "begun").touch()
    while not Path(folder, "go").exists():
        await asyncio.sleep(0.02)
    return "first"


@task(queue="gpu")
def later(folder: str) -> None:
    Path(folder, "token").write_text(current_attempt().token)
    complete_later()


class Inside:
    """How many attempts are inside :func:`counted`, and were at most."""

    now = most = 0
    lock = threading.Lock()


@task(queue="gpu")
def counted(x: int) -> int:
    with Inside.lock:
        Inside.now += 1
        Inside.most = max(Inside.most, Inside.now)
    time.sleep(0.005)
    with Inside.lock:
        Inside.now -= 1
    return x


@task
def slow(x: int) -> int:
    time.sleep(0.02)
    return x


with dag("through") as through:
    near(far(near(1)))

with dag("values", params={"n": 200_000}) as values:
    length(large(values.params.n))

with dag("failing") as failing:
    fails()

with dag("labelled") as labelled:
    zoned()

with dag("waiting", params={"folder": "."}) as waiting:
    waits(waiting.params.folder)

with dag("once", params={"folder": "."}) as once:
    waits.options(at_most_once=True)(once.params.folder)

with dag("beating", params={"folder": "."}) as beating:
    beats(beating.params.folder)

with dag("outside", params={"folder": "."}) as outside:
    later(outside.params.folder)

with dag("wide", params={"items": []}) as wide:
    wide.output = far.map(x=wide.params["items"])

with dag("narrow", params={"items": []}, max_parallel=2) as narrow:
    counted.map(x=narrow.params["items"])

with dag("spilling", params={"items": []}) as spilling:
    spilling.output = slow.map(x=spilling.params["items"])


with dag("logged") as logged:
    logged.run("say", "echo far from home", queue="gpu")


@workflow
async def once_in_code(folder: str) -> str:
    return await waits.options(at_most_once=True)(folder)


@workflow
async def code(n: int) -> int:
    values = await asyncio.gather(*(far(number) for number in range(n)))
    return sum(values)
