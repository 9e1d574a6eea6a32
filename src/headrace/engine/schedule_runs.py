"""The run that a schedule's fire time starts: its parameters, and its first events. Nothing is stored here."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.contracts.store import RunRow
from headrace.core import events as ev
from headrace.core.codec import encode_event
from headrace.core.errors import InvalidParams, NotFound
from headrace.core.expressions import compile_value
from headrace.core.ids import RunId
from headrace.core.params import resolve_params
from headrace.core.schedules import Definition, Fire
from headrace.core.spec import AnySpec, CodeSpec, decode_any_spec
from headrace.core.suggest import did_you_mean
from headrace.core.zones import zone_of
from headrace.durable.run import CodeRun
from headrace.engine import payloads
from headrace.engine.live import LiveRun

if TYPE_CHECKING:
    from headrace.contracts.store import WorkflowRow
    from headrace.engine.node import Node

TRIGGER = "schedule"
"""What the run says started it."""

TAG = "schedule"
TIME_TAG = "schedule_time"


class FirstEvents(msgspec.Struct):
    """A run that does not exist yet. ``blobs`` are large values that have to be durable before it is."""

    row: RunRow
    events: list[tuple[RunId, int, bytes]]
    blobs: list[bytes]


def scope_of(definition: Definition, time: float, kind: str = "fire") -> dict[str, Any]:
    """What templates in a schedule's parameters and tags can name: ``schedule.time`` and ``schedule.local_time`` (ISO
    8601, in UTC and in the schedule's zone), ``schedule.date`` (there), ``schedule.name``, ``schedule.kind``."""
    utc = datetime.fromtimestamp(time, UTC)
    local = utc.astimezone(zone_of(definition.zone))
    return {
        "schedule": {
            "name": definition.name,
            "kind": kind,
            "time": iso(time),
            "local_time": local.isoformat(timespec="seconds"),
            "date": local.date().isoformat(),
        }
    }


def iso(time: float) -> str:
    """``2026-12-01T08:00:00Z``; with milliseconds if it has some."""
    whole = datetime.fromtimestamp(time, UTC)
    return whole.isoformat(timespec="milliseconds" if whole.microsecond // 1000 else "seconds").replace("+00:00", "Z")


async def workflow_of(node: Node, name: str) -> tuple[WorkflowRow, AnySpec]:
    """The newest version of a workflow. Raises :class:`NotFound`."""
    row = await node.store.workflow_named(name)
    if row is None:
        known = [known.name for known in await node.store.workflows()]
        raise NotFound(
            f"there is no stored workflow named {name!r}",
            hint=did_you_mean(name, known, what="stored workflows")
            or "serve its file with headrace up, or run it once",
        )
    return row, decode_any_spec(row.data)


def params_of(spec: AnySpec, definition: Definition, time: float, kind: str = "fire") -> dict[str, Any]:
    """The parameters of the run of a fire time. Raises :class:`InvalidParams` and :class:`TemplateError`."""
    given = compile_value(definition.params).render(scope_of(definition, time, kind))
    return resolve_params(spec.params, given, from_strings=frozenset(definition.texts), workflow=spec.name)


def tags_of(spec: AnySpec, definition: Definition, time: float, kind: str = "fire") -> dict[str, str]:
    """The tags of the run of a fire time."""
    given = compile_value(dict(definition.tags)).render(scope_of(definition, time, kind))
    own = {TAG: definition.name, TIME_TAG: iso(time)}
    return {**dict.fromkeys(spec.tags, ""), **{key: str(value) for key, value in given.items()}, **own}


async def first_events(node: Node, definition: Definition, fire: Fire, now: float) -> FirstEvents:
    """Make the run of a fire time, owned by nobody. Raises what starting it by hand would: :class:`NotFound`,
    :class:`InvalidParams`, what binding raises."""
    stored, spec = await workflow_of(node, definition.workflow)
    plan = await node.library.fetch(stored.version)
    source_dir = str(Path(stored.source).parent) if stored.source else None
    binding = node.library.binding(stored.version, source_dir)
    params = params_of(spec, definition, fire.time, fire.kind)
    if isinstance(spec, CodeSpec):
        problems = binding.code.workflow.problems(params)
        if problems:
            raise InvalidParams(problems, workflow=spec.name)
    event = ev.RunCreated(
        now,
        fire.run_id,
        spec.name,
        stored.version,
        params,
        tags_of(spec, definition, fire.time, fire.kind),
        TRIGGER,
        source_dir=source_dir,
    )
    run = plan.brain.new(plan)  # without its code: that runs where the run is taken up
    if isinstance(run, CodeRun):
        plan.brain.fold(run, event)
        encoded, shortened, blobs = payloads.encode(run, 1, [event])
        row = LiveRun(run, binding).row()
        row.params = getattr(shortened[0], "params", row.params)
    else:
        events = plan.brain.create(run, event)
        encoded = [(RunId(fire.run_id), number, encode_event(one)) for number, one in enumerate(events, 1)]
        row, blobs = LiveRun(run, binding).row(), []
    row.owner = None
    return FirstEvents(row, encoded, blobs)
