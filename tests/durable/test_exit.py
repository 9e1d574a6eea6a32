"""``sys.exit`` and ``raise KeyboardInterrupt`` in workflow code end the run that says it, as they end a task's attempt, and
never the process. A signal, which is nobody's code, is told apart in ``test_interrupt``."""

import asyncio
import sys
from typing import NoReturn

import pytest

from headrace import InvalidCommand, UpdateRejected, query, signal, task, update, wait_for_signal, wait_until, workflow

from code_rig import CodeRig  # isort: skip

ERRORS = {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}


@task
async def double(n: int) -> int:
    return 2 * n


def leave(how: str) -> NoReturn:
    if how == "SystemExit":
        sys.exit("enough")
    raise KeyboardInterrupt("enough")


@workflow
async def at_once(how: str) -> None:
    leave(how)


@workflow
async def by_itself(how: str) -> None:
    raise ERRORS[how]("enough")


@workflow
async def later(how: str) -> None:
    await double(1)
    leave(how)


@workflow
async def cleaning_up(how: str) -> None:
    await double(1)
    try:
        leave(how)
    finally:
        await asyncio.sleep(0)


@workflow
async def in_gather(how: str) -> None:
    async def leaves() -> None:
        await double(1)
        leave(how)

    await asyncio.gather(leaves(), double(2))


@workflow
async def in_a_group(how: str) -> None:
    async def leaves() -> None:
        await double(1)
        leave(how)

    async with asyncio.TaskGroup() as group:
        group.create_task(leaves())
        group.create_task(wait_for_signal("never"))  # type: ignore[arg-type]


@workflow
async def in_a_condition(how: str) -> None:
    await double(1)
    await wait_until(lambda: leave(how))


@workflow
async def in_a_signal(how: str) -> None:
    @signal
    def go() -> None:
        leave(how)

    await double(1)
    await wait_for_signal("never")


@pytest.mark.parametrize("how", ERRORS)
@pytest.mark.parametrize(
    "code", [at_once, by_itself, later, cleaning_up, in_gather, in_a_group, in_a_condition, in_a_signal]
)
def test_the_run_fails(code, how: str) -> None:
    rig = CodeRig(code, how)
    if "double" in rig.ready():
        rig.perform("double")
    if code is in_a_signal:
        rig.signal("go")
    assert rig.run.state == "failed"
    assert rig.run.failure is not None
    assert (rig.run.failure.type, rig.run.failure.message) == (how, "enough")
    assert ("in by_itself" if code is by_itself else "in leave") in rig.run.failure.traceback
    assert rig.again().run.state == "failed"


@workflow
async def asked(how: str) -> None:
    @query
    def look() -> None:
        leave(how)

    @update
    async def change() -> None:
        leave(how)

    @update
    def check() -> None: ...

    @check.validator
    def _() -> None:
        leave(how)

    await wait_for_signal("end")


@pytest.mark.parametrize("how", ERRORS)
def test_who_asks_is_told(how: str) -> None:
    rig = CodeRig(asked, how)
    with pytest.raises(InvalidCommand, match=f"query 'look' failed: {how}: enough"):
        rig.query("look")
    with pytest.raises(UpdateRejected, match="update 'check' was rejected: enough"):
        rig.update("1", "check")
    rig.update("2", "change")
    failure = rig.run.updates["2"].failure
    assert failure is not None
    assert failure.type == how
    rig.signal("end")
    assert rig.run.state == "succeeded"
