"""Records how every golden story ends, as histories that later versions must be able to read.

``python tests/core/record_histories.py v0.1`` writes ``histories/v0.1-<story>.jsonl`` for the stories that have no
recording of that version yet. A recording is never written anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent))

from story import Story

from headrace.core.spec import encode_spec

FOLDER = Path(__file__).parent / "histories"
CHOSEN = [
    "allow-failure",
    "cancel-under-way",
    "crash-under-way",
    "dependencies",
    "external",
    "heartbeat",
    "large-value",
    "map",
    "map-item-retries",
    "map-partial-failure",
    "output-template",
    "pause-resume",
    "poison-attempt",
    "retry-failed-tasks",
    "retry-map",
    "skip-propagates",
    "timeout-run",
    "timeout-task-map",
    "when",
]


def main(version: str) -> None:
    for name in CHOSEN:
        path = FOLDER / f"{version}-{name}.jsonl"
        if path.exists():
            continue
        story = Story(Path(__file__).parent / "stories" / f"{name}.story")
        story.told()
        told = story.run
        units = {unit.name: [str(unit.state), unit.attempt, unit.output] for unit in told.run.units()}
        ends = msgspec.json.encode({"run": str(told.run.state), "output": told.run.output, "units": units})
        path.write_bytes(b"\n".join([encode_spec(told.plan.spec), *told.stored, ends]) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
