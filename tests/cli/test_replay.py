"""``headrace replay`` and ``headrace check``: the code of today against stored and exported histories."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(600)

WAITS = """
import asyncio

from headrace import task, wait_for_signal, workflow


@task
async def one(n: int) -> int:
    return n


@workflow
async def waits(n: int = 1) -> str:
    await one(n)
    return f"got {await wait_for_signal('go')}"


@workflow
async def quick(n: int = 3) -> int:
    return await one(n)
"""

CHANGED = WAITS.replace("    await one(n)\n    return f", "    await asyncio.sleep(5)\n    await one(n)\n    return f")
LINE = CHANGED[: CHANGED.index("    await asyncio")].count("\n") + 1


START = """
import asyncio

from headrace import Headrace


async def main():
    async with Headrace("sqlite:///.headrace/headrace.db", adopt=False) as hr:
        run = await hr.run("flows.py:waits")
        async for view in hr.watch(run.id, interval_seconds=0.01):
            if "one" in view.tasks and view.tasks["one"].state == "succeeded":
                break
        print(run.id)


asyncio.run(main())
"""


@pytest.fixture
def work(cli):
    cli.write("flows.py", WAITS)
    cli.write("graph.yaml", "tasks:\n  a: {run: 'echo hi'}\n")
    cli("run", "graph.yaml", "-q")
    cli("run", "flows.py:quick", "-q")
    return cli


@pytest.fixture
def waiting(work):
    """A run that waits for a signal, started by a program that has ended."""
    work.write("start.py", START)
    done = subprocess.run(
        [sys.executable, "start.py"],
        cwd=work.folder,
        env=work.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_code_that_fits_replays_and_nothing_is_changed(work, waiting):
    before = work.json("runs", "list")
    assert work("replay").stdout == "ok: 1 history replayed\n"
    assert work("replay", "--all").stdout == "ok: 2 histories replayed\n"  # the graph has no code
    assert work("replay", "--workflow", "quick", "--all").stdout == "ok: 1 history replayed\n"
    assert work("replay", "--workflow", "flows.py:waits").stdout == "ok: 1 history replayed\n"
    assert work("replay", "--run", waiting).stdout == "ok: 1 history replayed\n"
    assert work.json("runs", "list") == before


def test_the_first_difference_is_shown_with_its_line(work, waiting):
    work.write("flows.py", CHANGED)
    done = work("replay", "--all", expect=1)
    assert f"{waiting} (waits) differs:" not in work("replay", "--workflow", "quick", "--all").stdout
    assert f"{waiting} (waits) differs:" in done.stdout
    assert f"flows.py:{LINE}: await asyncio.sleep(5)" in done.stdout
    assert "1 of 2 histories differs from the code" in done.stdout
    [found] = work.json("replay", expect=1)
    assert (found["run"], found["workflow"], found["ok"]) == (waiting, "waits", False)
    assert found["place"] == f"flows.py:{LINE}"
    assert found["source_line"] == "await asyncio.sleep(5)"
    assert "timer.set 1" in found["difference"]
    assert work.json("runs", "show", waiting)["state"] == "running"  # only looked at


def test_exported_histories_are_replayed_where_there_is_no_store(work, waiting, tmp_path):
    lines = work("runs", "history", waiting, "-o", "jsonl").stdout
    listed = work("runs", "history", waiting, "-o", "json").stdout
    ci = tmp_path / "ci"
    ci.mkdir()
    (ci / "flows.py").write_text(WAITS)
    (ci / "waits.jsonl").write_text(lines)
    (ci / "waits.json").write_text(listed)
    done = work("replay", "waits.jsonl", "waits.json", "-w", "flows.py:waits", cwd=ci)
    assert done.stdout == "ok: 2 histories replayed\n"
    assert not (ci / ".headrace").exists()
    (ci / "flows.py").write_text(CHANGED)
    done = work("replay", "waits.jsonl", "waits.json", "-w", "flows.py:waits", cwd=ci, expect=1)
    assert "waits.jsonl (waits) differs:" in done.stdout
    assert "2 of 2 histories differ from the code" in done.stdout
    done = work("replay", "waits.jsonl", "-w", "flows.py:waits", "-o", "json", cwd=ci, expect=1)
    assert [entry["source"] for entry in json.loads(done.stdout)] == ["waits.jsonl"]


def test_what_is_no_history_is_named_with_its_line(work, waiting):
    history = work("runs", "history", waiting, "-o", "jsonl").stdout
    work.write("tail.jsonl", history.splitlines()[1] + "\n")
    work.write("broken.jsonl", history + '{"type": "x"\n')
    work.write("list.json", "[{]")
    work.write("empty.jsonl", "\n")
    for arguments, message in (
        (("gone.jsonl",), "'gone.jsonl' cannot be read: No such file"),
        ((".",), "'.' cannot be read: Is a directory"),
        (("flows.py",), "flows.py is no history but Python code: a history holds the events of one run"),
        (("flows.py",), "headrace runs history RUN -o jsonl > FILE"),
        (("flows.py",), "against the runs of the store, without a file: headrace replay --workflow flows.py:NAME"),
        (("flows.py:waits",), "flows.py is no history but Python code"),
        (("flows.py:waits",), "headrace replay FILE --workflow flows.py:waits"),
        (("graph.yaml",), "graph.yaml is no history: a history holds"),
        (("broken.jsonl",), "broken.jsonl:3: an event is not valid JSON"),
        (("list.json",), "list.json is no list of events"),
        (("empty.jsonl",), "empty.jsonl is empty"),
        (("tail.jsonl",), "tail.jsonl: a history begins with the event run.created"),
        (("tail.jsonl", "--all"), "not both"),
        (("--run", "zzz"), "there is no run 'zzz'"),
        (("--run", waiting, "--all"), "not both"),
        (("-w", "graph"), "is a graph"),
        (("-w", "flows.py"), "say which: flows.py:waits"),
        (("-w", "nothing"), "no stored workflow named 'nothing'"),
        (("-w", "gone.py:waits"), "there is no file 'gone.py'"),
    ):
        assert message in work("replay", *arguments, expect=2).stderr, arguments


def test_a_run_whose_code_is_gone_does_not_hide_the_others(work, waiting):
    work.write("other.py", WAITS.replace("async def quick", "async def other"))
    work("run", "other.py:other", "-q")
    (work.folder / "other.py").unlink()
    work.write("flows.py", CHANGED)
    done = work("replay", "--all", expect=1)
    assert "its code cannot be loaded: there is no module 'other'" in done.stdout
    assert f"flows.py:{LINE}: await asyncio.sleep(5)" in done.stdout
    assert "2 of 3 histories differ from the code" in done.stdout


def test_check_names_the_line_and_the_remedy(work):
    assert work("check", "flows.py").stdout == "flows.py: ok, 2 workflows\n"
    work.write("bad.py", CHANGED.replace("await asyncio.sleep(5)", "open('x')"))
    done = work("check", "bad.py", expect=2)
    assert done.stdout.startswith(f"bad.py:{LINE}:5: ")
    assert "in workflow waits" in done.stdout
    assert work.json("check", "bad.py", expect=2)[0]["problems"][0]["line"] == LINE
    assert "there is no file, folder or module" in work("check", "gone.py", expect=2).stderr
