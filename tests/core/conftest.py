"""What the tests of the core share lies beside them: ``graphs``, ``checked`` and ``story``."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def update_stories(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-stories"))
