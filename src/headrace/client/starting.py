"""Starting a run: from what a program asks for to the run's first events, by way of the interceptors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.client.conflicts import settle
from headrace.client.definitions import Found, Workflow, lasting, located
from headrace.client.handle import RunHandle
from headrace.client.plain import plain
from headrace.client.texts import check_texts, texts_of
from headrace.contracts.interceptor import StartCall, chained, checked_headers
from headrace.core.errors import InvalidCommand, InvalidDefinition, InvalidParams, UserCodeError
from headrace.core.ids import RunId
from headrace.core.params import resolve_params
from headrace.core.spec import CodeSpec
from headrace.durable.start import OnConflict, OnReuse, StartOptions
from headrace.engine.extras import NO_EXTRAS, RunExtras

if TYPE_CHECKING:
    from headrace.client.client import Client

T = TypeVar("T")

Create = Callable[[], Awaitable[RunHandle]]
"""Creates the run; may be tried again after :class:`~headrace.core.errors.AlreadyRunning`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a start besides a workflow and its parameters. See :meth:`headrace.client.client.Client.run`."""

    options: StartOptions
    from_strings: bool | AbstractSet[str] = False
    trigger: str = "manual"
    run_id: str | None = None
    signal: tuple[str, Any] | None = None
    """Name and payload of a signal that waits for the run when it begins; only code takes one."""
    parent: str | None = None
    """The attempt of a graph's task that the run is."""


def start_options(
    *,
    key: str | None,
    on_conflict: OnConflict,
    on_reuse: OnReuse,
    tags: Mapping[str, str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    memo: Mapping[str, Any] | None = None,
) -> StartOptions:
    """The options with what was left out empty."""
    return StartOptions(
        key=key,
        on_conflict=on_conflict,
        on_reuse=on_reuse,
        tags=dict(tags or {}),
        attributes=dict(attributes or {}),
        memo=dict(memo or {}),
    )


async def start(
    client: Client,
    workflow: Workflow,
    params: Mapping[str, Any] | None,
    asked: Asked,
    begin: Callable[[Create], Awaitable[T]],
) -> T:
    """Find the definition, go through the interceptors, and begin with a function that creates the run. Raises like
    :meth:`headrace.client.client.Client.run`, before anything is stored."""
    options = asked.options
    options.check()
    found = await client._definitions.find(workflow)
    call = StartCall(
        workflow=found.spec.name,
        params=dict(params or {}),
        headers={},
        key=options.key,
        tags=options.tags,
        signal=None if asked.signal is None else asked.signal[0],
    )

    async def innermost(call: StartCall) -> T:
        checked_headers(call.headers)
        return await begin(await _creator(client, found, call, asked))

    return await chained(client.interceptors.start_run, innermost)(call)


async def start_run(client: Client, workflow: Workflow, params: Mapping[str, Any] | None, asked: Asked) -> RunHandle:
    """Start a run, or do what the options say if its key is held. Raises like :func:`start`."""
    return await start(
        client, workflow, params, asked, lambda create: settle(client, create, client.get, asked.options)
    )


async def _creator(client: Client, found: Found, call: StartCall, asked: Asked) -> Create:
    """Everything up to the creation of a run, which may then be tried more than once."""
    spec, options = found.spec, asked.options
    if asked.signal is not None and not isinstance(spec, CodeSpec):
        raise InvalidCommand(f"workflow {spec.name!r} is a graph: it takes no signals")
    resolved = resolve_params(spec.params, call.params, from_strings=asked.from_strings, workflow=spec.name)
    source = lasting(found)
    check_texts(spec.name, source or found.source_dir or "", resolved, call.tags, options.key)
    node = client._node
    version = await node.library.register(spec, source=source, now=node.now())
    extras = NO_EXTRAS
    if options.key is not None or options.attributes or options.memo or call.headers:
        extras = RunExtras(
            key=options.key,
            kept_by=options.kept_by,
            attributes=plain(options.attributes),
            memo=plain(options.memo),
            signals=[] if asked.signal is None else [asked.signal],
            headers=call.headers,
        )

    async def create() -> RunHandle:
        try:
            if isinstance(spec, CodeSpec):
                code = node.library.binding(version, found.source_dir).code
                if asked.from_strings:
                    code.workflow.read_texts(resolved, texts_of(call.params, asked.from_strings))
                problems = code.workflow.problems(resolved)
                if problems:
                    raise InvalidParams(problems, workflow=spec.name)
            live = await node.starter.create_run(
                version,
                resolved,
                tags={**dict.fromkeys(spec.tags, ""), **call.tags},
                trigger=asked.trigger,
                source_dir=found.source_dir,
                run_id=RunId(asked.run_id) if asked.run_id else None,
                parent=asked.parent,
                extras=extras,
            )
        except (InvalidDefinition, UserCodeError) as error:
            raise located(error, found) from error
        return RunHandle(client, live.run_id, live)

    return create
