"""Interceptors: what they see and in which order, what travels with a run, and that replays and crashes change nothing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    Headrace,
    Interceptor,
    InvalidCommand,
    RunFailed,
    UpdateRejected,
    continue_as_new,
    current_attempt,
    dag,
    info,
    observe,
    query,
    run_task,
    saga,
    signal,
    signal_run,
    start_child,
    task,
    update,
    wait_for_signal,
    workflow,
)
from headrace.contracts.interceptor import HEADERS_BYTES_MAX, Interceptors
from headrace.core.events import Event
from headrace.testing import Environment, EnvironmentRun


def play(scenario: Callable[[Environment], Awaitable[None]], *interceptors: Interceptor, **options: Any) -> None:
    async def main() -> None:
        async with Environment(interceptors=list(interceptors), **{"always_replay": True, **options}) as env:
            await scenario(env)

    asyncio.run(main())


@task
async def double(n: int) -> int:
    return 2 * n


@task
def headers_in_a_thread() -> dict[str, str]:
    return current_attempt().headers


@task(executor="process")
def headers_in_a_process() -> dict[str, str]:
    return current_attempt().headers


@workflow
async def child(n: int) -> dict[str, str]:
    await double(n)
    return await run_task(headers_in_a_thread)


@workflow
async def talkative(n: int) -> list[Any]:
    heard: list[Any] = []

    @signal
    def tell(what: str) -> None:
        heard.append(what)

    @query
    def heard_so_far() -> list[Any]:
        return heard

    @update
    async def ask(what: str) -> str:
        heard.append(what)
        return what.upper()

    @ask.validator
    def _(what: str) -> None:
        if not what:
            raise ValueError("say something")

    heard.append(await double(n))
    await asyncio.sleep(60)
    await child(n)
    heard.append(await wait_for_signal("end"))
    return heard


class Everything(Interceptor):
    """Notes the borders it sees, on the way in and on the way out."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name = name
        self.seen = seen

    def note(self, what: str) -> None:
        observe(self.seen.append, f"{self.name} {what}")

    async def _around(self, what: str, call: Any, proceed: Any) -> Any:
        self.note(f"> {what}")
        result = await proceed(call)
        self.note(f"< {what}")
        return result

    async def start_run(self, call, proceed):
        return await self._around(f"start {call.workflow}", call, proceed)

    async def send(self, call, proceed):
        return await self._around(f"send {call.kind} {call.name}", call, proceed)

    async def run_workflow(self, call, proceed):
        return await self._around(f"run {call.workflow}", call, proceed)

    async def handle_signal(self, call, proceed):
        return await self._around(f"signal {call.name} {call.args}", call, proceed)

    async def handle_update(self, call, proceed):
        return await self._around(f"update {call.name} {call.args}", call, proceed)

    def validate_update(self, call, proceed):
        self.note(f"= validate {call.name} {call.args}")
        proceed(call)

    def handle_query(self, call, proceed):
        self.note(f"= query {call.name}")
        return proceed(call)

    async def call_task(self, call, proceed):
        return await self._around(f"call {call.task.name} {call.args}", call, proceed)

    def set_timer(self, call, proceed):
        self.note(f"= timer {call.due - call.now:g}")
        return proceed(call)

    def start_child(self, call, proceed):
        self.note(f"= child {call.workflow.spec.name} {call.params}")
        return proceed(call)

    async def run_attempt(self, call, proceed):
        return await self._around(f"attempt {call.task}", call, proceed)


TALK = [
    "start talkative",
    "run talkative",
    "call double {'n': 3}",
    "attempt double",
    "timer 60",
    "send signal tell",
    "signal tell ['hello']",
    "send update ask",
    "validate ask ['what']",
    "update ask ['what']",
    "send query heard_so_far",
    "query heard_so_far",
    "child child {'n': 3}",
    "run child",
    "call double {'n': 3}",
    "attempt double",
    "call headers_in_a_thread {}",
    "attempt headers_in_a_thread",
    "send signal end",
    "signal end ['bye']",
]


async def talk(env: Environment, run: EnvironmentRun) -> Any:
    await env.settle()
    await run.signal("tell", "hello")
    assert await run.update("ask", "what") == "WHAT"
    await env.settle()
    assert await run.query("heard_so_far") == [6, "hello", "what"]
    await env.advance("2m")
    await run.signal("end", "bye")
    return await run.result()


def test_all_borders_are_seen_outermost_first() -> None:
    seen: list[str] = []

    async def scenario(env: Environment) -> None:
        assert await talk(env, await env.start(talkative, 3)) == [6, "hello", "what", "bye"]

    play(scenario, Everything("a", seen), Everything("b", seen))
    entered = [line for line in seen if line[2] in ">="]
    assert [line[4:] for line in entered if line[0] == "a"] == TALK
    assert [line[4:] for line in entered if line[0] == "b"] == TALK
    assert entered[::2] == [line for line in entered if line[0] == "a"], "a is always first on the way in"
    left = [line for line in seen if line[2] == "<"]
    assert left[::2] == [line for line in left if line[0] == "b"], "and last on the way out"
    assert len(left) == 2 * sum(not line.startswith(("timer", "validate", "query", "child ")) for line in TALK)


# ---- headers ---------------------------------------------------------------------------------------------------------------


class Tenant(Interceptor):
    """Who it is for travels with everything."""

    async def start_run(self, call, proceed):
        call.headers["tenant"] = "acme"
        return await proceed(call)

    async def send(self, call, proceed):
        call.headers["sender"] = "Ada"
        return await proceed(call)


@task(retries={"attempts": 2, "initial": 0.001})
def headers_of_a_retry() -> dict[str, str]:
    if current_attempt().attempt == 1:
        raise ConnectionError("not yet")
    return current_attempt().headers


@workflow
async def passes_on(rounds: int = 1) -> dict[str, Any]:
    with dag("small_graph") as graph:
        headers_in_a_thread.options(id="asked")()
    found: dict[str, Any] = {"run": info().headers}
    found["thread"] = await run_task(headers_in_a_thread)
    found["process"] = await run_task(headers_in_a_process)
    found["retry"] = await run_task(headers_of_a_retry)
    found["child"] = await child(1)
    found["graph"] = (await start_child(graph))["asked"]
    if rounds:
        continue_as_new(rounds=rounds - 1)
    return found


def test_headers_reach_all_that_a_run_calls() -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(passes_on)
        result = await run.result()
        assert result == {
            where: {"tenant": "acme"} for where in ("run", "thread", "process", "retry", "child", "graph")
        }
        for one in await env.runs():
            assert (await one.history())[0].headers == {"tenant": "acme"}  # type: ignore[union-attr]

    play(scenario, Tenant())


def test_runs_without_headers_store_none() -> None:
    from headrace.core.codec import encode_event

    async def scenario(env: Environment) -> None:
        run = await env.start(talkative, 1)
        await talk_briefly(env, run)
        assert not [event for event in await run.history() if b"headers" in encode_event(event)]

    play(scenario)


async def talk_briefly(env: Environment, run: EnvironmentRun) -> None:
    await env.settle()
    await run.signal("tell", "hello")
    await env.advance("2m")
    await run.signal("end", "bye")
    await run.result()


class Renamed(Interceptor):
    """Changes what travels at each border."""

    async def start_run(self, call, proceed):
        call.headers["path"] = "start"
        return await proceed(call)

    async def run_workflow(self, call, proceed):
        call.headers["path"] += f">run {call.workflow}"
        return await proceed(call)

    async def call_task(self, call, proceed):
        call.headers["path"] += ">call"
        return await proceed(call)

    def start_child(self, call, proceed):
        call.headers["path"] += ">child"
        return proceed(call)

    async def run_attempt(self, call, proceed):
        call.headers["path"] += ">attempt"
        return await proceed(call)


def test_interceptors_change_what_travels() -> None:
    async def scenario(env: Environment) -> None:
        assert await env.run(passes, 1) == {
            "own": {"path": "start>run passes>call>attempt"},
            "child": {"path": "start>run passes>child>run child>call>attempt"},
        }

    play(scenario, Renamed())


@workflow
async def passes(n: int) -> dict[str, Any]:
    return {"own": await run_task(headers_in_a_thread), "child": await child(n)}


@workflow
async def forwards(to: str) -> None:
    await signal_run(to, "end", "forwarded")


class Senders(Interceptor):
    """Notes who sent what."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []

    async def handle_signal(self, call, proceed):
        observe(self.seen.append, (call.name, call.headers))
        await proceed(call)

    async def handle_update(self, call, proceed):
        observe(self.seen.append, (call.name, call.headers))
        return await proceed(call)

    def handle_query(self, call, proceed):
        observe(self.seen.append, (call.name, call.headers))
        return proceed(call)

    async def signal_run(self, call, proceed):
        call.headers["relay"] = "yes"
        await proceed(call)


def test_messages_carry_headers_too() -> None:
    senders = Senders()

    async def scenario(env: Environment) -> None:
        run = await env.start(talkative, 1)
        await env.settle()
        await run.signal("tell", "hello")
        await run.update("ask", "what")
        await run.query("heard_so_far")
        await env.advance("2m")
        await env.run(forwards, run.id)
        assert (await run.result())[-1] == "forwarded"

    play(scenario, Tenant(), senders)
    ada = {"sender": "Ada"}
    assert senders.seen == [
        ("tell", ada),
        ("ask", ada),
        ("heard_so_far", ada),
        ("end", {"tenant": "acme", "relay": "yes"}),
    ]


@pytest.mark.parametrize(
    "headers", [{"big": "x" * HEADERS_BYTES_MAX}, {str(n): "" for n in range(65)}, {"n": 1}, {1: "n"}]
)
def test_headers_that_cannot_travel_are_refused(headers: dict[Any, Any]) -> None:
    class Bad(Interceptor):
        async def start_run(self, call, proceed):
            call.headers.update(headers)
            return await proceed(call)

    async def scenario(env: Environment) -> None:
        with pytest.raises(InvalidCommand, match=r"can travel|headers are texts"):
            await env.start(talkative, 1)
        assert await env.runs() == []

    play(scenario, Bad())


# ---- changing, answering, refusing -----------------------------------------------------------------------------------------


class Deciding(Interceptor):
    """Changes calls and refuses some."""

    async def start_run(self, call, proceed):
        if call.workflow == "forbidden":
            raise PermissionError("not you")
        return await proceed(call)

    def validate_update(self, call, proceed):
        if call.args == ["secret"]:
            raise PermissionError("only for admins")
        proceed(call)

    def handle_query(self, call, proceed):
        return [f"public: {len(proceed(call))}"]

    async def handle_signal(self, call, proceed):
        if call.name == "tell" and call.args == ["noise"]:
            return
        await proceed(call)

    async def call_task(self, call, proceed):
        if call.args.get("n") == 7:
            call.args["n"] = 70
        if call.args.get("n") == 8:
            return -1
        if call.args.get("n") == 9:
            call.args["m"] = 1
        return await proceed(call)

    def set_timer(self, call, proceed):
        call.due = call.now + 1
        return proceed(call)


@workflow
async def forbidden() -> None: ...


def test_interceptors_change_answer_and_refuse() -> None:
    async def scenario(env: Environment) -> None:
        with pytest.raises(PermissionError):
            await env.start(forbidden)
        assert await env.runs() == []
        run = await env.start(talkative, 7)
        await env.settle()
        with pytest.raises(UpdateRejected, match="only for admins"):
            await run.update("ask", "secret")
        with pytest.raises(UpdateRejected, match="say something"):
            await run.update("ask", "")
        await run.signal("tell", "noise")
        await run.signal("tell", "words")
        assert await run.query("heard_so_far") == ["public: 2"]
        begun = env.time
        await run.signal("end")
        assert await run.result() == [140, "words", None]
        assert 1 <= env.time - begun < 60, "the timer was cut to a second"
        kinds = [type(event).__name__ for event in await run.history()]
        assert "UpdateAccepted" not in kinds, "what is refused is not recorded"
        assert kinds.count("SignalReceived") == 3, "what is dropped was"
        eight = await env.start(talkative, 8)
        await eight.signal("end")
        assert await eight.result() == [-1, None]
        assert not [call for call in env.calls(double) if call.run_id == eight.id]
        with pytest.raises(RunFailed, match="task double has no parameter 'm'"):
            await env.run(talkative, 9)

    play(scenario, Deciding())


class Flaky(Interceptor):
    """Fails the first attempt of every task, before it begins; notes what the others give."""

    def __init__(self) -> None:
        self.outputs: list[Any] = []

    async def run_attempt(self, call, proceed):
        if call.attempt == 1:
            raise ConnectionError("no quota")
        call.args["n"] += 1
        output = await proceed(call)
        self.outputs.append(output)
        return {"wrapped": output}


@task(retries=2)
def add_one(n: int) -> int:
    return n + 1


def test_attempts_of_graphs_are_intercepted() -> None:
    flaky = Flaky()
    with dag("counting") as graph:
        add_one(1)

    async def scenario(env: Environment) -> None:
        run = await env.start_graph(graph)
        assert await run.result() == {"add_one": {"wrapped": 3}}
        await env.assert_history(run, ["attempt.failed add_one", "task.succeeded add_one"])

    play(scenario, flaky)
    assert flaky.outputs == [3]


class Environmental(Interceptor):
    """What a shell task is told."""

    async def run_attempt(self, call, proceed):
        call.config.setdefault("env", {})["TRACE"] = call.headers["tenant"]
        return await proceed(call)


def test_a_shell_task_can_be_told(tmp_path: Path) -> None:
    file = tmp_path / "told.yaml"
    file.write_text("name: told\ntasks:\n  say:\n    run: echo $TRACE $HEADRACE_HEADERS\n")

    async def main() -> str:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", interceptors=[Tenant(), Environmental()]) as hr:
            run = await hr.run(str(file))
            await run.wait(60)
            return (await hr.logs(run.id))[0].text

    assert asyncio.run(main()).strip() == 'acme {"tenant": "acme"}'


# ---- replays and crashes ---------------------------------------------------------------------------------------------------


class Busy(Interceptor):
    """Does in workflow code whatever workflow code may do."""

    async def run_workflow(self, call, proceed):
        call.headers["id"] = uuid.uuid4().hex
        await asyncio.sleep(1)
        call.headers["n"] = str(await double(20))
        return await proceed(call)

    async def handle_update(self, call, proceed):
        await double(30)
        return await proceed(call)

    async def call_task(self, call, proceed):
        if call.task.name == "double" and call.args["n"] < 20:
            await asyncio.sleep(5)
        try:
            return await proceed(call)
        finally:
            await asyncio.sleep(1)


def test_crashes_and_replays_change_nothing() -> None:
    """Every replay builds the same, at every point: what the interceptors ask for is in the history."""

    async def drive(env: Environment, run: EnvironmentRun) -> None:
        await env.advance("3s")  # its handlers are there by now
        await run.signal("tell", "hello")
        await run.update("ask", "what")
        await run.signal("end", "bye")

    async def scenario(env: Environment) -> None:
        await env.crash_everywhere(lambda env: env.start(talkative, 3), drive)

    play(scenario, Tenant(), Busy(), always_replay=False)


def test_a_saga_is_undone_through_interceptors() -> None:
    calls: list[str] = []

    class Calls(Interceptor):
        async def call_task(self, call, proceed):
            observe(calls.append, f"{call.task.name} {call.args}")
            return await proceed(call)

    async def scenario(env: Environment) -> None:
        env.fail(add_one, times=None, error=ValueError("no"))
        env.fail(release, times=1)
        run = await env.start(two_steps)
        with pytest.raises(RunFailed):
            await run.result()
        ledger = (await run.show()).memo["saga"]  # type: ignore[index]
        assert ledger["steps"][0] == {"step": "double", "state": "undone"}

    play(scenario, Calls())
    assert calls == ["double {'n': 1}", "add_one {'n': 2}", "release {'n': 1}"]


@task
async def release(n: int) -> None: ...


@workflow
async def two_steps() -> None:
    async with saga() as steps:
        await steps.step(double(1), undo=release(1))
        await steps.step(run_task(add_one.options(retries=None), 2), name="add")


def test_observe_is_silent_in_replays_and_outside_it_is_real() -> None:
    seen: list[float] = []
    looked: list[str] = []

    def look() -> None:
        seen.append(time.time())
        looked.append(Path(__file__).read_text()[:10])  # I/O, which workflow code may not do

    @workflow
    async def observed() -> str:
        observe(look)
        observe(fails)
        await asyncio.sleep(86_400)
        try:
            observe(look)
            await wait_for_signal("go")
        finally:
            observe(look)
        return "done"

    def fails() -> None:
        raise OSError("no collector")

    async def scenario(env: Environment) -> None:
        run = await env.start(observed)
        await env.advance("25h")  # it is parked by now, and its code closed
        assert len(seen) == 2
        await env.crash()
        await run.signal("go")
        assert await run.result() == "done"

    play(scenario, workflows=())
    assert len(seen) == len(looked) == 3
    with pytest.raises(TypeError, match="plain function"):
        observe(double.__headrace_function__, 1)


def line_of(text: str) -> int:
    return next(n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.endswith(text))


class Blocking(Interceptor):
    async def call_task(self, call, proceed):
        time.sleep(0.01)  # blocks
        return await proceed(call)


COUNTED: list[str] = []


class Unsteady(Interceptor):
    async def call_task(self, call, proceed):
        COUNTED.append(call.task.name)
        if len(COUNTED) > 1:
            await asyncio.sleep(len(COUNTED))  # another wait
        return await proceed(call)


def test_a_blocking_interceptor_suspends_the_run_and_is_named() -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(talkative, 1)
        await env.settle()
        view = await run.show()
        assert view.state == "suspended"
        assert f"test_interceptors.py:{line_of('# blocks')}" in (view.reason or "")

    play(scenario, Blocking(), always_replay=False)


def test_an_interceptor_that_replays_differently_is_caught() -> None:
    COUNTED.clear()

    async def scenario(env: Environment) -> None:
        run = await env.start(talkative, 1)
        await env.advance("1s")
        await env.crash()
        await env.settle()
        view = await run.show()
        assert view.state == "suspended"
        assert f"test_interceptors.py:{line_of('# another wait')}" in (view.reason or "")

    play(scenario, Unsteady(), always_replay=False)


def test_a_call_names_the_line_of_the_workflow_not_of_the_interceptor() -> None:
    async def main() -> str:
        async with Headrace("memory://", interceptors=[Everything("a", [])]) as hr:
            replayed = await hr.replay(await stolen_history(), moved)
            return replayed.difference or ""

    difference = asyncio.run(main())
    assert f"test_interceptors.py:{line_of('# starts one')}" in difference


async def stolen_history() -> list[Event]:
    async with Environment() as env:
        run = await env.start(moved_before)
        await run.result()
        return await run.history()


@workflow(name="moved")
async def moved_before() -> None:
    await asyncio.sleep(1)


@workflow
async def moved() -> None:
    await start_child(child, {"n": 1})  # starts one


# ---- nothing for nothing ---------------------------------------------------------------------------------------------------


def test_what_is_not_overridden_is_not_in_the_way() -> None:
    """No interceptor of attempts: the bound task itself. None for workflow code: code runs as it does without any."""
    from headrace.backends.executors.python_task import BoundPython
    from headrace.durable.running import CodeCalls
    from headrace.engine.intercepting import InterceptedTask

    for given, wrapped, inside in (([], False, False), ([Tenant()], False, False), ([Everything("a", [])], True, True)):

        async def main(given: list[Interceptor] = given, wrapped: bool = wrapped, inside: bool = inside) -> None:
            async with Headrace("memory://", interceptors=given) as hr:
                run = await hr.start(talkative, 1)
                live = hr.live(run.id)
                await hr.query(run.id, "heard_so_far")
                assert (live.binding.code.interceptors is not None) is inside
                calls = live.run.context.run(_listener)
                assert (type(calls) is CodeCalls) is not inside
                assert {type(bound) for bound in live.binding.bound} == {InterceptedTask if wrapped else BoundPython}
                await hr.terminate(run.id)

        asyncio.run(main())


def _listener() -> Any:
    from headrace.authoring.tasks import call_listener

    return call_listener.get()


class NotAsync(Interceptor):
    def call_task(self, call, proceed):  # type: ignore[override]
        return proceed(call)


class TooAsync(Interceptor):
    async def set_timer(self, call, proceed):  # type: ignore[override]
        return proceed(call)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Tenant, "the class Tenant; give an instance"),
        (print, "not <built-in function print>"),
        (NotAsync(), "NotAsync.call_task has to be an `async def`"),
        (TooAsync(), "TooAsync.set_timer has to be a plain `def`"),
    ],
)
def test_what_is_no_interceptor_is_refused_at_once(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Interceptors([given])
    with pytest.raises(TypeError, match=message):
        Headrace("memory://", interceptors=[given])


# ---- at the terminal -------------------------------------------------------------------------------------------------------

AT_THE_TERMINAL = """
from headrace import Interceptor, current_attempt, task, workflow

class Mark(Interceptor):
    async def start_run(self, call, proceed):
        call.headers["mark"] = "terminal"
        return await proceed(call)

@task
async def marked() -> str:
    return current_attempt().headers["mark"]

@workflow
async def asks() -> str:
    return await marked()
"""


@pytest.mark.parametrize(
    ("named", "code", "said"),
    [
        ("asks:Mark", 0, "terminal"),
        ("asks:Nothing", 1, "HEADRACE_INTERCEPTORS=asks:Nothing"),
        ("asks:asks", 1, "is no interceptor"),
    ],
)
def test_the_command_line_is_told_by_a_variable(tmp_path: Path, named: str, code: int, said: str) -> None:
    (tmp_path / "asks.py").write_text(AT_THE_TERMINAL)
    done = subprocess.run(
        [Path(sys.executable).with_name("headrace"), "run", "asks.py:asks"],
        cwd=tmp_path,
        env={**os.environ, "HEADRACE_INTERCEPTORS": named},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode == 0) == (code == 0), done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
