"""Following a run: Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import api_code
import httpx
import pytest
from api_rig import HELD, Rig, rig, serve


class Listening:
    """A stream that is read message by message."""

    def __init__(self, got: httpx.Response) -> None:
        self.got = got
        self.last = ""
        self._lines = got.aiter_lines()

    async def next(self) -> dict[str, str]:
        """The next message; ``:`` for comments. Empty once the stream has ended."""
        message: dict[str, str] = {}
        async for line in self._lines:
            if not line:
                if message:
                    break
                continue
            name, _, value = line.partition(":")
            message[name or ":"] = value.strip()
        self.last = message.get("id", self.last)
        return message

    async def rest(self) -> list[dict[str, str]]:
        found = []
        while message := await self.next():
            found.append(message)
        return found


@asynccontextmanager
async def follow(one: Rig, run: str, query: str = "", **headers: str) -> AsyncIterator[Listening]:
    async with one.viewer.stream("GET", f"/runs/{run}/events{query}", headers=headers) as got:
        assert got.status_code == 200
        assert got.headers["content-type"].startswith("text/event-stream")
        listening = Listening(got)
        assert await listening.next() == {"retry": "1000"}
        yield listening


def kinds(messages: list[dict[str, str]]) -> list[str]:
    return [one.get("event", ":") for one in messages]


def test_a_run_that_has_ended_is_told_whole(tmp_path):
    async def test(one: Rig) -> None:
        run = await one.start()
        async with follow(one, run["id"]) as events:
            told = await events.rest()
        assert kinds(told) == ["run.created", "task.succeeded", "task.succeeded", "run.finished", "end"]
        assert [message.get("id") for message in told] == ["1", "2", "3", "4", None]
        assert told[-1]["data"] == '{"state":"succeeded"}'
        history = await one.viewer.get(f"/runs/{run['id']}/history")
        assert told[1]["data"] in history.text
        async with follow(one, run["id"], **{"Last-Event-ID": "3"}) as events:
            assert kinds(await events.rest()) == ["run.finished", "end"]
        for bad in ("x", "-1", "9" * 30):
            refused = await one.viewer.get(f"/runs/{run['id']}/events", headers={"Last-Event-ID": bad})
            assert (refused.status_code, refused.json()["problems"][0]["where"]) == (422, "Last-Event-ID")
        assert (await one.viewer.get("/runs/zzz/events")).status_code == 404

    serve(tmp_path, test)


def with_owner(folder: Any, test: Any, *, elsewhere: bool) -> None:
    async def served() -> None:
        async with AsyncExitStack() as stack:
            owner = await stack.enter_async_context(rig(folder))
            await owner.store(HELD)
            await owner.hr.register(api_code.order)
            one = owner
            if elsewhere:
                one = await stack.enter_async_context(rig(folder, adopt=False, execute=False, queues=()))
            await test(one, owner)

    asyncio.run(asyncio.wait_for(served(), 90))


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
def test_events_come_as_they_happen_and_a_listener_that_was_cut_off_misses_nothing(tmp_path, elsewhere):
    async def test(one: Rig, owner: Rig) -> None:
        run = await owner.hr.run(api_code.order)
        async with follow(one, run.id) as events:
            assert (await events.next())["event"] == "run.created"
            await run.update("add", "pot")
            first = await events.next()
            while first["event"] != "update.completed":
                first = await events.next()
            last = events.last
        await run.update("add", "lid")  # while nobody listens
        async with follow(one, run.id, **{"Last-Event-ID": last}) as events:
            told = await events.next()
            assert int(told["id"]) == int(last) + 1
            await run.signal("close")
            assert kinds(await events.rest())[-2:] == ["run.finished", "end"]
        while one.listener._api._streams:
            await asyncio.sleep(0.01)
        assert not one.hr._node.wisher._words

    with_owner(tmp_path, test, elsewhere=elsewhere)


def test_nothing_is_read_while_nothing_happens_but_a_comment_comes(tmp_path, monkeypatch):
    monkeypatch.setattr("headrace.server.api.events.HEARTBEAT_SECONDS", 0.05)

    async def test(one: Rig, owner: Rig) -> None:
        run = await owner.hr.run(api_code.order)
        looks = 0
        history = one.hr.store.history

        async def counted(*arguments: Any) -> Any:
            nonlocal looks
            looks += 1
            return await history(*arguments)

        async with follow(one, run.id) as events:
            while ":" not in await events.next():
                pass
            monkeypatch.setattr(one.hr.store, "history", counted)
            for _ in range(5):
                assert ":" in await events.next()
            assert looks == 0
            await run.signal("close")
            while (await events.next()).get("event") != "end":
                pass
            assert looks > 0

    with_owner(tmp_path, test, elsewhere=False)


def test_a_listener_may_want_only_what_comes(tmp_path):
    async def test(one: Rig, owner: Rig) -> None:
        run = await owner.hr.run(api_code.order)
        await run.update("add", "pot")
        async with follow(one, run.id, "?tail=true") as events:
            await run.signal("close")
            told = kinds(await events.rest())
        assert told[0] == "signal.received"
        assert told[-1] == "end"
        async with follow(one, run.id, "?after=1") as events:
            assert (await events.next())["id"] == "2"

    with_owner(tmp_path, test, elsewhere=False)


def test_a_stream_ends_when_the_node_stops(tmp_path):
    async def test(one: Rig) -> None:
        run = await one.start("held", wait="0s", params={"gate": str(tmp_path / "gate")})
        async with follow(one, run["id"]) as events:
            assert (await events.next())["event"] == "run.created"
            stopping = asyncio.create_task(one.listener.stop())
            told = await events.rest()
            assert "end" not in kinds(told)
            assert "the node stops" in told[-1][":"]
            await stopping

    serve(tmp_path, test)


def test_there_are_so_many_streams_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr("headrace.server.api.service.STREAMS_MAX", 1)

    async def test(one: Rig) -> None:
        gate = tmp_path / "gate"
        run = await one.start("held", wait="0s", params={"gate": str(gate)})
        async with follow(one, run["id"]):
            refused = await one.viewer.get(f"/runs/{run['id']}/events")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        while one.listener._api._streams:
            await asyncio.sleep(0.01)
        gate.touch()
        async with follow(one, run["id"]) as events:
            assert kinds(await events.rest())[-1] == "end"

    serve(tmp_path, test)
