"""What simulated nodes carry out, and who of them began what."""

import time

import mill_tasks
from mill_tasks import grind, sums

from headrace import dag

NODE = ""
"""Whose turn it is."""
LEDGER: list[tuple[str, int, float, str]] = []
now = time.monotonic


def note_begin(key: str, attempt: int) -> None:
    LEDGER.append((key, attempt, now(), NODE))


mill_tasks.note_begin = note_begin

with dag("mill") as mill:
    grind()

__all__ = ["mill", "sums"]

EXPECTED = {"mill": ("succeeded", 5), "sums": ("succeeded", 5)}
"""By workflow: the state of its run, and how many outcomes of tasks it has."""
