"""Looking at runs and workflows over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from api_rig import Rig, serve


def test_a_run_is_shown_as_the_command_line_shows_it(tmp_path):
    shown = {}

    async def test(rig: Rig) -> None:
        run = await rig.start(params={"who": "you"})
        shown.update((await rig.viewer.get(f"/runs/{run['id']}")).json())
        assert shown == run
        assert (shown["state"], shown["trigger"]) == ("succeeded", "api")
        assert shown["tasks"]["hello"]["output"] == "hello you"
        assert (await rig.viewer.get(f"/runs/{run['id'][:20]}")).json()["id"] == run["id"]
        assert (await rig.viewer.get(f"/runs/{run['id'].upper()}")).json()["id"] == run["id"]

    serve(tmp_path, test)
    command = [sys.executable, "-m", "headrace.cli", "runs", "show", "-", "-o", "json"]
    done = subprocess.run(
        [*command, "--store", f"sqlite:///{tmp_path}/x.db"], cwd=tmp_path, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == shown


def test_lists_are_filtered(tmp_path):
    async def test(rig: Rig) -> None:
        first = await rig.start(tags={"team": "a", "hot": ""}, attributes={"amount": 5})
        second = await rig.start(tags={"team": "b"}, attributes={"amount": 50})
        failed = await rig.start("failing")

        async def ids(**query: object) -> list[str]:
            got = await rig.viewer.get("/runs", params=query)  # type: ignore[arg-type]
            assert got.status_code == 200, got.text
            return [one["id"] for one in got.json()["runs"]]

        assert await ids() == [failed["id"], second["id"], first["id"]]
        assert await ids(workflow="failing") == [failed["id"]]
        assert await ids(state=["failed", "running"]) == [failed["id"]]
        assert await ids(state="interrupted") == []
        assert await ids(tag="team=a") == await ids(tag=["team=a", "hot"]) == [first["id"]]
        assert await ids(where="amount > 10") == [second["id"]]
        assert await ids(since="1h", where="amount > 10 or amount < 10") == [second["id"], first["id"]]
        assert await ids(since="2100-01-01T00:00:00Z") == []
        assert await ids(since="2013-01-01", limit=1) == [failed["id"]]

    serve(tmp_path, test)


def test_pages_stay_what_they_are_while_runs_come(tmp_path):
    async def test(rig: Rig) -> None:
        runs = [(await rig.start())["id"] for _ in range(5)][::-1]
        seen, cursor = [], None
        while True:
            query = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
            page = (await rig.viewer.get("/runs", params=query)).json()
            assert len(page["runs"]) <= 2
            seen += [one["id"] for one in page["runs"]]
            cursor = page["next"]
            if cursor is None:
                break
            await rig.start()
        assert seen == runs

    serve(tmp_path, test)


def test_a_history_is_read_in_parts(tmp_path):
    async def test(rig: Rig) -> None:
        run = await rig.start()
        whole = (await rig.viewer.get(f"/runs/{run['id']}/history")).json()
        assert [one["seq"] for one in whole["events"]] == [1, 2, 3, 4]
        assert whole["events"][-1]["event"]["type"] == "run.finished"
        assert whole["next"] is None
        first = (await rig.viewer.get(f"/runs/{run['id']}/history", params={"limit": 3})).json()
        rest = (await rig.viewer.get(f"/runs/{run['id']}/history", params={"after": first["next"]})).json()
        assert first["events"] + rest["events"] == whole["events"]

    serve(tmp_path, test)


def test_logs_of_all_tasks_or_of_one(tmp_path):
    async def test(rig: Rig) -> None:
        run = await rig.start()
        path = f"/runs/{run['id']}/logs"
        logs = (await rig.viewer.get(path)).json()
        assert [(one["task"], one["text"]) for one in logs["logs"]] == [("bye", "bye\n"), ("hello", "hello world\n")]
        one = (await rig.viewer.get(path, params={"task": "hello"})).json()
        assert [entry["task"] for entry in one["logs"]] == ["hello"]
        first = (await rig.viewer.get(path, params={"limit": 1})).json()
        rest = (await rig.viewer.get(path, params={"after": first["next"]})).json()
        assert first["logs"] + rest["logs"] == logs["logs"]
        missing = await rig.viewer.get(path, params={"task": "helo"})
        assert (missing.status_code, missing.json()["hint"]) == (404, "did you mean 'hello'?")

    serve(tmp_path, test)


def test_large_values_are_loaded_up_to_a_bound(tmp_path, monkeypatch):
    large = "name: large\ntasks:\n  a: {run: \"head -c 100000 /dev/zero | tr '\\\\0' x\"}\n"

    async def test(rig: Rig) -> None:
        await rig.store(large)
        run = await rig.start("large")
        assert run["tasks"]["a"]["output"] == "x" * 100_000
        monkeypatch.setattr("headrace.server.api.service.VALUES_BYTES_MAX", 1_000)
        shown = (await rig.viewer.get(f"/runs/{run['id']}")).json()
        assert set(shown["tasks"]["a"]["output"]) == {"$ref", "bytes"}

    serve(tmp_path, test)


def test_what_a_run_waits_for_and_its_graph(tmp_path):
    async def test(rig: Rig) -> None:
        gate = tmp_path / "gate"
        run = await rig.start("held", wait="0s", params={"gate": str(gate)})
        told = (await rig.viewer.get(f"/runs/{run['id']}/why")).json()
        assert told["state"] == "running"
        assert [one["subject"] for one in told["reasons"]] == ["wait"]
        graph = (await rig.viewer.get(f"/runs/{run['id']}/graph")).json()
        assert [(one["id"], one["state"]) for one in graph["tasks"]] == [("wait", "running")]
        drawn = await rig.viewer.get(f"/runs/{run['id']}/graph", params={"form": "mermaid"})
        assert drawn.headers["content-type"].startswith("text/plain")
        assert drawn.text.startswith("flowchart TD")
        gate.touch()

    serve(tmp_path, test)


def test_workflows_with_a_schema_of_their_params(tmp_path):
    async def test(rig: Rig) -> None:
        listed = (await rig.viewer.get("/workflows")).json()["workflows"]
        assert [(one["name"], one["tasks"]) for one in listed] == [("failing", 1), ("greet", 2), ("held", 1)]
        shown = (await rig.viewer.get("/workflows/greet")).json()
        assert (shown["kind"], shown["description"]) == ("graph", "Says hello.")
        assert shown["params"] == {
            "type": "object",
            "properties": {
                "who": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 20,
                    "description": "To whom",
                    "default": "world",
                },
                "times": {"type": "integer", "minimum": 1, "maximum": 5, "default": 1},
            },
            "required": [],
            "additionalProperties": False,
        }
        assert (await rig.viewer.get("/workflows/held")).json()["params"]["required"] == ["gate"]
        assert [one["needs"] for one in shown["graph"]["tasks"]] == [[], ["hello"]]
        assert shown["definition"]["name"] == "greet"
        assert (await rig.viewer.get("/workflows/greet/graph")).json() == shown["graph"]
        missing = await rig.viewer.get("/workflows/gret")
        assert (missing.status_code, missing.json()["hint"]) == (404, "did you mean 'greet'?")

    serve(tmp_path, test)


def test_nodes_and_locks(tmp_path):
    async def test(rig: Rig) -> None:
        [node] = (await rig.viewer.get("/nodes")).json()["nodes"]
        assert (node["id"], node["live"], node["leader"]) == (rig.hr.node_id, True, True)
        async with rig.hr.lock("mill"):
            locks = (await rig.viewer.get("/locks")).json()["locks"]
            assert [one["name"] for one in locks] == ["headrace.leader", "mill"]

    serve(tmp_path, test)


@pytest.mark.parametrize(
    ("path", "where", "said"),
    [
        ("/runs?limit=x", "limit", "Expected `int`"),
        ("/runs?limit=1001", "limit", "<= 1000"),
        ("/runs?limit=1&limit=2", "limit", "twice"),
        ("/runs?sinc=2h", "sinc", "did you mean 'since'?"),
        ("/runs?since=wat", "since", "2h"),
        ("/runs?state=wat", "state", "did you mean 'waiting'?"),
        ("/runs?where=wat", "where", "column 4"),
        ("/runs?cursor=%00", "cursor", "regex"),
        ("/runs/aaa?wait=soon", "wait", "regex"),
        ("/workflows?x=1", "x", "no such field"),
    ],
)
def test_a_bad_parameter_is_named(tmp_path, path, where, said):
    async def test(rig: Rig) -> None:
        refused = await rig.viewer.get(path)
        told = refused.json()
        assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
        assert told["type"] == "urn:headrace:problem:bad-request"
        assert told["problems"][0]["where"] == where
        assert said in json.dumps(told)

    serve(tmp_path, test)


@pytest.mark.parametrize(
    "path",
    [
        "/runs/zzz",
        "/runs/" + "z" * 26,
        "/runs/z%25z",
        "/runs/" + "z" * 5000,
        "/runs/zzz/history",
        "/workflows/a%00b",
        "/nowhere",
    ],
)
def test_what_is_not_there_is_not_found(tmp_path, path):
    async def test(rig: Rig) -> None:
        missing = await rig.viewer.get(path)
        assert (missing.status_code, missing.json()["type"]) == (404, "urn:headrace:problem:not-found")

    serve(tmp_path, test)


def test_trouble_of_the_store_is_not_told_in_detail(tmp_path, monkeypatch):
    from headrace.core.errors import StoreUnavailable

    async def test(rig: Rig) -> None:
        async def broken(*_: object) -> None:
            raise StoreUnavailable("cannot reach postgresql://user:secret@db")

        monkeypatch.setattr(rig.hr.store, "runs", broken)
        refused = await rig.viewer.get("/runs")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "secret" not in refused.text

        async def defective(*_: object) -> None:
            raise ZeroDivisionError("at line secret")

        monkeypatch.setattr(rig.hr.store, "runs", defective)
        refused = await rig.viewer.get("/runs")
        assert (refused.status_code, refused.json()["type"]) == (500, "urn:headrace:problem:defect")
        assert "secret" not in refused.text

    serve(tmp_path, test)
