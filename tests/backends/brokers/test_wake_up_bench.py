"""The bench of wake-ups runs against real servers; its figures are not judged here."""

import asyncio

import pytest
from broker_servers import Server
from postgres_server import PostgresServer

from headrace.bench.wake_ups import main, measure


@pytest.mark.parametrize("name", ["nats", "valkey"])
def test_brokers_are_measured(name: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(f"{name}_server")
    bare, wake = asyncio.run(measure(server.url, 5))
    assert bare > 0
    assert wake > 0


def test_a_store_is_measured(broker_postgres: PostgresServer) -> None:
    bare, wake = asyncio.run(measure(broker_postgres.url(), 5))
    assert bare > 0
    assert wake > 0


def test_what_cannot_be_measured_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["kafka://x"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "usage" in told.err
    assert "Traceback" not in told.err
