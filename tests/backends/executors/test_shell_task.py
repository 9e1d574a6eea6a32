"""Commands: their environment, output, end, and what they leave behind."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.backends.artifacts.logs import FileLogs
from headrace.backends.executors import shell_task
from headrace.backends.executors.binding import Binding
from headrace.backends.executors.shell_environment import inherited
from headrace.backends.executors.shell_task import ShellTask
from headrace.contracts.execution import AttemptError
from headrace.core.errors import InvalidDefinition, SkipTask
from headrace.core.spec import TaskSpec
from headrace.testing.executor_conformance import make_attempt


class Shell:
    def __init__(self, binding: Binding, logs: FileLogs) -> None:
        self.binding = binding
        self.logs = logs

    async def start(
        self, command: Any, *, grace: float = 5.0, args: dict[str, Any] | None = None, **config: Any
    ) -> Any:
        settings = {"command": command, **config}
        task = TaskSpec(id="t", kind="run", config=settings, args=args or {})
        attempt = make_attempt(config=settings, args=args or {}, source_dir=self.binding.source_dir)
        try:
            return await ShellTask(grace).bind(task, self.binding).run(attempt)
        finally:
            self.binding.finish(attempt)

    def __call__(self, command: Any, **config: Any) -> Any:
        return asyncio.run(self.start(command, **config))

    def fails(self, command: Any, **config: Any) -> AttemptError:
        with pytest.raises(AttemptError) as caught:
            self(command, **config)
        return caught.value

    def log(self) -> str:
        return "".join(entry.text for entry in self.logs.read_logs("R"))


@pytest.fixture
def shell(binding: Binding, logs: FileLogs) -> Shell:
    return Shell(binding, logs)


@pytest.mark.parametrize(
    ("command", "mode", "expected"),
    [
        ("echo hello", "auto", "hello"),
        ("true", "auto", None),
        ("echo 42", "auto", 42),
        ("echo true", "auto", True),
        ("printf '%s\\n' '{' '\"a\": [1]' '}'", "auto", {"a": [1]}),
        ("echo working; echo; echo '{\"rows\": 3}'; echo", "auto", {"rows": 3}),
        ("echo working; echo 3", "auto", "working\n3"),
        ("echo '{\"a\": 1}'", "text", '{"a": 1}'),
        ("echo '{\"a\": 1}'", "none", None),
        ("echo no; echo '[1]'", "json", [1]),
        ("echo noise; echo '{\"x\": 2}' > $HEADRACE_OUTPUT", "auto", {"x": 2}),
        ("echo plain > $HEADRACE_OUTPUT", "auto", "plain"),
        ("echo 5 > $HEADRACE_OUTPUT", "text", "5"),
        ("printf '\\377\\376ok'", "auto", "\ufffd\ufffdok"),
    ],
)
def test_output_becomes_a_result(shell, command, mode, expected):
    assert shell(command, output=mode) == expected


@pytest.mark.parametrize(
    ("command", "mode", "message"),
    [
        ("echo no", "json", "stdout is not JSON, and neither is its last line: 'no'"),
        ("echo no > $HEADRACE_OUTPUT", "json", "the file .HEADRACE_OUTPUT is not JSON"),
        ("head -c 2000000 /dev/zero | tr '\\0' x", "json", "at most 1,048,576 are taken as a result"),
        ("head -c 2000000 /dev/zero | tr '\\0' x", "text", "2,000,000 bytes, at most 1,048,576 are taken"),
        ("head -c 17000000 /dev/zero > $HEADRACE_OUTPUT", "auto", "at most 16,777,216 are taken"),
        ("mkdir $HEADRACE_OUTPUT", "auto", "cannot be read"),
        ("mkfifo $HEADRACE_OUTPUT", "auto", "it is a pipe or a device, not a file"),
        ("ln -s /dev/zero $HEADRACE_OUTPUT", "auto", "it is a pipe or a device, not a file"),
    ],
)
def test_output_that_is_no_result_is_refused(shell, command, mode, message):
    error = shell.fails(command, output=mode)
    assert error.type == "bad_output"
    assert error.retryable is False
    import re

    assert re.search(message, str(error))


def test_text_of_up_to_a_mebibyte_is_whole(shell):
    for mode in ("auto", "text"):
        assert shell("seq 1 150000", output=mode) == "\n".join(map(str, range(1, 150001)))


def test_longer_text_keeps_its_end_and_says_so_and_the_log_is_whole(shell):
    said, text = shell("seq 1 400000").split("\n", 1)
    assert said == "[headrace: the first 2,623,359 bytes of stdout are left out]"
    assert len(text) <= 64 * 1024
    assert text.endswith("\n399999\n400000")
    assert shell.log() == "".join(f"{n}\n" for n in range(1, 400001))


def test_the_environment_is_an_allow_list(shell, monkeypatch):
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    monkeypatch.setenv("APP_MODE", "test")
    monkeypatch.setenv("LC_TIME", "C")
    seen = dict(line.split("=", 1) for line in shell("env", output="text", env={"YEAR": 2013, "ON": True}).splitlines())
    assert "DATABASE_PASSWORD" not in seen
    assert "APP_MODE" not in seen
    assert seen["LC_TIME"] == "C"
    assert seen["PATH"] == os.environ["PATH"]
    assert (seen["YEAR"], seen["ON"]) == ("2013", "true")
    expected = {
        "RUN_ID": "R",
        "TASK": "t",
        "ATTEMPT": "1",
        "ITEM": "",
        "KEY": "R/t/1",
        "IDEMPOTENCY_KEY": "R/t",
        "WORKFLOW": "w",
    }
    for name, value in expected.items():
        assert seen[f"HEADRACE_{name}"] == value
    shell.binding.env_allow = ("APP_*",)
    assert shell("echo $APP_MODE") == "test"
    assert shell("echo ${APP_MODE-unset}", env={"APP_MODE": None}) == "unset"


def test_an_allowed_prefix_is_not_an_allowed_name():
    assert inherited(("AB*", "X"), {"AB": "1", "ABC": "2", "A": "3", "XY": "4", "X": "5"}) == {
        "AB": "1",
        "ABC": "2",
        "X": "5",
    }


def test_arguments_arrive_as_variables_that_no_quote_can_break(shell):
    evil = "$(touch hacked); `id`; ' \" \n end"
    assert shell('printf %s "$HEADRACE_ARG_FILE_NAME"', args={"file-name": evil}, output="text") == evil
    assert json.loads(shell("printf %s $HEADRACE_ARG_A", args={"a": {"b": [1, None]}}, output="text")) == {
        "b": [1, None]
    }


def test_lists_are_run_without_a_shell(shell):
    assert shell(["printf", "%s|", "a b", 5, "$HOME"], output="text") == "a b|5|$HOME|"


def test_the_working_directory(shell, source, tmp_path):
    (source / "sub").mkdir()
    assert shell("pwd") == str(source)
    assert shell("pwd", cwd="sub") == str(source / "sub")
    assert shell("cd $HEADRACE_WORK_DIR && touch x && pwd") == str(tmp_path / "data/work/R~t~a1")
    shell.binding.source_dir = None
    assert shell("pwd") == str(tmp_path / "data/work/R~t~a1")


def test_the_work_folder_is_fresh_and_goes(shell, tmp_path, eventually):
    left = tmp_path / "data/work/R~t~a1"
    left.mkdir(parents=True)
    (left / "stale").touch()
    assert shell("ls $HEADRACE_WORK_DIR; mkdir $HEADRACE_WORK_DIR/d; touch $HEADRACE_WORK_DIR/d/f") is None
    eventually(lambda: not left.exists())


def test_exit_codes(shell):
    error = shell.fails("echo one >&2; echo two >&2; exit 3")
    assert (error.type, error.code, error.retryable) == ("exit", 3, None)
    assert str(error) == "exit code 3:\none\ntwo"
    assert shell("echo fine; exit 3", success_codes=[0, 3]) == "fine"
    with pytest.raises(SkipTask, match="exit code 99"):
        shell("exit 99", skip_codes=[99])
    assert "127 (command not found)" in str(shell.fails("no-such-command-of-mine"))
    killed = shell.fails("kill -SEGV $$")
    assert (killed.type, killed.code) == ("signal", signal.SIGSEGV)


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        ({"command": ["no-such-command-of-mine"]}, "not_found", "no command 'no-such-command-of-mine'.*PATH"),
        ({"command": "true", "cwd": "gone"}, "not_found", "no folder .*gone"),
        ({"command": "true", "shell": "/no/shell"}, "not_found", "no command '/no/shell'"),
        ({"command": ["./data.txt"]}, "not_executable", "cannot be run"),
        ({"command": ["./no-program"]}, "not_executable", "is not a program"),
        ({"command": "true", "env": {"A": "x" * 200_000}}, "bad_argument", "larger than the system allows"),
        ({"command": "echo a\0b"}, "bad_argument", "null byte"),
    ],
)
def test_commands_that_cannot_start_say_why(shell, source, config, kind, message):
    (source / "data.txt").write_text("x")
    (source / "no-program").write_text("x")
    (source / "no-program").chmod(0o755)
    error = shell.fails(**config)
    assert (error.type, error.retryable) == (kind, False)
    import re

    assert re.search(message, str(error))


def pid_in(path: Path) -> int:
    return int(path.read_text())


NEVER = 3600.0
"""A grace that no test outlasts: one that waits for its end fails by its time limit."""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def written(path: Path) -> bool:
    return path.exists() and bool(path.read_text().strip())


def cancel_when(shell: Shell, is_ready: Callable[[], bool], command: str, grace: float) -> float:
    """Cancel a command once it is ready; the seconds it took to end."""

    async def play() -> float:
        running = asyncio.ensure_future(shell.start(command, grace=grace))
        await until(is_ready)
        began = time.monotonic()
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        return time.monotonic() - began

    return asyncio.run(play())


def test_cancelling_ends_the_whole_group(shell, source, is_gone, eventually):
    command = "echo $$ > a; sleep 1000 & echo $! > b; wait"
    cancel_when(shell, lambda: written(source / "b"), command, grace=NEVER)
    eventually(lambda: is_gone(pid_in(source / "a")) and is_gone(pid_in(source / "b")))


def test_a_group_that_ends_in_its_own_time_is_given_the_grace(shell, source):
    worker = "trap 'sleep 0.3; echo saved > state; exit 0' TERM; echo up > up; while :; do sleep 0.05; done"
    cancel_when(shell, lambda: written(source / "up"), f'sh -c "{worker}" > worker.log 2>&1; :', grace=NEVER)
    assert (source / "state").read_text() == "saved\n"


def test_what_ignores_sigterm_is_killed_after_the_grace(shell, source, is_gone):
    command = "trap '' TERM; echo $$ > a; while :; do sleep 0.05; done"
    assert cancel_when(shell, lambda: written(source / "a"), command, grace=0.3) >= 0.3
    assert is_gone(pid_in(source / "a"))


def test_a_stopped_command_can_be_cancelled(shell, source, is_gone, is_stopped):
    pid = source / "a"
    command = "echo $$ > a; kill -STOP $$; sleep 1000"
    cancel_when(shell, lambda: written(pid) and is_stopped(pid_in(pid)), command, grace=NEVER)
    assert is_gone(pid_in(pid))


def test_a_second_cancellation_cuts_the_grace_short(shell, source, is_gone, eventually):
    async def play() -> None:
        running = asyncio.ensure_future(
            shell.start("trap '' TERM; echo $$ > a; while :; do sleep 0.05; done", grace=NEVER)
        )
        await until(lambda: written(source / "a"))
        running.cancel()
        await asyncio.wait([running], timeout=0.2)
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        await until(lambda: is_gone(pid_in(source / "a")))
        await asyncio.sleep(0)

    asyncio.run(play())


def test_a_command_left_in_the_background_ends_with_its_parent(shell, source, is_gone, eventually):
    assert shell("sleep 1000 & echo $! > b; echo done") == "done"
    assert shell("sleep 1000 > /dev/null 2>&1 & echo $! > c; echo done") == "done"
    eventually(lambda: is_gone(pid_in(source / "b")) and is_gone(pid_in(source / "c")))


def test_a_helper_may_finish_writing(shell, monkeypatch):
    """It writes when the command has ended, which is a zombie until everything is heard."""
    monkeypatch.setattr(shell_task, "LINGER_SECONDS", 60.0)
    outlives = "until grep -q ') Z ' /proc/$$/stat; do sleep 0.02; done"
    assert shell(f"({outlives}; echo late) & echo early") == "early\nlate"


def test_output_is_in_the_log_while_the_command_runs(shell, source):
    async def play() -> None:
        running = asyncio.ensure_future(
            shell.start("echo begun; while [ ! -e go ]; do sleep 0.02; done; echo ended >&2")
        )
        await until(lambda: shell.log() == "begun\n")
        (source / "go").touch()
        await running
        assert shell.log() == "begun\nended\n"

    asyncio.run(play())


def test_many_commands_at_once(shell, tmp_path):
    async def play() -> None:
        task = TaskSpec(id="t", kind="run", config={"command": "echo $HEADRACE_ITEM"})
        bound = ShellTask().bind(task, shell.binding)
        attempts = [make_attempt(item=n, config=task.config) for n in range(60)]
        assert await asyncio.gather(*(bound.run(attempt) for attempt in attempts)) == list(range(60))
        for attempt in attempts:
            shell.binding.finish(attempt)

    asyncio.run(play())
    assert not list((tmp_path / "data" / "work").iterdir())


@pytest.mark.parametrize(
    ("config", "args", "message"),
    [
        ({"command": ""}, {}, "the command is empty"),
        ({"command": []}, {}, "the command is empty"),
        ({"command": "a", "sucess_codes": [1]}, {}, "did you mean 'success_codes'"),
        ({"command": "a", "output": "xml"}, {}, "Invalid enum value 'xml'"),
        ({"command": "a", "env": {"X": {"deep": 1}}}, {}, "Expected"),
        ({"command": "a"}, {"a-b": 1, "a_b": 2}, "would both become the variable HEADRACE_ARG_A_B"),
        ({"shell": "/bin/sh"}, {}, "needs the setting 'command'"),
    ],
)
def test_wrong_settings_are_refused_before_a_run(binding, config, args, message):
    with pytest.raises(InvalidDefinition, match=message):
        ShellTask().bind(TaskSpec(id="t", kind="run", config=config, args=args), binding)


def test_templates_pass_the_check_and_are_checked_once_rendered(shell):
    task = TaskSpec(id="t", kind="run", config={"command": "exit 3", "success_codes": "{{ params.codes }}"})
    bound = ShellTask().bind(task, shell.binding)
    good = make_attempt(config={"command": "exit 3", "success_codes": [3]})
    assert asyncio.run(bound.run(good)) is None
    with pytest.raises(AttemptError, match="Expected `array`, got `str`") as caught:
        asyncio.run(bound.run(make_attempt(config={"command": "exit 3", "success_codes": "x"})))
    assert caught.value.type == "bad_config"
