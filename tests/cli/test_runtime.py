"""The loop of a command, interrupted at bad moments."""

import signal
import subprocess
import sys

import pytest

from headrace.cli.runtime import run

INTERRUPTED_WHILE_CLOSING = """
import asyncio, os, signal, sys, threading, time
from headrace.cli.runtime import run

def work(loop):
    while not any("_do_shutdown" in thread.name for thread in threading.enumerate()):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
    while not loop.is_closed():  # what waits for this thread then reports to that loop
        time.sleep(0.01)

async def command():
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, work, loop)
    print("begun")
    if sys.argv[1] == "twice":
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(1000)

try:
    run(command())
except KeyboardInterrupt:
    sys.exit(130)
"""

INTERRUPTED_BEFORE_IT_BEGAN = """
import gc, signal, sys
from headrace.cli.runtime import run

async def command():
    raise AssertionError

gc.freeze = lambda: signal.raise_signal(signal.SIGINT)
try:
    run(command())
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("times", ["once", "twice"])
def test_an_interrupt_while_the_loop_is_closed_leaves_no_traceback(times: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_CLOSING, times],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "begun\n", "")


def test_an_interrupt_before_the_command_began_says_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_BEFORE_IT_BEGAN], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_the_handler_of_interrupts_is_given_back() -> None:
    async def command() -> int:
        return 5

    before = signal.getsignal(signal.SIGINT)
    assert run(command()) == 5
    assert signal.getsignal(signal.SIGINT) is before
