"""Trigger rules: does a task run, given how many of the tasks it needs ended how?

One pure function of counts. Semantics are Airflow's for the rules of the same name, ``upstream_failed`` counting as a
failure everywhere except in ``one_done``. Once the answer is not WAIT, more ended upstream tasks never change it:
rules that can answer early do so at once, and the engine acts on the first answer.
"""

from __future__ import annotations

import enum

from headrace.core.spec import TriggerRule as Rule


class Verdict(enum.Enum):
    """What becomes of a waiting task."""

    WAIT = "wait"
    RUN = "run"
    SKIP = "skip"
    UPSTREAM_FAILED = "upstream_failed"


WAIT, RUN, SKIP, UPSTREAM_FAILED = Verdict.WAIT, Verdict.RUN, Verdict.SKIP, Verdict.UPSTREAM_FAILED


def verdict(rule: Rule, total: int, success: int, failed: int, upstream_failed: int, skipped: int) -> Verdict:  # noqa: PLR0912
    """Judge one task.

    ``total`` is the number of tasks it needs; the other counts are those that have ended so far, by state. A
    cancelled upstream task counts as failed. A task that needs nothing runs, whatever its rule.
    """
    if total == 0 or rule is Rule.ALWAYS:
        return RUN
    fail = failed + upstream_failed
    done = success + fail + skipped == total
    if rule is Rule.ALL_SUCCESS:
        if fail:
            return UPSTREAM_FAILED
        if skipped:
            return SKIP
        return RUN if done else WAIT
    if rule is Rule.ALL_DONE:
        return RUN if done else WAIT
    if rule is Rule.NONE_FAILED:
        if fail:
            return UPSTREAM_FAILED
        return RUN if done else WAIT
    if rule is Rule.NONE_FAILED_MIN_ONE_SUCCESS:
        if fail:
            return UPSTREAM_FAILED
        if not done:
            return WAIT
        return RUN if success else SKIP
    if rule is Rule.ONE_SUCCESS:
        if success:
            return RUN
        if not done:
            return WAIT
        return SKIP if skipped == total else UPSTREAM_FAILED
    if rule is Rule.ONE_FAILED:
        if fail:
            return RUN
        return SKIP if done else WAIT
    if rule is Rule.ONE_DONE:
        if success or failed:
            return RUN
        return SKIP if done else WAIT
    if rule is Rule.ALL_FAILED:
        if success or skipped:
            return SKIP
        return RUN if done else WAIT
    if rule is Rule.NONE_SKIPPED:
        if skipped:
            return SKIP
        return RUN if done else WAIT
    # ALL_SKIPPED
    if success or fail:
        return SKIP
    return RUN if done else WAIT
