"""The conformance suite of servers for workers: every promise of ``docs/reference/worker-protocol.md`` as a scenario.

It speaks plain HTTP and JSON and uses nothing of Headrace's own worker, so it shows what a worker in any language can
rely on. A server inherits it and says how to reach one::

    class TestMyServer(ServerConformance):
        @pytest.fixture
        def open_place(self, tmp_path):
            return lambda: my_place(tmp_path)  # an async context manager of a ServerPlace

For readable failures name the module to pytest before importing it:
``pytest.register_assert_rewrite("headrace.testing.server_conformance")``.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import httpx

SCENARIO_SECONDS_MAX = 100.0
PATH = "/api/v1/workers/"
PROBLEM = "urn:headrace:problem:"
QUEUE = "far"
ROOM = {"shell": 10}


class ServerPlace(Protocol):
    """A server under test, with an engine behind it that serves only the queue ``default``."""

    url: str
    token: str

    async def start(self, tasks: Sequence[str], *, labels: dict[str, str] | None = None) -> str:
        """Start a run of tasks that do not need each other, of the kind ``run`` in the queue :data:`QUEUE`, which need
        these labels, without retries; its id."""
        ...

    async def cancel(self, run_id: str) -> None:
        """Ask for a run to be cancelled; durable on return."""
        ...

    async def ended(self, run_id: str) -> tuple[str, Any]:
        """Wait for a run's end; its state and output: by task, as outputs are."""
        ...

    async def restart(self) -> None:
        """Stop the server and its engine, and start them anew on the same store, at the same address."""
        ...


class Worker:
    """Speaks the protocol, barely."""

    def __init__(self, place: ServerPlace, client: httpx.AsyncClient) -> None:
        self._place = place
        self._client = client
        self.me: dict[str, Any] = {}

    async def ask(self, verb: str, body: Any, status: int = 200, **headers: str) -> Any:
        """POST; the decoded answer, which has to have this status."""
        sent = {"Authorization": f"Bearer {self._place.token}", **headers}
        got = await self._client.post(self._place.url + PATH + verb, json=body, headers=sent)
        assert got.status_code == status, got.text
        if status != 200:
            assert got.headers["content-type"].startswith("application/problem+json")
            assert got.json()["status"] == status
            assert got.json()["detail"]
        return got.json()

    async def join(self, name: str | None = None, **more: Any) -> Worker:
        """Take a lease."""
        body = {"queues": [QUEUE], "slots": ROOM, **more, **({} if name is None else {"name": name})}
        joined = await self.ask("join", body)
        self.me = {"worker": joined["worker"], "epoch": joined["epoch"]}
        assert joined["lease_seconds"] > 0
        assert joined["protocol"] == 1
        return self

    async def claim(self, *, room: dict[str, int] | None = None, wait: float = 20.0, **more: Any) -> list[Any]:
        """Claim, waiting."""
        asked = {"queues": [QUEUE], "room": ROOM if room is None else room, "wait_seconds": wait}
        return (await self.ask("claim", self.me | asked | more))["claims"]

    async def claim_all(self, count: int) -> list[Any]:
        """Claim until there are so many: they may come one by one."""
        found: list[Any] = []
        while len(found) < count:
            found += await self.claim()
        return sorted(found, key=lambda one: one["key"])

    async def complete(self, *results: Any) -> list[str]:
        """Bring outcomes home."""
        return (await self.ask("complete", self.me | {"results": results}))["answers"]

    async def held(self) -> list[str]:
        """The keys of what it has."""
        return [one["key"] for one in (await self.ask("held", self.me))["claims"]]


def result(claim: Any, **fields: Any) -> dict[str, Any]:
    """An outcome of a claim: it succeeded, unless told otherwise."""
    call = claim["call"]
    outcome = {"kind": "succeeded", "task": call["task"]["id"], "attempt": call["attempt"], "output": 7} | fields
    return {"key": claim["key"], "delivery": claim["delivery"], "outcome": outcome}


class _Scene:
    """A place and workers for it."""

    def __init__(self, place: ServerPlace, client: httpx.AsyncClient) -> None:
        self.place = place
        self.client = client

    def worker(self) -> Worker:
        """One that has not joined."""
        return Worker(self.place, self.client)


_Open = Callable[[], AbstractAsyncContextManager[ServerPlace]]


def scenario(play: Callable[[Any, _Scene], Coroutine[Any, Any, None]]) -> Callable[[Any, _Open], None]:
    """A test that plays a scenario on an event loop of its own, within a bound."""

    @functools.wraps(play)
    def test(self: Any, open_place: _Open) -> None:
        async def run() -> None:
            async with (
                asyncio.timeout(SCENARIO_SECONDS_MAX),
                open_place() as place,
                httpx.AsyncClient(timeout=60, trust_env=False) as client,
            ):
                await play(self, _Scene(place, client))

        asyncio.run(run())

    del test.__wrapped__  # type: ignore[attr-defined]
    return test


class ServerConformance:
    """Who may come in, leases, claims, outcomes, refusals."""

    @scenario
    async def test_nobody_comes_in_without_a_token(self, scene: _Scene) -> None:
        """Whatever is asked, and before it is looked at."""
        worker = scene.worker()
        for wrong in ("", "Bearer", "Bearer " + "x" * 32, "Basic " + scene.place.token, scene.place.token):
            for verb in ("join", "claim", "complete", "nonsense"):
                told = await worker.ask(verb, {"not": "looked at"}, 401, Authorization=wrong)
                assert told["type"] == PROBLEM + "not-authorized"
        got = await scene.client.post(scene.place.url + PATH + "join", json={})
        assert (got.status_code, got.headers["www-authenticate"]) == (401, "Bearer")

    @scenario
    async def test_health_needs_no_token(self, scene: _Scene) -> None:
        """Load balancers have none."""
        for path in ("/healthz", "/readyz"):
            assert (await scene.client.get(scene.place.url + path)).status_code == 200

    @scenario
    async def test_a_lease_is_renewed_until_it_is_left(self, scene: _Scene) -> None:
        """Leaving twice is one leaving."""
        worker = await scene.worker().join()
        assert (await worker.ask("renew", worker.me))["lease_seconds"] > 0
        await worker.ask("leave", worker.me)
        await worker.ask("leave", worker.me)
        assert (await worker.ask("renew", worker.me, 409))["type"] == PROBLEM + "fenced"

    @scenario
    async def test_names_are_the_servers_to_give(self, scene: _Scene) -> None:
        """A wished one is taken up, one is made up otherwise, and no node's name can be had."""
        named, one, other = [await scene.worker().join(name) for name in ("w", None, None)]
        assert len({named.me["worker"], one.me["worker"], other.me["worker"]}) == 3
        assert named.me["worker"].endswith("w")
        await named.ask("renew", {"worker": "w", "epoch": named.me["epoch"]}, 422)
        await named.ask("join", {"queues": [QUEUE], "name": "a:b"}, 422)

    @scenario
    async def test_an_attempt_is_claimed_with_its_call_and_its_outcome_comes_home(self, scene: _Scene) -> None:
        """The way of every attempt."""
        worker = await scene.worker().join()
        run_id = await scene.place.start(["a"])
        (one,) = await worker.claim()
        call = one["call"]
        assert (one["key"], one["delivery"], one["queue"], one["executor"]) == (f"{run_id}/a/1", 1, QUEUE, "shell")
        assert (call["run_id"], call["task"]["id"], call["task"]["kind"], call["attempt"]) == (run_id, "a", "run", 1)
        assert "details" not in one
        assert await worker.complete(result(one, output={"é": [1, None, 2.5]})) == ["recorded"]
        assert await scene.place.ended(run_id) == ("succeeded", {"a": {"é": [1, None, 2.5]}})

    @scenario
    async def test_a_failure_is_the_runs(self, scene: _Scene) -> None:
        """With its message."""
        worker = await scene.worker().join()
        run_id = await scene.place.start(["a"])
        (one,) = await worker.claim()
        failure = {"type": "exit_code", "message": "it broke", "retryable": False}
        assert await worker.complete(result(one, kind="failed", failure=failure)) == ["recorded"]
        assert (await scene.place.ended(run_id))[0] == "failed"

    @scenario
    async def test_a_claim_waits_for_something_to_come(self, scene: _Scene) -> None:
        """And an impatient one does not."""
        worker = await scene.worker().join()
        assert await worker.claim(wait=0) == []
        waiting = asyncio.create_task(worker.claim())
        await scene.place.start(["a"])
        assert len(await waiting) == 1

    @scenario
    async def test_a_second_claim_ends_the_first(self, scene: _Scene) -> None:
        """What an answer that nobody reads would bring must not be lost."""
        worker = await scene.worker().join()
        claims = [asyncio.create_task(worker.claim()) for _ in range(2)]  # either may come first
        (ended,), (waiting,) = await asyncio.wait(claims, return_when=asyncio.FIRST_COMPLETED)
        assert ended.result() == []
        await scene.place.start(["a"])
        assert len(await waiting) == 1

    @scenario
    async def test_no_more_is_claimed_than_there_is_room_for(self, scene: _Scene) -> None:
        """Of each executor."""
        worker = await scene.worker().join()
        run_id = await scene.place.start(["a", "b", "c"])
        assert await worker.claim(room={"thread": 5}, wait=0) == []
        first = await worker.claim(room={"shell": 1})
        rest = [*await worker.claim(room={"shell": 1}), *await worker.claim(room={"shell": 1})]
        assert len(first) == 1
        assert len({one["key"] for one in first + rest}) == 3
        assert await worker.complete(*[result(one) for one in first + rest]) == ["recorded"] * 3
        assert await scene.place.ended(run_id) == ("succeeded", {"a": 7, "b": 7, "c": 7})

    @scenario
    async def test_labels_and_queues_choose(self, scene: _Scene) -> None:
        """Every label that the task asks for, none of the others."""
        worker = await scene.worker().join()
        await scene.place.start(["a"], labels={"zone": "a"})
        assert await worker.claim(wait=0) == []
        waiting = asyncio.create_task(worker.claim(labels={"zone": "a", "disk": "ssd"}))
        (one,) = await waiting
        await worker.ask("give-back", worker.me | {"claims": [{"key": one["key"], "delivery": 1}]})
        assert await worker.claim(wait=0, labels={"zone": "b"}) == []
        assert await worker.claim(wait=0, labels={"zone": "a"}, queues=["other"]) == []

    @scenario
    async def test_what_is_given_back_is_offered_again(self, scene: _Scene) -> None:
        """To anybody, and not counted as a delivery; whoever gave it back has nothing more to say."""
        one, other = await scene.worker().join(), await scene.worker().join()
        run_id = await scene.place.start(["a"])
        (claim,) = await one.claim()
        back = one.me | {"claims": [{"key": claim["key"], "delivery": claim["delivery"]}]}
        await one.ask("give-back", back)
        await one.ask("give-back", back)
        (again,) = await other.claim()
        assert again["delivery"] == 1
        assert await one.complete(result(claim, output="late")) == ["refused"]
        assert await other.complete(result(again, output="right")) == ["recorded"]
        assert await scene.place.ended(run_id) == ("succeeded", {"a": "right"})

    @scenario
    async def test_an_outcome_is_recorded_once(self, scene: _Scene) -> None:
        """However often it is sent: its answer may have been lost."""
        worker = await scene.worker().join()
        run_id = await scene.place.start(["a"])
        (one,) = await worker.claim()
        assert await worker.complete(result(one, output=1), result(one, output=2)) == ["recorded", "refused"]
        assert await worker.complete(result(one, output=3)) == ["refused"]
        assert await scene.place.ended(run_id) == ("succeeded", {"a": 1})

    @scenario
    async def test_whoever_joins_anew_has_lost_everything(self, scene: _Scene) -> None:
        """The former epoch is refused, and so is an outcome under the new one; the attempt is delivered again."""
        former = await scene.worker().join("w")
        run_id = await scene.place.start(["a"])
        (one,) = await former.claim()
        worker = await scene.worker().join("w")
        assert worker.me["worker"] == former.me["worker"]
        assert worker.me["epoch"] > former.me["epoch"]
        assert (await former.ask("renew", former.me, 409))["type"] == PROBLEM + "fenced"
        told = await former.ask("complete", former.me | {"results": [result(one, output="late")]}, 409)
        assert told["type"] == PROBLEM + "fenced"
        assert await worker.complete(result(one, output="late")) == ["refused"]
        assert await former.held() == []
        (again,) = await worker.claim_all(1)
        assert again["delivery"] == 2
        assert await worker.complete(result(again, output="right")) == ["recorded"]
        assert await scene.place.ended(run_id) == ("succeeded", {"a": "right"})

    @scenario
    async def test_a_worker_can_ask_what_it_has(self, scene: _Scene) -> None:
        """If it did not hear the answer to a claim."""
        worker = await scene.worker().join()
        assert await worker.held() == []
        await scene.place.start(["a", "b"])
        claims = await worker.claim_all(2)
        assert sorted(await worker.held()) == [one["key"] for one in claims]
        await worker.complete(result(claims[0]))
        assert await worker.held() == [claims[1]["key"]]

    @scenario
    async def test_a_report_says_what_was_lost_and_what_to_stop(self, scene: _Scene) -> None:
        """A run that is cancelled waits for its attempts to stop."""
        worker = await scene.worker().join()
        run_id = await scene.place.start(["a"])
        (one,) = await worker.claim()
        mine = {"key": one["key"], "delivery": 1}
        beats = worker.me | {"beats": [mine | {"details": {"rows": 3}}, {"key": one["key"] + "1", "delivery": 1}]}
        assert (await worker.ask("report", beats))["verdicts"] == {one["key"] + "1": "lost"}
        await scene.place.cancel(run_id)
        verdicts: dict[str, str] = {}
        while not verdicts:
            verdicts = (await worker.ask("report", worker.me | {"beats": [mine]}))["verdicts"]
        assert verdicts == {one["key"]: "stop"}
        assert await worker.complete(result(one, kind="cancelled")) == ["recorded"]
        assert (await scene.place.ended(run_id))[0] == "cancelled"

    @scenario
    async def test_what_a_heartbeat_said_comes_with_the_next_delivery(self, scene: _Scene) -> None:
        """So that it can go on where the lost one was."""
        former = await scene.worker().join("w")
        await scene.place.start(["a"])
        (one,) = await former.claim()
        beat = {"key": one["key"], "delivery": 1, "details": {"rows": 3}}
        await former.ask("report", former.me | {"beats": [beat]})
        worker = await scene.worker().join("w")
        (again,) = await worker.claim_all(1)
        assert again["details"] == {"rows": 3}

    @scenario
    async def test_what_cannot_be_meant_is_refused_and_changes_nothing(self, scene: _Scene) -> None:
        """With the reason; the whole request, not a part of it."""
        worker = await scene.worker().join()
        run_id = await scene.place.start(["a"])
        (one,) = await worker.claim()
        good = result(one)
        for bad in (
            result(one, task="b"),
            result(one, attempt=2),
            result(one, item=0),
            result(one, kind="lost"),
            result(one, kind="failed"),
            result(one, kind="dreamt"),
            {"key": one["key"]},
        ):
            told = await worker.ask("complete", worker.me | {"results": [good, bad]}, 422)
            assert told["type"] == PROBLEM + "bad-request"
        for verb, body in (
            ("join", {"queues": []}),
            ("join", {"queues": "far"}),
            ("claim", worker.me | {"queues": [QUEUE]}),
            ("claim", worker.me | {"queues": [QUEUE], "room": {"shell": -1}}),
            ("report", worker.me | {"beats": [{}]}),
            ("renew", {"worker": worker.me["worker"]}),
            ("renew", []),
        ):
            await worker.ask(verb, body, 422)
        assert (await worker.ask("nonsense", {}, 404))["type"] == PROBLEM + "not-found"
        assert await worker.complete(good) == ["recorded"]
        assert await scene.place.ended(run_id) == ("succeeded", {"a": 7})

    @scenario
    async def test_fields_that_are_not_known_are_ignored(self, scene: _Scene) -> None:
        """Either side may be newer."""
        worker = await scene.worker().join(colour="red")
        await worker.ask("renew", worker.me | {"colour": "red"})

    @scenario
    async def test_large_outputs_travel_and_larger_ones_are_refused(self, scene: _Scene) -> None:
        """16 MiB do, 25 MiB do not."""
        worker = await scene.worker().join()
        run_id = await scene.place.start(["a"])
        (one,) = await worker.claim()
        too_large = worker.me | {"results": [result(one, output="x" * (25 << 20))]}
        assert (await worker.ask("complete", too_large, 413))["type"] == PROBLEM + "too-large"
        assert await worker.complete(result(one, output="x" * ((16 << 20) - 1000))) == ["recorded"]
        state, output = await scene.place.ended(run_id)
        assert state == "succeeded"
        assert len(output["a"]) == (16 << 20) - 1000

    @scenario
    async def test_a_server_that_starts_anew_has_forgotten_nothing(self, scene: _Scene) -> None:
        """Leases and claims are in the store."""
        worker = await scene.worker().join()
        run_id = await scene.place.start(["a"])
        (one,) = await worker.claim()
        await scene.place.restart()
        await worker.ask("renew", worker.me)
        assert await worker.held() == [one["key"]]
        assert await worker.complete(result(one)) == ["recorded"]
        assert await scene.place.ended(run_id) == ("succeeded", {"a": 7})
