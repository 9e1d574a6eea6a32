"""The regression tests use the rig of the engine's tests and the graphs of the core's."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "engine"), str(TESTS / "core")]
