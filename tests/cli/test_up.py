"""``headrace up`` in processes of its own: serving, changes, an orderly end, several nodes, crashes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

BOUND = 90.0
"""Seconds for what must happen; the machine may be busy and its disk slow."""

pytestmark = pytest.mark.timeout(600)  # a dozen processes, one after the other

HELD = """\
name: held
tasks:
  held: {run: 'echo began >> TRACE; while ! test -e GATE; do sleep 0.02; done; echo ended >> TRACE'}
  after: {needs: [held], run: 'echo after >> TRACE'}
"""


def wait_until(condition, what: str = "it", seconds: float = BOUND):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen in time"
        time.sleep(0.02)
    return found


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class Server:
    """``headrace up`` in the test's folder."""

    def __init__(self, cli, *arguments: object, **options) -> None:
        self.cli = cli
        self.log = cli.folder / "up.log"
        self.ready = cli.folder / "ready"
        with self.log.open("ab") as output:
            self.process = cli.start(
                "up", "--ready-file", self.ready, *arguments, stdout=output, stderr=output, **options
            )

    def until_ready(self) -> "Server":
        wait_until(lambda: self.ready.exists() or self.process.poll() is not None, "being ready")
        assert self.process.poll() is None, self.said
        return self

    @property
    def said(self) -> str:
        return self.log.read_text()

    def until_said(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self.said.count(text) >= times or self.process.poll() is not None, f"saying {text!r}")
        assert self.said.count(text) >= times, self.said

    def end(self, number: int = signal.SIGTERM, expect: int = 0) -> str:
        self.process.send_signal(number)
        assert self.process.wait(BOUND) == expect, self.said
        return self.said

    def nodes(self) -> list[dict]:
        """What runs here, by ``config show --running``."""
        done = self.cli("config", "show", "--running", "-o", "json")
        return json.loads(done.stdout)

    def slots(self) -> dict:
        [node] = self.nodes()
        return node["slots"]


@pytest.fixture
def serve(cli):
    servers: list[Server] = []

    def start(*arguments: object, **options) -> Server:
        servers.append(Server(cli, *arguments, **options))
        return servers[-1]

    yield start
    (cli.folder / "gate").touch()  # whatever still waits may end
    for server in servers:
        for _ in range(2):
            if server.process.poll() is None:
                server.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.process.wait(5)
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(BOUND)


@pytest.fixture
def held(cli):
    trace, gate = cli.folder / "trace", cli.folder / "gate"
    cli.write("held.yaml", HELD.replace("TRACE", str(trace)).replace("GATE", str(gate)))
    return trace


def marks(trace: Path) -> list[str]:
    return trace.read_text().split() if trace.exists() else []


# ---- serving ---------------------------------------------------------------------------------------------------------


def test_a_node_that_is_up_carries_out_what_others_start(cli, serve, held):
    cli.write("headrace.toml", 'workflows = ["held.yaml"]\n[node]\nname = "mill"\n')
    server = serve().until_ready()
    assert server.ready.read_text() == f"{server.process.pid}\n"
    (cli.folder / "gate").touch()
    done = cli("run", "held", "--no-wait")  # by name: the file's workflow was stored
    assert "node mill carries it out" in done.stderr
    wait_until(lambda: marks(held) == ["began", "ended", "after"], "the run's end")
    wait_until(lambda: cli.json("runs", "list")[0]["state"] == "succeeded", "the run's end")
    said = server.end()
    assert not server.ready.exists()
    assert "the node is up" in said
    assert "store=sqlite:///.headrace/headrace.db" in said
    assert not (cli.folder / ".headrace/headrace.db.files/background").exists()  # nobody else was started


def test_a_node_that_is_up_takes_over_what_a_killed_command_left(cli, serve, held):
    command = cli.start("run", "held.yaml")
    wait_until(lambda: marks(held) == ["began"], "the task's start")
    command.kill()
    command.communicate()
    (cli.folder / "gate").touch()
    server = serve().until_ready()
    wait_until(lambda: cli.json("runs", "list")[0]["state"] == "succeeded", "the run's end")
    assert marks(held)[-1] == "after"
    server.end()


def test_the_log_is_json_and_the_store_is_shown_without_its_password(cli, serve):
    cli.write("headrace.toml", '[log]\nformat = "json"\n[node]\nname = "n"\n')
    cli.write("bad.yaml", "tasks: {a: {rn: 'true'}}\n")
    cli.write("good.yaml", "tasks: {a: {run: 'true'}}\n")
    server = serve("bad.yaml", "good.yaml").until_ready()  # one bad file keeps nobody from being served
    lines = [json.loads(line) for line in server.end().splitlines()]
    assert {line["node"] for line in lines} == {"n"}
    by_message = {line["message"]: line for line in lines}
    assert by_message["a workflow file cannot be used"]["file"] == "bad.yaml"
    assert "bad.yaml:1:" in by_message["a workflow file cannot be used"]["error"]
    assert by_message["the node is up"]["workflows"] == ["good"]
    assert by_message["the node is up"]["level"] == "info"
    done = cli("up", "--store", "postgresql://me:hunter2@127.0.0.1:1/x", expect=2)
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "slots.threads=none"], "--set slots.threads: expected a whole number"),
        (["--config", "gone.toml"], "there is no configuration file 'gone.toml'"),
        (["--store", "nosuch://x"], "there is no store for nosuch://"),
        (["--nodes", "2", "--store", "memory://"], "--nodes 2 needs a store that several processes can open"),
        (["--nodes", "0"], "--nodes"),
        (["--nodes", "2", "--store", "sqlite:////proc/nowhere/x.db"], "giving up"),
    ],
)
def test_what_cannot_be_served_is_refused(cli, arguments, said):
    done = cli("up", *arguments, expect=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_service_manager_is_told(cli, serve, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(BOUND)
        cli.env["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        server = serve()
        assert listener.recv(1000).decode().startswith(f"READY=1\nMAINPID={server.process.pid}\n")
        server.process.send_signal(signal.SIGHUP)
        assert listener.recv(1000).decode().startswith("RELOADING=1\n")
        assert listener.recv(1000).decode().startswith("READY=1\n")
        server.process.terminate()
        assert listener.recv(1000) == b"STOPPING=1"
        assert server.process.wait(BOUND) == 0


# ---- changes ---------------------------------------------------------------------------------------------------------


def edit(path: Path, text: str) -> None:
    path.write_text(text)


def rename_over(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


@pytest.mark.parametrize("change", [edit, rename_over])
def test_a_changed_file_is_in_force_without_a_signal(cli, serve, change):
    path = cli.write("headrace.toml", "[slots]\nthreads = 3\n")
    server = serve().until_ready()
    assert server.slots()["thread"] == 3
    change(path, '[slots]\nthreads = 11\n[log]\nlevel = "info"\n')
    wait_until(lambda: server.slots()["thread"] == 11, "the change")
    server.end()


def test_a_config_map_that_is_exchanged_is_in_force(cli, serve):
    for name, threads in (("one", 3), ("two", 4)):
        (cli.folder / f"..{name}").mkdir()
        cli.write(f"..{name}/headrace.toml", f"[slots]\nthreads = {threads}\n")
    (cli.folder / "..data").symlink_to("..one")
    (cli.folder / "headrace.toml").symlink_to("..data/headrace.toml")
    server = serve().until_ready()
    assert server.slots()["thread"] == 3
    (cli.folder / "..tmp").symlink_to("..two")
    (cli.folder / "..tmp").rename(cli.folder / "..data")
    wait_until(lambda: server.slots()["thread"] == 4, "the change")
    server.end()


def test_a_signal_reads_everything_again(cli, serve):
    cli.write("headrace.toml", "[slots]\nthreads = 3\n")
    server = serve("--set", "slots.http=7").until_ready()
    cli.write("headrace.toml", "[slots]\nthreads = 4\nhttp = 1\n")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.slots()["thread"] == 4, "the change")
    assert server.slots()["http"] == 7  # the command line still wins
    server.end()


def test_a_bad_configuration_is_refused_and_the_old_one_stays(cli, serve):
    cli.write("headrace.toml", "[slots]\nthreads = 3\n")
    server = serve().until_ready()
    cli.write("headrace.toml", "[slots]\nthreads = 9\nthreds = 4\n")
    server.until_said("the new configuration was refused; the old one stays in force")
    assert "headrace.toml:3:1: unknown key 'threds'" in server.said
    wait_until(lambda: server.nodes()[0]["reload"], "the status")
    [node] = server.nodes()
    assert node["reload"]["outcome"] == "refused"
    assert "did you mean 'threads'?" in node["reload"]["problem"]
    assert node["slots"]["thread"] == 3
    shown = cli("config", "show", "--running").stdout  # works while the file is broken
    assert "REFUSED" in shown
    assert "headrace.toml:3:1" in shown
    cli.write("headrace.toml", '[slots]\nthreads = 9\n[node]\nname = "other"\n')
    wait_until(lambda: server.slots()["thread"] == 9, "the mended change")
    server.until_said("these changes need a restart")
    [node] = server.nodes()
    assert node["reload"]["needs_restart"] == ["node.name"]
    assert "needs a restart: node.name" in cli("config", "show", "--running").stdout
    server.end()


def test_a_changed_workflow_file_has_a_new_version_for_new_runs(cli, serve):
    cli.write("w.yaml", "tasks: {a: {run: 'echo one'}}\noutput: '{{ tasks.a.output }}'\n")
    server = serve("w.yaml").until_ready()
    before = cli.json("workflows")[0]["version"]
    cli.write("w.yaml", "tasks: {a: {run: 'echo twice'}}\noutput: '{{ tasks.a.output }}'\n")
    wait_until(lambda: cli.json("workflows")[0]["version"] != before, "the new version")
    assert cli.json("run", "w")["output"] == "twice"
    version = cli.json("workflows")[0]["version"]
    cli.write("w.yaml", "tasks: {a: {rn: 'echo broken'}}\n")
    server.until_said("a workflow file cannot be used")
    assert cli.json("workflows")[0]["version"] == version
    [served] = server.nodes()[0]["workflows"]
    assert served["workflows"] == ["w"]
    assert "'rn'" in served["problem"]
    server.end()


def test_changed_python_is_imported_again(cli, serve):
    text = (
        "from headrace import dag, task\n@task(executor='EXECUTOR')\ndef say() -> str: return 'WORD'\n"
        "with dag('w') as w: say()\n"
    )
    for executor in ("thread", "process"):
        cli.write(
            f"{executor}.py", text.replace("EXECUTOR", executor).replace("'w'", f"'{executor}'").replace("WORD", "old")
        )
    server = serve("thread.py", "process.py").until_ready()
    assert "cannot be used" not in server.said

    def output(workflow: str) -> str:
        run_id = cli("run", workflow, "--no-wait").stdout.strip()
        wait_until(lambda: cli.json("runs", "show", run_id)["state"] == "succeeded", "the run's end")
        return cli.json("runs", "show", run_id)["tasks"]["say"]["output"]

    assert [output("thread"), output("process")] == ["old", "old"]
    for executor in ("thread", "process"):
        path = cli.folder / f"{executor}.py"
        path.write_text(path.read_text().replace("'old'", "'newer'"))
    server.until_said("the configuration was read again")
    server.process.send_signal(signal.SIGHUP)
    server.until_said("workflow_files=['thread.py', 'process.py']")
    assert [output("thread"), output("process")] == ["newer", "newer"]
    server.end()


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_sigterm_lets_what_is_under_way_end_and_hands_the_rest_over(cli, serve, held):
    server = serve("--set", "node.drain=10m").until_ready()
    cli("run", "held.yaml", "--no-wait")
    wait_until(lambda: marks(held) == ["began"], "the task's start")
    server.process.terminate()
    server.until_said("the node stops")
    (cli.folder / "gate").touch()
    assert server.process.wait(BOUND) == 0
    assert marks(held) == ["began", "ended"]  # nothing new was started
    again = serve().until_ready()
    wait_until(lambda: marks(held) == ["began", "ended", "after"], "the rest of the run")
    again.end()


def test_attempts_that_outlast_the_drain_time_are_stopped_and_tried_again(cli, serve, held):
    server = serve("--set", "node.drain=100ms").until_ready()
    cli("run", "held.yaml", "--no-wait")
    wait_until(lambda: marks(held) == ["began"], "the task's start")
    server.end()
    assert marks(held) == ["began"]
    (cli.folder / "gate").touch()
    again = serve().until_ready()
    wait_until(lambda: marks(held) == ["began", "began", "ended", "after"], "the second try")
    again.end()


def test_a_second_signal_stops_attempts_and_says_so(cli, serve, held):
    server = serve("--set", "node.drain=10m").until_ready()
    cli("run", "held.yaml", "--no-wait")
    wait_until(lambda: marks(held) == ["began"], "the task's start")
    server.process.send_signal(signal.SIGINT)
    server.until_said("the node stops")
    server.end(signal.SIGINT, expect=130)
    assert "attempts under way are stopped" in server.said
    assert marks(held) == ["began"]


# ---- roles -----------------------------------------------------------------------------------------------------------


def test_an_engine_leaves_all_attempts_to_workers_and_watchers_do_neither(cli, serve, held):
    engine = serve("--ready-file", "engine-ready", "--set", "node.role=engine", "--set", "node.name=engine")
    wait_until((cli.folder / "engine-ready").exists, "the engine's being ready")
    watcher = serve("--ready-file", "watcher-ready", "--set", "node.role=watcher", "--set", "node.name=watcher")
    wait_until((cli.folder / "watcher-ready").exists, "the watcher's being ready")
    run_id = cli("run", "held.yaml", "--no-wait").stdout.strip()
    wait_until(lambda: cli.json("queues") and cli.json("queues")[0]["waiting"] == 1, "the offer")
    assert marks(held) == []
    worker = serve("--set", "node.role=worker", "--set", "node.name=hand", "--set", "node.labels.zone=a").until_ready()
    wait_until(lambda: marks(held) == ["began"], "the task's start")
    assert cli.json("queues")[0]["claimed"] == 1
    (cli.folder / "gate").touch()
    wait_until(lambda: cli.json("runs", "show", run_id)["state"] == "succeeded", "the run's end")
    assert marks(held) == ["began", "ended", "after"]
    for server in (worker, watcher, engine):
        server.end()


# ---- several nodes ---------------------------------------------------------------------------------------------------


def test_several_nodes_are_kept_up_and_end_together(cli, serve):
    cli.write("headrace.toml", '[node]\nname = "mill"\n')
    cli.write("w.yaml", "tasks: {a: {run: 'true'}}\n")
    server = serve("w.yaml", "--nodes", 3).until_ready()
    before = {node["node"]: node["pid"] for node in server.nodes()}
    assert list(before) == ["mill-1", "mill-2", "mill-3"]
    assert server.process.pid not in before.values()
    os.kill(before["mill-2"], signal.SIGKILL)
    server.until_said("how=killed by SIGKILL")
    wait_until(lambda: len(server.nodes()) == 3, "the restart")
    after = {node["node"]: node["pid"] for node in server.nodes()}
    assert after["mill-2"] != before["mill-2"]
    assert (after["mill-1"], after["mill-3"]) == (before["mill-1"], before["mill-3"])
    run_id = cli("run", "w", "--no-wait").stdout.strip()
    wait_until(lambda: cli.json("runs", "show", run_id)["state"] == "succeeded", "the run's end")
    server.process.send_signal(signal.SIGHUP)
    server.until_said("the configuration was read again", times=3)
    server.end()
    assert not any(is_alive(pid) for pid in after.values())
    assert not server.ready.exists()


def test_nodes_do_not_outlive_a_killed_supervisor(cli, serve, held):
    server = serve("--nodes", 2, "--set", "node.drain=100ms").until_ready()
    cli("run", "held.yaml", "--no-wait")
    wait_until(lambda: marks(held) == ["began"], "the task's start")
    pids = [node["pid"] for node in server.nodes()]
    server.process.kill()
    server.process.wait(BOUND)
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "the nodes' end")
    assert "the supervisor is gone; the node stops" in server.said
    [row] = cli.json("runs", "list")
    assert row["interrupted"] is True  # and goes on with whoever is up next
