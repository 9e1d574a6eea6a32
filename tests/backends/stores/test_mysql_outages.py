"""MySQL that crashes, and networks to it that break."""

import pytest
from mariadb_server import MariadbServer
from mysql_rig import MysqlHarness
from outage_scenarios import OutageScenarios


class TestMysqlOutages(OutageScenarios):
    @pytest.fixture
    def harness(self, mariadb: MariadbServer) -> MysqlHarness:
        return MysqlHarness(mariadb)
