"""The client over HTTP: the same names, handles and errors as in process."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator
from typing import Any

import api_code
import httpx
import pytest
from api_rig import GREET, TOKENS, Rig, rig, serve
from certificates import make_certificates

from headrace import (
    AlreadyRunning,
    InvalidCommand,
    InvalidDefinition,
    InvalidParams,
    NotFound,
    RunCancelled,
    RunFailed,
    UpdateRejected,
    WorkflowText,
    connect,
)
from headrace.client.client import Client
from headrace.client.http.client import HttpClient
from headrace.core.errors import HeadraceError, NotAuthorized, ServerUnavailable
from headrace.core.events import RunFinished


def client_of(one: Rig, role: str = "author", **options: Any) -> HttpClient:
    return connect(one.url, token=TOKENS[role], **options)


def test_a_run_is_started_waited_for_and_looked_at(tmp_path):
    async def test(one: Rig) -> None:
        async with client_of(one) as hr:
            run = await hr.run("greet", {"who": "you", "times": "2"}, from_strings={"times"}, tags={"a": "b"})
            assert await run.result() == {"bye": "bye"}
            view = await run.wait()
            assert (view.state, view.params, view.tags) == ("succeeded", {"who": "you", "times": 2}, {"a": "b"})
            local = await one.hr.show(run.id)
            assert view.tasks["hello"].output == local.tasks["hello"].output == "hello you"
            assert abs((view.ended_at or 0) - (local.ended_at or 0)) < 0.001
            assert (await hr.get(run.id[:22])).id == run.id
            row = await hr.row(run.id)
            assert (row.state, row.tasks_done) == ("succeeded", 2)
            assert [found.run_id for found in await hr.runs(where="tag.a = 'b'", states=("succeeded",))] == [run.id]
            assert [entry.text for entry in await hr.logs(run.id, "hello")] == ["hello you\n"]
            events = await hr.history(run.id)
            assert isinstance(events[-1], RunFinished)
            assert events == await one.hr.history(run.id)
            assert await hr.why(run.id) == []
            assert (await hr.definition_of(run.id)) == await one.hr.definition_of(run.id)
            assert {found.name for found in await hr.workflows()} == {"greet", "held", "failing"}
            assert (await hr.workflow("greet")).params["properties"]["who"]["default"] == "world"
            assert [node.id for node in await hr.nodes()] == [one.hr.node_id]
            assert [lock.name for lock in await hr.locks()] == ["headrace.leader"]

    serve(tmp_path, test)


IN_PROCESS = {"broken", "run_as_task", "stored_row", "stopping", "waiting"}
"""What the engine's own parts ask of the client in process."""


def test_both_clients_can_be_asked_the_same():
    def asked(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert asked(Client) - asked(HttpClient) == IN_PROCESS
    for name in asked(Client) & asked(HttpClient) - {"lock", "register", "replay", "signal_with_start"}:
        if name in ("update_with_start", "live"):
            continue
        ours = inspect.signature(getattr(HttpClient, name)).parameters
        theirs = inspect.signature(getattr(Client, name)).parameters
        missing = set(theirs) - set(ours) - {"trigger", "run_id", "seconds"}
        assert not missing, name


def test_a_run_is_found_by_its_key(tmp_path):
    async def test(one: Rig) -> None:
        async with client_of(one) as hr:
            for key in ("order-17", "o'clock", 'say "x"'):
                run = await hr.run("greet", key=key)
                await run.wait()
                found = await hr.find("greet", key)
                assert found is not None
                assert found.id == run.id
            assert await hr.find("held", "order-17") is None

    serve(tmp_path, test)


def test_more_runs_than_a_page_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("headrace.client.http.client.PAGE_MAX", 2)

    async def test(one: Rig) -> None:
        started = [(await one.start())["id"] for _ in range(5)]
        async with client_of(one, "viewer") as hr:
            assert [row.run_id for row in await hr.runs(limit=4)] == started[:0:-1]

    serve(tmp_path, test)


def test_a_definition_is_sent_along(tmp_path):
    async def test(one: Rig) -> None:
        file = tmp_path / "own.yaml"
        file.write_text(GREET.replace("greet", "own"))
        async with client_of(one) as hr:
            assert (await (await hr.run(file)).wait()).workflow == "own"
            assert (await (await hr.run(WorkflowText(GREET))).wait()).workflow == "greet"
            assert (await hr.check(str(file))).ok
            assert not (await hr.check(WorkflowText("a: b"))).ok
            with pytest.raises(InvalidDefinition) as told:
                await hr.run(WorkflowText("name: x\ntasks:\n  a: {run: 'true', needs: b}\n"))
            assert "workflow:3:27: unknown task 'b'" in str(told.value)
            for bad in (tmp_path / "x.py", 5, object()):
                with pytest.raises(InvalidCommand):
                    await hr.run(bad)  # type: ignore[call-overload]

    serve(tmp_path, test)


def test_code_is_talked_to(tmp_path):
    async def test(one: Rig) -> None:
        await one.hr.register(api_code.order)
        async with client_of(one) as hr:
            run = await hr.start(api_code.order, "jug")
            assert await run.query("content") == ["jug"]
            assert await run.update("add", item="pot", update_id="u") == 2
            assert await run.update("add", item="pot", update_id="u") == 2
            with pytest.raises(UpdateRejected, match="what is to be added"):
                await run.update("add", "")
            with pytest.raises(NotFound, match="content"):
                await run.query("contnet")
            slow = asyncio.create_task(run.update("slow"))
            while not one.listener._api._waits:
                await asyncio.sleep(0)
            await run.signal("close", key="once")
            assert await slow == "closed"
            assert await run.result() == {"items": ["jug", "pot"]}
            again = await hr.fork(run.id, to_event=1)
            await again.terminate("enough")
            with pytest.raises(RunFailed):
                await again.result()

    serve(tmp_path, test)


def test_an_update_is_waited_for_longer_than_one_request_may_take(tmp_path, monkeypatch):
    monkeypatch.setattr("headrace.client.http.client.WAIT_SECONDS_MAX", 0.01)

    async def test(one: Rig) -> None:
        await one.hr.register(api_code.order)
        async with client_of(one) as hr:
            run = await hr.start(api_code.order, "jug")
            asks = 0
            request = hr.link.http.request

            async def counted(*arguments: Any, **options: Any) -> httpx.Response:
                nonlocal asks
                asks += 1
                if asks == 4:
                    await one.hr.signal(run.id, "close")
                return await request(*arguments, **options)

            hr.link.http.request = counted  # type: ignore[method-assign]
            assert await run.update("slow") == "closed"
            assert asks >= 4

    serve(tmp_path, test)


def test_a_watcher_sees_changes_and_the_end(tmp_path):
    async def test(one: Rig) -> None:
        gate = tmp_path / "gate"
        async with client_of(one) as hr:
            run = await hr.run("held", {"gate": str(gate)})
            states = []
            async for view in run.watch(interval_seconds=0):
                states.append(view.state)
                if len(states) == 2:  # the stream is open
                    await run.pause("lunch")
                if view.state == "paused":
                    await run.resume()
                    gate.touch()
            assert states[0] == "running"
            assert "paused" in states
            assert states[-1] == "succeeded"

    serve(tmp_path, test)


def test_a_watcher_goes_on_when_its_stream_breaks_off(tmp_path):
    async def test(one: Rig) -> None:
        gate = tmp_path / "gate"
        async with client_of(one) as hr:
            run = await hr.run("held", {"gate": str(gate)})
            views = run.watch(interval_seconds=0)
            assert (await anext(views)).state == "running"
            for _ in range(2):
                while not one.listener._api._streams:
                    await asyncio.sleep(0.01)
                one.listener._api.closing.set()  # every stream ends, as when a node stops
                while one.listener._api._streams:
                    await asyncio.sleep(0.01)
                one.listener._api.closing.clear()
            gate.touch()
            async for view in views:
                last = view.state
            assert last == "succeeded"

    serve(tmp_path, test)


def test_a_watcher_misses_nothing_that_happens_before_its_stream_is_open(tmp_path):
    async def test(one: Rig) -> None:
        await one.hr.register(api_code.order)
        async with client_of(one) as hr:
            run = await hr.run("order")
            may_open = asyncio.Event()
            stream = hr.link.http.stream

            @contextlib.asynccontextmanager
            async def held_back(*arguments: Any, **options: Any) -> AsyncIterator[httpx.Response]:
                await may_open.wait()
                async with stream(*arguments, **options) as got:
                    yield got

            hr.link.http.stream = held_back  # type: ignore[method-assign]
            views = run.watch(interval_seconds=0)
            assert (await anext(views)).state == "running"
            await run.pause()
            may_open.set()
            assert (await asyncio.wait_for(anext(views), 20)).state == "paused"
            await views.aclose()  # type: ignore[attr-defined]

    serve(tmp_path, test)


def test_refusals_are_the_errors_of_the_client_in_process(tmp_path):
    async def test(one: Rig) -> None:
        async with client_of(one) as hr:
            with pytest.raises(NotFound, match="no stored workflow"):
                await hr.run("gret")
            with pytest.raises(InvalidParams) as params:
                await hr.run("greet", {"who": 5})
            assert params.value.problems[0].where == "who"
            held = await hr.run("held", {"gate": str(tmp_path / "gate")}, key="k")
            with pytest.raises(AlreadyRunning) as known:
                await hr.run("held", {"gate": "x"}, key="k")
            assert (known.value.run_id, known.value.state, known.value.key) == (held.id, "running", "k")
            with pytest.raises(TimeoutError):
                await held.wait(0.05)
            await held.cancel("enough")
            with pytest.raises(RunCancelled, match="enough"):
                await held.result()
            with pytest.raises(InvalidCommand, match="has ended"):
                await held.pause()
            with pytest.raises(RunFailed, match="exit code 3") as failed:
                await (await hr.run("failing")).result()
            assert failed.value.error.code == 3  # type: ignore[attr-defined]
            for bad in ("zzz", "", "../workflows", "é"):
                with pytest.raises(NotFound):
                    await hr.show(bad)
                with pytest.raises(NotFound):
                    await hr.get(bad)
            for call in (hr.lock, hr.register, hr.replay, hr.signal_with_start, hr.update_with_start):
                with pytest.raises(InvalidCommand, match="in process only"):
                    await call()
            with pytest.raises(InvalidCommand, match="cannot be sent as JSON"):
                await hr.run("greet", {"who": object()})
        async with client_of(one, "viewer") as hr:
            with pytest.raises(NotAuthorized, match="role operator"):
                await hr.run("greet")
        async with connect(one.url, token="x" * 32) as hr:
            with pytest.raises(NotAuthorized):
                await hr.runs()

    serve(tmp_path, test)


def test_a_repeated_start_with_the_same_id_starts_one_run(tmp_path):
    async def test(one: Rig) -> None:
        async with client_of(one) as hr:
            request = hr.link.http.request
            lost = 0

            async def losing(*arguments: Any, **options: Any) -> httpx.Response:
                nonlocal lost
                got = await request(*arguments, **options)
                if lost < 2:
                    lost += 1
                    raise httpx.ReadError("the answer is lost")
                return got

            hr.link.http.request = losing  # type: ignore[method-assign]
            run = await hr.run("greet", request_id="r-1")
            assert lost == 2
            assert [row.run_id for row in await one.hr.runs()] == [run.id]
            lost = 0
            with pytest.raises(ServerUnavailable, match="the answer is lost") as told:
                await hr.run("greet")
            assert "not known" in (told.value.hint or "")
            assert lost == 1
            assert len(await one.hr.runs()) == 2

    serve(tmp_path, test)


def test_who_is_sent_away_comes_again(tmp_path, monkeypatch):
    async def test(one: Rig) -> None:
        async with client_of(one) as hr:
            monkeypatch.setattr("headrace.server.api.service.REQUESTS_MAX", 0)
            request = hr.link.http.request
            answers = []

            async def counted(*arguments: Any, **options: Any) -> httpx.Response:
                got = await request(*arguments, **options)
                answers.append(got.status_code)
                monkeypatch.setattr("headrace.server.api.service.REQUESTS_MAX", 5)
                return got

            hr.link.http.request = counted  # type: ignore[method-assign]
            run = await hr.run("greet")
            assert answers == [503, 201]
            assert (await run.wait()).state == "succeeded"
        async with client_of(one, patience_seconds=0) as hr:
            monkeypatch.setattr("headrace.server.api.service.REQUESTS_MAX", 0)
            with pytest.raises(ServerUnavailable, match="being worked on"):
                await hr.runs()

    serve(tmp_path, test)


def test_a_server_with_tls_is_trusted_by_its_authority(tmp_path):
    make_certificates(tmp_path, "127.0.0.1")
    listening = {"tls_certificate": f"{tmp_path}/certificate.pem", "tls_key": f"{tmp_path}/key.pem"}

    async def test(one: Rig) -> None:
        url = one.url.replace("http:", "https:")
        async with connect(url, token=TOKENS["author"], ca=tmp_path / "authority.pem") as hr:
            run = await hr.run("greet")
            assert [view.state async for view in run.watch(interval_seconds=0)][-1] == "succeeded"
        async with connect(url, token=TOKENS["author"], patience_seconds=3600) as hr:
            with pytest.raises(ServerUnavailable, match="CERTIFICATE_VERIFY_FAILED") as told:
                await hr.runs()
            assert "--ca" in (told.value.hint or "")

    serve(tmp_path, test, listening=listening)


def test_what_is_no_server(tmp_path):
    async def test() -> None:
        for url in ("mill:7233", "ftp://mill", "http://[", "http://", ""):
            with pytest.raises(HeadraceError, match="no server's address"):
                connect(url)
        with pytest.raises(HeadraceError, match="PEM"):
            connect("https://mill", ca=tmp_path / "none.pem")
        async with connect("http://127.0.0.1:1", patience_seconds=0) as hr:
            with pytest.raises(ServerUnavailable, match="does not answer"):
                await hr.runs()
        async with rig(tmp_path) as one, connect(one.url + "/elsewhere") as hr:
            with pytest.raises(NotFound, match="there is no path /elsewhere/api/v1/runs"):
                await hr.runs()

    asyncio.run(asyncio.wait_for(test(), 60))
