"""Starting runs over HTTP."""

from __future__ import annotations

import asyncio

import api_code
import pytest
from api_rig import GREET, Rig, serve

from headrace import Headrace


def test_a_run_is_started_and_its_end_waited_for(tmp_path):
    async def test(rig: Rig) -> None:
        body = {
            "workflow": "greet",
            "params": {"who": "you", "times": "3"},
            "texts": ["times"],
            "tags": {"team": "a"},
            "attributes": {"amount": 5},
            "memo": {"note": [1]},
            "key": "order-17",
        }
        got = await rig.operator.post("/runs", params={"wait": "20s"}, json=body)
        run = got.json()
        assert (got.status_code, got.headers["location"]) == (201, f"/api/v1/runs/{run['id']}")
        assert run["state"] == "succeeded"
        assert run["params"] == {"who": "you", "times": 3}
        assert {name: run[name] for name in ("tags", "attributes", "memo", "key")} == {
            name: body[name] for name in ("tags", "attributes", "memo", "key")
        }

    serve(tmp_path, test)


def test_without_a_wait_the_answer_comes_at_once_and_a_wait_ends_with_its_time(tmp_path):
    async def test(rig: Rig) -> None:
        gate = tmp_path / "gate"
        run = await rig.start("held", wait="0s", params={"gate": str(gate)})
        assert run["state"] == "running"
        path = f"/runs/{run['id']}"
        assert (await rig.viewer.get(path, params={"wait": "50ms"})).json()["state"] == "running"
        waiting = asyncio.create_task(rig.viewer.get(path, params={"wait": "30s"}))
        while not rig.listener._api._waits:
            await asyncio.sleep(0)
        gate.touch()
        assert (await waiting).json()["state"] == "succeeded"

    serve(tmp_path, test)


def test_a_repeated_request_starts_one_run(tmp_path):
    async def test(rig: Rig) -> None:
        async def post(request: str = "r-1", workflow: str = "greet", wait: str = "0s") -> tuple[int, str]:
            got = await rig.operator.post(
                "/runs", params={"wait": wait}, json={"workflow": workflow}, headers={"Idempotency-Key": request}
            )
            return got.status_code, got.json()["id"]

        answers = await asyncio.gather(*(post() for _ in range(8)))
        assert len({run for _, run in answers}) == 1
        assert sorted(status for status, _ in answers) == [200] * 7 + [201]
        [(_, first)] = {(200, run) for _, run in answers}
        await rig.viewer.get(f"/runs/{first}", params={"wait": "20s"})
        assert await post() == (200, first)  # it has ended
        assert (await post("r-2"))[0] == 201
        assert (await post(workflow="failing", wait="20s"))[0] == 201
        assert (await post(workflow="failing"))[0] == 200  # it has failed
        assert len((await rig.viewer.get("/runs")).json()["runs"]) == 3

    serve(tmp_path, test)


def test_a_key_is_for_one_unfinished_run(tmp_path):
    async def test(rig: Rig) -> None:
        gate = tmp_path / "gate"
        held = {"workflow": "held", "params": {"gate": str(gate)}, "key": "k"}
        run = (await rig.operator.post("/runs", json=held)).json()
        conflict = await rig.operator.post("/runs", json=held)
        told = conflict.json()
        assert (conflict.status_code, told["type"]) == (409, "urn:headrace:problem:already-running")
        assert (told["run_id"], told["state"]) == (run["id"], "running")
        same = await rig.operator.post("/runs", json=held | {"on_conflict": "use_existing"})
        assert (same.status_code, same.json()["id"]) == (200, run["id"])
        other = await rig.operator.post("/runs", json=held | {"on_conflict": "terminate"})
        assert (other.status_code, other.json()["id"] != run["id"]) == (201, True)
        assert (await rig.viewer.get(f"/runs/{run['id']}")).json()["state"] == "cancelled"
        gate.touch()
        await rig.viewer.get(f"/runs/{other.json()['id']}", params={"wait": "20s"})
        kept = await rig.operator.post("/runs", json=held | {"on_reuse": "reject"})
        assert (kept.status_code, kept.json()["state"]) == (409, "succeeded")

    serve(tmp_path, test)


@pytest.mark.parametrize("form", ["text", "object"])
def test_a_definition_of_ones_own(tmp_path, form):
    definition = GREET if form == "text" else {"name": "own", "tasks": {"a": {"run": "echo 5"}}}

    async def test(rig: Rig) -> None:
        got = await rig.author.post("/runs", params={"wait": "20s"}, json={"definition": definition})
        assert (got.status_code, got.json()["state"]) == (201, "succeeded")
        refused = await rig.operator.post("/runs", json={"definition": definition})
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:headrace:problem:forbidden")
        assert len((await rig.viewer.get("/runs")).json()["runs"]) == 1

    serve(tmp_path, test)


BAD = "name: bad\ntasks:\n  a: {run: 'true', needs: b}\n  c: {rum: x}\n"


def test_a_bad_definition_is_told_with_its_places(tmp_path):
    async def test(rig: Rig) -> None:
        told = (await rig.author.post("/workflows/validate", json={"definition": BAD})).json()
        assert not told["ok"]
        assert [one["where"] for one in told["problems"]] == ["workflow:3:27", "workflow:4:7"]
        refused = await rig.author.post("/runs", json={"definition": BAD})
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:headrace:problem:invalid-definition")
        assert refused.json()["problems"] == told["problems"]
        spec = {"name": "bad", "tasks": {"a": {"run": "true", "needs": ["b"]}}}
        [problem] = (await rig.author.post("/workflows/validate", json={"definition": spec})).json()["problems"]
        assert problem["where"].startswith("tasks.a.needs")
        good = (await rig.author.post("/workflows/validate", json={"definition": GREET})).json()
        assert good == {"ok": True, "workflow": "greet", "tasks": 2, "problems": []}
        unknown = "name: x\ntasks:\n  a: {python: 'no_such_module:f'}\n"
        told = (await rig.author.post("/workflows/validate", json={"definition": unknown})).json()
        assert not told["ok"]
        assert "no_such_module" in told["problems"][0]["message"]

    serve(tmp_path, test)


@pytest.mark.parametrize(
    ("body", "status", "kind", "said"),
    [
        ({}, 422, "bad-request", "give a workflow or a definition"),
        ({"workflow": "greet", "definition": GREET}, 422, "bad-request", "not both"),
        ({"workflw": "greet"}, 422, "bad-request", "did you mean 'workflow'?"),
        ({"workflow": 5}, 422, "bad-request", "workflow: Expected"),
        ({"workflow": "gret"}, 404, "not-found", "did you mean 'greet'?"),
        ({"workflow": "stored.yaml"}, 404, "not-found", "no stored workflow"),
        ({"workflow": "greet", "params": {"who": 5}}, 422, "invalid-params", '"where":"who","message":"expected text'),
        ({"workflow": "greet", "params": {"hwo": "x"}}, 422, "invalid-params", '"where":"hwo"'),
        ({"workflow": "held"}, 422, "invalid-params", '"where":"gate"'),
        ({"workflow": "greet", "on_conflict": "fial"}, 422, "bad-request", "on_conflict: Invalid enum value"),
        ({"workflow": "greet", "key": "a\0b"}, 422, "bad-request", "key: Expected"),
        ({"workflow": "a\0b"}, 422, "bad-request", "workflow: Expected"),
        ({"workflow": "greet", "on_reuse": "reject"}, 422, "bad-request", "give key"),
        ({"workflow": "greet", "attributes": {"a": {}}}, 422, "bad-request", "attribute 'a'"),
    ],
)
def test_a_bad_start_is_refused_and_starts_nothing(tmp_path, monkeypatch, body, status, kind, said):
    monkeypatch.chdir(tmp_path)  # where stored.yaml is a file

    async def test(rig: Rig) -> None:
        refused = await rig.author.post("/runs", json=body)
        assert (refused.status_code, refused.json()["type"]) == (status, f"urn:headrace:problem:{kind}")
        assert said in refused.text
        assert (await rig.viewer.get("/runs")).json()["runs"] == []

    serve(tmp_path, test)


def test_what_is_no_json_or_too_large_is_refused(tmp_path, monkeypatch):
    async def test(rig: Rig) -> None:
        form = await rig.operator.post("/runs", data={"workflow": "greet"})
        assert (form.status_code, form.json()["type"]) == (415, "urn:headrace:problem:not-json")
        for content in (b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000):
            bad = await rig.operator.post("/runs", content=content, headers={"Content-Type": "application/json"})
            assert (bad.status_code, bad.json()["type"]) == (422, "urn:headrace:problem:bad-request"), content[:10]
        large = {"workflow": "greet", "memo": {"x": "x" * (8 * 1024 * 1024)}}
        refused = await rig.operator.post("/runs", json=large)
        assert (refused.status_code, refused.json()["type"]) == (413, "urn:headrace:problem:too-large")
        both = await rig.operator.post(
            "/runs", json={"workflow": "greet", "key": "k"}, headers={"Idempotency-Key": "r"}
        )
        assert (both.status_code, both.json()["problems"][0]["where"]) == (422, "Idempotency-Key")
        assert (await rig.viewer.get("/runs")).json()["runs"] == []

    serve(tmp_path, test)


def test_too_many_are_sent_away(tmp_path, monkeypatch):
    async def test(rig: Rig) -> None:
        gate = tmp_path / "gate"
        run = await rig.start("held", wait="0s", params={"gate": str(gate)})
        monkeypatch.setattr("headrace.server.api.service.WAITS_MAX", 1)
        waiting = asyncio.create_task(rig.viewer.get(f"/runs/{run['id']}", params={"wait": "30s"}))
        while not rig.listener._api._waits:
            await asyncio.sleep(0)
        refused = await rig.viewer.get(f"/runs/{run['id']}", params={"wait": "30s"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        gate.touch()
        assert (await waiting).json()["state"] == "succeeded"
        monkeypatch.setattr("headrace.server.api.service.REQUESTS_MAX", 0)
        refused = await rig.operator.post("/runs", json={"workflow": "greet"})
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:headrace:problem:unavailable")

    serve(tmp_path, test)


def test_those_who_wait_are_answered_when_the_node_stops(tmp_path):
    async def test(rig: Rig) -> None:
        run = await rig.start("held", wait="0s", params={"gate": str(tmp_path / "gate")})
        waiting = asyncio.create_task(rig.viewer.get(f"/runs/{run['id']}", params={"wait": "60s"}))
        while not rig.listener._api._waits:
            await asyncio.sleep(0)
        await rig.listener.stop()
        assert (await waiting).json()["state"] == "running"

    serve(tmp_path, test)


@pytest.mark.parametrize("starter", ["watcher", "worker"])
def test_a_node_that_owns_no_runs_gives_them_to_those_who_do(tmp_path, starter):
    options = {"adopt": False, "execute": starter == "worker", "queues": ()}

    async def test(rig: Rig) -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", poll_seconds=0.2) as other:
            run = await rig.start(wait="30s")
            assert run["state"] == "succeeded"
            assert run["id"] not in rig.hr._node.live
            assert other.node_id != rig.hr.node_id

    serve(tmp_path, test, **options)


def test_a_node_that_owns_no_runs_keeps_none_that_it_was_asked_about(tmp_path):
    async def test(rig: Rig) -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db") as other:
            graph = await other.run("held", {"gate": str(tmp_path / "gate")})
            code = await other.run(api_code.order)
        for path, status in (
            (f"/runs/{graph.id}/pause", 200),
            (f"/runs/{graph.id}/resume", 200),
            (f"/runs/{code.id}/updates/add?wait=10s", 200),
            (f"/runs/{code.id}/updates/slow?wait=50ms", 202),
            (f"/runs/{code.id}/signals/close", 200),
        ):
            body = {"args": ["pot"]} if path.endswith("add?wait=10s") else {}
            got = await rig.operator.post(path, json=body)
            assert got.status_code == status, got.text
            assert not rig.hr._node.live
        (tmp_path / "gate").touch()
        async with Headrace(f"sqlite:///{tmp_path}/x.db"):
            for run in (graph, code):
                ended = (await rig.viewer.get(f"/runs/{run.id}", params={"wait": "20s"})).json()
                assert ended["state"] == "succeeded"

    serve(tmp_path, test, adopt=False, execute=False, queues=())
