"""``headrace check``: every rule finds what it is for, leaves alone what is fine, and says where, why and what to do."""

import textwrap
from pathlib import Path

import pytest

from headrace.cli.main import main
from headrace.durable.check import check_source
from headrace.durable.check_rules import REMEDIES

HEAD = """
import asyncio, os, random, time, uuid, threading, subprocess, contextlib, functools
import requests as web
from os import *
from time import sleep
from pathlib import Path
from headrace import task, workflow, wait_for_signal, saga

CACHE = {}
pause = time.sleep
cwd = os.getcwd

@task
async def charge(n: int) -> int:
    time.sleep(1)
    return len(open("x").read())

"""


def found(body: str, *, helpers: str = "") -> list[str]:
    code = (
        HEAD
        + textwrap.dedent(helpers)
        + "\n@workflow\nasync def order(n: int):\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
    )
    return [finding.rule for finding in check_source(code, "order.py").findings]


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        ("blocking", "time.sleep(1)"),
        ("blocking", "sleep(1)"),
        ("blocking", "web.get('http://x')"),
        ("blocking", "with open('x') as f: f.read()"),
        ("blocking", "Path('x').read_text()"),
        ("blocking", "Path('x').is_file()"),
        ("blocking", "os.access('x', 4)"),
        ("blocking", "subprocess.run(['ls'])"),
        ("blocking", "await asyncio.create_subprocess_exec('ls')"),
        ("thread", "await asyncio.to_thread(print)"),
        ("thread", "threading.Thread(target=print).start()"),
        ("thread", "await asyncio.get_running_loop().run_in_executor(None, print)"),
        ("blocking", "os.fork()"),
        ("blocking", "import queue\nqueue.Queue().get()"),
        ("clock", "import datetime\nreturn datetime.datetime.now()"),
        ("clock", "from datetime import UTC, datetime\nreturn datetime.now(UTC)"),
        ("chance", "return hash('x')"),
        ("surroundings", "return os.environ['HOME']"),
        ("surroundings", "return os.environ.get('HOME')"),
        ("surroundings", "return os.getenv('HOME')"),
        ("not-awaited", "charge(n)"),
        ("not-awaited", "charge.options(retries=3)(n)"),
        ("not-awaited", "asyncio.sleep(5)"),
        ("not-awaited", "wait_for_signal('x')"),
        ("set-order", "for x in {1, 2}: await charge(x)"),
        ("set-order", "names = set('ab')\nfor x in names: await charge(x)"),
        ("set-order", "return [await charge(x) for x in set([n]) | {2}]"),
        ("set-order", "return list({1, 2})"),
        ("set-order", "todo = {1, 2}\nawait charge(todo.pop())"),
        ("set-order", "names: set[str] = set()\nfor x in names: await charge(x)"),
        ("set-order", "async def inner(names: 'frozenset[str] | None'):\n    return list(names)\nawait inner({'a'})"),
        ("set-order", "for x in {1}.union([2]): await charge(x)"),
        ("set-order", "return ','.join({'a', 'b'})"),
        ("set-order", "return [*{1, 2}]"),
        ("set-order", "first, second = {1, 2}\nawait charge(first)"),
        ("blocking", "functools.partial(time.sleep, 1)()"),
        ("blocking", "list(map(time.sleep, [1]))"),
        ("blocking", "pause(1)"),
        ("surroundings", "return cwd()"),
        ("surroundings", "return getpid()"),
        ("blocking", "Path('x').exists()"),
        ("not-awaited", "async with saga() as s:\n    s.step(charge(n))"),
        ("global", "global CACHE\nCACHE = {}"),
        ("global", "CACHE[n] = 1"),
        ("global", "CACHE.update(a=1)"),
        ("swallows-cancel", "try:\n    await charge(n)\nexcept:\n    print('no')"),
        ("swallows-cancel", "try:\n    await charge(n)\nexcept BaseException as e:\n    return 1"),
        ("swallows-cancel", "try:\n    await charge(n)\nexcept asyncio.CancelledError:\n    pass"),
        ("swallows-cancel", "with contextlib.suppress(BaseException):\n    await charge(n)"),
        ("swallows-errors", "try:\n    await charge(n)\nexcept Exception:\n    pass"),
        ("swallows-errors", "with contextlib.suppress(Exception):\n    await charge(n)"),
    ],
)
def test_a_rule_finds(rule: str, body: str):
    assert rule in found(body)
    assert rule in REMEDIES


@pytest.mark.parametrize(
    "body",
    [
        "await asyncio.sleep(1)",
        "return [time.time(), random.random(), uuid.uuid4()]",
        "jobs = [charge(i) for i in range(3)]\nreturn await asyncio.gather(*jobs)",
        "job = asyncio.create_task(charge(n))\nreturn await job",
        "for x in sorted({1, 2}): await charge(x)",
        "for x in {'a': 1}: await charge(1)",
        "return {x + 1 for x in {1, 2}}",
        "return 1 in {1, 2} and len({1})",
        "names: set[int] = {1}\nreturn sum(x for x in names) + max(x for x in names), {*names}, any([x for x in names])",
        "names = {1}\nreturn sorted(x for x in names)",
        "async with saga() as s:\n    await s.step(charge(n))",
        "requests = [n]\nreturn list(map(requests.index, [n]))",
        "other = n\nother.exists()\nother.open()",
        "cache = {}\ncache[n] = 1\ncache.update(a=1)",
        "CACHE = []\nCACHE.append(1)",
        "try:\n    await charge(n)\nexcept asyncio.CancelledError:\n    await charge(0)\n    raise",
        "try:\n    await charge(n)\nexcept asyncio.CancelledError:\n    return await charge(0)",
        "try:\n    await charge(n)\nexcept Exception as error:\n    return str(error)",
        "try:\n    await charge(n)\nexcept BaseException:\n    await charge(0)\n    raise",
        "open = n\nreturn open",
        "@task\ndef inner():\n    time.sleep(1)\nreturn await inner()",
    ],
)
def test_what_is_fine_is_left_alone(body: str):
    assert found(body) == []


SHARED = """
from asyncio import Queue as Pipe
from collections import defaultdict

JOBS = asyncio.Queue(5)
PIPE: Pipe[int] = Pipe()
LOCKS = defaultdict(asyncio.Lock)
GATES = [asyncio.Semaphore(3) for _ in range(2)]
NAMES: list[str] = []
Line = asyncio.Queue
make = lambda: asyncio.Queue()

class Hub:
    closed = asyncio.Event()

def wait_until_open():
    return Hub.closed.wait()

@task
async def fetch(n: int) -> int:
    async with LOCKS[str(n)]:
        return await JOBS.get()
"""


@pytest.mark.parametrize(
    "body",
    [
        "return await JOBS.get()",
        "JOBS.put_nowait(n)",
        "async with LOCKS['a']: await charge(n)",
        "async with GATES[0]: await charge(n)",
        "await Hub.closed.wait()",
        "await wait_until_open()",
        "mine = PIPE\nreturn await mine.get()",
        "async def inner(): return await JOBS.get()\nreturn await inner()",
    ],
)
def test_what_belongs_to_one_loop_is_not_shared(body: str):
    assert found(body, helpers=SHARED) == ["shared"]
    assert "shared" in REMEDIES


@pytest.mark.parametrize(
    "body",
    [
        "return await fetch(n)",
        "JOBS = asyncio.Queue()\nreturn await JOBS.get()",
        "lock = asyncio.Lock()\nasync with lock: await charge(n)",
        "return len(NAMES)",
        "return await Line().get()",
        "return await make().get()",
        "@task\nasync def inner(): return await JOBS.get()\nreturn await inner()",
    ],
)
def test_what_a_run_or_a_task_has_for_itself_is_fine(body: str):
    assert found(body, helpers=SHARED) == []


def test_what_is_shared_is_named_with_its_lines():
    text = "import asyncio\nfrom headrace import workflow\nQ = asyncio.Queue()\n@workflow\nasync def w():\n    await Q.get()\n"
    (finding,) = check_source(text, "w.py").findings
    (held,) = check_source(text.replace("asyncio.Queue()", "[asyncio.Queue()]"), "w.py").findings
    assert held.message.startswith("Q (line 3) holds an asyncio.Queue that")
    assert (finding.line, finding.column) == (6, 11)
    assert finding.message.startswith("Q (line 3) is an asyncio.Queue that all runs of the process share")
    assert "inside of the workflow" in finding.remedy


def test_functions_that_are_called_are_looked_at_and_others_are_not():
    helpers = """
    def helper():
        return deeper()

    def deeper():
        time.sleep(1)

    def unused():
        time.sleep(1)
    """
    assert found("helper()", helpers=helpers) == ["blocking"]
    assert found("return n", helpers=helpers) == []


def test_a_comment_allows():
    assert found("time.sleep(0)  # headrace: allow") == []
    assert found("time.sleep(0)  # headrace: allow[blocking]") == []
    assert found("time.sleep(0)  # headrace: allow[thread]") == ["blocking"]
    assert found("# headrace: allow[blocking, thread] - warms a cache\ntime.sleep(0)") == []
    assert found("# headrace: allow\nx = 1\ntime.sleep(0)") == ["blocking"]


def test_a_finding_says_where_why_and_what_to_do():
    report = check_source(
        "import time\nfrom headrace import workflow\n@workflow\nasync def w():\n    time.sleep(3)\n", "w.py"
    )
    (finding,) = report.findings
    assert (finding.file, finding.line, finding.column, finding.workflow) == ("w.py", 5, 5, "w")
    assert "time.sleep()" in finding.message
    assert "asyncio.sleep" in finding.remedy
    assert report.workflows == ("w",)


def test_a_plain_function_is_no_workflow():
    text = "from headrace import workflow\n@workflow\ndef w(): pass\n"
    assert [finding.rule for finding in check_source(text, "w.py").findings] == ["not-async"]


def run(arguments: list[str]) -> int:
    return main(["check", *arguments])


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("bad.py").write_text(HEAD + "@workflow\nasync def order(n: int):\n    time.sleep(1)\n")
    Path("good.py").write_text(HEAD + "@workflow\nasync def order(n: int):\n    return await charge(n)\n")
    Path("broken.py").write_text("def x(:\n")
    assert run(["good.py"]) == 0
    assert capfd.readouterr().out == "good.py: ok, 1 workflow\n"
    assert run(["bad.py", "good.py"]) == 2
    shown = capfd.readouterr().out
    assert "bad.py:20:5: blocking: time.sleep()" in shown
    assert "asyncio.sleep" in shown
    assert "1 problem" in shown
    assert run(["broken.py"]) == 2
    assert "broken.py:1:" in capfd.readouterr().err
    assert run(["nowhere.py"]) == 2
    assert "nowhere.py" in capfd.readouterr().err
    assert run(["."]) == 2
    capfd.readouterr()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run(["good"]) == 0
    assert run(["bad.py", "-o", "json"]) == 2
    assert '"rule": "blocking"' in capfd.readouterr().out


CLASSES = """
class Clock:
    def __init__(self):
        self.started = os.getpid()

class Base:
    def read(self):
        return open("x")

class Machine(Base):
    clock: "Clock | None"

    def __init__(self, n: int):
        self.other = Other()

    def wait(self):
        time.sleep(1)

    def both(self):
        self.wait()
        super().read()

    async def go(self): ...

    @classmethod
    def made(cls):
        return cls(1).wait()

    @staticmethod
    def start():
        threading.Thread()

    def unused(self):
        subprocess.run([])

class Other:
    def sleeps(self):
        sleep(1)
"""


@pytest.mark.parametrize(
    ("rules", "body"),
    [
        ([], "Machine(n)"),
        (["surroundings"], "Clock()"),
        (["blocking"], "Machine(n).wait()"),
        (["blocking"], "machine = Machine(n)\nmachine.wait()"),
        (["blocking"], "machine = Machine(n)\nmachine.read()"),
        (["blocking", "blocking"], "machine: Machine = n\nmachine.both()"),
        (["blocking"], "Machine.made()"),
        (["thread"], "Machine.start()"),
        (["blocking"], "machine = Machine(n)\nmachine.other.sleeps()"),
        (["blocking"], "machine = Machine(n)\nfound = machine.other\nfound.sleeps()"),
        (["not-awaited"], "machine = Machine(n)\nmachine.go()"),
        ([], "machine = Machine(n)\nawait machine.go()\nmachine.missing()\nn.wait()"),
        (["blocking"], "def inside(machine: Machine):\n    machine.wait()\ninside(n)"),
    ],
)
def test_methods_of_classes_of_the_file_are_workflow_code_too(rules: list[str], body: str) -> None:
    assert found(body, helpers=CLASSES) == rules


def test_classes_that_refer_to_each_other_come_to_an_end() -> None:
    helpers = """
    class A(B):
        def __init__(self):
            self.b = B(self)
            self.me = self
        def go(self):
            self.b.go()
    class B(A):
        def __init__(self, a: A):
            self.a = a
            self.b = self.a.b
        def go(self):
            self.a.go()
            self.b.a.go()
            time.sleep(1)
    """
    assert found("A().go()", helpers=helpers) == ["blocking"]


def test_chance_that_is_the_runs_own_is_left_alone() -> None:
    assert found("import secrets\nreturn secrets.token_hex(4), random.SystemRandom().random()") == []
