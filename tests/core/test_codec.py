"""Events as bytes: what goes in comes out, older forms are lifted, what nobody wrote is refused."""

from __future__ import annotations

import typing
from pathlib import Path
from types import UnionType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core import events as ev
from headrace.core.codec import UPCAST_STEPS_MAX, decode_event, encode_event
from headrace.core.errors import StoreCorrupt
from headrace.core.fold import fold
from headrace.core.invariants import check
from headrace.core.plan import Plan
from headrace.core.run import GraphRun
from headrace.core.spec import decode_spec

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.jsonl"))
TYPES: list[type] = list(typing.get_args(ev.Event))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    if annotation is Any:
        return JSON
    if isinstance(annotation, UnionType) or typing.get_origin(annotation) is typing.Union:
        return st.one_of([values_of(part) for part in typing.get_args(annotation)])
    if annotation is type(None):
        return st.none()
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return instances_of(annotation)
    arguments = typing.get_args(annotation)
    match typing.get_origin(annotation) or annotation:
        case origin if origin is dict:
            return st.dictionaries(st.text(), values_of(arguments[1]), max_size=3)
        case origin if origin is list:
            return st.lists(values_of(arguments[0]), max_size=3)
        case origin if origin is tuple and arguments[-1] is not ...:
            return st.tuples(*map(values_of, arguments))
        case origin if origin is tuple:
            return st.lists(values_of(arguments[0]), max_size=3).map(tuple)
        case origin if origin is typing.Literal:
            return st.sampled_from(arguments)
        case origin if origin is float:
            return st.floats(allow_nan=False, allow_infinity=False)
        case origin if origin is int:
            return st.integers(-(2**63), 2**63 - 1)
        case origin:
            return st.from_type(origin)


def instances_of(event: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(event)
    return st.builds(event, **{name: values_of(hints[name]) for name in event.__struct_fields__})


@pytest.mark.parametrize("event", TYPES, ids=lambda event: event.__name__)
def test_every_event_survives_storage(event: type) -> None:
    @settings(max_examples=20, deadline=None, derandomize=True, database=None)
    @given(instances_of(event))
    def survives(instance: Any) -> None:
        assert decode_event(encode_event(instance)) == instance

    survives()


def test_tags_are_distinct_and_stored_as_type() -> None:
    tags = [event.__struct_config__.tag for event in TYPES]  # type: ignore[attr-defined]
    assert len(set(tags)) == len(tags)
    assert msgspec.json.decode(encode_event(ev.RunResumed(1.0)))["type"] == "run.resumed"


def test_an_older_form_is_lifted_step_by_step() -> None:
    """As if ``task.skipped`` had been renamed twice: from ``task.left_out`` with a number, over ``task.skipped@0``."""
    upcasters = {
        "task.left_out": lambda old: {"type": "task.skipped@0", "at": old["when"], "task": old["name"], "why": "-"},
        "task.skipped@0": lambda old: {
            "type": "task.skipped",
            "at": old["at"],
            "task": old["task"],
            "reason": old["why"],
        },
    }
    stored = b'{"type":"task.left_out","when":7,"name":"a"}'
    assert decode_event(stored, upcasters) == ev.TaskSkipped(7.0, "a", "-")


def test_a_field_that_became_required_is_filled_in() -> None:
    upcasters = {"task.ready": lambda old: {**old, "task": old.pop("id")}}
    assert decode_event(b'{"type":"task.ready","at":1,"id":"a"}', upcasters) == ev.TaskReady(1.0, "a")


def test_an_upcaster_that_goes_in_circles_is_stopped() -> None:
    calls = []
    with pytest.raises(StoreCorrupt):
        decode_event(b'{"type":"old","at":1}', {"old": lambda old: calls.append(1) or old})  # type: ignore[func-returns-value]
    assert len(calls) == UPCAST_STEPS_MAX


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        (b'{"type":"task.exploded","at":1}', "task.exploded"),
        (b'{"at":1}', "None"),
        (b'{"type":"task.ready","at":1}', "task"),
        (b'{"type":"task.ready","at":"noon","task":"a"}', "at"),
        (b"[1]", "None"),
        (b"{", "JSON"),
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
    ],
)
def test_what_no_version_wrote_is_refused(stored: bytes, told: str) -> None:
    with pytest.raises(StoreCorrupt) as refused:
        decode_event(stored)
    assert told in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_recorded_histories_are_read_for_ever(path: Path) -> None:
    """Each file: the definition, the events as stored, then what became of the run. Written once, never changed."""
    definition, *stored, ends = path.read_bytes().splitlines()
    run = GraphRun(Plan(decode_spec(definition), "recorded"))
    for data in stored:
        fold(run, decode_event(data))
        check(run)
    found = {unit.name: [str(unit.state), unit.attempt, unit.output] for unit in run.units()}
    assert {"run": str(run.state), "output": run.output, "units": found} == msgspec.json.decode(ends)


def test_there_are_histories_and_they_hold_every_graph_event() -> None:
    written = b"".join(path.read_bytes() for path in HISTORIES)
    missing = [tag for tag in GRAPH_TAGS if b'"type":"%s"' % tag.encode() not in written]
    assert not missing


GRAPH_TAGS = [
    "run.created",
    "task.started",
    "task.heartbeat",
    "task.succeeded",
    "attempt.failed",
    "task.failed",
    "task.skipped",
    "task.upstream_failed",
    "task.cancelled",
    "task.mapped",
    "task.ready",
    "run.cancel_requested",
    "run.paused",
    "run.resumed",
    "run.retried",
    "run.finished",
]
