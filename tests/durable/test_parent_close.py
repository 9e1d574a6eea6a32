"""What becomes of a child whose parent continues as new: it has ended, and its policy counts like at any other end."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from headrace import Headrace, continue_as_new, start_child, wait_for_signal, workflow
from headrace.contracts.store import RunRow
from headrace.durable.context import ParentClosePolicy

from code_rig import CodeRig  # isort: skip

SECONDS = 60


@workflow
async def waits() -> None:
    await wait_for_signal("never")


@workflow
async def leaves_a_child(policy: ParentClosePolicy, left: int = 1) -> None:
    if left:
        start_child(waits, parent_close=policy)
        await wait_for_signal("go")
        continue_as_new(left=0)


@pytest.mark.parametrize(
    ("policy", "state"), [("terminate", "terminated"), ("cancel", "cancelled"), ("abandon", "running")]
)
@pytest.mark.parametrize("dies", [False, True])
def test_a_run_that_continues_closes_its_children(
    policy: ParentClosePolicy, state: str, dies: bool, tmp_path: Path
) -> None:
    async def first(hr: Headrace) -> None:
        run = await hr.start(leaves_a_child, policy)
        while await child_of(hr) is None:
            await asyncio.sleep(0)
        if dies:
            hr._node.performer._try_command = lambda *_: asyncio.sleep(0)  # type: ignore[method-assign]
        await hr.signal(run.id, "go")
        await run.result()
        if not dies:
            await until_it_is(hr, state)

    play(tmp_path, first, lambda hr: until_it_is(hr, state))


async def child_of(hr: Headrace) -> RunRow | None:
    return next(iter(await hr.runs(workflow="waits")), None)


async def until_it_is(hr: Headrace, state: str) -> None:
    while (child := await child_of(hr)) is None or child.state != state:
        await asyncio.sleep(0)


def play(folder: Path, *acts: Callable[[Headrace], Awaitable[None]]) -> None:
    """Each act has an engine of its own on the same database."""

    async def run() -> None:
        for act in acts:
            async with asyncio.timeout(SECONDS), Headrace(f"sqlite:///{folder}/headrace.db") as hr:
                await act(hr)

    asyncio.run(run())


@workflow
async def misspells(policy: str) -> None:
    start_child(waits, parent_close=policy)  # type: ignore[call-overload]


def test_a_policy_that_does_not_exist_fails_the_run_before_it_has_a_child() -> None:
    rig = CodeRig(misspells, "abandoned")
    assert rig.run.failure is not None
    assert "parent_close is one of terminate, cancel, abandon, not 'abandoned'" in rig.run.failure.message
    assert not rig.run.children
