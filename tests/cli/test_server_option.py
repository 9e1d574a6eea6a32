"""``--server``: the commands about runs, asked of a node over real HTTP instead of a store."""

import json
import signal
import subprocess
import sys

import pytest
from worker_stage import Stage, wait_until

USER = "u" * 32
CODE = """\
from headrace import query, signal, update, wait_until, workflow


@workflow
async def order(name: str = "cup") -> list[str]:
    items, closed = [name], False

    @signal
    def close(by: str = "") -> None:
        nonlocal closed
        closed = True

    @query
    def content() -> list[str]:
        return items

    @update
    async def add(item: str) -> int:
        items.append(item)
        return len(items)

    await wait_until(lambda: closed)
    return items
"""
GREET = """\
name: greet
params:
  who: {type: str, default: world}
  times: {type: int, default: 1}
tasks:
  hello: {run: 'echo "hello {{ params.who }}"'}
  bye: {run: echo bye, needs: hello}
"""
HELD = """\
name: held
tasks:
  wait: {run: 'while ! test -e GATE; do sleep 0.02; done'}
"""


class Served(Stage):
    """The stage, with tokens for users; commands get the server from their environment."""

    def configure(self, lease: str = "60s") -> None:
        self.elsewhere = self.cli.folder / "elsewhere"  # no configuration, no store
        self.elsewhere.mkdir()
        self.cli.write("greet.yaml", GREET)
        self.cli.write("held.yaml", HELD.replace("GATE", str(self.gate)))
        self.cli.write("code.py", CODE)
        self.cli.write("users", f"author:{USER}\nviewer:{'v' * 32}\n")
        self.cli.write("user", USER + "\n")
        self.cli.write("viewer", "v" * 32)
        self.cli.write(
            "headrace.toml",
            'workflows = ["greet.yaml", "held.yaml", "code.py"]\n[node]\nname = "mill"\ndrain = "0s"\n[server]\n'
            f'listen = "127.0.0.1:{self.port}"\napi_tokens = {{file = "users"}}\n',
        )

    def __call__(self, *arguments, expect=0, **options):
        env = {"HEADRACE_SERVER": self.url, "HEADRACE_API_TOKEN": USER} | options.pop("env", {})
        return self.cli(*arguments, expect=expect, cwd=self.elsewhere, env=env, **options)

    def json(self, *arguments, expect=0):
        return json.loads(self(*arguments, "-o", "json", expect=expect).stdout)


@pytest.fixture
def served(cli):
    made = Served(cli)
    made.up()
    yield made
    made.end()


def test_a_run_is_started_followed_and_looked_at(served):
    done = served("run", "greet", "-p", "who=you", "-p", "times=2", "--tag", "a=b")
    assert "greet succeeded" in done.stdout
    assert "hello" in done.stderr
    shown = served.json("runs", "show", "-")
    assert (shown["params"], shown["tags"]) == ({"who": "you", "times": 2}, {"a": "b"})
    assert shown == served.cli.json("runs", "show", "-")
    assert "hello you" in served("runs", "show", "-").stdout
    assert served.json("runs", "list", "--where", "tag.a = 'b'") == served.cli.json("runs", "list")
    assert "tag 'aa'" in served("runs", "list", "--where", "tag.aa = 'b'").stderr
    assert served("runs", "logs", "-", "hello").stdout == "==> hello, attempt 1 <==\nhello you\n"
    assert "hello you" in served("runs", "logs", "-", "--follow").stdout
    assert (
        served("runs", "history", "-", "-o", "jsonl").stdout == served.cli("runs", "history", "-", "-o", "jsonl").stdout
    )
    assert "has ended: succeeded" in served("runs", "why", "-").stdout
    assert served.json("workflows") == served.cli.json("workflows")
    assert "greet" in served("workflows").stdout
    assert [node["id"] for node in served.json("nodes")] == ["mill"]
    assert served.json("locks") == served.cli.json("locks")
    assert "headrace.leader" in served("locks").stdout
    assert not (served.elsewhere / ".headrace").exists()


def test_commands_reach_a_run(served):
    run = served("run", "held", "--no-wait", "--key", "k").stdout.strip()
    conflict = served("run", "held", "--no-wait", "--key", "k", expect=2)
    assert run in conflict.stderr
    assert "wait" in served("runs", "why", run).stdout
    assert "paused" in served("runs", "pause", run).stdout
    assert served("runs", "resume", run, "--no-wait").stdout.strip() == run
    assert served.json("runs", "show", run)["state"] == "running"
    served.gate.touch()
    wait_until(lambda: served.json("runs", "show", run)["state"] == "succeeded", "the end")
    refused = served("runs", "cancel", run, expect=2)
    assert "has ended" in refused.stderr
    served.gate.unlink()
    second = served("run", "held", "--no-wait").stdout.strip()
    assert served.json("runs", "cancel", second)["id"] == second
    wait_until(lambda: served.json("runs", "show", second)["state"] == "cancelled", "the end")
    served.gate.touch()
    assert "held succeeded" in served("runs", "retry", second).stdout


def test_code_is_talked_to(served):
    run = served("run", "order", "-p", "name=jug", "--no-wait").stdout.strip()
    assert served.json("runs", "query", run, "content") == ["jug"]
    assert served.json("runs", "update", run, "add", "pot") == 2
    assert f"run {run} (order):" in served("runs", "signal", run, "close", "me").stdout
    wait_until(lambda: served.json("runs", "show", run)["state"] == "succeeded", "the end")
    fork = json.loads(served("runs", "fork", run, "--to-event", "1", "--no-wait", "-o", "json").stdout)["id"]
    assert "terminated" in served("runs", "terminate", fork).stdout


def test_ctrl_c_leaves_the_run_to_the_server(served):
    process = served.cli.start("run", "held", "--server", served.url, "--token-file", "user")
    wait_until(lambda: served.json("runs", "list"), "a run")
    run = served.json("runs", "list")[0]["id"]
    wait_until(lambda: served.json("runs", "show", run)["tasks"]["wait"]["state"] == "running", "running")
    line = process.stderr.readline()  # it is being shown
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, line + said
    assert f"run {run} goes on at the server" in said
    assert served.json("runs", "show", run)["state"] == "running"


def test_a_file_is_sent_along_by_an_author(served):
    served.cli.write("elsewhere/own.yaml", GREET.replace("greet", "own"))
    assert "own succeeded" in served("run", "own.yaml").stdout
    served.cli.write("elsewhere/bad.yaml", "name: bad\ntasks:\n  a: {run: 'true', needs: b}\n")
    assert "workflow:3:27: unknown task 'b'" in served("run", "bad.yaml", expect=2).stderr
    assert "configuration" in served("run", "code.py", expect=2).stderr


def test_users_change_while_the_node_is_up(served):
    assert served.json("runs", "list") == []
    fresh = "n" * 32
    served.cli.write("users", f"operator:{fresh}\n")
    wait_until(lambda: "refused the token" in served_says(served, USER), "the old token being refused")
    assert served_says(served, fresh) == ""
    served.cli.write("users", "nobody:short\n")
    wait_until(lambda: "the new configuration was refused" in served.said("up"), "a bad file being refused")
    assert "nobody" not in served.said("up")
    assert served_says(served, fresh) == ""
    text = (served.cli.folder / "headrace.toml").read_text()
    (served.cli.folder / "headrace.toml").write_text(
        text.replace('api_tokens = {file = "users"}', 'api_open = "viewer"')
    )
    wait_until(lambda: served_says(served, "") == "", "the server being open")
    done = served("run", "greet", expect=2, env={"HEADRACE_API_TOKEN": ""})
    assert "role operator" in done.stderr


def served_says(served, token: str) -> str:
    """What is said to whoever has that token and lists runs."""
    env = {**served.cli.env, "HEADRACE_SERVER": served.url, "HEADRACE_API_TOKEN": token}
    command = [sys.executable, "-m", "headrace.cli", "runs", "list"]
    return subprocess.run(
        command, cwd=served.elsewhere, env=env, capture_output=True, text=True, timeout=60, check=False
    ).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runs", "list", "--server", "ftp://x"], "is no server's address"),
        (["runs", "list", "--server", "http://127.0.0.1:1", "--store", "sqlite:///x.db"], "exclude each other"),
        (["runs", "list", "--token-file", "user"], "are for --server"),
        (["runs", "list", "--server", "SERVER"], "refused the token"),
        (["runs", "list", "--server", "SERVER", "--token-file", "none"], "cannot be read"),
        (["runs", "cancel", "-", "--server", "SERVER", "--token-file", "viewer"], "there are no runs yet"),
        (["run", "greet", "--server", "SERVER", "--token-file", "viewer"], "role operator"),
        (["run", "gret", "--server", "SERVER", "--token-file", "user"], "did you mean 'greet'?"),
        (["run", "greet", "-p", "times=x", "--server", "SERVER", "--token-file", "user"], "times: "),
        (["runs", "show", "zzz", "--server", "SERVER", "--token-file", "user"], "there is no run 'zzz'"),
        (["runs", "resume", "--all", "--server", "SERVER", "--token-file", "user"], "--all is for a store"),
    ],
)
def test_what_cannot_be_meant_is_refused(served, arguments, said):
    given = [served.url if one == "SERVER" else one for one in arguments]
    assert said in served.cli(*given, expect=2).stderr


def test_runs_are_not_deleted_elsewhere_than_meant(served):
    assert "HEADRACE_SERVER is set" in served("runs", "delete", "--older-than", "0s", expect=2).stderr
