"""Before any test module imports the suite: its assertions are to explain themselves. And one etcd for all tests that do
not harm it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("headrace.testing.lock_conformance")
_BACKENDS = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(_BACKENDS / "brokers"), str(_BACKENDS / "stores")]

from etcd_server import EtcdServer  # noqa: E402
from namespaces import hosts  # noqa: E402, F401


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[EtcdServer]:
    yield from EtcdServer.session()


@pytest.fixture
def own_etcd() -> Iterator[EtcdServer]:
    """One that the test may kill, suspend and empty."""
    yield from EtcdServer.session()
