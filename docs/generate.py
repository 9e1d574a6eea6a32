"""Rewrite the parts of the documentation that are generated from the code.

python docs/generate.py             rewrite them
python docs/generate.py --check     only say which are out of date; exit code 1 if any is

A generated part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; some files are generated as a whole.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from headrace.config import describe
from headrace.core import states
from headrace.server.api import openapi

DOCS = Path(__file__).resolve().parent

PARTS = {
    "reference/states.md": {
        "run diagram": lambda: f"```mermaid\n{states.run_diagram()}```\n",
        "task diagram": lambda: f"```mermaid\n{states.task_diagram()}```\n",
    },
    "reference/configuration.md": {
        "keys": describe.reference,
    },
}
"""Page to the names of its parts and what writes them."""


FILES = {
    "reference/openapi.json": lambda: json.dumps(openapi.document(), indent=1, ensure_ascii=False) + "\n",
}
"""File to what writes it."""


def main(arguments: list[str]) -> int:
    """Rewrite or check; returns the exit code."""
    is_check = "--check" in arguments
    stale = 0
    for name, parts in PARTS.items():
        page = DOCS / name
        before = after = page.read_text(encoding="utf-8")
        for part, write in parts.items():
            head, mark, rest = after.partition(f"<!-- generated: {part} -->\n")
            _, end, tail = rest.partition("<!-- end -->")
            if not mark or not end:
                sys.stderr.write(f"docs/{name} has no generated part {part!r}\n")
                return 2
            after = head + mark + write() + end + tail
        if after != before:
            stale += 1
            if not is_check:
                page.write_text(after, encoding="utf-8")
            sys.stderr.write(f"docs/{name} {'is out of date: make generate' if is_check else 'rewritten'}\n")
    for name, write in FILES.items():
        file = DOCS / name
        if not file.exists() or file.read_text(encoding="utf-8") != write():
            stale += 1
            if not is_check:
                file.write_text(write(), encoding="utf-8")
            sys.stderr.write(f"docs/{name} {'is out of date: make generate' if is_check else 'rewritten'}\n")
    return 1 if stale and is_check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
