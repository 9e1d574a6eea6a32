"""``headrace runs why``."""

import json


def test_a_stuck_run_says_why_in_text_and_as_data(cli):
    cli.write("w.yaml", "name: w\ntasks: {far: {run: 'true', queue: gpu}, next: {needs: [far], run: 'true'}}\n")
    run_id = cli("run", "w.yaml", "--no-wait").stdout.strip()
    while "nobody serves" not in (said := cli("runs", "why", run_id).stdout):
        pass
    assert f"run {run_id} (w) is running, stuck in 1" in said
    assert "far: attempt 1 waits in queue gpu, which nobody serves\n      headrace worker --queue gpu" in said
    assert "next: it waits for far" in said
    found = json.loads(cli("runs", "why", run_id, "-o", "json").stdout)
    assert [(reason["subject"], reason["stuck"]) for reason in found] == [("far", True), ("next", False)]
    cli("runs", "cancel", run_id)
    assert cli("runs", "why", run_id).stdout == f"run {run_id} has ended: cancelled\n"


def test_an_unknown_run_is_refused(cli):
    cli.write("w.yaml", "tasks: {a: {run: 'true'}}\n")
    cli("run", "w.yaml")
    done = cli("runs", "why", "01zzzzzzzzzzzzzzzzzzzzzzzz", expect=2)
    assert "there is no run" in done.stderr
    assert "Traceback" not in done.stderr
