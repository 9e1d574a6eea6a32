"""A store behind payload codecs keeps every promise of the store inside it."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from headrace.backends.codecs import Compression, Encryption
from headrace.backends.stores.coded import CodedStore
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.contracts.codec import Seal
from headrace.contracts.schedules import Firing, ScheduleRow
from headrace.contracts.store import Flush
from headrace.core.ids import NodeId
from headrace.testing.store_conformance import StoreConformance
from headrace.testing.store_conformance.stage import new_run

SEAL = Seal([Compression(bytes_min=32), Encryption({"k": bytes(range(32))})])


class CodedHarness:
    def __init__(self) -> None:
        self._offset = 0.0
        self.database = MemoryDatabase(lambda: time.time() + self._offset)

    async def advance(self, seconds: float) -> None:
        self._offset += seconds

    def handle(self) -> CodedStore:
        return CodedStore(MemoryStore(self.database), SEAL)  # type: ignore[arg-type]


class TestCodedStore(StoreConformance):
    test_texts_by_pattern_and_prefix = None  # type: ignore[assignment]  # it searches error texts, which are sealed

    @pytest.fixture
    def harness(self) -> CodedHarness:
        return CodedHarness()


def test_a_schedule_and_the_run_it_starts_are_sealed() -> None:
    """What reads the database finds neither parameters nor document; another handle with the key finds both."""

    async def test() -> None:
        harness = CodedHarness()
        store = harness.handle()
        await store.open()
        node, epoch = NodeId("a"), await store.join(NodeId("a"), 60.0, "", {})
        row = ScheduleRow("nightly", 1, 5.0, b'{"params":"secret"}')
        assert await store.put_schedule(row)
        run = msgspec.structs.replace(new_run(1, params={"card": "secret"}), last_seq=1)
        created = (run.run_id, 1, b'{"type":"run.created","at":1.0,"run_id":"x","params":{"card":"secret"}}')
        fired = ScheduleRow("nightly", 2, 5.0, b'{"params":"secret too"}')
        assert await store.fire(Firing(fired, Flush(node, epoch, [created], [run]), None))
        base = harness.database
        stored = repr((base.schedules, base.events, [one.params for one in base.runs.values()]))
        assert "secret" not in stored
        other = harness.handle()
        assert await other.schedule("nightly") == fired
        assert await other.schedules() == [fired]
        assert (await other.due_schedules()).rows == [fired]
        assert (await other.history(run.run_id))[0][1] == created[2]

    asyncio.run(test())
