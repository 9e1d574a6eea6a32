"""A node whose machine's clock is wrong goes by the database's."""

from __future__ import annotations

import pytest

from headrace.engine.clock import TOLERANCE_SECONDS, NodeClock


@pytest.mark.parametrize("ahead", [600.0, -600.0])
def test_a_clock_that_is_off_is_corrected(ahead: float) -> None:
    clock = NodeClock(lambda: 1000.0 + ahead)
    clock.follow(1000.0, clock.uncorrected(), clock.uncorrected())
    assert clock() == 1000.0
    assert clock.uncorrected() == 1000.0 + ahead


def test_a_clock_is_compared_anew_each_time() -> None:
    machine = 1600.0
    clock = NodeClock(lambda: machine)
    clock.follow(1000.0, machine, machine)
    assert clock() == 1000.0
    machine = 1000.0  # set right meanwhile
    clock.follow(1000.0, machine, machine)
    assert clock() == 1000.0


def test_neither_small_differences_nor_slow_answers_count() -> None:
    clock = NodeClock(lambda: 1000.0)
    clock.follow(1000.0 - TOLERANCE_SECONDS / 2, 1000.0, 1000.0)
    assert clock() == 1000.0
    clock.follow(1005.0, 1000.0, 1010.0)  # it took ten seconds: the answer is from in between
    assert clock() == 1000.0
