"""Print where the result of the flights example is: the last lines of ``make demo``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(out_dir: str) -> int:
    """Read ``result.json`` from the folder the workflow wrote to (relative to this file, like its ``out_dir``)."""
    file = (HERE / out_dir).resolve() / "result.json"
    if not file.is_file():
        print(f"no result at {file}: run `make demo` first", file=sys.stderr)
        return 2
    result = json.loads(file.read_text(encoding="utf-8"))
    print(f"{result['flights']:,} flights: {result['decision']}, {result['on_time_rate']:.1%} arrived on time")
    for name in ("report", "archive", "quarantine", "result"):
        if name in result:
            print(f"  {name:10} {result[name]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "build/flights"))
