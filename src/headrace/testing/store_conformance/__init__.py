"""The conformance suite of stores: every sentence of :mod:`headrace.contracts.store` as a scenario.

A new store inherits it and says how to make a fresh database::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def harness(self, tmp_path):
            return MyHarness(tmp_path)

``harness`` has two methods, see :class:`StoreHarness`. The suite needs pytest and no plug-in of it. For readable failures
name it to pytest before importing it: ``pytest.register_assert_rewrite("headrace.testing.store_conformance")``.
"""

from __future__ import annotations

from headrace.testing.store_conformance.catalog import CatalogConformance
from headrace.testing.store_conformance.filters import FiltersConformance
from headrace.testing.store_conformance.history import HistoryConformance
from headrace.testing.store_conformance.inbox import InboxConformance
from headrace.testing.store_conformance.keys import KeysConformance
from headrace.testing.store_conformance.leases import LeasesConformance
from headrace.testing.store_conformance.ready import ReadyConformance
from headrace.testing.store_conformance.schedules import SchedulesConformance
from headrace.testing.store_conformance.stage import Node, Stage, StoreHarness, scenario
from headrace.testing.store_conformance.transactions import TransactionsConformance
from headrace.testing.store_conformance.wishes import WishesConformance


class StoreConformance(
    HistoryConformance,
    LeasesConformance,
    KeysConformance,
    InboxConformance,
    WishesConformance,
    ReadyConformance,
    SchedulesConformance,
    CatalogConformance,
    FiltersConformance,
    TransactionsConformance,
):
    """All contracts of a store, and what a store may offer besides."""


__all__ = [
    "CatalogConformance",
    "FiltersConformance",
    "HistoryConformance",
    "InboxConformance",
    "KeysConformance",
    "LeasesConformance",
    "Node",
    "ReadyConformance",
    "SchedulesConformance",
    "Stage",
    "StoreConformance",
    "StoreHarness",
    "TransactionsConformance",
    "WishesConformance",
    "scenario",
]
