"""Starting runs that have a business key: what happens when there is one already."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from headrace.core.errors import AlreadyRunning, InvalidCommand, InvalidDefinition, InvalidParams, Problem
from headrace.core.ids import RunId
from headrace.core.states import FINAL_RUN_STATES
from headrace.durable.start import StartOptions

if TYPE_CHECKING:
    from headrace.client.client import Client

T = TypeVar("T")


def check_texts(name: str, found: str, params: Mapping[str, Any], tags: Mapping[str, str], key: str | None) -> None:
    """Refuse what no store can keep: texts that are no Unicode, such as names of files from before UTF-8. ``found`` is
    where the workflow ``name`` is. Raises :class:`InvalidDefinition`, :class:`InvalidParams`, :class:`InvalidCommand`."""
    try:
        found.encode()
    except UnicodeEncodeError:
        hint = "rename the file or the folder: its name is not UTF-8"
        problem = Problem(f"its path {found!a} is no Unicode", hint=hint)
        raise InvalidDefinition([problem], source=f"workflow {name!r}") from None
    problems: list[Problem] = []
    for param, value in params.items():
        try:
            msgspec.json.encode({param: value}, enc_hook=str)
        except UnicodeEncodeError as error:
            problems.append(Problem(f"{ascii(error.object)[:100]} is no Unicode", path=(ascii(param)[1:-1],)))
        except (TypeError, ValueError, RecursionError):
            continue  # no plain value: said by who stores it
    if problems:
        raise InvalidParams(problems, workflow=name)
    for what, text in [*(("tag", text) for pair in tags.items() for text in pair), ("key", key or "")]:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidCommand(f"the {what} {text!a} is no Unicode", hint="give it as UTF-8") from None


TRIES_MAX = 100
"""How often a start is tried again because the run in the way was just being created, or ended in the meantime."""

TRY_DELAY_SECONDS = 0.05

END_SECONDS_MAX = 60.0
"""How long a run that is told to end may take for it."""


async def settle(
    client: Client,
    create: Callable[[], Awaitable[T]],
    use: Callable[[RunId], Awaitable[T]],
    options: StartOptions,
) -> T:
    """Create a run; if its key is held, do what the options say. ``use`` takes an existing run, and may raise
    :class:`InvalidCommand` if that has ended in the meantime: then all begins again.

    Raises :class:`AlreadyRunning`."""
    tries = 0
    while True:
        tries += 1
        try:
            return await create()
        except AlreadyRunning as conflict:
            if options.on_conflict == "fail" or conflict.state in FINAL_RUN_STATES or tries >= TRIES_MAX:
                raise
            if conflict.state is None:
                await asyncio.sleep(TRY_DELAY_SECONDS)
            elif options.on_conflict == "terminate":
                await _end(client, conflict)
            else:
                try:
                    return await use(RunId(conflict.run_id))
                except InvalidCommand:
                    if not await _has_ended(client, conflict.run_id):
                        raise


async def _has_ended(client: Client, run_id: str) -> bool:
    row = await client.stored_row(RunId(run_id))
    return row is None or row.state in FINAL_RUN_STATES


async def _end(client: Client, conflict: AlreadyRunning) -> None:
    """End the run in the way: its code runs no further; a graph is cancelled."""
    reason = f"another run with the key {conflict.key!r} takes its place"
    run_id = conflict.run_id
    try:
        await client.terminate(run_id, reason)
    except InvalidCommand:
        if await _has_ended(client, run_id):
            return
        await client.cancel(run_id, reason)
    handle = await client.get(run_id)
    try:
        await handle.wait(END_SECONDS_MAX)
    except TimeoutError:
        raise InvalidCommand(
            f"run {run_id} was told to end and has not within {END_SECONDS_MAX:g} s",
            hint=f"headrace runs show {run_id}",
        ) from None
