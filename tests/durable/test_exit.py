"""``sys.exit`` in workflow code ends the run that says it, as it ends a task's attempt, and never the process."""

import asyncio
import sys

import pytest

from headrace import InvalidCommand, UpdateRejected, query, signal, task, update, wait_for_signal, wait_until, workflow

from code_rig import CodeRig  # isort: skip


@task
async def double(n: int) -> int:
    return 2 * n


def leave() -> bool:
    sys.exit("enough")


@workflow
async def at_once() -> None:
    leave()


@workflow
async def later() -> None:
    await double(1)
    leave()


@workflow
async def in_a_group() -> None:
    async def leaves() -> None:
        await double(1)
        leave()

    await asyncio.gather(leaves(), double(2))


@workflow
async def in_a_condition() -> None:
    await double(1)
    await wait_until(leave)


@workflow
async def in_a_signal() -> None:
    @signal
    def go() -> None:
        leave()

    await double(1)
    await wait_for_signal("never")


@pytest.mark.parametrize("code", [at_once, later, in_a_group, in_a_condition, in_a_signal])
def test_the_run_fails(code) -> None:
    rig = CodeRig(code)
    if "double" in rig.ready():
        rig.perform("double")
    if code is in_a_signal:
        rig.signal("go")
    assert rig.run.state == "failed"
    assert rig.run.failure is not None
    assert (rig.run.failure.type, rig.run.failure.message) == ("SystemExit", "enough")
    assert "in leave" in rig.run.failure.traceback
    assert rig.again().run.state == "failed"


@workflow
async def asked() -> None:
    @query
    def look() -> None:
        leave()

    @update
    async def change() -> None:
        leave()

    @update
    def check() -> None: ...

    @check.validator
    def _() -> None:
        leave()

    await wait_for_signal("end")


def test_who_asks_is_told() -> None:
    rig = CodeRig(asked)
    with pytest.raises(InvalidCommand, match="query 'look' failed: SystemExit: enough"):
        rig.query("look")
    with pytest.raises(UpdateRejected, match="update 'check' was rejected: enough"):
        rig.update("1", "check")
    rig.update("2", "change")
    failure = rig.run.updates["2"].failure
    assert failure is not None
    assert failure.type == "SystemExit"
    rig.signal("end")
    assert rig.run.state == "succeeded"
