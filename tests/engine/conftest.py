"""What the tests of the engine share: ``rig`` beside them, and the graphs of the core's tests."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "core")]
