"""What people see: the live picture on a real pseudo-terminal, and its layout in every size."""

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from rich.console import Console

from headrace.authoring.drawing import tree_of
from headrace.cli.tree import picture
from headrace.core.events import Failure
from headrace.core.spec import TaskSpec, WorkflowSpec
from headrace.core.view import RunView, TaskView

pytestmark = pytest.mark.timeout(600)  # many processes, one after the other

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def own_terminal() -> None:
    """In the child: Ctrl-C goes to the terminal's owner, and a hang-up is not ignored as under nohup."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Terminal:
    """A command on a pseudo-terminal of 100 by 30."""

    def __init__(self, cli, *arguments: str, **env: str) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.fd = ours
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headrace.cli", *arguments],
            cwd=cli.folder,
            env={**cli.env, **env},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=own_terminal,  # noqa: PLW1509
        )
        os.close(theirs)
        self.text = ""

    def read_until(self, text: str, seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while text not in CONTROL.sub("", self.text):
            assert time.monotonic() < deadline, self.text
            if not self._read():
                raise AssertionError(f"{text!r} never came:\n{self.text}")

    def _read(self) -> bool:
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # how a pseudo-terminal says that the other side is gone
            return False
        self.text += data.decode("utf-8", "replace")
        return bool(data)

    def finish(self) -> int:
        while self._read():
            pass
        os.close(self.fd)
        return self.process.wait(90)


WORKFLOW = """\
tasks:
  before: {run: 'true'}
  held: {needs: [before], run: 'while ! test -e gate; do sleep 0.02; done'}
  each: {needs: [before], map: '{{ range(20) | list }}', run: 'true'}
  after: {needs: [held, each], run: 'true'}
"""


@pytest.fixture
def workflow(cli):
    cli.write("w.yaml", WORKFLOW.replace("gate", str(cli.folder / "gate")))
    return cli


def test_a_terminal_shows_a_tree_that_is_redrawn(workflow):
    terminal = Terminal(workflow, "run", "w.yaml")
    terminal.read_until("20/20")
    terminal.read_until("w  running")
    assert "▶ held" in terminal.text.replace("\x1b[0m", "").replace("\x1b[36m", "")
    (workflow.folder / "gate").touch()
    assert terminal.finish() == 0
    assert "\x1b[32m" in terminal.text
    plain = CONTROL.sub("", terminal.text)
    assert "━" * 24 in plain
    assert "w succeeded after" in plain
    assert "\x1b[?25h" in terminal.text  # the cursor is back


@pytest.mark.parametrize("how", [("--no-color", {}), ("-v", {"NO_COLOR": "1"})])
def test_colours_can_be_turned_off(workflow, how):
    option, env = how
    (workflow.folder / "gate").touch()
    terminal = Terminal(workflow, "run", "w.yaml", option, **env)
    assert terminal.finish() == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", terminal.text)
    assert "✓" in terminal.text


def test_a_dumb_terminal_and_a_pipe_get_plain_lines(workflow):
    (workflow.folder / "gate").touch()
    terminal = Terminal(workflow, "run", "w.yaml", TERM="dumb")
    assert terminal.finish() == 0
    assert "\x1b" not in terminal.text
    assert "held: succeeded in" in terminal.text
    said = workflow("run", "w.yaml").stderr
    assert "\x1b" not in said
    assert re.search(r"^ +\d+\.\d s  each: succeeded in .*, 20 items$", said, flags=re.M)


def test_ctrl_c_at_the_keyboard_drains_and_says_so(workflow):
    terminal = Terminal(workflow, "run", "w.yaml")
    terminal.read_until("20/20")
    os.write(terminal.fd, b"\x03")
    terminal.read_until("Stopping: waiting for 1 attempt under way to end. Ctrl-C again stops them.")
    (workflow.folder / "gate").touch()
    assert terminal.finish() == 130
    plain = CONTROL.sub("", terminal.text)
    assert "^C" not in plain  # it would break the picture
    assert "to go on: headrace runs resume" in plain


def test_a_hang_up_ends_the_command_like_a_crash_and_the_run_goes_on_later(workflow):
    terminal = Terminal(workflow, "run", "w.yaml")
    terminal.read_until("20/20")
    terminal.process.send_signal(signal.SIGHUP)
    terminal.finish()
    (workflow.folder / "gate").touch()
    assert workflow.json("runs", "resume", "-")["state"] == "succeeded"


# ---- the layout, without a terminal ------------------------------------------------------------------------------


def drawn(view: RunView, spec: WorkflowSpec | None = None, columns: int = 100, height: int = 30) -> list[str]:
    console = Console(width=columns, height=height, record=True, file=io.StringIO())
    branches = {task_id: branch for branch, task_id in tree_of(spec)} if spec else {}
    console.print(picture(view, branches, (columns, height)))
    return [line.rstrip() for line in console.export_text().splitlines()]


def view_of(tasks: dict[str, TaskView], state: str = "running") -> RunView:
    return RunView(id="r", workflow="w", version="v", state=state, created_at=time.time(), tasks=tasks)


def test_tasks_stand_in_the_order_of_the_graph():
    spec = WorkflowSpec(
        name="w",
        tasks={
            "c": TaskSpec(id="c", kind="run", needs=("b",)),
            "a": TaskSpec(id="a", kind="run"),
            "b": TaskSpec(id="b", kind="run", needs=("a",)),
        },
    )
    tasks = {"c": TaskView(state="waiting"), "a": TaskView(state="succeeded"), "b": TaskView(state="ready")}
    assert drawn(view_of(tasks), spec)[1:] == ["└─ ✓ a", "   ↓  ○ b", "   ↓  · c"]


def test_a_hundred_tasks_are_collapsed_to_what_is_telling():
    tasks = {f"done{number}": TaskView(state="succeeded") for number in range(60)}
    tasks |= {f"run{number}": TaskView(state="running", started_at=time.time()) for number in range(4)}
    tasks |= {"bad": TaskView(state="failed", attempts=3, error=Failure("ValueError", "no such\ncity"))}
    tasks |= {f"later{number}": TaskView(state="waiting") for number in range(40)}
    lines = drawn(view_of(tasks), height=20)
    assert len(lines) <= 18
    assert lines[1] == "✓ 60 tasks succeeded"
    assert [line.split()[1] for line in lines[2:6]] == ["run0", "run1", "run2", "run3"]
    assert lines[6].endswith("after 3 attempts: ValueError: no such city")
    assert lines[7] == "· 40 tasks waiting"


@pytest.mark.parametrize("height", [5, 10, 24, 200])
@pytest.mark.parametrize("columns", [20, 80, 250])
def test_no_picture_is_higher_or_wider_than_the_terminal(height, columns):
    states = ["running", "failed", "retrying", "succeeded", "waiting", "cancelled", "upstream_failed", "skipped"]
    error = Failure("ValueError", "a long story " * 50)
    tasks = {
        f"task_{number}" * 5: TaskView(state=states[number % 8], error=error, started_at=1.0, items={"running": 3})
        for number in range(150)
    }
    lines = drawn(view_of(tasks), columns=columns, height=height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= columns


def test_a_bar_shows_what_failed():
    items = {"succeeded": 5, "failed": 1, "running": 2, "waiting": 4}
    line = drawn(view_of({"m": TaskView(state="running", items=items)}))[1]
    assert "━" * 24 in line
    assert "6/12  2 running  1 failed" in line


CODE = """\
from headrace import set_details, task, wait_for_signal, workflow


@task
async def charge() -> str:
    return "paid"


@workflow
async def place() -> str:
    await charge()
    set_details("waits for the parcel")
    return await wait_for_signal("delivered")
"""


def test_code_shows_what_it_waits_for_and_ctrl_c_leaves_it(cli):
    cli.write("orders.py", CODE)
    terminal = Terminal(cli, "run", "orders.py:place")
    terminal.read_until("1 task done")
    terminal.read_until("waits for the parcel")
    os.write(terminal.fd, b"\x03")
    assert terminal.finish() == 130
    assert "place interrupted after" in CONTROL.sub("", terminal.text)
    assert cli.json("runs", "signal", "-", "delivered", '"Ada"')["state"] == "succeeded"


def test_how_far_code_is_counts_only_what_is_known():
    shown = RunView(id="r", workflow="w", version="v", state="running", created_at=time.time(), kind="code")
    shown.tasks = {"a": TaskView(state="succeeded"), "b": TaskView(state="running")}
    console = Console(width=100, file=io.StringIO(), force_terminal=False)
    console.print(picture(shown, {}, (100, 30)))
    assert "1 task done, 1 under way" in console.file.getvalue()
