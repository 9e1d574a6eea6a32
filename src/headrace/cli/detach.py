"""``--no-wait``: the run is made durable here and carried out by a node that is up, else by a process of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from headrace.assembly import Headrace
from headrace.cli.engine import engine, reader
from headrace.cli.options import STORE_VARIABLE, Session
from headrace.cli.output import Format, write, write_document
from headrace.cli.waiting import Start
from headrace.client.documents import run_document
from headrace.core.errors import HeadraceError, StoreError
from headrace.core.states import FINAL_RUN_STATES

TAKEN_SECONDS = 15.0
"""How long a node that is up may take to take a run up. It is rung, so it takes milliseconds unless it is in trouble."""

LOOK_SECONDS = 0.02


async def start_detached(session: Session, start: Start, form: Format, *, must_exist: bool = False) -> int:
    """Start a run without carrying out any of it, and leave it to a node that is up or else to a background process. The
    run is durable before that process exists: should it not come up, ``headrace runs resume`` goes on with the run."""
    if session.store.startswith("memory:") or session.store == "sqlite://":
        raise StoreError(
            f"--no-wait needs a store that other processes can open; {session.store} ends with this one",
            hint="give --store sqlite:///name.db",
        )
    async with engine(session, execute=False, must_exist=must_exist) as headrace:
        handle = await start(headrace)
        view = await handle.show()
        log = _log_file(headrace, handle.id)
        nodes = [row.node for row in await headrace.store.nodes() if row.live and row.info.get("adopt")]
    # Only now is the run without an owner, so that another process can take it up at once.
    taker = await _taker(session, handle.id, nodes) if nodes else None
    if taker is None:
        _spawn(session, handle.id, log)
    if form is Format.TEXT:
        write(handle.id)
        if not session.quiet:
            background = f"it goes on in the background; its log is {log}"
            sys.stderr.write(f"{f'node {taker} carries it out' if taker is not None else background}\n")
    else:
        write_document(run_document(view), form)
    return 0


async def _taker(session: Session, run_id: str, nodes: Sequence[str]) -> str | None:
    """Which of the nodes that are up has taken the run up; None if none does."""
    async with reader(session) as headrace:
        for _ in range(int(TAKEN_SECONDS / LOOK_SECONDS)):
            row = await headrace.row(run_id)
            if row.owner is not None:
                return row.owner
            if row.state in FINAL_RUN_STATES:
                return " or ".join(nodes)  # that was quick
            await asyncio.sleep(LOOK_SECONDS)
    return None


def _log_file(headrace: Headrace, run_id: str) -> Path:
    return headrace.data_dir / "background" / f"{run_id}.log"


def _spawn(session: Session, run_id: str, log: Path) -> None:
    """A process in a session of its own: it outlives this one and its terminal, and Ctrl-C does not reach it."""
    command = [sys.executable, "-m", "headrace.cli", "runs", "resume", run_id]
    if session.verbose:
        command.append("--verbose")
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            subprocess.Popen(  # noqa: S603 - this program itself
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                # Not as an argument: everybody may read those, and there may be a password in it.
                env={**os.environ, "NO_COLOR": "1", STORE_VARIABLE: session.store},
            )
    except OSError as error:
        raise HeadraceError(
            f"run {run_id} is stored, but no background process could be started: {error}",
            hint=f"headrace runs resume {run_id}{session.store_option}",
        ) from error
