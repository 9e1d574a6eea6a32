"""Every example runs as a user would run it: through the installed command, in a folder of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.sync import Headrace

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HEADRACE = Path(sys.executable).with_name("headrace")


@pytest.fixture
def headrace(tmp_path):
    """Run the command with a store of its own; returns the finished process."""

    def run(*args, expect=0, cwd=tmp_path):
        env = {**os.environ, "HEADRACE_STORE": f"sqlite:///{tmp_path}/headrace.db", "NO_COLOR": "1"}
        done = subprocess.run(
            [HEADRACE, *map(str, args)], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def states(run):
    return {name: task["state"] for name, task in run["tasks"].items()}


def test_hello_greets_and_skips_what_is_not_wanted(headrace):
    run = json.loads(headrace("run", EXAMPLES / "hello.yaml", "-o", "json").stdout)
    assert (run["workflow"], run["state"]) == ("hello", "succeeded")
    assert states(run) == {"greet": "succeeded", "count": "succeeded", "shout": "skipped"}
    assert run["tasks"]["greet"]["output"] == "Hello, world!"
    assert run["tasks"]["count"]["output"] == 13
    assert run["tasks"]["greet"]["attempts"] == 1
    assert run["tasks"]["greet"]["started_at"] <= run["tasks"]["greet"]["ended_at"]


def test_hello_takes_parameters(headrace):
    run = json.loads(
        headrace("run", EXAMPLES / "hello.yaml", "-p", "name=Ada", "-p", "shout=true", "-o", "json").stdout
    )
    assert run["tasks"]["shout"]["output"] == "HELLO, ADA!"


def test_etl_loads_the_table_and_names_the_warmest_city(headrace, tmp_path):
    database = tmp_path / "warm.db"
    run = json.loads(headrace("run", EXAMPLES / "etl.py", "-p", f"database={database}", "-o", "json").stdout)
    assert run["state"] == "succeeded"
    assert run["tasks"]["transform"]["output"] == [
        {"city": "Oslo", "warm": 2},
        {"city": "Lima", "warm": 6},
        {"city": "Kyoto", "warm": 3},
    ]
    assert run["tasks"]["report"]["output"] == "Lima: 6 warm months"


def test_etl_fails_for_a_city_that_nobody_measured(headrace, tmp_path):
    done = headrace("run", EXAMPLES / "etl.py", "-p", 'cities=["Atlantis"]', "-o", "json", expect=1)
    run = json.loads(done.stdout)
    assert run["tasks"]["extract"]["error"]["type"] == "KeyError"
    assert states(run) == {
        "extract": "failed",
        "transform": "upstream_failed",
        "load": "upstream_failed",
        "report": "upstream_failed",
    }


def test_embedding_prints_the_result_and_keeps_the_run(tmp_path):
    store = f"sqlite:///{tmp_path}/headrace.db"
    done = subprocess.run(
        [sys.executable, EXAMPLES / "embedding.py", store], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    # wheel, axle, sluice: 50 + 40 + 60, less a tenth
    found = re.fullmatch(r"run (\w+): 135\.0\n", done.stdout)
    assert found, done.stdout
    with Headrace(store) as engine:
        run = engine.get(found[1]).show()
    assert (run.state, run.tasks["price"].output) == ("succeeded", [50, 40, 60])


def test_nightly_makes_up_for_two_nights(tmp_path):
    store = f"sqlite:///{tmp_path}/headrace.db"
    done = subprocess.run(
        [sys.executable, EXAMPLES / "nightly.py", store, tmp_path / "nights"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *nights = done.stdout.splitlines()
    assert re.fullmatch(r"the next of 5: \d{4}-\d\d-\d\d 0[01]:[03]0 UTC", first)
    assert 1 <= len(nights) <= 3, "two, but where clocks change"
    assert all(re.fullmatch(r"[\d-]+T0[01]:[03]0:00Z: Lima: 6 warm months", night) for night in nights)
    assert len(list((tmp_path / "nights").iterdir())) == len(nights)
    with Headrace(store) as engine:
        view = engine.schedules.get("etl-nightly")
    assert (view.counts.backfilled, view.counts.failed, view.definition.zone) == (len(nights), 0, "Europe/Berlin")


FLIGHTS = EXAMPLES / "flights" / "flights.yaml"


def test_flights_publishes_two_months(headrace, tmp_path):
    out = tmp_path / "out"
    run = json.loads(headrace("run", FLIGHTS, "-p", f"out_dir={out}", "-p", "months=[2, 1]", "-o", "json").stdout)
    assert run["state"] == "succeeded"
    assert run["output"]["decision"] == "published"
    assert (run["output"]["flights"], run["output"]["cancelled"]) == (27_004 + 24_951, 521 + 1261)
    assert run["tasks"]["quarantine"]["state"] == "skipped"
    assert [part["month"] for part in run["tasks"]["monthly"]["output"]] == ["2013-01", "2013-02"]
    assert {name for name, state in states(run).items() if state != "succeeded"} == {"quarantine"}
    assert "<svg" in (out / "report.html").read_text()
    assert json.loads((out / "result.json").read_text()) == run["output"]
    summary = subprocess.run(
        [sys.executable, FLIGHTS.parent / "summary.py", out], capture_output=True, text=True, check=True
    ).stdout
    assert summary.startswith("51,955 flights: published")
    assert str(out / "report.html") in summary


def test_flights_puts_too_many_cancelled_flights_in_quarantine(headrace, tmp_path):
    out = tmp_path / "out"
    done = headrace(
        "run", FLIGHTS, "-p", f"out_dir={out}", "-p", "months=[2]", "-p", "max_cancel_rate=0.01", "-o", "json"
    )
    run = json.loads(done.stdout)
    assert run["output"]["decision"] == "quarantined"
    assert {name for name, state in states(run).items() if state == "skipped"} == {"report", "publish"}
    reasons = json.loads((out / "quarantine.json").read_text())["reasons"]
    assert reasons == ["share of cancelled flights: 0.0505, expected <= 0.01"]
    assert not (out / "report.html").exists()


def test_flights_refuses_bad_parameters_before_anything_runs(headrace, tmp_path):
    out = tmp_path / "out"
    done = headrace("run", FLIGHTS, "-p", f"out_dir={out}", "-p", "max_cancel_rate=2", expect=2)
    assert "max_cancel_rate" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
