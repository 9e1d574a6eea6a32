"""Runs ``holder_process.py``, in a network namespace if need be."""

import subprocess
import sys
from pathlib import Path
from typing import Self

PROGRAM = Path(__file__).with_name("holder_process.py")
TTL_SECONDS = 4.0


class Holder:
    """One process. ``inside``: what to put before the command."""

    def __init__(self, url: str, node: str, acts: Path, inside: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [*inside, sys.executable, str(PROGRAM), url, node, str(TTL_SECONDS), str(acts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self, word: str) -> None:
        """Wait until it does."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == word:
                return
        raise AssertionError(f"the holder ended without saying {word!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


def actors(acts: Path) -> list[str]:
    """Who acted, one after the other; their tokens rise, and nobody acts after a later one has."""
    lines = [line.split() for line in acts.read_text().splitlines()]
    tokens = [int(token) for token, _ in lines]
    assert tokens == sorted(tokens), "an earlier holder acted after a later one"
    return list(dict.fromkeys(node for _, node in lines))
