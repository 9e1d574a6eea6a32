"""``headrace worker --server`` and ``headrace up`` that serves it, in processes of their own, over real HTTP."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time

import pytest

TOKEN = "0123456789abcdef0123456789abcdef"
BOUND = 90.0

HELD = """\
name: held
tasks:
  far:
    queue: gpu
    run: |
      echo began >> TRACE
      number=$(grep -c began TRACE)
      while ! test -e GATE; do sleep 0.02; done
      echo ended >> TRACE
      echo $number
"""
"""Its output says which delivery it was."""


def wait_until(condition, what: str = "it", seconds: float = BOUND):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen in time"
        time.sleep(0.02)
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Stage:
    """A node that serves workers, and workers, in the test's folder."""

    def __init__(self, cli) -> None:
        self.cli = cli
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.trace, self.gate = cli.folder / "trace", cli.folder / "gate"
        self.processes: list[subprocess.Popen] = []
        cli.write("held.yaml", HELD.replace("TRACE", str(self.trace)).replace("GATE", str(self.gate)))
        cli.write("token", TOKEN + "\n")
        (cli.folder / "token").chmod(0o600)
        self.configure()

    def configure(self, lease: str = "60s") -> None:
        self.cli.write(
            "headrace.toml",
            'workflows = ["held.yaml"]\n[node]\nname = "mill"\ndrain = "0s"\n[server]\n'
            f'worker_lease = "{lease}"\n'
            f'listen = "127.0.0.1:{self.port}"\nworker_tokens = {{file = "token"}}\n',
        )

    def start(self, name: str, *arguments: object) -> subprocess.Popen:
        with (self.cli.folder / f"{name}.log").open("ab") as log:
            self.processes.append(self.cli.start(*arguments, stdout=log, stderr=log))
        return self.processes[-1]

    def up(self) -> subprocess.Popen:
        ready = self.cli.folder / "ready"
        process = self.start("up", "up", "--ready-file", ready)
        wait_until(lambda: ready.exists() or process.poll() is not None, "being ready")
        assert process.poll() is None, self.said("up")
        return process

    def worker(self, name: str, *urls: str) -> subprocess.Popen:
        (self.cli.folder / name).mkdir(exist_ok=True)
        servers = [part for url in urls or (self.url,) for part in ("--server", url)]
        process = self.start(
            name, "worker", *servers, "--token-file", "token", "--name", name, "--queue", "gpu",
            "--data-dir", name, "-v",
        )  # fmt: skip
        wait_until(lambda: f"worker remote:{name} serves" in self.said(name) or process.poll() is not None, "serving")
        assert process.poll() is None, self.said(name)
        return process

    def cli_with(self, token_file: str) -> int:
        """Start a worker with a token and stop it once it serves; its exit code."""
        (self.cli.folder / "probe.log").write_text("")
        process = self.start("probe", "worker", "--server", self.url, "--token-file", token_file)
        wait_until(lambda: "serves default" in self.said("probe") or process.poll() is not None, "serving")
        process.terminate()
        return process.wait(BOUND)

    def said(self, name: str) -> str:
        return (self.cli.folder / f"{name}.log").read_text()

    def marks(self) -> list[str]:
        return self.trace.read_text().split() if self.trace.exists() else []

    def run(self) -> str:
        return self.cli("run", "held", "--no-wait").stdout.strip()

    def show(self, run_id: str) -> dict:
        return self.cli.json("runs", "show", run_id)

    def until_ended(self, run_id: str) -> dict:
        return wait_until(lambda: (found := self.show(run_id))["state"] in ("succeeded", "failed") and found, "the end")

    def end(self) -> None:
        self.gate.touch()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            if process.poll() is None:
                process.kill()
                process.wait(30)


@pytest.fixture
def stage(cli):
    made = Stage(cli)
    yield made
    made.end()


def test_a_worker_without_the_store_carries_out_what_a_node_offers(stage):
    stage.up()
    worker = stage.worker("w1")
    run_id = stage.run()
    wait_until(lambda: stage.marks() == ["began"], "the attempt")
    stage.gate.touch()
    assert stage.until_ended(run_id)["state"] == "succeeded"
    assert stage.marks() == ["began", "ended"]
    assert list((stage.cli.folder / "w1" / "logs").iterdir())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(BOUND) == 0, stage.said("w1")


def test_what_a_killed_worker_had_is_offered_again(stage):
    stage.configure(lease="5s")
    stage.up()
    first = stage.worker("w1")
    run_id = stage.run()
    wait_until(lambda: stage.marks() == ["began"], "the attempt")
    stage.worker("w2")
    first.kill()
    first.wait(BOUND)
    wait_until(lambda: stage.marks() == ["began", "began"], "the second delivery")
    stage.gate.touch()
    assert stage.until_ended(run_id)["output"] == {"far": 2}


def test_the_outcome_of_a_worker_that_was_suspended_is_refused(stage):
    stage.configure(lease="5s")
    stage.up()
    first = stage.worker("w1")
    run_id = stage.run()
    wait_until(lambda: stage.marks() == ["began"], "the attempt")
    os.kill(first.pid, signal.SIGSTOP)
    stage.worker("w2")
    wait_until(lambda: stage.marks() == ["began", "began"], "the second delivery")
    stage.gate.touch()  # the first one's script ends while its worker is suspended
    assert stage.until_ended(run_id)["output"] == {"far": 2}
    os.kill(first.pid, signal.SIGCONT)
    wait_until(lambda: "the lease is lost" in stage.said("w1"), "noticing")
    wait_until(lambda: stage.said("up").count("has joined worker=remote:w1") == 2, "joining anew")
    assert stage.show(run_id)["output"] == {"far": 2}


def test_a_server_that_is_killed_and_started_anew_loses_nothing(stage):
    server = stage.up()
    stage.worker("w1")
    run_id = stage.run()
    wait_until(lambda: stage.marks() == ["began"], "the attempt")
    server.kill()
    server.wait(BOUND)
    (stage.cli.folder / "ready").unlink()
    stage.gate.touch()
    wait_until(lambda: stage.marks() == ["began", "ended"], "the end of the script")
    stage.up()
    assert stage.until_ended(run_id)["output"] == {"far": 1}


def test_a_worker_that_is_there_before_its_server_waits_and_can_be_stopped(stage):
    patient = stage.start("w1", "worker", "--server", stage.url, "--token-file", "token")
    wait_until(lambda: "tried again until one answers" in stage.said("w1"), "saying so")
    stage.up()
    wait_until(lambda: "serves default for" in stage.said("w1"), "joining")
    hasty = stage.start("w2", "worker", "--server", f"http://127.0.0.1:{free_port()}", "--token-file", "token")
    wait_until(lambda: "tried again until one answers" in stage.said("w2"), "saying so")
    for process in (patient, hasty):
        process.terminate()
    for process in (patient, hasty):
        assert process.wait(BOUND) == 0, stage.said("w1") + stage.said("w2")


def test_a_worker_goes_to_the_next_server(stage):
    stage.up()
    stage.worker("w1", f"http://127.0.0.1:{free_port()}", stage.url)
    run_id = stage.run()
    stage.gate.touch()
    assert stage.until_ended(run_id)["output"] == {"far": 1}


def test_tokens_change_while_the_node_is_up(stage):
    stage.up()
    stage.cli.write("new", "e" * 32)
    stage.cli.write("token", "e" * 32)
    wait_until(lambda: stage.cli_with("new") == 0, "taking the new token")
    stage.cli.write("old", TOKEN)
    assert stage.cli_with("old") == 2


def test_a_wrong_token_is_told(stage):
    stage.up()
    stage.cli.write("wrong", "f" * 32)
    done = stage.cli("worker", "--server", stage.url, "--token-file", "wrong", expect=2)
    assert "refused the token" in done.stderr
    assert "f" * 32 not in done.stderr
    assert TOKEN not in stage.said("up") + stage.cli("config", "show", "-o", "json").stdout


def test_nothing_is_served_without_a_token(stage):
    (stage.cli.folder / "headrace.toml").write_text('[server]\nlisten = "127.0.0.1:0"\n')
    done = stage.cli("up", expect=2)
    assert "server.worker_tokens holds no token" in done.stderr


def test_a_port_that_is_taken_is_told(stage):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stage.port))
        taken.listen()
        done = stage.cli("up", expect=2)
    assert f"cannot listen at 127.0.0.1:{stage.port}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--server", "http://127.0.0.1:1"], "--server needs a token"),
        (["--server", "ftp://x", "--token-file", "token"], "is no server's address"),
        (["--token-file", "token"], "--token-file is for --server"),
        (["--server", "http://127.0.0.1:1", "--token-file", "nowhere"], "--token-file nowhere: cannot be read"),
        (["--server", "http://127.0.0.1:1", "--token-file", "token", "--store", "sqlite://"], "exclude each other"),
        (["--server", "http://127.0.0.1:1", "--token-file", "empty"], "expected one token"),
    ],
)
def test_options_that_cannot_be_meant(stage, arguments, said):
    stage.cli.write("empty", "\n")
    assert said in stage.cli("worker", *arguments, expect=2).stderr


def test_health_is_told_to_anybody(stage):
    import httpx

    stage.up()
    for path, word in (("healthz", "alive"), ("readyz", "ready")):
        answer = httpx.get(f"{stage.url}/{path}", trust_env=False)
        assert (answer.status_code, json.loads(answer.content)) == (200, {"status": word})


def test_prometheus_sees_the_node_and_what_it_refused(stage):
    import httpx
    from prometheus_client.parser import text_string_to_metric_families

    stage.up()

    def measured() -> dict:
        answer = httpx.get(f"{stage.url}/metrics", trust_env=False)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = text_string_to_metric_families(answer.text)
        return {sample.name: sample.value for family in families for sample in family.samples}

    before = measured()
    assert (before["headrace_leader"], before["headrace_remote_claims_refused_total"]) == (1, 0)
    with httpx.Client(
        base_url=f"{stage.url}/api/v1/workers/", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
    ) as zombie:
        joined = zombie.post("join", json={"queues": ["gpu"], "labels": {}, "slots": {"shell": 1}}).json()
        run_id = stage.run()
        outcome = {"kind": "succeeded", "task": "far", "attempt": 1, "output": 7}
        late = {"key": f"{run_id}/far/1", "delivery": 1, "outcome": outcome}
        told = {"worker": joined["worker"], "epoch": joined["epoch"], "results": [late]}
        assert zombie.post("complete", json=told).json()["answers"] == ["refused"]
    assert measured()["headrace_remote_claims_refused_total"] == 1
    stage.gate.touch()
    stage.worker("w1")
    assert stage.until_ended(run_id)["output"] == {"far": 1}


def test_several_nodes_share_the_port(stage):
    ready = stage.cli.folder / "ready"
    process = stage.start("up", "up", "--nodes", "2", "--ready-file", ready)
    wait_until(lambda: ready.exists() or process.poll() is not None, "being ready")
    wait_until(lambda: stage.said("up").count("workers are served") == 2 or process.poll() is not None, "listening")
    assert process.poll() is None, stage.said("up")
    stage.worker("w1")
    run_id = stage.run()
    stage.gate.touch()
    assert stage.until_ended(run_id)["output"] == {"far": 1}
