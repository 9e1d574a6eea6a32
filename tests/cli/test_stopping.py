"""Stopping and going on: Ctrl-C, SIGTERM, kill -9, the background. Tasks leave marks in files; nothing is timed."""

import asyncio
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from headrace.backends.stores.sqlite import SqliteStore

pytestmark = pytest.mark.timeout(600)  # many processes, one after the other

# Each attempt of ``held`` says that it began, then waits until it is let go.
WORKFLOW = """\
name: held
tasks:
  before: {run: 'echo before >> "$TRACE"'}
  held:
    needs: [before]
    run: 'echo held >> "$TRACE"; while ! test -e "$GATE"; do sleep 0.02; done; echo let go'
  after: {needs: [held], run: 'echo after >> "$TRACE"'}
"""


class Held:
    """A run whose second task waits for a gate."""

    def __init__(self, cli) -> None:
        self.cli = cli
        self.gate = cli.folder / "gate"
        self.trace = cli.folder / "trace"
        text = WORKFLOW.replace("$TRACE", str(self.trace)).replace("$GATE", str(self.gate))
        cli.write("held.yaml", text)

    def marks(self) -> list[str]:
        return self.trace.read_text().split() if self.trace.exists() else []

    def until_held(self, times: int = 1) -> None:
        wait_until(lambda: self.marks().count("held") >= times)

    def open(self) -> None:
        self.gate.touch()


def wait_until(condition, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"{text!r} was never said")


@pytest.fixture
def held(cli):
    held = Held(cli)
    yield held
    held.open()  # whatever still waits may end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_starts_nothing_new_and_waits_for_what_is_under_way(cli, held, number):
    process = cli.start("run", "held.yaml", "-o", "json")
    held.until_held()
    process.send_signal(number)
    read_until(process, "waiting for 1 attempt under way")
    held.open()
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 130
    left = json.loads(out)
    assert left["interrupted"] is True
    assert (left["tasks"]["held"]["state"], left["tasks"]["held"]["output"]) == ("succeeded", "let go")
    assert held.marks() == ["before", "held"]  # "after" was not started
    [row] = cli.json("runs", "list")
    assert (row["state"], row["interrupted"]) == ("running", True)
    assert "interrupted" in cli("runs", "list").stdout
    assert cli.json("runs", "resume", left["id"][:20])["state"] == "succeeded"
    assert held.marks() == ["before", "held", "after"]


def test_two_signals_stop_at_once_and_the_run_can_go_on(cli, held):
    process = cli.start("run", "held.yaml", "-o", "json")
    held.until_held()
    process.send_signal(signal.SIGINT)
    read_until(process, "Ctrl-C again")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 130
    assert json.loads(out)["tasks"]["before"]["state"] == "succeeded"
    held.open()
    run = cli.json("runs", "resume", "-")
    assert run["state"] == "succeeded"
    assert held.marks() == ["before", "held", "held", "after"]  # what was interrupted is tried again, nothing else


def test_a_third_signal_ends_the_process_whatever_user_code_does(cli):
    cli.write(
        "stubborn.py",
        "import asyncio, pathlib\n\nasync def work():\n    while True:\n        try:\n"
        "            pathlib.Path('begun').touch()\n            await asyncio.sleep(1000)\n"
        "        except asyncio.CancelledError:\n            pathlib.Path('refused').touch()\n",
    )
    cli.write("w.yaml", "tasks: {a: {python: 'stubborn:work'}}\n")
    process = cli.start("run", "w.yaml")
    wait_until((cli.folder / "begun").exists)
    process.send_signal(signal.SIGINT)
    read_until(process, "Ctrl-C again")
    process.send_signal(signal.SIGINT)
    wait_until((cli.folder / "refused").exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=90)
    assert process.returncode == 130
    assert [row["interrupted"] for row in cli.json("runs", "list")] == [True]


@pytest.mark.parametrize("resume", ["-", "--all"])
def test_after_kill_9_completed_tasks_are_not_run_again(cli, held, resume):
    process = cli.start("run", "held.yaml")
    held.until_held()
    process.kill()
    process.communicate()
    [row] = cli.json("runs", "list", "--state", "interrupted")
    assert row["interrupted"] is True
    held.open()
    found = cli.json("runs", "resume", resume)
    [run] = found if resume == "--all" else [found]
    assert run["state"] == "succeeded"
    assert held.marks() == ["before", "held", "held", "after"]
    assert cli.json("runs", "list", "--state", "interrupted") == []


def test_no_wait_prints_the_id_and_the_run_goes_on_without_us(cli, held):
    done = cli("run", "held.yaml", "--no-wait", "--tag", "team=data")
    run_id = done.stdout.strip()
    assert len(run_id) == 26
    held.until_held()
    assert cli.json("runs", "show", run_id)["state"] == "running"
    assert cli.json("runs", "show", run_id)["interrupted"] is False
    follower = cli.start("runs", "logs", run_id, "--follow")
    held.open()
    out, _ = follower.communicate(timeout=90)
    assert "==> held, attempt 1 <==\nlet go\n" in out
    run = cli.json("runs", "show", run_id)
    assert (run["state"], run["tags"]) == ("succeeded", {"team": "data"})
    assert held.marks() == ["before", "held", "after"]


def test_no_wait_refuses_bad_input_before_anything_is_stored(cli):
    cli.write("w.yaml", "params: {n: {type: int}}\ntasks: {a: {run: 'true'}}\n")
    assert "n: required parameter is missing" in cli("run", "w.yaml", "--no-wait", expect=2).stderr
    assert cli.json("runs", "list") == []
    assert "--no-wait needs a store" in cli("run", "w.yaml", "--no-wait", "--store", "memory://", expect=2).stderr


def test_a_run_elsewhere_can_be_cancelled_paused_and_resumed(cli, held):
    process = cli.start("run", "held.yaml", "-o", "json")
    held.until_held()
    cli("runs", "pause", "-")
    wait_until(lambda: cli.json("runs", "list")[0]["state"] == "paused")
    held.open()
    wait_until(lambda: cli.json("runs", "show", "-")["tasks"]["held"]["state"] == "succeeded")
    assert cli.json("runs", "show", "-")["state"] == "paused"
    assert cli.json("runs", "resume", "-")["state"] == "succeeded"
    out, _ = process.communicate(timeout=90)
    assert (process.returncode, json.loads(out)["state"]) == (0, "succeeded")


def test_cancel_ends_a_run_that_is_carried_out_elsewhere(cli, held):
    process = cli.start("run", "held.yaml", "-o", "json")
    held.until_held()
    cli("runs", "cancel", "-", "--reason", "changed our minds")
    out, _ = process.communicate(timeout=90)
    run = json.loads(out)
    assert (process.returncode, run["state"], run["reason"]) == (3, "cancelled", "changed our minds")
    assert run["tasks"]["held"]["state"] == "cancelled"
    assert "it has ended" in cli("runs", "cancel", "-", expect=2).stderr


@pytest.mark.parametrize("command", ["cancel", "pause"])
def test_an_interrupted_run_can_be_commanded_and_nothing_of_it_is_run(cli, held, command):
    process = cli.start("run", "held.yaml")
    held.until_held()
    process.kill()
    process.communicate()
    held.open()
    state = {"cancel": "cancelled", "pause": "paused"}[command]
    assert f": {state}\n" in cli("runs", command, "-").stdout
    assert cli.json("runs", "show", "-")["state"] == state
    assert held.marks() == ["before", "held"]
    if command == "pause":
        assert cli.json("runs", "resume", "--all") == []  # paused on purpose
        assert cli.json("runs", "resume", "-")["state"] == "succeeded"


def test_a_suspended_command_that_lost_its_run_takes_it_up_again(cli, held):
    """Ctrl-Z for longer than a lease: others may have the run by then; if nobody wants it, it goes on here."""
    process = cli.start("run", "held.yaml", "-o", "json")
    held.until_held()
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    asyncio.run(take_the_lease(cli.folder / ".headrace" / "headrace.db"))
    assert cli.json("runs", "show", "-")["interrupted"] is True
    process.send_signal(signal.SIGCONT)
    held.until_held(2)
    held.open()
    out, _ = process.communicate(timeout=90)
    assert (process.returncode, json.loads(out)["state"]) == (0, "succeeded")
    assert held.marks() == ["before", "held", "held", "after"]


async def take_the_lease(database: Path) -> None:
    """What any other node does with one that is late."""
    store = SqliteStore(f"sqlite:///{database}", clock=lambda: time.time() + 3600)
    await store.open()
    try:
        assert len(await store.expire_lost()) == 1
    finally:
        await store.close()
