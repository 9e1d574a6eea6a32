"""``headrace run``."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli import options
from headrace.cli.options import Session, pairs, session_of
from headrace.cli.output import Format, stdout_kept_for_data

if TYPE_CHECKING:
    from headrace.assembly import Headrace
    from headrace.cli.waiting import Start
    from headrace.client.handle import RunHandle


class OnConflict(enum.StrEnum):
    """What to do if an unfinished run has the key: refuse, follow that run, or end it first."""

    FAIL = "fail"
    USE_EXISTING = "use_existing"
    TERMINATE = "terminate"


class OnReuse(enum.StrEnum):
    """Whether the key of a run that has ended may be used again: always, unless it succeeded, or never."""

    ALLOW = "allow"
    ALLOW_FAILED = "allow_failed"
    REJECT = "reject"


def run(
    workflow: Annotated[
        str, typer.Argument(metavar="FILE|NAME", help="A .yaml, .json or .py file, or the name of a stored workflow.")
    ],
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter; again for more.")
    ] = None,
    params_file: Annotated[
        str | None, typer.Option("--params-file", metavar="FILE", help="Parameters from a YAML or JSON file.")
    ] = None,
    tag: options.Tags = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="What the run is about: one unfinished run per workflow and key."),
    ] = None,
    on_conflict: Annotated[
        OnConflict, typer.Option(help="What to do about an unfinished run with that key.")
    ] = OnConflict.FAIL,
    on_reuse: Annotated[
        OnReuse, typer.Option(help="Whether the key of a run that has ended may be used again.")
    ] = OnReuse.ALLOW,
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
    """Start a run and wait for its end.

    Ctrl-C once starts nothing new and waits for attempts under way; twice interrupts them. The run can be resumed.
    """
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
    given, texts = given_params(param, params_file)
    tags = pairs(tag, "--tag", bare="")
    if key is None and (on_conflict is not OnConflict.FAIL or on_reuse is not OnReuse.ALLOW):
        raise typer.BadParameter("--on-conflict and --on-reuse are about the key of a run: give --key")
    keyed: Any = {"key": key, "on_conflict": on_conflict.value, "on_reuse": on_reuse.value} if key is not None else {}

    async def create(headrace: Headrace) -> RunHandle:
        return await headrace.run(workflow, given, tags=tags, from_strings=texts, **keyed)

    return carry_out(session, create, output, no_wait=no_wait)


def carry_out(session: Session, start: Start, output: Format, *, no_wait: bool, must_exist: bool = False) -> int:
    """Start a run and wait for it, or leave it to a background process; or to the server that the user named."""
    from headrace.cli.runtime import run as run_loop

    with stdout_kept_for_data():
        if session.server is not None:
            from headrace.cli.remote import start_there

            return run_loop(start_there(session, start, output, no_wait=no_wait))
        if no_wait:
            from headrace.cli.detach import start_detached

            return run_loop(start_detached(session, start, output, must_exist=must_exist))
        from headrace.cli.waiting import start_and_wait

        return run_loop(start_and_wait(session, start, output, must_exist=must_exist))


def given_params(given: list[str] | None, file: str | None) -> tuple[dict[str, Any], frozenset[str]]:
    """All parameters, and the names of those that are text to be converted. The command line wins over the file."""
    texts = pairs(given, "-p")
    values: dict[str, Any] = {} if file is None else _read_params(file)
    values.update(texts)
    return values, frozenset(texts)


def _read_params(file: str) -> dict[str, Any]:
    from pathlib import Path

    from headrace.authoring.yaml.reader import SOURCE_BYTES_MAX, decode, read_json, read_yaml
    from headrace.core.errors import HeadraceError, NotFound

    path = Path(file)
    try:
        with path.open("rb") as opened:
            data = opened.read(SOURCE_BYTES_MAX + 1)
    except OSError as error:
        raise NotFound(f"the parameters file {file!r} cannot be read: {error.strerror}") from None
    text = decode(data, file)
    values = read_json(text, file) if path.suffix == ".json" else read_yaml(text, file)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise HeadraceError(
            f"{file}: expected a mapping of parameter names to values, not {type(values).__name__}",
            hint="for example: year: 2013",
        )
    return values
