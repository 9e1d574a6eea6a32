"""A signal ends the process and never a run, though it raises ``KeyboardInterrupt`` in the middle of workflow code. What
code raises by itself is told apart in ``test_exit``."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from headrace import task, workflow

from code_rig import CodeRig  # isort: skip


@task
async def double(n: int) -> int:
    return 2 * n


def plain(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def of_any(*args: Any) -> None:
    signal.signal(args[0], signal.SIG_IGN)
    raise KeyboardInterrupt


def once(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # it is no handler any more when the exception is looked at
    deeper()


def forgetful(number: int, frame: FrameType | None) -> None:
    del frame
    deeper()


def deeper() -> None:
    raise KeyboardInterrupt


class Handler:
    def handle(self, state: object, number: int, frame: FrameType | None) -> None:
        """As asyncio's, which is a partial of a method."""
        del frame
        raise KeyboardInterrupt


HANDLERS: list[Callable[[int, FrameType | None], Any]] = [
    signal.default_int_handler,
    plain,
    of_any,
    once,
    forgetful,
    functools.partial(Handler().handle, "state"),
]


@contextlib.contextmanager
def handled(number: int, handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@workflow
async def interrupted() -> None:
    await double(1)
    os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(10):
        pass


@workflow
async def translates() -> None:
    await double(1)
    try:
        signal.raise_signal(signal.SIGUSR1)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped") from None


@workflow
async def raises_again() -> None:
    await double(1)
    try:
        signal.raise_signal(signal.SIGUSR1)
    except KeyboardInterrupt as error:
        raise error


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("code", [interrupted, translates, raises_again])
def test_a_signal_ends_the_process_and_not_the_run(code: Any, handler: Callable[[int, FrameType | None], Any]) -> None:
    rig = CodeRig(code)
    with handled(signal.SIGUSR1, handler), pytest.raises(KeyboardInterrupt):
        rig.perform("double")
    assert rig.run.state == "running"
    assert isinstance(rig.run.main.exception(), KeyboardInterrupt)  # heard, so that nobody logs it at some later time


@workflow
async def raises_all_the_time() -> None:
    await double(1)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.002)
    while True:
        with contextlib.suppress(KeyError):
            raise KeyError("x")


def test_a_signal_that_comes_among_exceptions() -> None:
    with handled(signal.SIGVTALRM, signal.default_int_handler):
        for _ in range(20):
            rig = CodeRig(raises_all_the_time)
            with pytest.raises(KeyboardInterrupt):
                rig.perform("double")
            assert rig.run.state == "running"
            if rig.run.main.done():
                rig.run.main.exception()
