"""Commanding runs over HTTP, talking to them, and completing attempts from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import api_code
import pytest
from api_rig import GREET, HELD, Rig, rig


def serve(folder: Any, test: Callable[[Rig], Awaitable[None]], *, elsewhere: bool) -> None:
    """Against a node that has the runs, or against one beside it: any node serves any run."""

    async def served() -> None:
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(rig(folder))
            for text in (GREET, HELD):
                await one.store(text)
            for code in (api_code.order, api_code.asking):
                await one.hr.register(code)
            if elsewhere:
                other = await stack.enter_async_context(rig(folder, adopt=False, execute=False, queues=()))
                other.owner = one  # type: ignore[attr-defined]
                await test(other)
            else:
                await test(one)

    asyncio.run(asyncio.wait_for(served(), 90))


WHERE = pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])


async def started(one: Rig, workflow: Any, params: dict[str, Any] | None = None) -> str:
    """A run that the owner has."""
    owner: Rig = getattr(one, "owner", one)
    run = await owner.hr.run(workflow, params)
    assert run.id in owner.hr._node.live
    return run.id


async def ended(one: Rig, run: str) -> dict[str, Any]:
    return (await one.viewer.get(f"/runs/{run}", params={"wait": "60s"})).json()


@WHERE
def test_pause_resume_cancel_and_retry(tmp_path, elsewhere):
    async def test(one: Rig) -> None:
        gate = tmp_path / "gate"
        run = await started(one, "held", {"gate": str(gate)})

        async def command(verb: str, **body: Any) -> tuple[int, dict[str, Any]]:
            got = await one.operator.post(f"/runs/{run}/{verb}", params={"wait": "20s"}, json=body)
            return got.status_code, got.json()

        status, told = await command("pause", reason="lunch")
        assert (status, told["heard"], told["run"]["state"]) == (200, True, "paused")
        assert (await one.viewer.get(f"/runs/{run}")).json()["reason"] == "lunch"
        status, told = await command("resume")
        assert (status, told["heard"]) == (200, True)
        status, told = await command("cancel", reason="enough")
        assert (status, told["heard"]) == (200, True)
        assert (await ended(one, run))["state"] == "cancelled"
        status, told = await command("cancel")
        assert (status, told["type"]) == (409, "urn:headrace:problem:invalid-command")
        assert "has ended" in told["detail"]
        gate.touch()
        status, told = await command("retry", tasks=["wait"])
        assert status == 200
        assert (await ended(one, run))["state"] == "succeeded"
        assert (await one.operator.post("/runs/zzz/cancel", json={})).status_code == 404

    serve(tmp_path, test, elsewhere=elsewhere)


def test_a_graph_that_is_told_what_only_code_takes_goes_on(tmp_path):
    async def test(one: Rig) -> None:
        gate = tmp_path / "gate"
        run = await started(one, "held", {"gate": str(gate)})
        for path in ("terminate", "signals/close"):
            refused = await one.operator.post(f"/runs/{run}/{path}", json={})
            assert (refused.status_code, refused.json()["type"]) == (409, "urn:headrace:problem:invalid-command")
        for path in ("updates/add", "queries/content"):
            assert (await one.operator.post(f"/runs/{run}/{path}", json={})).status_code == 409
        assert run in one.hr._node.live
        gate.touch()
        assert (await ended(one, run))["state"] == "succeeded"

    serve(tmp_path, test, elsewhere=False)


@WHERE
def test_signals_queries_and_updates(tmp_path, elsewhere):
    async def test(one: Rig) -> None:
        run = await started(one, api_code.order, {"name": "jug"})
        path = f"/runs/{run}"
        assert (await one.viewer.get(f"{path}/queries/content")).json() == {"value": ["jug"]}
        added = await one.operator.post(f"{path}/updates/add", json={"args": ["pot"], "id": "u-1"})
        assert (added.status_code, added.json()) == (200, {"id": "u-1", "answered": True, "value": 2})
        again = await one.operator.post(f"{path}/updates/add", json={"args": ["pot"], "id": "u-1"})
        assert again.json() == added.json()
        named = await one.operator.post(f"{path}/updates/add", json={"kwargs": {"item": "lid"}})
        assert named.json()["value"] == 3
        asked = await one.viewer.post(f"{path}/queries/content", json={"kwargs": {"first": 1}})
        assert asked.json() == {"value": ["pot", "lid"]}
        refused = await one.operator.post(f"{path}/updates/add", json={"args": [""]})
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:headrace:problem:update-rejected")
        assert "what is to be added?" in refused.json()["detail"]
        missing = await one.viewer.get(f"{path}/queries/contnet")
        assert (missing.status_code, "content" in missing.text) == (404, True)
        defect = await one.viewer.get(f"{path}/queries/broken")
        assert (defect.status_code, "Traceback" in defect.text) == (409, False)
        late = await one.operator.post(f"{path}/updates/slow", params={"wait": "50ms"}, json={"id": "s"})
        assert (late.status_code, late.json()) == (202, {"id": "s", "answered": False, "value": None})
        closed = await one.operator.post(f"{path}/signals/close", params={"wait": "20s"}, json={"key": "once"})
        assert (closed.status_code, closed.json()["heard"]) == (200, True)
        assert (await ended(one, run))["output"] == {"items": ["jug", "pot", "lid"]}
        answer = await one.operator.post(f"{path}/updates/slow", json={"id": "s"})
        assert (answer.status_code, answer.json()["value"]) == (200, "closed")
        assert (await one.viewer.get(f"{path}/queries/content")).json()["value"][0] == "jug"
        assert (await one.operator.post(f"{path}/signals/close", json={})).status_code == 409

    serve(tmp_path, test, elsewhere=elsewhere)


@WHERE
def test_terminate_reset_and_fork(tmp_path, elsewhere):
    async def test(one: Rig) -> None:
        run = await started(one, api_code.order, {"name": "jug"})
        await one.operator.post(f"/runs/{run}/updates/add", json={"args": ["pot"]})
        for bad in ({}, {"to_event": 1, "to_task": "x"}):
            assert (await one.operator.post(f"/runs/{run}/reset", json=bad)).status_code == 422
        beside = await one.operator.post(f"/runs/{run}/fork", json={"to_event": 1, "reason": "to see"})
        assert (beside.status_code, beside.headers["location"]) == (201, f"/api/v1/runs/{beside.json()['id']}")
        if elsewhere:  # what another node has in its hands is not taken from it
            refused = await one.operator.post(f"/runs/{run}/reset", json={"to_event": 1})
            assert (refused.status_code, refused.json()["type"]) == (409, "urn:headrace:problem:invalid-command")
            await one.operator.post(f"/runs/{run}/terminate", json={})
            await ended(one, run)
        instead = await one.operator.post(f"/runs/{run}/reset", json={"to_event": 1})
        assert instead.status_code == 201
        assert (await ended(one, run))["state"] == "terminated"
        for new, content in ((beside, ["jug"]), (instead, ["jug", "pot"])):  # a reset applies messages again
            new_id = new.json()["id"]
            assert (await one.viewer.get(f"/runs/{new_id}/queries/content")).json() == {"value": content}
            stopped = await one.operator.post(f"/runs/{new_id}/terminate", params={"wait": "20s"}, json={})
            assert stopped.status_code == 200
            assert (await ended(one, new_id))["state"] == "terminated"

    serve(tmp_path, test, elsewhere=elsewhere)


@WHERE
@pytest.mark.parametrize("verb", ["complete", "fail"])
def test_an_attempt_is_completed_by_its_token(tmp_path, elsewhere, verb):
    async def test(one: Rig) -> None:
        api_code.TOKENS.clear()
        run = await started(one, api_code.asking)
        while not api_code.TOKENS:
            await asyncio.sleep(0.01)
        token = api_code.TOKENS[0]
        beat = await one.operator.post("/attempts/heartbeat", json={"token": token, "details": {"at": 1}})
        assert beat.status_code == 200, beat.text
        said = {"output": "yes"} if verb == "complete" else {"error": "no", "type": "refused", "retryable": False}
        done = await one.operator.post(f"/attempts/{verb}", json={"token": token, **said})
        assert done.status_code == 200, done.text
        shown = await ended(one, run)
        if verb == "complete":
            assert (shown["state"], shown["output"]) == ("succeeded", "yes")
        else:
            assert shown["state"] == "failed"
            [task] = shown["tasks"].values()
            assert (task["error"]["type"], task["error"]["message"]) == ("refused", "no")
        late = await one.operator.post(f"/attempts/{verb}", json={"token": token, **said})
        assert late.status_code == 409
        bad = await one.operator.post(f"/attempts/{verb}", json={"token": "x", **said})
        assert (bad.status_code, "not the token of an attempt" in bad.text) == (409, True)

    serve(tmp_path, test, elsewhere=elsewhere)


def test_a_request_that_is_cut_off_leaves_an_update_that_can_be_asked_again(tmp_path):
    async def test(one: Rig) -> None:
        run = await started(one, api_code.order)
        path = f"/runs/{run}/updates/slow"
        asking = asyncio.create_task(one.operator.post(path, params={"wait": "60s"}, json={"id": "s"}))
        while not one.listener._api._waits:
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await one.operator.post(f"/runs/{run}/signals/close", json={})
        again = await one.operator.post(path, json={"id": "s"})
        assert again.json() == {"id": "s", "answered": True, "value": "closed"}

    serve(tmp_path, test, elsewhere=False)
