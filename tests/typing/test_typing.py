"""Types as a user's type checker sees them: right programs pass in strict mode, each mistake is found where it is made."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import headrace

HERE = Path(__file__).parent
MARK = re.compile(r"# error: ([\w, ]+)$")

Found = Counter[tuple[str, int, str]]


def marked(file: Path) -> Found:
    """The mistakes a file says it has: file, line and rule."""
    found: Found = Counter()
    for number, line in enumerate(file.read_text().splitlines(), 1):
        mark = MARK.search(line)
        for rule in mark.group(1).split(",") if mark else ():
            found[file.name, number, rule.strip()] += 1
    return found


def reported() -> tuple[Found, dict[tuple[str, int], str], int]:
    """What pyright finds, once per line and rule; its words; and the number of files it looked at. The settings are those
    of ``pyrightconfig.json`` beside this file: a strict user's, whose handlers are only used by their decorators."""
    done = subprocess.run(
        [Path(sys.executable).with_name("pyright"), "--outputjson", "--pythonpath", sys.executable, "-p", HERE],
        capture_output=True,
        text=True,
        check=False,
        timeout=550,
    )
    report = json.loads(done.stdout)
    found: Found = Counter()
    words: dict[tuple[str, int], str] = {}
    for entry in report["generalDiagnostics"]:
        place = (Path(entry["file"]).name, entry["range"]["start"]["line"] + 1)
        found[*place, entry.get("rule", "syntax")] = 1
        words[place] = f"{words.get(place, '')}\n    {entry['message']}"
    return found, words, report["summary"]["filesAnalyzed"]


@pytest.mark.timeout(600)
def test_every_mistake_is_found_and_nothing_else() -> None:
    expected = marked(HERE / "refused.py")
    assert not marked(HERE / "accepted.py")
    assert len(expected) > 50
    found, words, files = reported()
    assert files == 2
    wrong = [f"not found: {place}" for place in sorted(expected - found)]
    wrong += [f"not expected: {place}{words[place[:2]]}" for place in sorted(found - expected)]
    assert not wrong, "\n".join(wrong)


def test_the_package_says_that_it_is_typed() -> None:
    assert Path(headrace.__file__).with_name("py.typed").is_file()
