"""What follows a run of a code workflow: another try after a failure, by the workflow's own retry policy, within the time
that the whole chain of runs may take. Everything is a function of the run's history, so a replay agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headrace.core.events import Failure, RunCreated, RunFinished
from headrace.core.ids import attempt_key
from headrace.core.retry import next_attempt_at
from headrace.core.states import RunState
from headrace.durable.running import derived_run_id

if TYPE_CHECKING:
    from headrace.durable.run import CodeRun

EXECUTION_TIMEOUT = "execution_timeout"
RUN_TIMEOUT = "run_timeout"


def execution_deadline(run: CodeRun) -> float | None:
    """When the time of the whole chain (retries and continuations of the first run) is over."""
    bound = run.plan.spec.execution_timeout
    return None if bound is None else run.chain_at + bound


def deadline(run: CodeRun) -> float | None:
    """When the run's time is over: its own, or that of its chain."""
    bound = run.plan.spec.timeout
    own = None if bound is None else run.timeout_from + bound
    whole = execution_deadline(run)
    if run.done or (own is None and whole is None):
        return None
    return min(due for due in (own, whole) if due is not None)


def timed_out(run: CodeRun, now: float) -> RunFinished:
    """The end of a run whose time is over, whichever of the two."""
    spec = run.plan.spec
    whole = execution_deadline(run)
    if whole is not None and now >= whole:
        reason = f"the run and those before it took longer than their bound of {spec.execution_timeout:g} s"
        failure = Failure(EXECUTION_TIMEOUT, reason, retryable=False)
    else:
        failure = Failure(RUN_TIMEOUT, f"the run took longer than its bound of {spec.timeout:g} s")
    return completed(run, RunFinished(now, RunState.FAILED, failure=failure))


def completed(run: CodeRun, event: RunFinished) -> RunFinished:
    """The end of a run with what follows: the run that it continues as, or that tries again, and when."""
    if event.state == RunState.CONTINUED:
        # Derived here and not where the code asked: in a fork that was another run.
        return msgspec.structs.replace(event, next_run=derived_run_id(run, "next"))
    policy = run.plan.spec.retries
    failure = event.failure
    if event.state != RunState.FAILED or policy.attempts <= 1 or run.cancelled or failure is None:
        return event
    due = next_attempt_at(
        policy,
        failure,
        attempt=run.attempt,
        key=attempt_key(run.chain or run.run_id, "run", None, run.attempt),
        first_ready_at=run.chain_at,
        now=event.at,
    )
    whole = execution_deadline(run)
    if due is None or (whole is not None and due >= whole):
        return event
    return msgspec.structs.replace(event, next_run=derived_run_id(run, "retry"), retry_at=due)


def next_run(run: CodeRun) -> RunCreated | None:
    """The first event of the run that follows one that has ended; None if none does, or if it is there already. Signals
    that nobody has read go along."""
    continued = run.state is RunState.CONTINUED
    if run.next_run is None or run.ended_at is None or not (continued or run.retry_at is not None):
        return None
    return RunCreated(
        run.ended_at,
        run.next_run,
        run.plan.spec.name,
        run.plan.version,
        run.output if continued else run.params,
        run.tags,
        "continued" if continued else "retry",
        source_dir=run.source_dir,
        parent=run.parent,
        signals=[
            *((name, payload) for name, waiting in run.signals.items() for payload in waiting),
            *((signal.name, signal.payload) for signal in run.early),
        ],
        chain=run.chain or run.run_id,
        chain_at=run.chain_at,
        key=run.key,
        attributes=run.attributes,
        memo=run.memo,
        attempt=1 if continued else run.attempt + 1,
        start_at=run.retry_at,
        headers=run.headers,
    )


__all__ = ["EXECUTION_TIMEOUT", "RUN_TIMEOUT", "completed", "deadline", "next_run", "timed_out"]
