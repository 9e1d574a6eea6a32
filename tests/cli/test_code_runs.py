"""Code workflows from a terminal: parameters, messages, resets, and what is said when something does not fit."""

import contextlib
import json
import time

import pytest

ORDERS = """
import asyncio
from dataclasses import dataclass

from headrace import query, set_attributes, set_details, set_memo, signal, task, update, wait_for_signal, workflow


@dataclass
class Order:
    id: str
    amount: float


@task
async def charge(order: str) -> str:
    print("charging", order)
    return f"receipt for {order}"


@workflow
async def place(order: Order, express: bool = False) -> str:
    print("the workflow's code")
    notes: list[str] = []

    @query
    def state() -> dict:
        return {"order": order.id, "notes": notes}

    @query
    def note(index: int) -> str:
        return notes[index]

    @signal
    def remark(text: str) -> None:
        notes.append(text)

    @update
    async def add(text: str, times: int = 1) -> int:
        notes.extend([await charge(text)] * times)
        return len(notes)

    @add.validator
    def _(text: str, times: int = 1) -> None:
        if not text:
            raise ValueError("a note needs text")

    set_attributes(amount=order.amount, express=express)
    set_memo(source="web")
    set_details("waits for the parcel")
    receipt = await charge(order.id)
    return f"{receipt}, {await wait_for_signal('delivered')}"


@workflow
async def fails(n: int) -> int:
    await charge("x")
    raise ValueError("no such city")
"""

ORDER = 'order={"id": "A-1", "amount": 12.5}'
WAIT_SECONDS = 120.0

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def work(cli):
    cli.write("orders.py", ORDERS)
    cli.write("graph.yaml", "tasks:\n  a: {run: 'echo hi'}\n")
    return cli


@pytest.fixture
def left(work):
    """An order that waits for its parcel, carried out by nobody."""
    run = until_waiting(work, work.start("run", "orders.py:place", "-p", ORDER, "-q"))
    run.process.send_signal(2)
    run.process.communicate(timeout=WAIT_SECONDS)
    return run


@pytest.fixture
def held(work):
    """An order that waits for its parcel, carried out by another process."""
    run = until_waiting(work, work.start("run", "orders.py:place", "-p", ORDER, "-q"))
    yield run
    if run.process.poll() is None:
        run.process.kill()
    run.process.communicate()


class Waiting:
    def __init__(self, cli, process, run_id):
        self.cli, self.process, self.id = cli, process, run_id

    def show(self):
        return self.cli.json("runs", "show", self.id)

    def end(self) -> str:
        out, _ = self.process.communicate(timeout=WAIT_SECONDS)
        return out


def until_waiting(cli, process, besides="") -> Waiting:
    """The latest run but for ``besides``, once its first task is done."""
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(AssertionError):  # there may be no store yet
            view = cli.json("runs", "show", "-")
            if view["id"] != besides and view["tasks"].get("charge", {}).get("state") == "succeeded":
                return Waiting(cli, process, view["id"])
        assert process.poll() is None, process.communicate()
    raise AssertionError("the run did not get to where it waits")


# ---- starting --------------------------------------------------------------------------------------------------------


def test_parameters_are_of_the_types_the_annotations_say_or_nothing_is_stored(work):
    missing = work("run", "orders.py:place", "-p", 'order={"id": "A"}', expect=2)
    assert "order: Object missing required field `amount`" in missing.stderr
    assert "parameter order is Order" in missing.stderr
    wrong = work("run", "orders.py:place", "-p", 'order={"id": "A", "amount": "much"}', "-p", "express=no", expect=2)
    assert "order: Expected `float`, got `str`" in wrong.stderr
    assert "required parameter is missing" in work("run", "orders.py:place", expect=2).stderr
    assert work.json("runs", "list") == []


def test_a_text_is_taken_for_what_the_annotation_wants(cli):
    cli.write(
        "typed.py",
        """
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, Optional
from headrace import workflow

class Color(Enum):
    RED = "red"

@workflow
async def typed(
    code: str | None = None, old: Optional[str] = None, bare: str = None, amount: Decimal = Decimal(1),
    maybe: Decimal | None = None, count: int | None = None, either: int | str = 0, anything: Any = None,
    number: Decimal | float = 1.0, color: Color = Color.RED, size: Literal["s", "m"] = "s", at: datetime | None = None,
) -> list[str]:
    return [repr(value) for value in (code, old, bare, amount, maybe, count, either, anything, number)]
""",
    )
    given = {
        **{"code": "0123", "old": "true", "bare": "5", "amount": "12345678901234567.890", "maybe": "1.10"},
        **{"count": "7", "either": "8", "anything": "9", "number": "1.5"},
    }
    arguments = [part for name, text in given.items() for part in ("-p", f"{name}={text}")]
    assert cli.json("run", "typed.py", *arguments)["output"] == [
        *("'0123'", "'true'", "'5'", "Decimal('12345678901234567.890')", "Decimal('1.10')", "7", "8", "9", "1.5")
    ]
    assert cli.json("run", "typed.py", "-p", "code=null", "-p", "bare=null")["output"][:3] == ["None"] * 3
    wrong = ("-p", "count=x", "-p", "color=blue", "-p", "size=l", "-p", "at=2024-01-01", "-p", "amount=much")
    refused = cli("run", "typed.py", *wrong, expect=2).stderr
    for expected in (
        "count is int | None\n",
        "color is Color: one of red\n",
        ": one of s, m\n",
        "2013-01-31T06:00:00Z",
    ):
        assert expected in refused
    assert "amount is Decimal, for example 1.50" in refused


def test_a_file_with_several_workflows_wants_a_name(work):
    assert "say which: orders.py:place" in work("run", "orders.py", expect=2).stderr
    assert "did you mean 'place'" in work("run", "orders.py:plaec", expect=2).stderr


def test_code_that_raises_shows_its_own_frames_and_the_way_back(work):
    done = work("run", "orders.py:fails", "-p", "n=1", expect=1)
    run = work.json("runs", "show", "-")
    assert (run["state"], run["kind"], run["error"]["type"]) == ("failed", "code", "ValueError")
    assert "ValueError: no such city" in done.stdout
    assert 'orders.py", line' in done.stdout
    assert f"headrace runs reset {run['id']} --to-task charge" in done.stdout
    refused = work("runs", "retry", "-", expect=2)
    assert "is code" in refused.stderr
    assert f"headrace runs reset {run['id']} --to-task TASK" in refused.stderr


def test_a_key_keeps_a_second_run_away(work, held):
    assert held.show()["key"] is None
    work("runs", "signal", held.id, "delivered")
    held.end()
    other = work.start("run", "orders.py:place", "-p", ORDER, "--key", "A-1", "-q", "-o", "json")
    first = until_waiting(work, other, besides=held.id)
    refused = work("run", "orders.py:place", "-p", ORDER, "--key", "A-1", expect=2)
    assert f"has run {first.id} with the key 'A-1', which is running" in refused.stderr
    work("runs", "signal", first.id, "delivered", "Ada")
    assert json.loads(first.end())["output"] == "receipt for A-1, Ada"
    again = work("run", "orders.py:place", "-p", ORDER, "--key", "A-1", "--on-reuse", "reject", expect=2)
    assert "which is succeeded" in again.stderr
    assert "give --key" in work("run", "orders.py:fails", "--on-conflict", "terminate", expect=2).stderr
    assert work.json("runs", "list", "--where", "key = 'A-1'")[0]["id"] == first.id


# ---- a run that nobody carries out -----------------------------------------------------------------------------------


def test_a_run_that_was_left_can_be_asked_changed_and_told(work, left):
    shown = left.show()
    assert (shown["state"], shown["interrupted"], shown["kind"]) == ("running", True, "code")
    assert shown["attributes"] == {"amount": 12.5, "express": False}
    assert (shown["memo"], shown["details"]) == ({"source": "web"}, "waits for the parcel")
    text = work("runs", "show", left.id).stdout
    assert "attributes amount=12.5, express=false" in text
    assert "details    waits for the parcel" in text
    assert f"to go on: headrace runs resume {left.id}" in text

    asked = work("runs", "query", left.id, "state")
    assert json.loads(asked.stdout) == {"order": "A-1", "notes": []}
    assert "the workflow's code" in asked.stderr
    assert json.loads(work("runs", "update", left.id, "add", "hello", "2", "--id", "u1").stdout) == 2
    assert json.loads(work("runs", "update", left.id, "add", "hello", "2", "--id", "u1").stdout) == 2
    assert json.loads(work("runs", "update", left.id, "add", "-p", "text=hey").stdout) == 3
    assert work("runs", "query", left.id, "note", "0", "-o", "text").stdout == "receipt for hello\n"
    assert "notes:\n- receipt for hello" in work("runs", "query", left.id, "state", "-o", "yaml").stdout

    told = work("runs", "signal", left.id, "remark", '"late"', "--key", "r1")
    assert told.stdout.splitlines()[0] == f"run {left.id} (place): interrupted"
    assert f"headrace runs resume {left.id}" in told.stdout
    work("runs", "signal", left.id, "remark", '"late"', "--key", "r1")
    assert json.loads(work("runs", "query", left.id, "state").stdout)["notes"][3:] == ["late"]
    row = work.json("runs", "signal", left.id, "delivered", '"Ada"')
    assert (row["id"], row["state"]) == (left.id, "succeeded")
    assert work.json("runs", "show", left.id)["output"] == "receipt for A-1, Ada"
    assert json.loads(work("runs", "query", left.id, "note", "3").stdout) == "late"  # ended runs answer too


def test_what_does_not_fit_is_refused_and_nothing_happens(work, left):
    before = work("runs", "history", left.id, "-o", "jsonl").stdout
    refusals = [
        (2, ("query", left.id, "stat"), "has no query 'stat'; it has: note, state"),
        (2, ("query", left.id, "note", "x"), "argument 'index': Expected `int`, got `str`"),
        (2, ("query", left.id, "note"), "query 'note': missing a required argument: 'index'"),
        (2, ("query", left.id, "note", "7"), "query 'note' failed: IndexError"),
        (1, ("update", left.id, "ad", "x"), "has no update 'ad'; it has: add"),
        (1, ("update", left.id, "add"), "missing a required argument: 'text'"),
        (1, ("update", left.id, "add", "x", "many"), "argument 'times': Expected `int`, got `str`"),
        (1, ("update", left.id, "add", '""'), "was rejected: a note needs text"),
        (2, ("update", left.id, "add", "-p", "text"), "-p text: expected name=value"),
        (2, ("signal", left.id, "remark", "5"), "signal 'remark': argument 'text': Expected `str`, got `int`"),
        (2, ("query", "zzz", "state"), "there is no run 'zzz'"),
        (2, ("reset", left.id), "give --to-event N or --to-task TASK"),
        (2, ("reset", left.id, "--to-event", "1", "--to-task", "charge"), "give --to-event N or --to-task TASK"),
        (2, ("reset", left.id, "--to-event", "99"), "has no event 99"),
        (2, ("fork", left.id, "--to-task", "chrage"), "has no task 'chrage'"),
        (2, ("retry", left.id), "it has not ended"),
    ]
    for code, arguments, message in refusals:
        assert message in work("runs", *arguments, expect=code).stderr, arguments
    assert work("runs", "history", left.id, "-o", "jsonl").stdout == before


def test_what_a_saga_has_undone_is_begun_anew_and_not_gone_on_with(cli):
    cli.write(
        "trip.py",
        """
from headrace import saga, task, workflow

@task
async def book(n: int) -> int:
    return n

@task
async def cancel(n: int) -> None: ...

@task
async def pay(n: int) -> None:
    with open("paid") as file:
        file.read()

@workflow
async def trip(n: int) -> str:
    async with saga() as s:
        await s.step(book(n), undo=cancel(n))
        await s.step(pay(n))
    return "paid"
""",
    )
    done = cli("run", "trip.py", "-p", "n=1", expect=1)
    run_id = cli.json("runs", "show", "-")["id"]
    assert f"from the beginning: headrace runs reset {run_id} --to-event 1" in done.stdout
    assert "--to-task" not in done.stdout, "the booking is no longer there to go on with"
    cli.write("paid", "")
    again = json.loads(cli("runs", "reset", run_id, "--to-event", 1, "-o", "json").stdout)
    assert (again["state"], list(again["tasks"])) == ("succeeded", ["book", "pay"])


def test_a_run_that_ended_takes_no_more_messages(work):
    work("run", "orders.py:fails", "-p", "n=1", "-q", expect=1)
    resumed = work("runs", "resume", "-", expect=2).stderr
    assert "runs reset" in resumed
    assert "runs retry" not in resumed, "that is for graphs"
    for command in ("signal", "update"):
        refused = work("runs", command, "-", "add", "x", expect=2)
        assert "it has ended (failed)" in refused.stderr
    for command in ("terminate", "cancel", "pause", "resume"):
        assert "it has ended (failed)" in work("runs", command, "-", expect=2).stderr


def test_a_graph_is_told_apart(work):
    work("run", "graph.yaml", "-q")
    assert work.json("runs", "show", "-")["kind"] == "graph"
    assert "is a graph: it has no queries" in work("runs", "query", "-", "x", expect=2).stderr
    refused = work("runs", "reset", "-", "--to-task", "a", expect=2)
    assert "is a graph" in refused.stderr
    assert "headrace runs retry" in refused.stderr
    assert "is a graph: it has no code to replay" in work("replay", "--run", "-", expect=2).stderr


# ---- a run that another process carries out --------------------------------------------------------------------------


def test_messages_reach_the_process_that_carries_the_run_out(work, held):
    assert json.loads(work("runs", "update", held.id, "add", "x", "3", "--id", "u").stdout) == 3
    assert json.loads(work("runs", "update", held.id, "add", "x", "3", "--id", "u").stdout) == 3
    rejected = work("runs", "update", held.id, "add", '""', expect=1)
    assert "was rejected: a note needs text" in rejected.stderr
    assert "Expected `int`, got `str`" in work("runs", "update", held.id, "add", "x", "many", expect=1).stderr
    assert "it has: add" in work("runs", "update", held.id, "ad", expect=1).stderr
    assert len(json.loads(work("runs", "query", held.id, "state").stdout)["notes"]) == 3
    work("runs", "signal", held.id, "delivered", "Ada")
    assert "receipt for A-1, Ada" in held.end()
    assert "it has ended" in work("runs", "update", held.id, "add", "x", expect=2).stderr


def test_commands_say_what_they_left(work, held):
    paused = work("runs", "pause", held.id).stdout
    assert paused.startswith(f"run {held.id} (place): paused\n")
    assert "is paused" in work("runs", "update", held.id, "add", "x", expect=2).stderr
    refused = work("runs", "reset", held.id, "--to-task", "charge", expect=2)
    assert "held by another process" in refused.stderr
    assert work("runs", "terminate", held.id, "--reason", "enough").stdout == f"run {held.id} (place): terminated\n"
    held.end()
    assert held.process.returncode == 3
    assert held.show()["reason"] == "enough" or held.show()["error"]["message"] == "enough"


# ---- doing a part again ----------------------------------------------------------------------------------------------


def test_reset_takes_the_place_of_a_run_and_fork_does_not(work):
    work("run", "orders.py:fails", "-p", "n=1", "-q", expect=1)
    failed = work.json("runs", "show", "-")
    code = work.folder / "orders.py"
    code.write_text(code.read_text().replace('raise ValueError("no such city")', "return n + 1"))
    again = work.json("runs", "reset", failed["id"], "--to-task", "charge", "--reason", "mended")
    assert (again["state"], again["output"], again["trigger"]) == ("succeeded", 2, "reset")
    assert again["id"] != failed["id"]
    assert "mended" in work("runs", "history", again["id"]).stdout
    forked = work.json("runs", "fork", again["id"], "--to-event", "1")
    assert (forked["state"], forked["trigger"]) == ("succeeded", "fork")
    assert work.json("runs", "show", again["id"])["state"] == "succeeded"


# ---- code that no longer fits, or is gone ----------------------------------------------------------------------------


def test_a_suspended_run_lets_go_of_the_terminal_and_goes_on_once_mended(work, left):
    code = work.folder / "orders.py"
    fitting = code.read_text()
    code.write_text(fitting.replace("receipt = await charge", "await asyncio.sleep(9)\n    receipt = await charge"))
    stopped = work("runs", "resume", left.id, expect=1)
    assert "place suspended after" in stopped.stdout
    assert "orders.py:" in stopped.stdout
    assert work.json("runs", "list", "--state", "suspended")[0]["id"] == left.id
    assert "does not fit its history" in work("runs", "query", left.id, "state", expect=2).stderr
    refused = work("runs", "update", left.id, "add", "x", expect=2)
    assert "it is suspended" in refused.stderr
    assert f"headrace runs resume {left.id}" in refused.stderr
    told = work("runs", "signal", left.id, "delivered", "Ada")
    assert told.stdout.startswith(f"run {left.id} (place): suspended\n")
    code.write_text(fitting)
    assert work.json("runs", "resume", left.id)["output"] == "receipt for A-1, Ada"


def test_a_run_whose_code_is_gone_can_still_be_read_and_ended(work, left):
    (work.folder / "orders.py").unlink()
    assert "the command is stored" in work("runs", "signal", left.id, "delivered").stdout  # for whoever has the code
    for arguments in (("cancel", left.id), ("resume", left.id)):
        refused = work("runs", *arguments, expect=2)
        assert "orders" in refused.stderr
        assert f"headrace runs terminate {left.id}" in refused.stderr
    assert left.show()["interrupted"] is True
    assert "task.succeeded charge" in work("runs", "history", left.id).stdout
    ended = work("runs", "terminate", left.id, "--reason", "obsolete").stdout
    assert ended == f"run {left.id} (place): terminated\n"


# ---- lists -----------------------------------------------------------------------------------------------------------


def test_lists_are_searched(work, left):
    work("run", "orders.py:fails", "-p", "n=1", "-q", "--tag", "team=blue", expect=1)

    def found(where):
        return [row["workflow"] for row in work.json("runs", "list", "--where", where)]

    assert found("amount > 10 and not express = true") == ["place"]
    assert found("amount > 100") == []
    assert found("status = 'interrupted' or tag.team = 'blue'") == ["fails", "place"]
    assert found("created_at > now - 1h and workflow prefix 'pl'") == ["place"]
    assert [row["id"] for row in work.json("runs", "list", "--state", "interrupted", "--state", "waiting")] == [left.id]
    wrong = work("runs", "list", "--where", "amount > ", expect=2)
    assert "column 10" in wrong.stderr
    assert "did you mean 'running'" in work("runs", "list", "--where", "status = 'runing'", expect=2).stderr
    assert "did you mean 'waiting'" in work("runs", "list", "--state", "waitng", expect=2).stderr


def test_a_misspelt_name_in_a_search_is_told(work, left):
    work("run", "orders.py:fails", "-p", "n=1", "-q", "--tag", "team=blue", expect=1)

    def said(where, *more):
        done = work("runs", "list", "--where", where, *more)
        return done.stderr.replace("note: no run of the store has ", "").splitlines()

    for where, notes in (
        ("amout > 3", ["an attribute 'amout'; did you mean 'amount'?"]),
        ("attr.statuss = 'x' and (amount > 3 or not tag.teem = 'x')",
         ["an attribute 'statuss'; did you mean 'status'?", "a tag 'teem'; did you mean 'tag.team'?"]),
        ("team = 'blue'", ["an attribute 'team'; did you mean 'tag.team'?"]),
        ("`nothing like it` = 1 and `nothing like it` = 2", ["an attribute 'nothing like it'; attributes: amount, express"]),
        ("amount > 1000", []),  # there is such an attribute
        ("amout is null", []),  # it finds runs
    ):  # fmt: skip
        assert said(where) == notes, where
    assert said("amount > 3", "--workflow", "fails") == []
    assert work.json("runs", "list", "--where", "amout > 3") == []
    assert said("amout > 3", "-o", "json") != []
