"""A store behind payload codecs keeps every promise of the store inside it."""

from __future__ import annotations

import time

import pytest

from headrace.backends.codecs import Compression, Encryption
from headrace.backends.stores.coded import CodedStore
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.contracts.codec import Seal
from headrace.testing.store_conformance import StoreConformance

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
