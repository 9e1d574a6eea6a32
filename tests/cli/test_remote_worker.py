"""``headrace worker --server`` and ``headrace up`` that serves it, in processes of their own, over real HTTP."""

import json
import os
import signal
import socket

import pytest
from server_ports import free_port
from worker_stage import BOUND, TOKEN, Stage, wait_until

pytestmark = pytest.mark.timeout(600)  # many processes, one after the other


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
        (["--token-file", "token"], "--token-file and --ca are for --server"),
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
    wait_until(lambda: stage.said("up").count("requests are served") == 2 or process.poll() is not None, "listening")
    assert process.poll() is None, stage.said("up")
    stage.worker("w1")
    run_id = stage.run()
    stage.gate.touch()
    assert stage.until_ended(run_id)["output"] == {"far": 1}


JOBS = """\
import asyncio, os, time
from pathlib import Path
from headrace import lock

def enter(folder):
    with lock("door") as held:
        held.check()
        os.close(os.open(folder + "/inside", os.O_CREAT | os.O_EXCL))
        os.unlink(folder + "/inside")
        return held.token

async def enter_async(folder):
    async with lock("door") as held:
        os.close(os.open(folder + "/inside", os.O_CREAT | os.O_EXCL))
        await asyncio.sleep(0)
        os.unlink(folder + "/inside")
        return held.token

def hold(folder):
    with lock("door") as held:
        with open(folder + "/trace", "a") as trace:
            trace.write(f"{held.token}\\n")
        while not os.path.exists(folder + "/gate"):
            time.sleep(0.02)
        return held.token
"""


def locking(stage, *tasks: str) -> None:
    stage.cli.write("jobs.py", JOBS)
    lines = [f"  {name}: {{{task}, with: {{folder: {stage.cli.folder}}}}}" for name, task in enumerate(tasks)]
    stage.cli.write("held.yaml", "\n".join(["name: held", "tasks:", *(line.replace("  ", "  t", 1) for line in lines)]))


def test_workers_and_nodes_share_locks(stage):
    """In threads, processes and coroutines, under rising tokens."""
    far = [f"queue: gpu, executor: {executor}" for executor in ("thread", "process", "thread", "process")]
    locking(
        stage,
        *(f"python: jobs.py:enter, {where}" for where in far),
        "python: jobs.py:enter_async, queue: gpu",
        "python: jobs.py:enter",
    )
    stage.up()
    stage.worker("w1")
    stage.worker("w2")
    run_id = stage.run()
    assert stage.until_ended(run_id)["state"] == "succeeded", stage.show(run_id)
    assert len(set(stage.show(run_id)["output"].values())) == 6
    assert [row["name"] for row in stage.cli.json("locks")] == ["headrace.leader"]


def test_the_lock_of_a_killed_worker_falls_free_with_its_lease(stage):
    stage.configure(lease="5s")
    locking(stage, "python: jobs.py:hold, queue: gpu")
    stage.up()
    first = stage.worker("w1")
    run_id = stage.run()
    wait_until(lambda: len(stage.marks()) == 1, "the lock")

    def expires_at() -> str:
        return next(row["expires_at"] for row in stage.cli.json("locks") if row["node"] == "remote:w1")

    before = expires_at()
    wait_until(lambda: expires_at() > before, "a renewal")
    stage.worker("w2")
    first.kill()
    first.wait(BOUND)
    wait_until(lambda: len(stage.marks()) == 2, "the next holder")
    stage.gate.touch()
    one, other = map(int, stage.marks())
    assert other > one
    assert stage.until_ended(run_id)["output"] == {"t0": other}


def test_a_worker_that_was_suspended_has_lost_its_lock(stage):
    stage.configure(lease="5s")
    locking(stage, "python: jobs.py:hold, queue: gpu, executor: process")
    stage.up()
    first = stage.worker("w1")
    run_id = stage.run()
    wait_until(lambda: len(stage.marks()) == 1, "the lock")
    os.kill(first.pid, signal.SIGSTOP)
    stage.worker("w2")
    wait_until(lambda: len(stage.marks()) == 2, "the next holder")
    os.kill(first.pid, signal.SIGCONT)
    wait_until(lambda: stage.said("up").count("remote:w1") == 2, "joining anew")
    (row,) = [row for row in stage.cli.json("locks") if row["name"] == "door"]
    one, other = map(int, stage.marks())
    assert (row["node"], row["token"]) == ("remote:w2", other)
    assert other > one
    stage.gate.touch()
    assert stage.until_ended(run_id)["output"] == {"t0": other}
