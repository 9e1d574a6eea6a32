"""``headrace runs signal | query | update | terminate | history | reset | fork``: for runs of workflow code."""

from __future__ import annotations

import enum
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli import options
from headrace.cli.exits import ExitCode
from headrace.cli.options import pairs, session_of
from headrace.cli.output import Format, stdout_kept_for_data, write, write_document
from headrace.cli.runs_change import Reason, carry_on, command

if TYPE_CHECKING:
    from headrace.assembly import Headrace
    from headrace.client.handle import RunHandle
    from headrace.core.events import Event
    from headrace.core.ids import RunId

Name = Annotated[str, typer.Argument(metavar="NAME", help="As the workflow's code calls it.")]
Arguments = Annotated[
    list[str] | None, typer.Argument(metavar="[VALUE...]", help="Arguments in their order: JSON, or text.")
]
Named = Annotated[
    list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="An argument by name; again for more.")
]
ToEvent = Annotated[
    int | None, typer.Option("--to-event", min=1, metavar="N", help="Keep the history up to this event.")
]
ToTask = Annotated[
    str | None, typer.Option("--to-task", metavar="TASK", help="Keep the history up to where this task began.")
]


class HistoryFormat(enum.StrEnum):
    """How a history is printed."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"


def value_of(text: str) -> Any:
    """A value from a command line: JSON if it is, else the text itself."""
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _arguments(values: list[str] | None, named: list[str] | None) -> tuple[list[Any], dict[str, Any]]:
    by_name = {name: value_of(text) for name, text in pairs(named, "-p").items()}
    return [value_of(text) for text in values or ()], by_name


def signal(
    run_id: options.RunId,
    name: Name,
    value: Annotated[str | None, typer.Argument(metavar="[VALUE]", help="What it carries: JSON, or text.")] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Names the message: a repeated one is dropped.")
    ] = None,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    verbose: options.Verbose = False,
) -> int:
    """Send a signal to a run of workflow code. It waits there until the code asks for it."""
    session = session_of(store, server=server, token_file=token_file, ca=ca, asks_servers=True, verbose=verbose)
    payload = None if value is None else value_of(value)
    return command(session, run_id, lambda headrace, full: headrace.signal(full, name, payload, key=key), output)


def terminate(
    run_id: options.RunId,
    reason: Reason = "",
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    verbose: options.Verbose = False,
) -> int:
    """End a run of workflow code at once: none of its code runs any more, not even clean-up. Compare `runs cancel`."""
    session = session_of(store, server=server, token_file=token_file, ca=ca, asks_servers=True, verbose=verbose)
    return command(session, run_id, lambda headrace, full: headrace.terminate(full, reason), output)


def query(
    run_id: options.RunId,
    name: Name,
    values: Arguments = None,
    named: Named = None,
    output: options.Output = Format.JSON,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    verbose: options.Verbose = False,
) -> int:
    """Ask a run of workflow code, going on or ended, and print the answer. Changes nothing."""
    session = session_of(store, server=server, token_file=token_file, ca=ca, asks_servers=True, verbose=verbose)
    positional, by_name = _arguments(values, named)
    from headrace.cli.engine import full_id, reader
    from headrace.cli.runtime import run

    async def ask() -> Any:
        async with reader(session) as headrace:
            return await headrace.query(await full_id(headrace, run_id), name, *positional, **by_name)

    with stdout_kept_for_data():  # the workflow's code is replayed, and may print
        _write_value(run(ask()), output)
    return ExitCode.SUCCEEDED


def update(
    run_id: options.RunId,
    name: Name,
    values: Arguments = None,
    named: Named = None,
    update_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Names the request: a repeated one is not done twice.")
    ] = None,
    output: options.Output = Format.JSON,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    verbose: options.Verbose = False,
) -> int:
    """Ask a run of workflow code to change, wait for its answer and print that."""
    session = session_of(store, server=server, token_file=token_file, ca=ca, asks_servers=True, verbose=verbose)
    positional, by_name = _arguments(values, named)
    from headrace.cli.engine import engine, full_id
    from headrace.cli.runtime import run
    from headrace.core.errors import InvalidCommand
    from headrace.core.states import RunState

    async def ask() -> Any:
        async with engine(session, must_exist=True) as headrace:
            full = await full_id(headrace, run_id)
            if (await headrace.row(full)).state == RunState.PAUSED:
                raise InvalidCommand(
                    f"run {full} is paused: it would answer once it is resumed",
                    hint=f"headrace runs resume {full}{session.store_option}",
                )
            answer = await headrace.update(full, name, *positional, update_id=update_id, **by_name)
            await headrace.settled(full)
            return answer

    with stdout_kept_for_data():
        _write_value(run(ask()), output)
    return ExitCode.SUCCEEDED


def _write_value(value: Any, output: Format) -> None:
    if output is Format.TEXT and isinstance(value, str):
        write(value)
    else:
        write_document(value, Format.JSON if output is Format.TEXT else output)


# ---- histories ---------------------------------------------------------------------------------------------------------


def history(
    run_id: options.RunId,
    output: Annotated[HistoryFormat, typer.Option("--output", "-o", help="How to print it.")] = HistoryFormat.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    verbose: options.Verbose = False,
) -> int:
    """Print a run's history, event by event. `-o jsonl` gives a file that `headrace replay` takes."""
    session = session_of(store, server=server, token_file=token_file, ca=ca, asks_servers=True, verbose=verbose)
    from headrace.cli.engine import full_id, reader
    from headrace.cli.runtime import run

    async def read() -> list[Event]:
        async with reader(session) as headrace:
            resolve = output is not HistoryFormat.TEXT
            return await headrace.history(await full_id(headrace, run_id), resolve=resolve)

    events = run(read())
    if output is HistoryFormat.TEXT:
        write(_table(events))
    elif output is HistoryFormat.JSONL:
        from headrace.core.codec import encode_event

        write("\n".join(encode_event(event).decode() for event in events))
    else:
        import msgspec

        write_document([msgspec.to_builtins(event) for event in events], Format(output.value))
    return ExitCode.SUCCEEDED


_VALUE_CHARS_MAX = 100
_HIDDEN = frozenset(
    {"at", "task", "timer", "child", "name", "update", "patch", "message", "state", "started_at", "node"}
)


def _table(events: list[Event]) -> str:
    import msgspec

    from headrace.cli.table import aligned
    from headrace.cli.times import local
    from headrace.core.events import AttemptFailed, RunFinished, TaskFailed
    from headrace.durable.run import describe

    lines: list[list[str]] = []
    for number, event in enumerate(events, 1):
        if isinstance(event, AttemptFailed | TaskFailed | RunFinished) and event.failure is not None:
            more = f"{event.failure.type}: {event.failure.message}"
        else:
            fields = msgspec.to_builtins(event)
            shown = {name: value for name, value in fields.items() if name not in _HIDDEN and name != "type"}
            more = ", ".join(f"{name}={_short(value)}" for name, value in shown.items())
        more = " ".join(more.split())
        lines.append([str(number), local(event.at), describe(event), _cut(more)])
    return aligned(["#", "TIME", "EVENT", ""], lines)


def _short(value: Any) -> str:
    import msgspec

    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _cut(text: str) -> str:
    return text if len(text) <= _VALUE_CHARS_MAX else text[: _VALUE_CHARS_MAX - 3] + "..."


# ---- doing a part again ------------------------------------------------------------------------------------------------


def _check_point(to_event: int | None, to_task: str | None) -> None:
    if (to_event is None) == (to_task is None):
        raise typer.BadParameter("give --to-event N or --to-task TASK: `headrace runs history RUN` shows both")


def reset(
    run_id: options.RunId,
    to_event: ToEvent = None,
    to_task: ToTask = None,
    reapply_signals: Annotated[
        bool, typer.Option(help="Apply the signals and updates that came after that point again.")
    ] = True,
    reason: Reason = "",
    no_wait: options.NoWait = False,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> int:
    """Do part of a run of workflow code again, with the code as it is now: a new run takes its place, with its history up
    to the chosen point. The old run is terminated. Waits for the new run's end.

    `headrace runs history RUN` shows the events."""
    session = session_of(
        store,
        server=server,
        token_file=token_file,
        ca=ca,
        asks_servers=True,
        quiet=quiet,
        verbose=verbose,
        no_color=no_color,
    )
    _check_point(to_event, to_task)

    def start(headrace: Headrace, full: RunId) -> Awaitable[RunHandle]:
        return headrace.reset(full, to_event=to_event, to_task=to_task, reapply_signals=reapply_signals, reason=reason)

    return carry_on(session, run_id, start, output, no_wait=no_wait)


def fork(
    run_id: options.RunId,
    to_event: ToEvent = None,
    to_task: ToTask = None,
    reapply_signals: Annotated[
        bool, typer.Option(help="Apply the signals and updates that came after that point too.")
    ] = False,
    reason: Reason = "",
    no_wait: options.NoWait = False,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> int:
    """Like `runs reset`, but the old run is left alone; the new one goes its own way, without the old one's key."""
    session = session_of(
        store,
        server=server,
        token_file=token_file,
        ca=ca,
        asks_servers=True,
        quiet=quiet,
        verbose=verbose,
        no_color=no_color,
    )
    _check_point(to_event, to_task)

    def start(headrace: Headrace, full: RunId) -> Awaitable[RunHandle]:
        return headrace.fork(full, to_event=to_event, to_task=to_task, reapply_signals=reapply_signals, reason=reason)

    return carry_on(session, run_id, start, output, no_wait=no_wait)
