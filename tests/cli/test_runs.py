"""What commands print: shapes of documents, lists, abbreviations, text."""

import json
import os
import subprocess
import sys

import pytest
import yaml

TASK_KEYS = {"state", "attempts", "output", "error", "reason", "started_at", "ended_at"}


@pytest.fixture
def work(cli):
    """A run that succeeded, after one that failed."""
    cli.write(
        "code.py",
        "import os\n\ndef double(n):\n    print('noise on stdout')\n    os.system('echo more noise')\n    return n * 2\n\n"
        "def large():\n    return 'x' * 500_000\n\ndef broken():\n    raise ValueError('no such city')\n",
    )
    cli.write(
        "good.yaml",
        "params: {n: {type: int, default: 2}}\ntags: [nightly]\ntasks:\n"
        "  one: {python: 'code:double', with: {n: '{{ params.n }}'}}\n"
        "  each: {map: '{{ [tasks.one.output, 5] }}', python: 'code:double', with: {n: '{{ item }}'}}\n"
        "  big: {python: 'code:large'}\n",
    )
    cli.write("bad.yaml", "tasks:\n  ask: {python: 'code:broken', retries: 1}\n  then: {needs: [ask], run: 'true'}\n")
    return cli


def test_run_prints_exactly_one_object_whatever_tasks_print(work):
    done = work("run", "good.yaml", "-p", "n=3", "--tag", "team=data", "-o", "json")
    run = json.loads(done.stdout)
    assert "noise on stdout" in done.stderr
    assert "more noise" in done.stderr
    assert (run["workflow"], run["state"], run["params"]) == ("good", "succeeded", {"n": 3})
    assert run["tags"] == {"nightly": "", "team": "data"}
    assert list(run["tasks"]) == ["one", "each", "big"]
    assert set(run["tasks"]["one"]) == TASK_KEYS
    assert run["tasks"]["one"]["output"] == 6
    assert run["tasks"]["each"]["output"] == [12, 10]
    assert run["tasks"]["each"]["items"] == {"succeeded": 2}
    assert len(run["tasks"]["big"]["output"]) == 500_000  # not the reference to it
    assert run["created_at"] <= run["tasks"]["one"]["started_at"] <= run["tasks"]["one"]["ended_at"] <= run["ended_at"]
    assert run["ended_at"].endswith("Z")
    shown = work.json("runs", "show", run["id"])
    assert shown == {**run, "tasks": shown["tasks"]}
    assert shown["tasks"] == run["tasks"]


def test_a_pipe_that_takes_little_at_a_time_gets_everything(work):
    work("run", "good.yaml", "-q")
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    process = work.start("runs", "show", "-", "-o", "json", stdout=theirs)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        data = pipe.read()
    assert process.wait(30) == 0, process.communicate()
    assert len(json.loads(data)["tasks"]["big"]["output"]) == 500_000


def test_yaml_says_the_same_as_json(work):
    run = work.json("run", "good.yaml")
    assert yaml.safe_load(work("runs", "show", "-", "-o", "yaml").stdout) == run


def test_a_failed_run_shows_the_users_frames_and_what_to_do(work):
    done = work("run", "bad.yaml", expect=1)
    assert "task ask failed: ValueError: no such city" in done.stdout
    assert 'code.py", line 12, in broken' in done.stdout
    assert "headrace/" not in done.stdout.replace("headrace runs retry", "")
    run = work.json("runs", "show", "-")
    assert (run["state"], run["failed_task"]) == ("failed", "ask")
    assert run["error"]["type"] == run["tasks"]["ask"]["error"]["type"] == "ValueError"
    assert run["tasks"]["then"]["state"] == "upstream_failed"
    assert f"headrace runs retry {run['id']}" in done.stdout


def test_retry_runs_again_only_what_failed(work):
    work("run", "bad.yaml", expect=1)
    failed = work.json("runs", "show", "-")
    code = work.folder / "code.py"
    code.write_text(code.read_text().replace("raise ValueError('no such city')", "return 'mended'"))
    run = work.json("runs", "retry", failed["id"][:22])
    assert (run["id"], run["state"], run["tasks"]["ask"]["output"]) == (failed["id"], "succeeded", "mended")
    assert run["tasks"]["then"]["state"] == "succeeded"
    assert "has no task 'aks'" in work("runs", "retry", "-", "--task", "aks", expect=2).stderr


def test_lists_narrow_by_everything_and_page(work):
    for number in range(3):
        work("run", "good.yaml", "-q", "--tag", f"number={number}")
    work("run", "bad.yaml", "-q", expect=1)
    rows = work.json("runs", "list")
    assert [row["workflow"] for row in rows] == ["bad", "good", "good", "good"]
    assert [row["state"] for row in work.json("runs", "list", "--state", "failed")] == ["failed"]
    assert len(work.json("runs", "list", "--workflow", "good", "--tag", "nightly")) == 3
    [tagged] = work.json("runs", "list", "--tag", "number=1")
    assert tagged["id"] == rows[2]["id"]
    assert work.json("runs", "list", "--limit", "1", "--before", rows[1]["id"]) == [rows[2]]
    lines = work("runs", "list").stdout.splitlines()
    assert lines[0].split() == ["RUN", "WORKFLOW", "STATE", "TASKS", "CREATED", "TOOK", "TAGS"]
    assert [line.split()[0] for line in lines[1:]] == [row["id"] for row in rows]
    assert "--state faild" in work("runs", "list", "--state", "faild", expect=2).stderr


def test_ids_can_be_short_and_the_latest_has_names(work):
    first = work.json("run", "good.yaml")["id"]
    second = work.json("run", "good.yaml")["id"]
    assert work.json("runs", "show", first[:24].upper())["id"] == first
    for name in ("-", "last", "@last"):
        assert work.json("runs", "show", name)["id"] == second
    assert "could be 2 runs" in work("runs", "show", first[:4], expect=2).stderr
    assert "there is no run 'zzz'" in work("runs", "show", "zzz", expect=2).stderr


def test_a_stored_workflow_runs_by_name_from_any_folder(work):
    work("run", "good.yaml", "-q")
    [stored] = work.json("workflows")
    assert (stored["name"], stored["tasks"]) == ("good", 3)
    elsewhere = work.folder / "elsewhere"
    elsewhere.mkdir()
    store = f"sqlite:///{work.folder}/.headrace/headrace.db"
    done = work("run", "good", "-o", "json", "--store", store, cwd=elsewhere)
    assert json.loads(done.stdout)["state"] == "succeeded"
    assert "stored workflows: good" in work("run", "god", expect=2).stderr


def test_logs_are_those_of_the_attempts(cli):
    cli.write("w.yaml", "tasks:\n  a: {run: 'echo from a'}\n  b: {map: [1, 2], run: 'echo item {{ item }}'}\n")
    cli("run", "w.yaml", "-q")
    assert cli("runs", "logs", "-").stdout == (
        "==> a, attempt 1 <==\nfrom a\n==> b[0], attempt 1 <==\nitem 1\n==> b[1], attempt 1 <==\nitem 2\n"
    )
    assert cli("runs", "logs", "-", "a", "--follow").stdout == "==> a, attempt 1 <==\nfrom a\n"
    assert [entry["item"] for entry in cli.json("runs", "logs", "-", "b")] == [0, 1]
    assert "did you mean 'a'?" in cli("runs", "logs", "-", "A", expect=2).stderr


def test_what_task_code_warns_of_is_shown_and_kept_with_the_attempt(cli):
    cli.write(
        "talk.py",
        """
import logging
log = logging.getLogger("shop")
def plain(n):
    log.info("plain, by the way")
    log.warning("plain %s", n)
async def inline(n):
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("inline %s", n)
log.warning("said while it is imported")
""",
    )
    cli.write(
        "talk.yaml",
        "tasks:\n  a: {map: [1, 2], python: 'talk:plain', with: {n: '{{ item }}'}}\n"
        "  b: {python: 'talk:inline', with: {n: 3}}\n",
    )
    said = cli("run", "talk.yaml", "-q").stderr
    assert sorted(line for line in said.splitlines() if "plain" in line) == ["warning: plain 1", "warning: plain 2"]
    assert "error: inline 3 error=division by zero" in said
    assert "said while" not in said, "what libraries warn of is for --verbose"
    first, second, third = [entry["text"] for entry in cli.json("runs", "logs", "-")]
    assert (first, second) == ("WARNING shop: plain 1\n", "WARNING shop: plain 2\n")
    assert third.startswith("ERROR shop: inline 3\nTraceback")
    assert third.endswith("ZeroDivisionError: division by zero\n")


def test_a_run_that_succeeded_has_nothing_to_run_again(work):
    work("run", "good.yaml", "-q")
    refused = work("runs", "resume", "-", expect=2).stderr
    assert "it has ended (succeeded)" in refused
    assert "runs retry" not in refused


def test_show_names_every_task_and_item(work):
    work("run", "good.yaml", "-q")
    lines = work("runs", "show", "-", "--items").stdout.splitlines()
    assert lines[0] == "good succeeded"
    assert any("✓ one" in line and line.endswith("4") for line in lines)
    assert any("✓ [1]" in line for line in lines)
    assert any("✓ big" in line and line.endswith("(500,002 bytes; all of it: -o json)") for line in lines)
    assert work.json("runs", "show", "-", "--items")["tasks"]["each"]["item_list"][1]["output"] == 10


def test_parameters_from_a_file_keep_their_types_and_yield_to_the_command_line(cli):
    cli.write(
        "w.yaml", "params: {a: any, b: any, c: {type: int}}\ntasks: {t: {run: 'true'}}\n".replace("any", "{type: any}")
    )
    cli.write("p.yaml", "a: '5'\nb: '5'\nc: 1\n")
    run = cli.json("run", "w.yaml", "--params-file", "p.yaml", "-p", "b=5", "-p", "c=7")
    assert run["params"] == {"a": "5", "b": 5, "c": 7}
    cli.write("p.json", '{"a": 1, "b": [2], "c": 3}')
    assert cli.json("run", "w.yaml", "--params-file", "p.json")["params"] == {"a": 1, "b": [2], "c": 3}


def test_graph_draws_files_stored_workflows_and_runs(work):
    text = "bad (2 tasks)\n└─ ask  [python]\n   ↓  then  [run]\n"
    assert work("graph", "bad.yaml").stdout == text
    assert not (work.folder / ".headrace").exists()
    work("run", "bad.yaml", "-q", expect=1)
    assert work("graph", "bad").stdout == text
    assert "✗ ask" in work("graph", "--run", "-").stdout
    assert work("graph", "bad.yaml", "--format", "mermaid").stdout.startswith("flowchart TD\n")
    assert "not both" in work("graph", expect=2).stderr
    shown = work.json("graph", "--run", "-")
    assert shown["workflow"] == "bad"
    assert [(task["id"], task["needs"], task["state"]) for task in shown["tasks"]] == [
        ("ask", [], "failed"),
        ("then", ["ask"], "upstream_failed"),
    ]
    assert "state" not in work.json("graph", "bad.yaml")["tasks"][0]


def test_schema_accepts_what_run_accepts(work):
    import jsonschema

    schema = json.loads(work("schema").stdout)
    for name in ("good.yaml", "bad.yaml"):
        jsonschema.validate(yaml.safe_load((work.folder / name).read_text()), schema)


def test_delete_keeps_what_is_young(work):
    work("run", "good.yaml", "-q")
    assert work("runs", "delete", "--older-than", "1h").stdout == "0 runs deleted\n"
    assert "--older-than" in work("runs", "delete", "--older-than", "soon", expect=2).stderr
    assert work.json("runs", "delete", "--older-than", "0s") == {"deleted": 1}
    assert work.json("runs", "list") == []


def test_version_and_help_are_quick_to_read(cli):
    import headrace

    for arguments in (["--version"], ["version"]):
        assert cli(*arguments).stdout == f"headrace {headrace.__version__}\n"
    text = cli("--help").stdout
    for word in ("run", "validate", "graph", "runs", "schema", "bench", "Exit codes", "130"):
        assert word in text


def test_help_imports_neither_the_engine_nor_what_draws(cli):
    code = (
        "import sys\nfrom headrace.cli.main import main\nmain(['--help'])\n"
        "print([name for name in ('rich', 'httpx', 'yaml', 'jinja2', 'sqlite3', 'headrace.assembly') if name in sys.modules],"
        " file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_the_log_can_be_asked_for(work):
    assert "headrace" not in work("run", "good.yaml", "-q").stderr
    refused = work("run", "good.yaml", env={"HEADRACE_LOG": "loud"}, expect=2)
    assert "HEADRACE_LOG: log.level: expected one of debug, info, warning, error, not 'loud'" in refused.stderr
