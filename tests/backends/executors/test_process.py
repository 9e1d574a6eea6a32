"""Child processes under everything that user code can do to them, and to the engine through them."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from headrace.backends.executors.process import ProcessExecutor
from headrace.contracts.execution import AttemptError
from headrace.contracts.outcome import failure_of
from headrace.core.errors import EngineStopped
from headrace.testing.executor_conformance import MemoryLog, make_attempt, play

CODE = """
import ctypes, dataclasses, datetime, enum, os, pathlib, signal, subprocess, sys, threading, time

class Odd:
    pass

class Rude(Exception):
    def __str__(self):
        raise RuntimeError("no")

def ok(x=1): return x
def pid(): return os.getpid()
def segfault(): ctypes.string_at(0)
def leave(code): os._exit(code)
def last_words():
    print("about to go", file=sys.stderr, flush=True)
    os._exit(9)
def eat():
    return len(bytearray(4 << 30))
def spin(mark):
    pathlib.Path(mark).touch()
    while True: pass
def talk(text):
    print(text); print(text.upper(), file=sys.stderr); return text
def talk_raw(data):
    os.write(1, bytes(data)); os.write(2, b"E" * 3)
def flood(count):
    for _ in range(count): sys.stdout.write("x" * 1023 + "\\n")
    return count
def odd(): return {"a": [1, Odd()]}
def self_reference():
    value = []
    value.append(value)
    return value
def rude(): raise Rude()
def big(n): return "x" * n
def surroundings():
    return [os.getcwd(), dict(os.environ)]
def wander(where):
    os.environ["HR_LEFT"] = "1"
    os.environ["HOME"] = where
    os.environ.pop("PATH")
    os.chdir(where)
    if not os.listdir(where):
        os.rmdir(where)
    raise ValueError(os.environ["HR_LEFT"])
def dates(day: datetime.date, where: pathlib.Path, names: set[str]):
    return [type(day).__name__, where.name, sorted(names)]
def offspring(mark, folder):
    child = subprocess.Popen(["sleep", "1000"])
    pathlib.Path(folder, "child").write_text(str(child.pid))
    pathlib.Path(mark).touch()
    time.sleep(1000)
def fds(): return sorted(os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}"))
def session(): return [os.getpid(), os.getsid(0), os.getpgid(0)]
def stdin(): return sys.stdin.read()
def fork_and_crash():
    if os.fork() == 0:
        time.sleep(1000)
    os.kill(os.getpid(), signal.SIGSEGV)
"""


class Bench:
    """A started process executor over the code above."""

    def __init__(self, executor: ProcessExecutor, source: Path) -> None:
        self.executor = executor
        self.source = source
        self.log = MemoryLog()

    async def call(self, name: str, **args: Any) -> Any:
        attempt = make_attempt(source_dir=str(self.source), args=args)
        return await self.executor.call(f"calls:{name}", print, args, attempt, self.log)

    async def crash(self, name: str, **args: Any) -> AttemptError:
        with pytest.raises(AttemptError) as caught:
            await self.call(name, **args)
        assert caught.value.type == "crashed"
        return caught.value


Scenario = Callable[[Bench], Coroutine[Any, Any, None]]
Run = Callable[..., None]


@pytest.fixture
def run(source: Path) -> Run:
    (source / "calls.py").write_text(CODE)

    def play_on_bench(scenario: Scenario, processes: int = 1, **settings: Any) -> None:
        executor = ProcessExecutor(processes, **settings)
        play(executor, lambda _stage: scenario(Bench(executor, source)))

    return play_on_bench


async def until(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.01)


def test_a_segmentation_fault_is_a_failure_of_that_call_only(run):
    async def scenario(bench: Bench) -> None:
        error = await bench.crash("segfault")
        assert "SIGSEGV (a crash in native code)" in str(error)
        assert await bench.call("ok", x=5) == 5

    run(scenario)


def test_an_exit_in_the_middle_says_its_code_and_last_words(run):
    async def scenario(bench: Bench) -> None:
        assert "exit code 7 before the task returned" in str(await bench.crash("leave", code=7))
        assert str(await bench.crash("last_words")).endswith("its last words: about to go")
        assert "about to go" in bench.log.text("stderr")
        assert await bench.call("ok") == 1

    run(scenario)


def test_memory_beyond_the_bound_is_a_memory_error(run):
    async def scenario(bench: Bench) -> None:
        with pytest.raises(MemoryError):
            await bench.call("eat")
        assert await bench.call("ok") == 1

    run(scenario, memory_bytes_max=1 << 30)


def test_an_endless_loop_is_killed_when_its_call_is_cancelled(run, tmp_path, is_gone):
    async def scenario(bench: Bench) -> None:
        call = asyncio.ensure_future(bench.call("spin", mark=str(tmp_path / "mark")))
        await until(tmp_path / "mark")
        [pid] = bench.executor.pids
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        assert is_gone(pid)
        assert await bench.call("pid") != pid

    run(scenario)


def test_what_a_call_started_dies_with_it(run, tmp_path, is_gone, eventually):
    async def scenario(bench: Bench) -> None:
        call = asyncio.ensure_future(bench.call("offspring", mark=str(tmp_path / "mark"), folder=str(tmp_path)))
        await until(tmp_path / "mark")
        child = int((tmp_path / "child").read_text())
        assert not is_gone(child)
        call.cancel()
        await asyncio.wait([call])
        eventually(lambda: is_gone(child))

    run(scenario)


def test_a_crash_is_noticed_though_a_fork_keeps_the_socket_open(run):
    async def scenario(bench: Bench) -> None:
        assert "SIGSEGV" in str(await bench.crash("fork_and_crash"))

    run(scenario)


def test_output_reaches_the_log_of_its_own_call(run):
    async def scenario(bench: Bench) -> None:
        for word in ("one", "two", "three"):
            bench.log = MemoryLog()
            assert await bench.call("talk", text=word) == word
            assert bench.log.text("stdout") == f"{word}\n"
            assert bench.log.text("stderr") == f"{word.upper()}\n"

    run(scenario)


def test_binary_output_is_passed_on_untouched(run):
    async def scenario(bench: Bench) -> None:
        await bench.call("talk_raw", data=[0, 255, 254, 10])
        assert b"".join(data for stream, data in bench.log.written if stream == "stdout") == bytes([0, 255, 254, 10])
        assert bench.log.text("stderr") == "EEE"

    run(scenario)


def test_a_lone_surrogate_can_be_printed(run):
    async def scenario(bench: Bench) -> None:
        with pytest.raises(AttemptError):  # ... though not returned
            await bench.call("talk", text="\ud800")
        assert bench.log.text("stdout") == "\\ud800\n"

    run(scenario)


def test_a_flood_of_output_arrives_whole(run):
    async def scenario(bench: Bench) -> None:
        assert await bench.call("flood", count=4000) == 4000
        assert sum(len(data) for _, data in bench.log.written) == 4000 * 1024

    run(scenario)


def test_results_that_are_not_json_name_the_type_and_place(run):
    async def scenario(bench: Bench) -> None:
        with pytest.raises(AttemptError, match=r"calls\.Odd at \$\.a\[1\]") as caught:
            await bench.call("odd")
        assert caught.value.type == "bad_result"
        assert caught.value.retryable is False
        with pytest.raises(AttemptError) as caught:
            await bench.call("self_reference")
        assert caught.value.type == "bad_result"
        assert await bench.call("ok") == 1

    run(scenario)


def test_results_over_the_bound_are_refused_with_advice(run):
    async def scenario(bench: Bench) -> None:
        assert len(await bench.call("big", n=900_000)) == 900_000
        with pytest.raises(AttemptError, match="write large results to a file") as caught:
            await bench.call("big", n=1_000_001)
        assert caught.value.type == "result_too_large"

    run(scenario, result_bytes_max=1_000_000)


def test_large_arguments_pass(run):
    async def scenario(bench: Bench) -> None:
        text = "y" * 20_000_000
        assert await bench.call("ok", x=text) == text

    run(scenario)


def test_arguments_that_cannot_be_sent_are_named(run):
    async def scenario(bench: Bench) -> None:
        with pytest.raises(AttemptError, match="arguments of calls:ok cannot be sent") as caught:
            await bench.call("ok", x=lambda: 1)
        assert caught.value.type == "bad_argument"

    run(scenario)


def test_an_exception_that_cannot_be_printed_still_fails_the_call(run):
    async def scenario(bench: Bench) -> None:
        with pytest.raises(Exception, match="Rude whose __str__ raised RuntimeError") as caught:
            await bench.call("rude")
        assert failure_of(caught.value).type == "Rude"

    run(scenario)


def test_arguments_become_annotated_types_in_the_child(run):
    async def scenario(bench: Bench) -> None:
        assert await bench.call("dates", day="2024-02-29", where="/a/b.txt", names=["y", "x", "y"]) == [
            "date",
            "b.txt",
            ["x", "y"],
        ]
        with pytest.raises(AttemptError, match="argument 'day' of calls:dates") as caught:
            await bench.call("dates", day="tomorrow", where="x", names=[])
        assert caught.value.type == "bad_argument"
        assert caught.value.retryable is False

    run(scenario)


def test_an_unknown_function_is_a_clear_error(run):
    async def scenario(bench: Bench) -> None:
        with pytest.raises(Exception, match="did you mean 'segfault'") as caught:
            await bench.call("segfalt")
        assert failure_of(caught.value).type == "UserCodeError"

    run(scenario)


def test_an_import_error_shows_the_users_frames(run, source):
    async def scenario(bench: Bench) -> None:
        (source / "calls.py").write_text("def f():\n    return 1 / 0\nf()\n")
        with pytest.raises(Exception, match="importing 'calls' failed") as caught:
            await bench.call("f")
        assert 'calls.py", line 2, in f' in failure_of(caught.value).traceback
        assert "targets.py" not in failure_of(caught.value).traceback

    run(scenario)


def test_children_are_kept_and_replaced_after_their_share(run):
    async def scenario(bench: Bench) -> None:
        pids = [await bench.call("pid") for _ in range(6)]
        assert len(set(pids)) == 2
        assert len(set(pids[:3])) == 1

    run(scenario, calls_per_process=3)


def test_a_call_leaves_its_folder_and_environment_to_itself(run, tmp_path):
    async def scenario(bench: Bench) -> None:
        before = [await bench.call("pid"), await bench.call("surroundings")]
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file").touch()
        (tmp_path / "gone").mkdir()
        for name in ("full", "gone"):
            with pytest.raises(ValueError, match="1"):
                await bench.call("wander", where=str(tmp_path / name))
            assert [await bench.call("pid"), await bench.call("surroundings")] == before

    run(scenario)


def test_no_more_children_than_allowed(run):
    async def scenario(bench: Bench) -> None:
        pids = await asyncio.gather(*(bench.call("pid") for _ in range(50)))
        assert 1 <= len(set(pids)) <= 2

    run(scenario, processes=2)


def test_a_child_that_was_killed_while_idle_costs_nobody_an_attempt(run):
    async def scenario(bench: Bench) -> None:
        first = await bench.call("pid")
        os.kill(first, signal.SIGKILL)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        assert await bench.call("pid") != first

    run(scenario)


def test_being_killed_from_outside_suggests_memory(run, tmp_path):
    async def scenario(bench: Bench) -> None:
        call = asyncio.ensure_future(bench.crash("spin", mark=str(tmp_path / "mark")))
        await until(tmp_path / "mark")
        os.kill(bench.executor.pids[0], signal.SIGKILL)
        assert "perhaps for using too much memory" in str(await call)

    run(scenario)


def test_waiting_calls_can_be_cancelled_without_losing_a_place(run, tmp_path):
    async def scenario(bench: Bench) -> None:
        busy = asyncio.ensure_future(bench.call("spin", mark=str(tmp_path / "mark")))
        await until(tmp_path / "mark")
        waiting = [asyncio.ensure_future(bench.call("ok", x=n)) for n in range(4)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        busy.cancel()
        waiting[2].cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert results[1] == 1
        assert results[3] == 3
        assert await bench.call("ok") == 1

    run(scenario)


def test_stopping_ends_calls_under_way(run, tmp_path, is_gone):
    async def scenario(bench: Bench) -> None:
        call = asyncio.ensure_future(bench.call("spin", mark=str(tmp_path / "mark")))
        await until(tmp_path / "mark")
        [pid] = bench.executor.pids
        await bench.executor.stop()
        with pytest.raises(EngineStopped):
            await call
        assert is_gone(pid)
        with pytest.raises(EngineStopped):
            await bench.call("ok")

    run(scenario)


def test_children_inherit_nothing_but_their_own_pipes(run, tmp_path):
    async def scenario(bench: Bench) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, (tmp_path / "store.db").open("w") as database:
            ours = {str(Path(f"/proc/self/fd/{fd.fileno()}").readlink()) for fd in (listener, database)}
            theirs = await bench.call("fds")
            assert not ours & set(theirs)
            assert sum(name.startswith("socket:") for name in theirs) == 1
            assert await bench.call("stdin") == ""
            pid, session, group = await bench.call("session")
            assert pid == session == group

    run(scenario)


def test_impossible_bounds_are_refused():
    for settings in ({"processes_max": 0}, {"calls_per_process": 0}, {"result_bytes_max": 0}):
        with pytest.raises(ValueError, match="must be"):
            ProcessExecutor(**settings)


ENGINE = """
import asyncio, json, sys
sys.path.insert(0, {here!r})
from headrace.backends.executors.process import ProcessExecutor
from headrace.backends.executors.shell_task import ShellTask
from headrace.backends.executors.binding import Binding
from headrace.backends.artifacts.logs import FileLogs
from headrace.core.spec import TaskSpec
from headrace.testing.executor_conformance import MemoryLog, make_attempt

async def main(folder):
    executor = ProcessExecutor(2)
    calls = [executor.call("calls:" + name, print, args, make_attempt(source_dir=folder), MemoryLog())
             for name, args in (("spin", {{"mark": folder + "/a"}}), ("offspring", {{"mark": folder + "/b", "folder": folder}}))]
    binding = Binding(data_dir=folder + "/data", logs=FileLogs(folder + "/logs"), executors={{}}, source_dir=folder)
    task = TaskSpec(id="s", kind="run", config={{"command": "echo $$ > shell; sleep 1000 & echo $! > sleeper; touch c; wait"}})
    calls.append(ShellTask().bind(task, binding).run(make_attempt(task="s", config=task.config)))
    running = [asyncio.ensure_future(call) for call in calls]
    while not executor.pids: await asyncio.sleep(0.01)
    print(json.dumps(executor.pids), flush=True)
    await asyncio.wait(running)

asyncio.run(main({folder!r}))
"""


def test_nothing_outlives_an_engine_that_is_killed(source, is_gone, eventually):
    (source / "calls.py").write_text(CODE)
    program = textwrap.dedent(ENGINE.format(here=str(Path(__file__).parent), folder=str(source)))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as engine:
        assert engine.stdout is not None
        pids = json.loads(engine.stdout.readline())
        eventually(lambda: all((source / mark).exists() for mark in "abc"))
        pids += [int((source / name).read_text()) for name in ("child", "shell", "sleeper")]
        assert len(pids) == 5
        assert not any(is_gone(pid) for pid in pids)
        engine.kill()
    eventually(lambda: all(is_gone(pid) for pid in pids))
