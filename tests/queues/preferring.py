"""Tasks that prefer where they are carried out; importable by every process of the tests."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from headrace import dag, task, workflow


@task(queue="gpu", needs_labels={"home": "yes"}, executor="thread")
def first(folder: str) -> str:
    """Runs on the worker that has the label, until the file ``first`` is there."""
    Path(folder, "first_begun").touch()
    while not Path(folder, "first").exists():
        time.sleep(0.01)
    return folder


@task(queue="gpu", executor="thread")
def follow(folder: Any) -> str:
    with Path(folder, "followed").open("a") as file:
        file.write("x")
    return "followed"


@task(queue="gpu", needs_labels={"home": "yes"}, executor="thread", priority=10)
def blocks(folder: str) -> None:
    """Takes the slot of that worker until the file ``go`` is there."""
    Path(folder, "blocked").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.01)


@task(queue="gpu", executor="thread")
def slow(x: int) -> int:
    time.sleep(0.02)
    return x


patient = follow.options(sticky=True, prefer_for="1h")
hasty = follow.options(sticky=True, prefer_for=0.2)

with dag("staying", params={"folder": "."}) as staying:
    patient(first(staying.params.folder))

with dag("leaving", params={"folder": "."}) as leaving:
    hasty(first(leaving.params.folder))

with dag("blocking", params={"folder": "."}) as blocking:
    blocks(blocking.params.folder)

with dag("labelled", params={"folder": "."}) as labelled:
    follow.options(prefer_labels={"home": "yes"}, prefer_for="1h")(labelled.params.folder)

with dag("hasty_labelled", params={"folder": "."}) as hasty_labelled:
    follow.options(prefer_labels={"home": "yes"}, prefer_for=0.2)(hasty_labelled.params.folder)

with dag("once", params={"folder": "."}) as once:
    follow.options(prefer_labels={"home": "yes"}, prefer_for=0.2, at_most_once=True)(once.params.folder)

with dag("at_home", params={"items": []}) as at_home:
    at_home.output = slow.options(prefer_labels={"home": "yes"}, prefer_for="1h").map(x=at_home.params["items"])


@workflow
async def code(folder: str) -> str:
    return await patient(await first(folder))
