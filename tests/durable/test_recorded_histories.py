"""Histories that earlier versions wrote are replayed by the code of today, for ever; every feature has one.

A failure here means that runs under way would be suspended by an upgrade. ``record_code_histories.py`` records what is new.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import typing
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import recorded_workflows as of

from headrace import Headrace, workflow
from headrace.core import events as ev
from headrace.core.codec import decode_event, encode_event
from headrace.core.states import FINAL_RUN_STATES
from headrace.engine.replayer import Replayed

FOLDER = Path(__file__).parent / "histories"
HISTORIES = sorted(FOLDER.glob("*.jsonl"))
OF_GRAPHS = sorted((Path(__file__).parents[1] / "core" / "histories").glob("*.jsonl"))
NEVER_RECORDED = {
    ("attempt.interrupted", "item"): "an item is interrupted like a task",
    ("task.heartbeat", "item"): "an item beats like a task",
    ("run.retried", "reason"): "a text that nothing depends on",
}


def read(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines()


def feature_of(file: Path) -> str:
    return file.name.partition("-")[2].partition(".")[0]


async def replayed(file: Path, events: list[list[ev.Event]], code: Any, data_dir: Path) -> list[Replayed]:
    """How the code of today fares with histories, in an engine that has only their blobs."""
    interceptors = of.INTERCEPTORS.get(feature_of(file), [])
    url = f"sqlite:///{data_dir}/never-opened.db"  # it could run database tasks, too
    headrace = Headrace(url, adopt=False, interceptors=interceptors, data_dir=data_dir)
    blobs = FOLDER / f"{file.name.partition('.jsonl')[0]}.blobs.json"
    for digest, blob in json.loads(blobs.read_text()).items() if blobs.exists() else ():
        assert headrace._node.artifacts.put(zlib.decompress(base64.b64decode(blob))) == digest
    return [await headrace.replay(some, code) for some in events]


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
def test_the_code_of_today_fits(file: Path, tmp_path: Path) -> None:
    """The whole history, and every beginning of it: a run may have been anywhere when its process was replaced."""
    events = [decode_event(data) for data in read(file)]
    created = events[0]
    assert isinstance(created, ev.RunCreated)
    code = of.WORKFLOWS[created.workflow]
    beginnings = [events[:end] for end in range(1, len(events) + 1)]
    results = asyncio.run(replayed(file, beginnings, code, tmp_path))
    assert [(result.events, result.difference) for result in results if result.difference is not None] == []
    assert [result.events for result in results] == list(range(1, len(events) + 1))


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
def test_what_is_read_is_written_the_same(file: Path) -> None:
    for line in read(file):
        assert json.loads(encode_event(decode_event(line))) == json.loads(line)


def test_other_code_does_not_fit(tmp_path: Path) -> None:
    """What this file would say if a recording no longer fitted."""

    @workflow(name="timers")
    async def changed() -> None:
        await of.double(1)

    file = FOLDER / "v0.1-timers.jsonl"
    events = [decode_event(data) for data in read(file)]
    (result,) = asyncio.run(replayed(file, [events], changed, tmp_path))
    assert result.difference is not None
    assert "event 2: the history has timer.set 1" in result.difference
    without = [event for event in events if not isinstance(event, ev.TimerFired)]
    (result,) = asyncio.run(replayed(file, [without], of.timers, tmp_path))
    assert result.difference is not None


def test_every_feature_is_recorded() -> None:
    import record_code_histories

    recorded = {feature_of(file) for file in HISTORIES}
    assert recorded == {*record_code_histories.SCENARIOS, *record_code_histories.REAL}, (
        "run record_code_histories.py, see there"
    )
    workflows = {json.loads(read(file)[0])["workflow"] for file in HISTORIES}
    assert workflows == set(of.WORKFLOWS)


def test_every_event_and_every_field_is_recorded() -> None:
    """A new event, or a new field of one, needs a history that has it; else nobody would notice that it is misread."""
    seen: dict[str, set[str]] = {}
    for line in [line for file in HISTORIES for line in read(file)] + [
        line for file in OF_GRAPHS for line in read(file)[1:-1]
    ]:
        fields = json.loads(line)
        seen.setdefault(fields["type"], set()).update(fields)
    missing: set[tuple[str, str]] = set()
    for kind in typing.get_args(ev.Event):
        tag = kind.__struct_config__.tag
        names = {field.encode_name for field in msgspec.structs.fields(kind)}
        missing |= {(tag, name) for name in names - seen.get(tag, set())}
    assert missing == set(NEVER_RECORDED), "record a history with these: see record_code_histories.py"


def test_nothing_of_the_recording_machine_is_in_them() -> None:
    for file in HISTORIES:
        text = file.read_text()
        assert "/tmp/" not in text, file.name
        assert "/home/" not in text, file.name


def test_recorded_runs_have_ended() -> None:
    """But for those that others carried on."""
    for file in HISTORIES:
        last = decode_event(read(file)[-1])
        assert isinstance(last, ev.RunFinished), file.name
        assert last.state in FINAL_RUN_STATES


def test_the_command_line_replays_them(tmp_path: Path) -> None:
    """Also those whose tasks need a database: a replay runs none."""
    done = subprocess.run(
        [
            Path(sys.executable).with_name("headrace"),
            *("replay", FOLDER / "v0.1-database.jsonl", FOLDER / "v0.1-timers.jsonl"),
            *("-w", f"{Path(of.__file__)}:database"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 1, done.stderr
    assert "v0.1-timers.jsonl (timers) differs:" in done.stdout
    assert "1 of 2 histories differs from the code" in done.stdout
    assert list(tmp_path.iterdir()) == [], "a replay leaves nothing behind"
