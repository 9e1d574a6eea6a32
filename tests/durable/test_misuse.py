"""What workflow code must not do: the run is suspended, and the reason names the line and the remedy."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
import enum
import importlib
import inspect
import linecache
import logging
import multiprocessing
import os
import queue
import random
import secrets
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
import zoneinfo
from collections.abc import Callable, Coroutine
from datetime import date, timedelta
from datetime import datetime as moment
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    Headrace,
    InvalidCommand,
    RunFailed,
    dag,
    set_details,
    set_memo,
    signal,
    task,
    wait_for_signal,
    wait_until,
    workflow,
)
from headrace.core import inputs as inp
from headrace.durable.workflow import WorkflowFunction
from headrace.testing import Environment

from code_rig import CodeRig  # isort: skip


@task
async def double(n: int) -> int:
    return 2 * n


def line_of(function: Callable[..., Any], text: str) -> int:
    """The line of this file on which a workflow says something."""
    lines = Path(__file__).read_text().splitlines()
    first = function.__code__.co_firstlineno
    return next(number for number in range(first, len(lines)) if text in lines[number - 1])


@workflow
async def sleeps() -> None:
    time.sleep(0.1)


@workflow
async def opens() -> None:
    Path("/etc/hostname").read_text()
    open("/etc/hostname")  # noqa: SIM115, PTH123


@workflow
async def connects() -> None:
    socket.create_connection(("127.0.0.1", 9))


@workflow
async def threads() -> None:
    threading.Thread(target=print).start()


@workflow
async def to_thread() -> None:
    await asyncio.to_thread(print)


@workflow
async def processes() -> None:
    subprocess.run(["true"], check=False)


@workflow
async def async_process() -> None:
    await asyncio.create_subprocess_exec("true")


@workflow
async def async_connection() -> None:
    await asyncio.open_connection("127.0.0.1", 9)


FOREVER = threading.Event()


@workflow
async def waits_for_a_thread() -> None:
    FOREVER.wait(60)


@workflow
async def reads_a_queue() -> None:
    queue.Queue[int]().get(timeout=60)


@workflow
async def runs_a_command() -> None:
    os.system("true")


@workflow
async def forks() -> None:
    multiprocessing.get_context("fork").Process(target=print).start()


@workflow
async def lists_a_folder() -> None:
    list(Path("/").iterdir())


@workflow
async def makes_a_folder() -> None:
    tempfile.mkdtemp()


@workflow
async def looks_for_a_file() -> bool:
    return Path("/").exists()


@workflow
async def asks_for_a_size() -> int:
    return os.path.getsize(__file__)  # noqa: PTH202 - that way round


@workflow
async def asks_directly() -> None:
    os.stat("/")  # noqa: PTH116


@workflow
async def asks_for_rights() -> bool:
    return os.access("/", os.R_OK)


POOL = concurrent.futures.ThreadPoolExecutor(1)


@workflow
async def hands_to_a_pool() -> None:
    POOL.submit(print)


@workflow
async def waits_for_a_process() -> None:
    os.waitpid(-1, 0)


@workflow
async def opens_a_database() -> None:
    sqlite3.connect(":memory:")


@workflow
async def looks_up_a_name() -> None:
    socket.getaddrinfo("127.0.0.1", 80)


@workflow
async def asks_the_keyboard() -> None:
    input("and now? ")


@workflow
async def spins() -> None:
    while True:
        await asyncio.sleep(0)


@workflow
async def hides_it() -> str:
    try:
        time.sleep(0.1)
    except Exception:
        return "swallowed"
    return ""


@workflow
async def in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(print))


@workflow
async def in_a_call() -> None:
    await double(1)
    time.sleep(0.1)


async def inner() -> int:
    return 1


@workflow
async def runs_a_loop() -> int:
    return asyncio.run(inner())


@workflow
async def runs_a_runner() -> int:
    with asyncio.Runner() as runner:
        return runner.run(inner())


@workflow
async def makes_a_loop() -> int:
    return asyncio.new_event_loop().run_until_complete(inner())


@workflow
async def runs_its_own_loop() -> int:
    return asyncio.get_running_loop().run_until_complete(inner())


@workflow
async def debugs() -> None:
    asyncio.get_running_loop().set_debug(True)


@workflow
async def hears_of_errors() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)


BLOCKING: dict[str, tuple[WorkflowFunction[..., Any], str, str, str]] = {
    "sleep": (sleeps, "time.sleep", "time.sleep", "await asyncio.sleep"),
    "file": (opens, "open", "read_text", "@task"),
    "socket": (connects, "socket.getaddrinfo", "create_connection", "@task"),
    "thread": (threads, "a thread", "threading.Thread", "@task"),
    "to_thread": (to_thread, "use threads", "to_thread(print)", "@task"),
    "process": (processes, "a process", "subprocess.run", "@task"),
    "async process": (async_process, "start processes", "create_subprocess", "@task"),
    "async connection": (async_connection, "network", "open_connection", "@task"),
    "wait for a thread": (waits_for_a_thread, "which blocks", "FOREVER.wait", "asyncio.Event"),
    "queue of threads": (reads_a_queue, "which blocks", "queue.Queue", "asyncio.Queue"),
    "command": (runs_a_command, "os.system", "os.system", "@task"),
    "fork": (forks, "a process", "multiprocessing", "@task"),
    "folder": (lists_a_folder, "os.", "iterdir", "@task"),
    "new folder": (makes_a_folder, "os.mkdir", "mkdtemp", "@task"),
    "file that may be there": (looks_for_a_file, "os.stat", "exists()", "@task"),
    "size": (asks_for_a_size, "os.stat", "getsize", "@task"),
    "status": (asks_directly, "os.stat", "os.stat", "@task"),
    "rights": (asks_for_rights, "os.access", "os.access", "@task"),
    "pool": (hands_to_a_pool, "a thread", "submit", "@task"),
    "child process": (waits_for_a_process, "os.waitpid", "os.waitpid", "@task"),
    "database": (opens_a_database, "sqlite3.connect", "sqlite3.connect", "@task"),
    "host name": (looks_up_a_name, "socket.getaddrinfo", "socket.getaddrinfo", "@task"),
    "keyboard": (asks_the_keyboard, "input", "input(", "wait_for_signal"),
    "endless loop": (spins, "steps without waiting", "", "a loop has to wait"),
    "swallowed": (hides_it, "time.sleep", "time.sleep", "await asyncio.sleep"),
    "asyncio.run": (runs_a_loop, "asyncio.run at", "asyncio.run(", "await the coroutine"),
    "runner": (runs_a_runner, "asyncio.Runner", "asyncio.Runner()", "await the coroutine"),
    "new loop": (makes_a_loop, "asyncio.new_event_loop", "new_event_loop", "await the coroutine"),
    "own loop": (runs_its_own_loop, "run an event loop", "run_until_complete", "await the coroutine"),
    "debug": (debugs, "change how its event loop works", "set_debug", "leave this out"),
    "exception handler": (
        hears_of_errors,
        "change how its event loop works",
        "set_exception_handler",
        "leave this out",
    ),
    "in a group": (in_a_group, "use threads", "", "@task"),
}


@pytest.mark.parametrize("name", BLOCKING)
def test_blocking_calls_suspend_the_run(name: str) -> None:
    code, what, on_line, remedy = BLOCKING[name]
    rig = CodeRig(code)
    reason = rig.run.reason or ""
    assert rig.run.state == "suspended", rig.run.failure
    assert what in reason
    assert remedy in reason
    if on_line:
        assert f"test_misuse.py:{line_of(code.function, on_line)}" in reason


class LooksAtItsFile(logging.Handler):
    """As a handler that rotates its file does."""

    def emit(self, record: logging.LogRecord) -> None:
        self.seen = Path(__file__).exists()


@workflow
async def sets_machinery_going(folder: str) -> list[str]:
    linecache.checkcache()
    found = [traceback.format_exc(), str(zoneinfo.ZoneInfo("Europe/Lisbon")), str(inspect.getsource(double))]
    handler = LooksAtItsFile()
    logger = logging.getLogger("test_misuse.looking")
    logger.addHandler(handler)
    logger.warning("look")
    sys.path.insert(0, folder)
    try:
        from module_that_looks import found as imported  # type: ignore[import-not-found]
    finally:
        sys.path.remove(folder)
    return [*found, str(handler.seen), str(imported), os.path.relpath("/a/b", "/a")]


def test_what_looks_at_files_on_the_way_is_not_refused(tmp_path: Path) -> None:
    """Tracebacks, time zones, log handlers, imports: none of it is the workflow's question."""
    (tmp_path / "module_that_looks.py").write_text(
        "from pathlib import Path\nfound = Path(__file__).with_name('x').exists()\n"
    )
    rig = CodeRig(sets_machinery_going, str(tmp_path))
    assert rig.run.state == "succeeded", rig.run.reason or rig.run.failure
    assert rig.run.output[-3:] == ["True", "False", "b"]


def test_what_os_can_do_is_still_known() -> None:
    """shutil, when it is imported later, asks whether os.open and os.stat take folders' descriptors."""
    CodeRig(asks_directly)
    assert {os.open, os.stat, os.unlink, os.rmdir} <= os.supports_dir_fd
    assert os.scandir in os.supports_fd
    assert os.stat in os.supports_follow_symlinks


def test_a_suspended_run_is_harmless_and_goes_on_when_its_code_is_mended() -> None:
    @workflow(name="in_a_call")
    async def mended() -> str:
        await double(1)
        await asyncio.sleep(0.1)
        return "mended"

    rig = CodeRig(in_a_call)
    rig.perform("double")
    assert rig.run.state == "suspended"
    rig.signal("kept", 1)
    assert rig.give(inp.Resume())[-1].reason == rig.run.reason, "not an endless loop: suspended again at once"
    again = CodeRig(mended, stored=rig.stored, at=rig.now)
    assert (again.run.state, again.run.diverged) == ("suspended", None)
    again.give(inp.Resume())
    assert again.run.state == "running"
    again.fire(1)
    assert again.run.output == "mended"


def test_a_program_hears_of_a_run_that_is_suspended(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever awaits the run's result would wait for ever, and not know why."""
    rig = CodeRig(in_a_call)
    rig.perform("double")
    [record] = told(caplog)
    assert record.getMessage() == f"run {rig.run.run_id} (in_a_call) is suspended: {rig.run.reason}"
    assert (record.levelname, record.run_id) == ("WARNING", rig.run.run_id)  # type: ignore[attr-defined]
    assert "time.sleep" in record.getMessage()
    assert "hint: " in record.getMessage()
    rig.signal("kept", 1)
    assert len(told(caplog)) == 1, "once"


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Not what asyncio says when something of an earlier test is collected meanwhile."""
    return [record for record in caplog.records if record.name == "headrace.workflow"]


def test_a_suspended_run_can_be_cancelled() -> None:
    rig = CodeRig(sleeps)
    rig.give(inp.Cancel())
    assert rig.run.state == "cancelled"


@workflow
async def awaits_foreign(box: int) -> None:
    await FOREIGN[box]


@workflow
async def gathers_foreign(box: int) -> None:
    await asyncio.gather(double(1), FOREIGN[box])


@workflow
async def groups_foreign(box: int) -> None:
    async def waits() -> None:
        await FOREIGN[box]

    async with asyncio.TaskGroup() as group:
        group.create_task(waits())


@workflow
async def reads_foreign(box: int) -> None:
    await QUEUES[box].get()  # FOREIGN[box], so to say


FOREIGN: list[asyncio.Future[None]] = []
QUEUES: list[asyncio.Queue[None]] = []


@pytest.mark.parametrize("code", [awaits_foreign, gathers_foreign, groups_foreign, reads_foreign])
def test_an_awaited_foreign_future_names_its_line(code: WorkflowFunction[..., Any]) -> None:
    async def outside() -> CodeRig:
        FOREIGN[:] = [asyncio.get_running_loop().create_future()]
        QUEUES[:] = [asyncio.Queue()]
        waits = asyncio.create_task(QUEUES[0].get())  # from here on the queue belongs to this loop
        await asyncio.sleep(0)
        waits.cancel()
        return CodeRig(code, 0)

    rig = asyncio.run(outside())
    reason = rig.run.reason or ""
    assert rig.run.state == "suspended", rig.run.failure
    assert f"test_misuse.py:{line_of(code.function, 'FOREIGN[box]')}" in reason
    assert "@task" in reason


def test_an_error_in_the_background_is_logged_with_its_run(caplog: pytest.LogCaptureFixture) -> None:
    rig = CodeRig(typed, moment(2030, 1, 2), date(2030, 1, 2), timedelta(hours=1))
    rig.run.loop.call_exception_handler({"exception": ValueError("in the background")})  # as asyncio does
    [record] = told(caplog)
    assert (record.run_id, record.workflow) == (rig.run.run_id, "typed")  # type: ignore[attr-defined]


@workflow
async def forgets() -> str:
    double(1)  # pyright: ignore[reportUnusedCoroutine]
    return "done"


def test_a_call_that_nobody_awaits_fails_the_run() -> None:
    rig = CodeRig(forgets)
    assert rig.run.state == "failed"
    assert rig.run.failure is not None
    message = rig.run.failure.message
    assert f"test_misuse.py:{line_of(forgets.function, 'double(1)')}" in message
    assert "double" in message
    assert "await" in message


@workflow
async def forgets_to_sleep() -> str:
    asyncio.sleep(5)  # pyright: ignore[reportUnusedCoroutine]
    await double(1)
    return "done"


@workflow
async def forgets_a_child() -> str:
    forgets()  # pyright: ignore[reportUnusedCoroutine]
    return "done"


@pytest.mark.parametrize(("code", "name"), [(forgets_to_sleep, "sleep(5)"), (forgets_a_child, "forgets()")])
def test_nor_is_any_other_coroutine_dropped_in_silence(code: WorkflowFunction[..., Any], name: str) -> None:
    rig = CodeRig(code)
    if code is forgets_to_sleep:
        rig.succeed("double")
    failure = rig.run.failure
    assert failure is not None
    assert failure.type == "NeverAwaited"
    place = f"test_misuse.py:{line_of(code.function, name)}"
    assert failure.message.startswith(f"{name.partition('(')[0]} was called at {place} but never awaited")
    assert "hint: write `await`" in failure.message
    assert failure.traceback == "", "it would say nothing more"


@workflow
async def uses_a_coroutine() -> int:
    n = double(1)
    return n + 1  # type: ignore[operator]


def test_what_is_done_with_a_forgotten_call_says_so() -> None:
    failure = CodeRig(uses_a_coroutine).run.failure
    assert failure is not None
    assert failure.type == "TypeError"
    assert f"double was called at test_misuse.py:{line_of(uses_a_coroutine.function, 'double(1)')}" in failure.message


def test_outside_of_workflows_python_warns_as_ever() -> None:
    CodeRig(forgets_to_sleep)
    with pytest.warns(RuntimeWarning, match="never awaited"):
        asyncio.sleep(0)  # pyright: ignore[reportUnusedCoroutine]


@workflow
async def asks_the_network() -> int:
    import httpx

    async with httpx.AsyncClient() as client:
        return (await client.get("http://127.0.0.1:1")).status_code


def test_a_library_that_is_refused_is_blamed_on_the_line_that_awaits_it() -> None:
    rig = CodeRig(asks_the_network)
    reason = rig.run.reason or ""
    assert rig.run.state == "suspended", rig.run.failure
    assert f"test_misuse.py:{line_of(asks_the_network.function, 'await client.get')}" in reason
    assert "open network connections" in reason


def test_a_loop_refuses_whatever_asyncio_knows() -> None:
    """Nothing that a later Python adds may fall through to a bare NotImplementedError unseen."""
    from headrace.durable.loop import WorkflowLoop

    theirs = {name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("_")}
    assert theirs <= vars(WorkflowLoop).keys()


@workflow
async def bad_result() -> object:
    return {"fine": 1, "not": [object()]}


@workflow
async def bad_argument() -> int:
    return await double(object())  # type: ignore[arg-type]


@workflow
async def too_many() -> int:
    return await double(1, 2)  # type: ignore[call-arg]


def test_values_that_cannot_be_stored_are_named() -> None:
    failure = CodeRig(bad_result).run.failure
    assert failure is not None
    assert "object at $.not[0]" in failure.message
    failure = CodeRig(bad_argument).run.failure
    assert failure is not None
    assert "object" in failure.message
    assert "argument 'n' of double" in failure.message
    failure = CodeRig(too_many).run.failure
    assert failure is not None
    assert failure.type == "TypeError"
    assert failure.message == "task double(n): too many positional arguments"
    assert "test_misuse.py" in failure.traceback
    assert "headrace/durable" not in failure.traceback, "where it was noticed is of no interest"


@task
async def name_of_a_file() -> str:
    return b"caf\xe9".decode(errors="surrogateescape")


@task
async def breaks_over(name: str) -> None:
    raise ValueError(f"no such file: {name}")


@workflow
async def names(which: str) -> object:
    name = b"caf\xe9".decode(errors="surrogateescape")
    if which == "result":
        return name
    if which == "argument":
        return await breaks_over(name)
    if which == "task":
        return await name_of_a_file()
    if which == "details":
        set_details(name)
    if which == "raise":
        raise ValueError(name)
    return await wait_for_signal("name")


@pytest.mark.parametrize("which", ["result", "argument", "task", "details"])
def test_text_that_is_no_unicode_is_refused_where_it_comes_from(which: str) -> None:
    async def main() -> None:
        async with Environment() as env:
            run = await env.start(names, which)
            with pytest.raises(RunFailed, match=r"no Unicode \('caf\\udce9'\)"):
                await run.result()

    asyncio.run(main())


def test_text_that_is_no_unicode_harms_no_run_that_hears_or_raises_it() -> None:
    async def main() -> None:
        async with Environment() as env:
            run = await env.start(names, "raise")
            with pytest.raises(RunFailed, match=r"caf\\udce9"):
                await run.result()
            run = await env.start(names, "wait")
            with pytest.raises(InvalidCommand, match="no Unicode"):
                await run.signal("name", "caf\udce9")
            await run.signal("name", "café")
            assert await run.result() == "café"

    asyncio.run(main())


@workflow
async def no_numbers() -> list[float | None]:
    return [await keeps(float("nan")), float("-inf")]


@task
async def keeps(n: float) -> float:
    return n


def test_what_json_has_no_number_for_is_none_now_and_in_a_replay() -> None:
    async def main() -> None:
        async with Environment(always_replay=True) as env:
            run = await env.start(no_numbers)
            assert await run.result() == [None, None]

    asyncio.run(main())


class Colour(enum.StrEnum):
    RED = "red"


@workflow
async def coloured() -> object:
    set_memo(colour=Colour.RED)
    return Colour.RED


def test_an_enum_is_its_value_as_it_will_be_in_a_replay() -> None:
    rig = CodeRig(coloured)
    assert type(rig.run.output) is str
    assert type(rig.run.memo["colour"]) is str


def test_a_sync_workflow_is_refused() -> None:
    with pytest.raises(TypeError, match="Synchronous code cannot wait durably"):

        @workflow  # type: ignore[arg-type]
        def plain() -> None: ...


def test_a_parameter_without_a_name_is_refused() -> None:
    with pytest.raises(TypeError, match="'n' is positional-only"):

        @workflow
        async def unnamed(n: int, /) -> int:
            return n


# ---- what is made repeatable -------------------------------------------------------------------------------------------


@workflow
async def clocks() -> dict[str, Any]:
    before = time.time()
    found = {
        "time": before,
        "ns": time.time_ns(),
        "monotonic": time.monotonic(),
        "now": str(moment.now()),
        "utc": str(moment.now(datetime.UTC)),
        "module": str(datetime.datetime.now()),
        "today": [str(date.today()), str(datetime.date.today())],
        "random": [random.random(), random.randint(1, 1000), random.choice("abcdef"), random.sample(range(99), 3)],
        "uuid": str(uuid.uuid4()),
        "urandom": os.urandom(8).hex(),
    }
    await asyncio.sleep(100)
    found["later"] = time.time() - before
    found["isinstance"] = isinstance(moment.now(), moment)
    found["sum"] = str(moment(2020, 1, 1) + timedelta(days=1))
    return found


def test_clocks_and_chance_are_the_runs_own() -> None:
    rig = CodeRig(clocks)
    rig.fire(1)
    output = rig.run.output
    assert output["time"] == 1_000_000.0
    assert output["later"] == 100.0
    assert output["now"] == output["module"] == str(datetime.datetime.fromtimestamp(1_000_000.0))
    assert output["utc"].startswith("1970-01-12 13:46:40")
    assert (output["isinstance"], output["sum"]) == (True, "2020-01-02 00:00:00")
    assert CodeRig(clocks).finish() == output
    assert abs(time.time() - 1_000_000.0) > 1e6, "outside of workflows time is what it was"


@workflow
async def clocks_of_c() -> list[Any]:
    """What the standard library reads in C, past ``time.time`` and ``os.urandom``."""
    return [
        time.monotonic_ns(),
        time.perf_counter_ns(),
        time.gmtime().tm_year,
        time.localtime(None).tm_year,
        time.strftime("%Y"),
        time.ctime(),
        time.asctime(),
        time.strftime("%Y", time.gmtime(0)),
        random.Random().random(),
        random.SystemRandom().random(),
        secrets.token_hex(4),
    ]


def test_clocks_and_chance_that_are_read_in_c_are_the_runs_own_too() -> None:
    output = CodeRig(clocks_of_c).run.output
    assert output[:2] == [1_000_000_000_000_000] * 2
    assert output[2:5] == [1970, 1970, "1970"]
    assert output[5].endswith("1970")
    assert output[6].endswith("1970")
    assert output[7] == "1970"
    assert CodeRig(clocks_of_c).run.output == output, "the same run, the same chance"
    assert time.gmtime().tm_year > 1970, "outside of workflows time is what it was"
    assert random.Random().random() != random.Random().random()


HELPERS = """
from datetime import datetime
from time import time
from uuid import uuid4

def stamp():
    return [str(datetime.now()), time(), str(uuid4())]
"""

SHOP = """
from headrace import workflow
import {helpers}

@workflow
async def stamps():
    return {helpers}.stamp()
"""


def test_helpers_beside_a_workflow_have_its_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{tmp_path.name}_helpers".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(HELPERS)
    (tmp_path / f"{name}_shop.py").write_text(SHOP.format(helpers=name))
    monkeypatch.syspath_prepend(tmp_path)
    stamps = importlib.import_module(f"{name}_shop").stamps
    output = CodeRig(stamps).run.output
    assert output[:2] == [str(datetime.datetime.fromtimestamp(1_000_000.0)), 1_000_000.0]
    assert CodeRig(stamps).run.output == output
    assert sys.modules[name].stamp()[1] > 1_000_000.0, "outside of workflows time is what it was"


@workflow
async def typed(when: moment, day: date, every: timedelta) -> list[str]:
    return [type(value).__name__ for value in (when, day, every)] + [await spell(when)]


@task
async def spell(when: moment) -> str:
    return when.isoformat()


def test_annotations_mean_the_real_types() -> None:
    rig = CodeRig(typed, moment(2030, 1, 2), date(2030, 1, 2), timedelta(hours=1))
    assert rig.run.failure is None
    from headrace.backends.executors.arguments import plan_conversion

    convert = plan_conversion(spell.__headrace_function__, "spell")
    assert convert is not None
    given = convert(rig.run.units["spell"].node.spec.args)
    assert run_to_end(spell.__headrace_function__(**given)) == "2030-01-02T00:00:00"


def run_to_end(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError


outside: asyncio.Queue[int] = asyncio.Queue()


@workflow
async def waits_for_the_module() -> int:
    await double(1)
    return await outside.get()


@workflow
async def waits_for_a_signal() -> Any:
    return await wait_for_signal("go")


@workflow
async def handles_signals() -> None:
    got: list[int] = []

    @signal
    def put(value: int) -> None:
        got.append(value)

    await wait_until(lambda: bool(got))


@pytest.mark.parametrize("code", [waits_for_the_module, waits_for_a_signal, handles_signals])
def test_a_run_that_nothing_can_wake_is_logged_with_its_line(
    code: WorkflowFunction[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with Environment() as env:
            run = await env.start(code)
            await env.advance("1m")
            assert (await run.show()).state == "running"

    asyncio.run(test())
    told = [record.getMessage() for record in caplog.records if "nothing can bring" in record.getMessage()]
    if code is waits_for_the_module:
        assert len(told) == 1, "once, not at every look"
        assert f"test_misuse.py:{line_of(code.function, 'outside.get()')}" in told[0]
    else:
        assert told == []


def test_a_graph_given_to_start_is_refused_with_the_way_to_start_it() -> None:
    with dag("graph") as graph:
        graph.run("hello", "echo hello")

    async def test() -> None:
        async with Headrace("memory://") as hr:
            with pytest.raises(TypeError, match=r"<dag graph: 1 tasks> is a graph: start it with run\(graph, {...}\)"):
                await hr.start(graph)  # type: ignore[arg-type]

    asyncio.run(test())
