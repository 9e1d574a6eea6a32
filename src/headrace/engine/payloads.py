"""Large payloads of code runs: in the artifact store, with a reference in the history.

Workflow code and its brain only ever see values. An event that is too long is *shortened* on its way to the journal: its
large payloads become blobs, which the journal makes durable before the commit that refers to them. On the way back
(:func:`restore`) references become values again before the event is folded, so a replay sees what the code saw.

Graph runs keep references in their state instead and load what a decision needs; see :mod:`headrace.engine.outcomes`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from headrace.contracts.artifacts import ArtifactStore
from headrace.core import events as ev
from headrace.core import inputs as inp
from headrace.core.codec import encode_event
from headrace.core.ids import RunId
from headrace.core.run import REFERENCE_KEY, GraphRun, Run, has_reference, reference_of
from headrace.durable.run import CodeRun, Update
from headrace.engine.outcomes import INLINE_BYTES_MAX, MARK, goes_elsewhere, load_value

PART_BYTES_MAX = 4 * 1024
"""Payloads of an event that is too long become blobs if they are longer than this."""

_WHOLE: dict[type, str] = {
    ev.TaskSucceeded: "output",
    ev.SignalReceived: "payload",
    ev.UpdateAccepted: "payload",
    ev.UpdateCompleted: "output",
    ev.ChildEnded: "output",
    ev.MessageRequested: "payload",
    ev.RunFinished: "output",
}
"""Events with one payload, and its field."""

Change = Callable[[Any], Any]


def _changed(event: Any, change: Change) -> Any:
    """The event with its payloads changed: parameters one by one, signals one by one, anything else whole."""
    kind = type(event)
    field = _WHOLE.get(kind)
    if field is not None:
        return msgspec.structs.replace(event, **{field: change(getattr(event, field))})
    changes: dict[str, Any] = {}
    if kind is ev.RunCreated or kind is ev.ChildStarted:
        changes["params"] = {name: change(value) for name, value in event.params.items()}
    if kind is ev.RunCreated and event.signals:
        changes["signals"] = [(name, change(payload)) for name, payload in event.signals]
    return msgspec.structs.replace(event, **changes) if changes else event


# ---- out ---------------------------------------------------------------------------------------------------------------


def encode(
    run: CodeRun, first: int, events: Sequence[ev.Event]
) -> tuple[list[tuple[RunId, int, bytes]], list[ev.Event], list[bytes]]:
    """Events of a code run as the history stores them, numbered from ``first``; the same events as a reader of the
    history finds them; and the blobs that have to be durable before they are."""
    run_id = RunId(run.run_id)
    encoded: list[tuple[RunId, int, bytes]] = []
    stored: list[ev.Event] = []
    blobs: list[bytes] = []
    for number, event in enumerate(events, first):
        data = encode_event(event)
        kept = event
        if goes_elsewhere(data):
            kept = _changed(event, lambda value: shortened(value, blobs))
            data = encode_event(kept)
            _forget(run, kept)
        encoded.append((run_id, number, data))
        stored.append(kept)
    return encoded, stored, blobs


def shortened(value: Any, blobs: list[bytes], bytes_max: int = PART_BYTES_MAX, *, is_value: bool = True) -> Any:
    """The value, or a reference to it if its JSON is longer than the bound or holds what would be taken for a reference;
    the bytes are added to ``blobs``. ``is_value`` is False for what may be a reference already."""
    if value is None or isinstance(value, bool | int | float):
        return value
    data = msgspec.json.encode(value)
    if len(data) <= bytes_max and not (is_value and MARK in data and has_reference(value)):
        return value
    blobs.append(data)
    return {REFERENCE_KEY: hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _forget(run: CodeRun, event: ev.Event) -> None:
    """The code has been given a task's output by now; the run's own record of it need not hold the value."""
    if isinstance(event, ev.TaskSucceeded):
        unit = run.units.get(event.task)
        if unit is not None:
            unit.output = event.output


# ---- back --------------------------------------------------------------------------------------------------------------


def references(value: Any) -> bool:
    """Whether a payload is a reference or a mapping that holds some: the outputs of a graph's tasks by id."""
    if type(value) is not dict:
        return False
    return reference_of(value) is not None or any(reference_of(part) is not None for part in value.values())


def _loaded(value: Any, artifacts: ArtifactStore) -> Any:
    digest = reference_of(value)
    if digest is not None:
        return load_value(artifacts, digest)
    if references(value):
        return {key: _loaded(part, artifacts) for key, part in value.items()}
    return value


async def restore(event: ev.Event, artifacts: ArtifactStore) -> ev.Event:
    """The event with values instead of references. Raises what the artifact store raises."""
    return await asyncio.to_thread(_changed, event, lambda value: _loaded(value, artifacts))


def fold_restored(run: CodeRun, event: ev.Event, restored: ev.Event) -> None:
    """Fold an event as the code saw it, and keep what the history keeps."""
    run.plan.brain.fold(run, restored)
    _forget(run, event)


async def restored_answer(known: Update, artifacts: ArtifactStore) -> Update:
    """An update's answer as the code gave it, of a run that was read without its code."""
    return Update(known.name, known.done, await asyncio.to_thread(_loaded, known.output, artifacts), known.failure)


async def restore_input(given: inp.Input, artifacts: ArtifactStore) -> inp.Input:
    """What came from outside or from a child, with values instead of references."""
    field = _INPUTS.get(type(given))
    if field is None or not references(getattr(given, field)):
        return given
    value = await asyncio.to_thread(_loaded, getattr(given, field), artifacts)
    return msgspec.structs.replace(given, **{field: value})


_INPUTS: dict[type, str] = {
    inp.Signal: "payload",
    inp.Update: "payload",
    inp.ChildDone: "output",
    inp.Outcome: "output",
}


async def quoted(value: Any, artifacts: ArtifactStore) -> Any:
    """A user's value as a message may carry it: itself, or a reference to it if it holds what whoever reads the message
    would take for a reference. Durable on return."""
    if not has_reference(value):
        return value
    blobs: list[bytes] = []
    reference = shortened(value, blobs)
    await asyncio.to_thread(artifacts.put, blobs[0])
    return reference


def with_quoted_output(run: Run, events: list[ev.Event], blobs: list[bytes]) -> list[ev.Event]:
    """The events of a graph, the last of which ends it. If what its ``output`` makes holds something that would be taken
    for a reference, the run and the event refer to it, and the bytes are added to ``blobs``. Without ``output`` a result
    holds references of the engine's own."""
    if not isinstance(run, GraphRun) or run.plan.output is None or not has_reference(run.output):
        return events
    run.output = shortened(run.output, blobs)
    return [*events[:-1], msgspec.structs.replace(events[-1], output=run.output)]


async def shorten_message(payload: dict[str, Any], artifacts: ArtifactStore) -> dict[str, Any]:
    """A message as the inbox stores it: a large part goes to the artifact store. Durable on return."""
    blobs: list[bytes] = []
    short = {name: shortened(part, blobs, INLINE_BYTES_MAX, is_value=False) for name, part in payload.items()}
    for blob in blobs:
        await asyncio.to_thread(artifacts.put, blob)
    return short
