"""The flights example is a folder of plain modules; put it where they can be imported."""

import sys
from pathlib import Path

import pytest

FLIGHTS = Path(__file__).resolve().parents[2] / "examples" / "flights"
sys.path.insert(0, str(FLIGHTS))


@pytest.fixture
def flights_folder() -> Path:
    return FLIGHTS
