"""Trigger rules: the table of Airflow's meanings, and that an early answer is never wrong later."""

from __future__ import annotations

from itertools import product

import pytest

from headrace.core.spec import TriggerRule
from headrace.core.triggers import Verdict, verdict

R, W, S, U = Verdict.RUN, Verdict.WAIT, Verdict.SKIP, Verdict.UPSTREAM_FAILED

# What the task needs, one letter each: s(ucceeded), f(ailed), u(pstream_failed), k (skipped), - (not ended yet).
SITUATIONS = ["--", "s-", "f-", "u-", "k-", "ss", "sf", "su", "sk", "ff", "fk", "uk", "kk"]
TABLE = {
    #                                   --  s-  f-  u-  k-  ss  sf  su  sk  ff  fk  uk  kk
    TriggerRule.ALL_SUCCESS:           [W,  W,  U,  U,  S,  R,  U,  U,  S,  U,  U,  U,  S],
    TriggerRule.ALL_FAILED:            [W,  S,  W,  W,  S,  S,  S,  S,  S,  R,  S,  S,  S],
    TriggerRule.ALL_DONE:              [W,  W,  W,  W,  W,  R,  R,  R,  R,  R,  R,  R,  R],
    TriggerRule.ONE_SUCCESS:           [W,  R,  W,  W,  W,  R,  R,  R,  R,  U,  U,  U,  S],
    TriggerRule.ONE_FAILED:            [W,  W,  R,  R,  W,  S,  R,  R,  S,  R,  R,  R,  S],
    TriggerRule.ONE_DONE:              [W,  R,  R,  W,  W,  R,  R,  R,  R,  R,  R,  S,  S],
    TriggerRule.NONE_FAILED:           [W,  W,  U,  U,  W,  R,  U,  U,  R,  U,  U,  U,  R],
    TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS:
                                       [W,  W,  U,  U,  W,  R,  U,  U,  R,  U,  U,  U,  S],
    TriggerRule.NONE_SKIPPED:          [W,  W,  W,  W,  S,  R,  R,  R,  S,  R,  S,  S,  S],
    TriggerRule.ALL_SKIPPED:           [W,  S,  S,  S,  W,  S,  S,  S,  S,  S,  S,  S,  R],
    TriggerRule.ALWAYS:                [R,  R,  R,  R,  R,  R,  R,  R,  R,  R,  R,  R,  R],
}  # fmt: skip


def judged(rule: TriggerRule, situation: str) -> Verdict:
    return verdict(rule, len(situation), *(situation.count(letter) for letter in "sfuk"))


@pytest.mark.parametrize("rule", TriggerRule)
def test_rule_means_what_airflow_says(rule: TriggerRule) -> None:
    found = dict(zip(SITUATIONS, (judged(rule, situation) for situation in SITUATIONS), strict=True))
    assert found == dict(zip(SITUATIONS, TABLE[rule], strict=True))


@pytest.mark.parametrize("rule", TriggerRule)
def test_a_task_that_needs_nothing_runs(rule: TriggerRule) -> None:
    assert judged(rule, "") is R


@pytest.mark.parametrize("rule", TriggerRule)
def test_an_early_answer_stands(rule: TriggerRule) -> None:
    """Once it is not WAIT, no further end of an upstream task makes it run, keeps it from running or makes it wait.

    Only how it does not run may depend on what came first, and only for ``all_success``: as in Airflow, a skip skips it
    at once, a failure fails it at once.
    """
    for total in range(1, 5):
        for letters in product("sfuk-", repeat=total):
            situation = "".join(letters)
            answer = judged(rule, situation)
            if "-" not in situation:
                assert answer is not W
            elif answer is not W:
                later = {judged(rule, situation.replace("-", letter, 1)) for letter in "sfuk"}
                allowed = {S, U} if rule is TriggerRule.ALL_SUCCESS and answer is S else {answer}
                assert later <= allowed, f"{rule}: {situation} said {answer}, one more end {later}"


@pytest.mark.parametrize("rule", TriggerRule)
def test_waits_no_longer_than_needed(rule: TriggerRule) -> None:
    """WAIT only while the ends still to come could give different answers, or when Airflow waits for all."""
    if rule in (TriggerRule.ALL_DONE, TriggerRule.NONE_FAILED, TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS):
        return
    for total in range(1, 5):
        for ended in range(total):
            for letters in product("sfuk", repeat=ended):
                so_far = "".join(letters)
                if judged(rule, so_far + "-" * (total - ended)) is W:
                    ends = {judged(rule, so_far + "".join(rest)) for rest in product("sfuk", repeat=total - ended)}
                    assert len(ends) > 1, f"{rule} waits with {so_far!r} of {total}, but the answer is {ends}"
