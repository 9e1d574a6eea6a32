"""Nodes are suspended for twice their lease, thousands of times, wherever they are: 0 stale writes, nothing lost, nothing done
again. ``make soak`` does so ten times as often, by other seeds."""

import os
import time
from collections import Counter
from pathlib import Path

import pytest
from suspended_nodes import World

SUSPENSIONS = 100
"""Of each seed."""
SEEDS = 20


def play(seed: int, folder: Path) -> Counter[str]:
    with pytest.MonkeyPatch.context() as patches:
        world = World(seed, SUSPENSIONS, folder, patches)
        world.play()
    return world.counts


@pytest.mark.parametrize("seed", range(SEEDS))
def test_suspended_nodes_harm_nothing(seed: int, tmp_path: Path) -> None:
    counts = play(seed, tmp_path)
    assert counts["suspended"] == SUSPENSIONS
    # What they had on its way when they were suspended is what could do harm.
    assert counts["refused"] > SUSPENSIONS / 5
    assert counts["suspended while renewing"]
    assert counts["given up"] <= 3


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.skipif("HEADRACE_KILLS" not in os.environ, reason="`make soak` runs this")
def test_suspended_nodes_harm_nothing_for_a_long_time(tmp_path: Path) -> None:
    first = int(os.environ.get("HEADRACE_SEED") or time.time())
    total: Counter[str] = Counter()
    for seed in range(first, first + 200):
        total += play(seed, tmp_path / str(seed))
    print(
        f"\nseeds from {first}: suspended {total['suspended']} times, {total['refused']} commits of zombies refused, 0 stale"
    )
