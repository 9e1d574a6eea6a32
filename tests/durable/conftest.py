"""What the tests of code workflows share lies beside them: ``code_rig``, and the rig of the engine's tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "engine")]


@pytest.fixture(autouse=True)
def _close_runs() -> Iterator[None]:
    yield
    from code_rig import close_all

    close_all()
