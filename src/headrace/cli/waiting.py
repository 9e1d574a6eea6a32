"""Commands that carry runs out and wait for them: ``run``, ``runs resume``, ``runs retry``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from headrace.assembly import Headrace
from headrace.cli.attend import LOOK_SECONDS, Stopper, attend
from headrace.cli.engine import engine
from headrace.cli.exits import ExitCode, say_error
from headrace.cli.options import Session
from headrace.cli.output import Format, write_document
from headrace.cli.progress import Lines, Progress, Silence
from headrace.cli.summary import exit_code, loaded, write_run
from headrace.cli.times import span
from headrace.client.documents import is_interrupted, run_document
from headrace.client.handle import RunHandle
from headrace.core.errors import EngineStopped, HeadraceError, StoreError
from headrace.core.spec import AnySpec
from headrace.core.states import FINAL_RUN_STATES, RunState
from headrace.core.view import RunView

Start = Callable[[Headrace], Awaitable[RunHandle]]
"""Creates a run, or makes one go on."""

RESUMED_MAX = 1_000
"""Runs that ``--all`` takes up in one go, the oldest of the latest ten thousand first."""

LISTED_MAX = 10_000


def progress_of(session: Session, spec: AnySpec) -> Progress:
    """A picture on a terminal, lines elsewhere, nothing if asked."""
    if session.quiet:
        return Silence()
    if session.is_live(sys.stderr):
        from headrace.cli.tree import Tree

        return Tree(spec, colors=session.colors(sys.stderr))
    return Lines()


async def start_and_wait(session: Session, start: Start, form: Format, *, must_exist: bool = False) -> int:
    """Start a run, show it, say how it ended; the exit code."""
    async with engine(session, must_exist=must_exist) as headrace:
        handle = await start(headrace)
        progress = progress_of(session, await headrace.definition_of(handle.id))
        try:
            view = await attend(headrace, handle, progress)
        except StoreError as error:
            command = f"headrace runs resume {handle.id}{session.store_option}"
            error.hint = "; ".join(part for part in (error.hint, f"then: {command}") if part)
            raise
        view = await loaded(headrace, view)
        write_run(view, form, session)
    return exit_code(view)


async def resume_all(session: Session, form: Format) -> int:
    """Make every interrupted run go on, and wait for all of them.

    A run that cannot go on is reported and does not keep others from it; the exit code is then that of bad input."""
    async with engine(session, must_exist=True) as headrace:
        waiting = (RunState.RUNNING, RunState.CANCELLING)
        rows = [row for row in await headrace.runs(states=waiting, limit=LISTED_MAX) if is_interrupted(row)]
        progress: Progress = Silence() if session.quiet else Lines()
        handles: list[RunHandle] = []
        refused = False
        for row in rows[::-1][:RESUMED_MAX]:
            try:
                handles.append(await headrace.resume(row.run_id))
            except HeadraceError as error:
                refused = True
                progress.say(f"run {row.run_id} ({row.workflow}) cannot go on:")
                say_error(error)
        views = await _attend_all(headrace, handles, progress, quiet=session.quiet)
        if form is not Format.TEXT:
            documents = [
                run_document(await loaded(headrace, view), interrupted=view.state not in FINAL_RUN_STATES)
                for view in views
            ]
            write_document(documents, form)
        elif not rows:
            progress.say("no run is interrupted")
    codes = {exit_code(view) for view in views}
    if ExitCode.INTERRUPTED in codes or len(views) < len(handles):
        return ExitCode.INTERRUPTED
    if refused:
        return ExitCode.BAD_INPUT
    return next((code for code in (ExitCode.FAILED, ExitCode.CANCELLED) if code in codes), ExitCode.SUCCEEDED)


async def _attend_all(
    headrace: Headrace, handles: list[RunHandle], progress: Progress, *, quiet: bool
) -> list[RunView]:
    """Wait for several runs, with a line for each that goes on or ends."""
    stopper = Stopper(headrace, progress)

    async def attend_one(handle: RunHandle) -> RunView | None:
        if not quiet:
            progress.say(f"run {handle.id} goes on")
        view: RunView | None = None
        try:
            async for view in handle.watch(interval_seconds=LOOK_SECONDS):
                if view.state == RunState.SUSPENDED:
                    break
        except EngineStopped:
            return None
        assert view is not None
        if not quiet:
            what = f"run {view.id} ({view.workflow}) {view.state}"
            progress.say(f"{what} after {span((view.ended_at or view.created_at) - view.created_at)}")
        return view

    with stopper.installed():
        views = await asyncio.gather(*(attend_one(handle) for handle in handles))
        await stopper.finish()
    return [view for view in views if view is not None]
