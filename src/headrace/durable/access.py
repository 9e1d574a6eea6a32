"""From workflow code to its run: :func:`this_run`."""

from __future__ import annotations

from asyncio import events
from typing import TYPE_CHECKING

from headrace.durable.loop import WorkflowLoop

if TYPE_CHECKING:
    from headrace.durable.run import CodeRun


def this_run() -> CodeRun:
    """The run whose code is calling. Raises ``RuntimeError`` outside of workflow code."""
    run = run_or_none()
    if run is None:
        raise RuntimeError("this works only inside the code of a @workflow function")
    return run


def run_or_none() -> CodeRun | None:
    """The run whose code is calling, or None."""
    loop = events._get_running_loop()
    return loop.owner if type(loop) is WorkflowLoop else None
