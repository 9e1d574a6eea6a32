"""Scenarios of attempts on offer: see :class:`headrace.contracts.ready.Ready`."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from headrace.contracts.ready import DELIVERIES_MAX, Beat, Claim, Offer, Result, outcome_kind
from headrace.core.errors import Fenced
from headrace.core.ids import RunId, attempt_key
from headrace.testing.store_conformance.stage import Node, Stage, new_run, run_id, scenario

ROOM = {"thread": 100}


def an_offer(task: str = "t", *, run: RunId | None = None, item: int | None = None, **fields: Any) -> Offer:
    """An offer for the queue ``gpu``."""
    key = attempt_key(run or run_id(1), task, item, 1)
    defaults: dict[str, Any] = {"queue": "gpu", "executor": "thread", "call": msgspec.json.encode({"task": task})}
    return Offer(key=key, **(defaults | fields))


def outcome(task: str = "t", **fields: Any) -> dict[str, Any]:
    """An outcome as plain values."""
    return {"kind": "succeeded", "task": task, "attempt": 1, "output": "é\u0000"} | fields


async def claim(node: Node, *queues: str, room: dict[str, int] | None = None, **labels: str) -> list[Claim]:
    """Claim as a node that serves these queues, ``gpu`` unless given."""
    asked = ROOM if room is None else room
    return await node.store.claim_attempts(node.name, node.epoch, queues or ("gpu",), labels, asked)


async def offer(node: Node, *offers: Offer) -> None:
    """Put on offer."""
    await node.store.offer(node.name, node.epoch, offers)


async def complete(node: Node, one: Claim, **fields: Any) -> str | None:
    """Complete a claim."""
    (answer,) = await node.store.complete(node.name, node.epoch, [Result(one.key, one.delivery, outcome(**fields))])
    return answer


async def cast(stage: Stage, **options: Any) -> tuple[Node, Node]:
    """An owner with a run, and a worker."""
    owner = await stage.node("owner", bell="owner-bell")
    await owner.start(new_run(1))
    return owner, await stage.node("worker", bell="worker-bell", **options)


class ReadyConformance:
    """Offers, claims, outcomes, losses."""

    @scenario
    async def test_an_offer_is_claimed_by_one_and_comes_with_its_call(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer())
        (one,) = await claim(worker)
        assert (one.key, one.delivery, one.queue, one.executor) == (an_offer().key, 1, "gpu", "thread")
        assert one.call == an_offer().call
        assert one.details is None
        assert await claim(worker) == []
        assert await claim(owner) == []

    @scenario
    async def test_a_claimer_can_ask_what_it_has(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer("a"), an_offer("b"), an_offer("c", queue="cpu"))
        assert await worker.store.held(worker.name, worker.epoch) == []
        claims = await claim(worker)
        held = await worker.store.held(worker.name, worker.epoch)
        assert held == sorted(claims, key=lambda one: one.key)
        assert [one.call for one in held] == [an_offer("a").call, an_offer("b").call]
        assert await owner.store.held(owner.name, owner.epoch) == []
        await worker.store.join(worker.name, 60, "", {})
        assert await worker.store.held(worker.name, worker.epoch) == []

    @scenario
    async def test_offering_again_changes_nothing(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer(), an_offer())
        await offer(owner, an_offer(call=b'{"other":1}'))
        (one,) = await claim(worker)
        assert one.call == an_offer().call
        await offer(owner, an_offer())
        assert await claim(worker) == []
        assert [(row.worker, row.delivery) for row in await owner.store.offered(owner.name)] == [("worker", 1)]

    @scenario
    async def test_only_the_owner_of_a_run_offers_its_attempts(self, stage: Stage) -> None:
        _, worker = await cast(stage)
        await offer(worker, an_offer())
        await offer(worker, an_offer(run=run_id(9)))
        assert await claim(worker) == []

    @scenario
    async def test_a_fenced_node_can_do_nothing(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer(), an_offer("u"))
        (one,) = await claim(worker, room={"thread": 1})
        old_owner, old_worker = owner, worker
        await stage.node("owner")
        await stage.node("worker")
        beat = Beat(one.key, one.delivery, b"1")
        store, name, epoch = old_worker.store, old_worker.name, old_worker.epoch
        with pytest.raises(Fenced):
            await offer(old_owner, an_offer("v"))
        with pytest.raises(Fenced):
            await store.withdraw(old_owner.name, old_owner.epoch, [one.key])
        with pytest.raises(Fenced):
            await claim(old_worker)
        with pytest.raises(Fenced):
            await store.report(name, epoch, [beat])
        with pytest.raises(Fenced):
            await complete(old_worker, one)
        with pytest.raises(Fenced):
            await store.give_back(name, epoch, [beat])

    @scenario
    async def test_claims_are_bounded_by_the_room_of_each_executor(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(
            owner, *(an_offer(f"t{n}") for n in range(5)), *(an_offer(f"s{n}", executor="shell") for n in range(5))
        )
        taken = await claim(worker, room={"thread": 2, "shell": 1, "process": 9})
        assert sorted(one.executor for one in taken) == ["shell", "thread", "thread"]
        assert await claim(worker, room={"thread": 0, "shell": -1}) == []
        assert await claim(worker, room={}) == []
        assert len(await claim(worker, room={"thread": 100, "shell": 2})) == 5

    @scenario
    async def test_higher_priority_first_then_the_older(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer("a"), an_offer("b", priority=5))
        await offer(owner, an_offer("c", priority=-1), an_offer("d", priority=5), an_offer("e"))
        taken = [one.key.split("/")[1] for one in await claim(worker, room={"thread": 4})]
        assert taken == ["b", "d", "a", "e"]

    @scenario
    async def test_several_queues_are_one_line(self, stage: Stage) -> None:
        """In the order of priority and age, whichever queue an offer is in; what may not be claimed is passed over."""
        owner, worker = await cast(stage)
        await owner.start(new_run(2))
        wants = {"labels": {"zone": "a"}}
        lines: list[tuple[str, str, int, dict[str, Any]]] = [
            ("a", "gpu", 0, {}),
            ("b", "cpu", 0, {}),
            ("c", "gpu", -(2**31), {}),
            ("d", "cpu", 2**31 - 1, {}),
            ("e", "gpu", 2**31 - 1, wants),
            ("f", "cpu", 0, {}),
            ("g", "gpu", 2**31 - 1, {}),
            ("h", "cpu", 1, {"run": run_id(2)}),
            ("i", "gpu", 0, {}),
            ("j", "other", 9, {}),
        ]
        for name, queue, priority, more in lines:
            await offer(owner, an_offer(name, queue=queue, priority=priority, **more))
        await owner.finish(run_id(2))
        taken: list[str] = []
        for room in (3, 1, 9):
            found = await claim(worker, "gpu", "cpu", room={"thread": room})
            taken.append("".join(one.key.split("/")[1] for one in found))
        assert taken == ["dga", "b", "fic"]

    @scenario
    async def test_queues_and_labels_choose_the_claimer(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(
            owner, an_offer("a", labels={"zone": "a", "disk": "ssd"}), an_offer("b", queue="cpu"), an_offer("c")
        )
        assert await claim(worker, "other") == []
        assert await claim(worker, "cpu", room={"shell": 5}) == []
        assert [one.key.split("/")[1] for one in await claim(worker, zone="a")] == ["c"]
        assert await claim(worker, zone="a", disk="hdd") == []
        taken = await claim(worker, "cpu", "gpu", zone="a", disk="ssd", more="x")
        assert sorted(one.key.split("/")[1] for one in taken) == ["a", "b"]

    @scenario
    async def test_an_offer_is_left_to_those_it_prefers_until_its_time_is_over(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(
            owner,
            an_offer("a", prefer={"zone": "a", "disk": "ssd"}, prefer_seconds=3600),
            an_offer("b", prefer={"zone": "b"}, prefer_seconds=0.3),
            an_offer("c"),
            an_offer("d", prefer={"zone": "d"}, prefer_seconds=3600, labels={"disk": "ssd"}, priority=1),
        )
        assert [one.key.split("/")[1] for one in await claim(worker)] == ["c"]
        assert await claim(worker, zone="a") == []
        assert await claim(worker, zone="d") == [], "what is preferred replaces nothing that is needed"
        await stage.advance(0.4)
        assert [one.key.split("/")[1] for one in await claim(worker)] == ["b"]
        taken = await claim(worker, zone="a", disk="ssd", more="x")
        assert [one.key.split("/")[1] for one in taken] == ["a"]
        assert [one.key.split("/")[1] for one in await claim(worker, zone="d", disk="ssd")] == ["d"]

    @scenario
    async def test_a_claim_ends_the_preference(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        other = await stage.node("other")
        prefer = {"zone": "a"}
        await offer(owner, an_offer("a", prefer=prefer, prefer_seconds=3600))
        (one,) = await claim(worker, zone="a")
        await worker.store.give_back(worker.name, worker.epoch, [Beat(one.key, one.delivery)])
        assert [again.key for again in await claim(other)] == [one.key], "given back, it is for everybody"
        await offer(owner, an_offer("b", prefer=prefer, prefer_seconds=3600))
        (two,) = await claim(worker, zone="a")
        await stage.node("worker")  # joins anew: its claims are lost
        await owner.store.requeue_lost()
        assert [again.key for again in await claim(other)] == [two.key], "lost, it is for everybody"

    @scenario
    async def test_many_claimers_take_each_offer_once(self, stage: Stage) -> None:
        owner, _ = await cast(stage)
        workers = [await stage.node(f"w{number}") for number in range(4)]
        await offer(owner, *(an_offer("t", item=number) for number in range(200)))
        taken: list[str] = []

        async def take(worker: Node) -> None:
            while found := await claim(worker, room={"thread": 7}):
                taken.extend(one.key for one in found)

        await asyncio.gather(*(take(worker) for worker in workers))
        # With SKIP LOCKED a claimer may find nothing while another holds the rest; somebody takes them in the end.
        await take(workers[0])
        assert sorted(taken) == sorted(an_offer("t", item=number).key for number in range(200))

    @scenario
    async def test_an_outcome_goes_to_the_inbox_and_the_offer_is_gone(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer())
        (one,) = await claim(worker)
        assert await complete(worker, one) == "owner-bell"
        (message,) = await owner.store.inbox(None, owner.name)
        assert (message.run_id, message.kind) == (run_id(1), outcome_kind(one.key))
        assert message.payload == outcome()
        assert await owner.store.offered(owner.name) == []
        assert await complete(worker, one) is None, "twice"
        assert len(await owner.store.inbox(None, owner.name)) == 1

    @scenario
    async def test_no_offer_while_the_outcome_waits_in_the_inbox(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer())
        (one,) = await claim(worker)
        await complete(worker, one)
        await offer(owner, an_offer(), an_offer("u"))
        assert [one.key.split("/")[1] for one in await claim(worker)] == ["u"]
        (message,) = await owner.store.inbox(None, owner.name)
        await owner.go_on(run_id(1), 2, inbox_done=[message.id])
        await offer(owner, an_offer())  # it would be a defect of the owner, but is no longer known here
        assert len(await claim(worker)) == 1

    @scenario
    async def test_an_outcome_of_another_claim_is_refused(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        other = await stage.node("other")
        await offer(owner, an_offer())
        (one,) = await claim(worker)
        assert await complete(other, one) is None
        assert await complete(worker, msgspec.structs.replace(one, delivery=2)) is None
        assert await complete(worker, msgspec.structs.replace(one, key=an_offer("x").key)) is None
        assert await complete(worker, one) == "owner-bell"

    @scenario
    async def test_outcomes_come_in_batches(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await owner.start(new_run(2))
        await offer(owner, an_offer(), an_offer(run=run_id(2)), an_offer("u"))
        claims = await claim(worker)
        results = [Result(one.key, one.delivery, outcome()) for one in reversed(claims)]
        results.insert(1, Result("nothing/t/1", 1, outcome()))
        results += [results[0], msgspec.structs.replace(results[2], delivery=2)]
        answers = await worker.store.complete(worker.name, worker.epoch, results)
        assert answers == ["owner-bell", None, "owner-bell", "owner-bell", None, None]
        assert len(await owner.store.inbox(None, owner.name)) == 3
        assert await owner.store.queues() == []

    @scenario
    async def test_an_outcome_wakes_a_parked_run(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer())
        (one,) = await claim(worker)
        await owner.park(run_id(1), wake_at=4e9)
        assert await owner.claim() == []
        assert await complete(worker, one) == ""
        assert await owner.store.waiting_runs() == [run_id(1)]
        assert await owner.claim() == [run_id(1)]

    @scenario
    async def test_an_owner_that_may_be_dead_is_not_rung_for(self, stage: Stage) -> None:
        owner = await stage.node("owner", bell="owner-bell", lease_seconds=1.0)
        await owner.start(new_run(1))
        await offer(owner, an_offer())
        worker = await stage.node("worker")
        (one,) = await claim(worker)
        await stage.advance(1.5)
        assert await complete(worker, one) == ""
        assert len(await worker.store.inbox([run_id(1)], worker.name)) == 1

    @scenario
    async def test_a_refused_outcome_wakes_nobody(self, stage: Stage) -> None:
        """Nor does it cost the offer, or help another outcome of the same batch."""
        owner, worker = await cast(stage)
        await owner.start(new_run(2))
        await owner.start(new_run(3))
        await offer(owner, *(an_offer(run=run_id(number)) for number in (1, 2, 3)))
        one, two, three = await claim(worker)
        await owner.finish(run_id(3))
        for number in (1, 2):
            await owner.park(run_id(number), wake_at=4e9)
        late = msgspec.structs.replace(two, delivery=2)
        results = [Result(found.key, found.delivery, outcome()) for found in (late, three, one)]
        assert await worker.store.complete(worker.name, worker.epoch, results) == [None, None, ""]
        assert await owner.store.waiting_runs() == [run_id(1)]
        assert await owner.claim() == [run_id(1)]
        assert [found.key for found in await worker.store.held(worker.name, worker.epoch)] == [two.key]

    @scenario
    async def test_offers_of_ended_runs_are_not_claimed_and_their_outcomes_refused(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer(), an_offer("u"))
        (one,) = await claim(worker, room={"thread": 1})
        await owner.finish(run_id(1))
        assert await claim(worker) == []
        assert await complete(worker, one) is None
        assert await owner.store.inbox([run_id(1)], owner.name) == []
        assert await owner.store.requeue_lost() == (0, [])
        assert await owner.store.queues() == []

    @scenario
    async def test_the_claims_of_a_lost_claimer_are_offered_again(self, stage: Stage) -> None:
        owner, worker = await cast(stage, lease_seconds=1.0)
        await offer(owner, an_offer())
        (one,) = await claim(worker)
        await worker.store.report(worker.name, worker.epoch, [Beat(one.key, 1, b'{"page":7}')])
        assert await owner.store.requeue_lost() == (0, [])
        await stage.advance(1.5)
        assert await owner.store.expire_lost() == ["worker"]
        assert await owner.store.requeue_lost() == (1, [])
        assert await owner.store.requeue_lost() == (0, [])
        other = await stage.node("other")
        (again,) = await claim(other)
        assert (again.key, again.delivery, again.details) == (one.key, 2, b'{"page":7}')
        with pytest.raises(Fenced):
            await complete(worker, one)
        returned = await stage.node("worker")
        assert await complete(returned, one) is None, "the same name, but another right"
        assert await returned.store.report(returned.name, returned.epoch, [Beat(one.key, 1)]) == {one.key: "lost"}
        assert await complete(other, again) == "owner-bell"

    @scenario
    async def test_anybody_may_look_for_lost_claims_at_any_time(self, stage: Stage) -> None:
        """A former leader, somebody who never joined, many at once: claims of the living stay, lost ones go out once."""
        owner, alive = await cast(stage)
        gone, other = await stage.node("gone", lease_seconds=1.0), await stage.store()
        await offer(owner, *(an_offer("t", item=number) for number in range(40)))
        kept = await claim(alive, room={"thread": 20})
        assert len(await claim(gone)) == 20
        assert await other.requeue_lost() == (0, [])
        await stage.advance(1.5)
        await other.expire_lost()
        looks = await asyncio.gather(*(store.requeue_lost() for store in (owner.store, alive.store, other) * 2))
        assert sum(again for again, _ in looks) == 20
        taken = await claim(alive)
        assert [one.delivery for one in taken] == [2] * 20
        assert await other.requeue_lost() == (0, [])
        for one in (*kept, *taken):
            item = int(one.key.partition("[")[2].partition("]")[0])
            assert await complete(alive, one, item=item) == "owner-bell"

    @scenario
    async def test_claims_end_when_the_claimer_leaves_or_joins_anew(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer(), an_offer("u"))
        await claim(worker, room={"thread": 1})
        await worker.store.leave(worker.name, worker.epoch)
        assert await owner.store.requeue_lost() == (1, [])
        worker = await stage.node("worker")
        assert len(await claim(worker)) == 2
        await stage.node("worker")
        assert await owner.store.requeue_lost() == (2, [])

    @scenario
    async def test_a_lost_attempt_that_must_not_run_twice_gets_an_outcome(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer("t", item=3, at_most_once=True))
        (one,) = await claim(worker)
        await worker.store.leave(worker.name, worker.epoch)
        assert await owner.store.requeue_lost() == (0, ["owner-bell"])
        assert await owner.store.offered(owner.name) == []
        (message,) = await owner.store.inbox(None, owner.name)
        assert message.kind == outcome_kind(one.key)
        assert message.payload["kind"] == "lost"
        assert (message.payload["task"], message.payload["item"], message.payload["attempt"]) == ("t", 3, 1)
        assert message.payload["worker"] == "worker"

    @scenario
    async def test_an_attempt_that_kills_its_claimers_is_not_offered_for_ever(self, stage: Stage) -> None:
        owner, _ = await cast(stage)
        await offer(owner, an_offer())
        for number in range(1, DELIVERIES_MAX + 1):
            victim = await stage.node(f"victim-{number}")
            (one,) = await claim(victim)
            assert one.delivery == number
            await victim.store.leave(victim.name, victim.epoch)
            again, bells = await owner.store.requeue_lost()
            assert (again, bells) == ((1, []) if number < DELIVERIES_MAX else (0, ["owner-bell"]))
        (message,) = await owner.store.inbox(None, owner.name)
        assert message.payload["kind"] == "lost"

    @scenario
    async def test_what_is_given_back_was_not_lost(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer(at_most_once=True))
        (one,) = await claim(worker)
        for _ in range(2):
            await worker.store.give_back(worker.name, worker.epoch, [Beat(one.key, one.delivery)])
        (again,) = await claim(worker)
        assert again.delivery == 1
        assert await complete(worker, again) == "owner-bell"

    @scenario
    async def test_withdrawing(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer("t"), an_offer("u"), an_offer("v"))
        one, two = await claim(worker, room={"thread": 2})
        keys = [an_offer(name).key for name in ("t", "v", "nothing")]
        store, name, epoch = owner.store, owner.name, owner.epoch
        assert await store.withdraw(name, epoch, [one.key], stop=False) == [(one.key, "worker-bell")]
        assert await worker.store.report(worker.name, worker.epoch, [Beat(one.key, 1)]) == {}
        assert await store.withdraw(name, epoch, keys) == [(one.key, "worker-bell")]
        assert await store.withdraw(name, epoch, [one.key], stop=False) == [(one.key, "worker-bell")]
        assert await claim(worker) == []
        beats = [Beat(one.key, 1), Beat(two.key, 1), Beat(an_offer("v").key, 1)]
        verdicts = await worker.store.report(worker.name, worker.epoch, beats)
        assert verdicts == {one.key: "stop", an_offer("v").key: "lost"}
        assert await complete(worker, one, kind="cancelled") == "owner-bell"
        (message,) = await owner.store.inbox(None, owner.name)
        assert message.payload["kind"] == "cancelled"

    @scenario
    async def test_what_is_to_be_stopped_is_not_offered_again(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer("t"), an_offer("u"))
        one, two = await claim(worker)
        await owner.store.withdraw(owner.name, owner.epoch, [one.key, two.key])
        await worker.store.give_back(worker.name, worker.epoch, [Beat(one.key, 1)])
        await worker.store.leave(worker.name, worker.epoch)
        assert await owner.store.requeue_lost() == (0, ["owner-bell"])
        assert await owner.store.offered(owner.name) == []

    @scenario
    async def test_the_next_owner_sees_what_is_on_offer(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer("t"), an_offer("u"))
        await claim(worker, room={"thread": 1})
        await owner.store.release(owner.name, owner.epoch, [run_id(1)])
        assert await owner.store.offered(owner.name) == []
        assert await worker.claim() == [run_id(1)]
        rows = await worker.store.offered(worker.name)
        assert [(row.key.split("/")[1], row.worker, row.delivery) for row in rows] == [
            ("t", "worker", 1),
            ("u", None, 0),
        ]
        assert rows[0].claimed_at is not None
        assert rows[1].claimed_at is None
        assert len(await worker.store.offered(worker.name, limit=1)) == 1
        await offer(worker, an_offer("t"), an_offer("u"), an_offer("v"))
        assert len(await worker.store.offered(worker.name)) == 3

    @scenario
    async def test_queues_are_counted(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        assert await owner.store.queues() == []
        await offer(owner, an_offer("t"), an_offer("u"), an_offer("v", queue="cpu"))
        await claim(worker, room={"thread": 1})
        cpu, gpu = await owner.store.queues()
        assert (cpu.queue, cpu.waiting, cpu.claimed) == ("cpu", 1, 0)
        assert (gpu.queue, gpu.waiting, gpu.claimed) == ("gpu", 1, 1)
        assert gpu.waited_seconds >= 0

    @scenario
    async def test_deleting_a_run_deletes_its_offers(self, stage: Stage) -> None:
        owner, worker = await cast(stage)
        await offer(owner, an_offer("t"), an_offer("u"))
        await claim(worker, room={"thread": 1})
        await owner.finish(run_id(1), ended_at=5.0)
        assert await owner.store.delete_runs(10.0) == [run_id(1)]
        assert await owner.store.queues() == []
