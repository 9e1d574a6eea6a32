"""``headrace schedules``, and schedules of the files that ``headrace up`` serves."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

import pytest
import yaml

FLOW = """
name: greet
params: {when: {type: str}}
tasks:
  hello: {run: "echo hello {{ params.when }}"}
"""

SCHEDULED = """
schedules:
  often: {every: 1s, params: {when: "{{ schedule.time }}"}}
  nightly: {cron: "0 3 * * *", zone: Europe/Berlin, params: {when: night}}
"""

WAIT_SECONDS_MAX = 60.0


@contextlib.contextmanager
def up(cli, *arguments: object) -> Iterator[None]:
    """A node that serves until the end of the block."""
    ready = cli.folder / "ready"
    with (cli.folder / "up.log").open("wb") as log:
        process = cli.start("up", "--ready-file", ready, *arguments, stdout=log, stderr=log)
    try:
        until(ready.exists)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_SECONDS_MAX) == 0, (cli.folder / "up.log").read_text()


def until(condition) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_schedule_is_added_shown_changed_and_removed(cli):
    cli.write("greet.yaml", FLOW)
    when = "when={{ schedule.local_time }}"
    added = cli.json("schedules", "add", "s", "greet.yaml", "--cron", "0 3 * * mon", "--zone", "Asia/Tokyo", "-p", when)
    assert (added["workflow"], added["timing"], added["overlap"]) == ("greet", ["0 3 * * mon"], "skip")
    assert all(due.endswith("T18:00:00.000Z") for due in added["next"])
    again = cli("schedules", "add", "s", "greet.yaml", "--every", "1h", "-p", when, expect=2).stderr
    assert "there is a schedule 's' already" in again
    cli("schedules", "add", "s", "greet.yaml", "--every", "1h", "-p", when, "--replace", "--note", "hourly")
    shown = yaml.safe_load(cli("schedules", "show", "s", "-o", "yaml").stdout)
    assert (shown["timing"], shown["note"], shown["paused"]) == (["@every 1h"], "hourly", False)
    paused = cli.json("schedules", "pause", "s", "--reason", "moving")
    assert (paused["paused"], paused["pause_reason"], paused["next"]) == (True, "moving", [])
    head, row = cli("schedules", "list").stdout.splitlines()
    assert head.split() == ["SCHEDULE", "WORKFLOW", "WHEN", "NEXT", "LAST"]
    assert row.split() == ["s", "greet", "@every", "1h", "paused:", "moving"]
    assert cli.json("schedules", "resume", "s")["paused"] is False
    assert [one["name"] for one in cli.json("schedules", "list")] == ["s"]
    cli("schedules", "remove", "s")
    assert cli.json("schedules", "list") == []
    assert "there is no schedule 's'" in cli("schedules", "show", "s", expect=2).stderr


def test_the_coming_times_are_shown_without_a_store(cli):
    out = cli(
        "schedules", "next", "30 2 * * *", "--zone", "Europe/Berlin", "--after", "2026-03-28T12:00", "-n", "2"
    ).stdout
    assert out.splitlines() == [
        "2026-03-29T03:00:00+02:00  Sun  (2026-03-29T01:00:00.000Z)",
        "2026-03-30T02:30:00+02:00  Mon  (2026-03-30T00:30:00.000Z)",
    ]
    assert cli.json("schedules", "next", "@every 90m", "--after", "2026-01-01T00:00", "-n", 1) == [
        {"time": "2026-01-01T01:30:00.000Z", "local_time": "2026-01-01T01:30:00+00:00"}
    ]
    assert cli("schedules", "next", "@at 2020-01-01").stdout == "never again\n"
    assert list(cli.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["next", "61 * * * *"], "character 1: the minute is 0 to 59, not 61"),
        (["next", "@dayly"], "did you mean '@daily'?"),
        (["next", "@daily", "--zone", "Berlin"], "did you mean 'Europe/Berlin'?"),
        (["add", "s", "greet.yaml", "--cron", "@daily"], "when: required parameter is missing"),
        (["add", "s", "greet.yaml", "--cron", "@daily", "-p", "wen=1"], "did you mean 'when'?"),
        (["add", "s", "greet.yaml", "-p", "when=x"], "a schedule needs a time"),
        (["add", "a b", "greet.yaml", "--every", "1h", "-p", "when=x"], "'a b' is not a schedule's name"),
        (["add", "s", "greet.yaml", "--every", "soon", "-p", "when=x"], "expected a duration"),
        (["add", "s", "nothing", "--every", "1h"], "no stored workflow named 'nothing'"),
        (["backfill", "s", "--from", "2026-01-01", "--to", "2026-01-02"], "there is no database"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_mistakes_are_said_in_words(cli, arguments, says):
    cli.write("greet.yaml", FLOW)
    assert says in cli("schedules", *arguments, expect=2).stderr


def test_a_served_file_brings_its_schedules_and_takes_them_back(cli):
    (cli.folder / "flows").mkdir()
    cli.write("flows/greet.yaml", FLOW + SCHEDULED)
    with up(cli, "flows"):
        until(lambda: len(cli.json("schedules", "list")) == 2)
        nightly, often = cli.json("schedules", "list")
        assert (nightly["name"], nightly["zone"]) == ("greet.nightly", "Europe/Berlin")
        assert often["source"] == str((cli.folder / "flows/greet.yaml").resolve())
        cli("schedules", "add", "mine", "greet", "--cron", "@yearly", "-p", "when=once")
        cli("schedules", "trigger", "mine")
        until(lambda: cli.json("schedules", "show", "mine")["counts"]["triggered"] == 1)
        until(lambda: cli.json("schedules", "show", "greet.often")["counts"]["started"] >= 2)
        cli.write("flows/greet.yaml", FLOW + "schedules: {often: {every: 1h, params: {when: x}}}\n")
        until(lambda: [one["name"] for one in cli.json("schedules", "list")] == ["greet.often", "mine"])
        until(lambda: cli.json("schedules", "show", "greet.often")["timing"] == ["@every 1h"])
        assert cli.json("schedules", "show", "greet.often")["counts"]["started"] >= 2
        (cli.folder / "flows/greet.yaml").unlink()
        until(lambda: [one["name"] for one in cli.json("schedules", "list")] == ["mine"])
    runs = cli.json("runs", "list", "--tag", "schedule=mine")
    assert [(run["state"], run["trigger"]) for run in runs] == [("succeeded", "schedule")]
