"""``headrace runs why``: what a run waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.cli import options
from headrace.cli.exits import ExitCode
from headrace.cli.options import session_of
from headrace.cli.output import Format, write, write_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.client.why import Reason
    from headrace.contracts.store import RunRow


def why(
    run_id: options.RunId,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    verbose: options.Verbose = False,
) -> int:
    """Say what a run waits for, and what is stuck until somebody does something."""
    session = session_of(store, server=server, token_file=token_file, ca=ca, asks_servers=True, verbose=verbose)
    from headrace.cli.engine import full_id, reader
    from headrace.cli.runtime import run
    from headrace.client.documents import reason_document

    async def read() -> tuple[RunRow, list[Reason]]:
        async with reader(session) as headrace:
            full = await full_id(headrace, run_id)
            return await headrace.row(full), await headrace.why(full)

    row, found = run(read())
    if output is Format.TEXT:
        write("\n".join(_lines(row, found)))
    else:
        write_document([reason_document(reason) for reason in found], output)
    return ExitCode.SUCCEEDED


def _lines(row: RunRow, found: list[Reason]) -> Iterator[str]:
    from headrace.cli.times import local
    from headrace.core.states import FINAL_RUN_STATES

    if row.state in FINAL_RUN_STATES:
        yield f"run {row.run_id} has ended: {row.state}"
        return
    stuck = sum(reason.stuck for reason in found)
    yield f"run {row.run_id} ({row.workflow}) is {row.state}{f', stuck in {stuck}' if stuck else ''}"
    for reason in found:
        due = f", at {local(reason.until)}" if reason.until is not None else ""
        yield f"  {reason.subject}: {reason.why}{due}"
        if reason.hint is not None:
            yield f"      {reason.hint}"
    if not found:
        yield "  nothing is owed: it is just being decided"
