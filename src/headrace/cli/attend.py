"""Waiting for runs that this process carries out: showing them, and stopping in order when the user wants to.

Ctrl-C once, or SIGTERM: nothing new starts, attempts under way may end (after SIGTERM for 30 seconds at most). Twice:
attempts are interrupted. A third time the process ends at once, as a crash would end it. In all three cases the run
stays as it is and can be resumed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager

from headrace.assembly import Headrace
from headrace.cli.exits import ExitCode
from headrace.cli.progress import Progress
from headrace.client.documents import is_interrupted
from headrace.client.handle import RunHandle
from headrace.core.errors import EngineStopped, HeadraceError
from headrace.core.ids import RunId
from headrace.core.states import RunState
from headrace.core.view import RunView

logger = logging.getLogger("headrace.cli")

LOOK_SECONDS = 0.1
"""The shortest time between two looks at a run."""

TERM_SECONDS = 30.0
"""How long attempts may take to end after SIGTERM."""


TAKE_OVER_SECONDS = 1.0
"""How often to look whether a run is still carried out by somebody."""


class Stopper:
    """Turns signals into an engine that stops."""

    def __init__(self, headrace: Headrace, progress: Progress) -> None:
        self._headrace = headrace
        self._progress = progress
        self._closing: asyncio.Task[None] | None = None
        self._interrupting: asyncio.Task[None] | None = None

    @property
    def was_hard(self) -> bool:
        """Attempts were interrupted: code that does not listen may still be running in a thread."""
        return self._interrupting is not None

    @contextmanager
    def installed(self) -> Generator[None]:
        """Listen for signals within the block."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        loop.add_signal_handler(signal.SIGTERM, self._terminated)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            loop.remove_signal_handler(signal.SIGTERM)

    def _terminated(self) -> None:
        if self._closing is None:
            self._drain(TERM_SECONDS)

    def _interrupted(self) -> None:
        if self._closing is None:
            self._drain(math.inf)
        elif self._interrupting is None:
            self._progress.say("Stopping now.")
            self._interrupting = asyncio.create_task(self._headrace.interrupt())
        else:
            os._exit(ExitCode.INTERRUPTED)  # what is durable stays so, whatever dies

    def _drain(self, seconds: float) -> None:
        count = self._headrace.under_way
        if count:
            what = "1 attempt" if count == 1 else f"{count:,} attempts"
            bound = "" if seconds == math.inf else f" (at most {seconds:.0f} s)"
            self._progress.say(f"Stopping: waiting for {what} under way to end{bound}. Ctrl-C again stops them.")
        self._closing = asyncio.create_task(self._headrace.close(drain_seconds=seconds))

    async def finish(self) -> None:
        """Wait until an engine that was told to stop has stopped."""
        if self._closing is not None:
            await self._closing


async def keep_going(headrace: Headrace, run_id: RunId) -> None:
    """Take a run up whenever nobody carries it out: the process that did so has died, or this one was suspended for
    longer than its lease and lost the run. Never returns."""
    while True:
        await asyncio.sleep(TAKE_OVER_SECONDS)
        if headrace.stopping or headrace.live(run_id) is not None:
            continue
        try:
            if is_interrupted(await headrace.row(run_id)):
                await headrace.resume(run_id)
        except HeadraceError as error:
            logger.warning("the run could not be taken up", extra={"run_id": run_id, "error": error.message})


async def attend(headrace: Headrace, handle: RunHandle, progress: Progress) -> RunView:
    """Show a run until it has ended, is suspended or the user stops it; the run as it is then.

    Raises what broke the engine."""
    stopper = Stopper(headrace, progress)
    view: RunView | None = None
    progress.start()
    keeping = asyncio.create_task(keep_going(headrace, handle.id))
    try:
        with stopper.installed():
            with contextlib.suppress(EngineStopped):
                async for view in handle.watch(interval_seconds=LOOK_SECONDS):
                    progress.show(view)
                    if view.state == RunState.SUSPENDED:
                        break  # nothing happens to it until somebody mends its code
            await stopper.finish()
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        progress.stop()
    if view is None:
        raise EngineStopped("the engine stopped before the run could be read")
    return view
