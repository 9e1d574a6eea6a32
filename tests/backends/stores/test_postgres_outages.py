"""PostgreSQL that crashes, and networks to it that break."""

import pytest
from outage_scenarios import OutageScenarios
from postgres_rig import PostgresHarness
from postgres_server import PostgresServer


class TestPostgresOutages(OutageScenarios):
    @pytest.fixture
    def harness(self, postgres: PostgresServer) -> PostgresHarness:
        return PostgresHarness(postgres)
