"""What goes wrong in a database task's transaction on a server, in one wording for all servers."""

from __future__ import annotations

from headrace.contracts.execution import AttemptError
from headrace.core.errors import StoreUnavailable
from headrace.core.ids import RunId

TRANSACTION_SECONDS_MAX = 10.0
"""How long a function may take: below the usual lease, so that whoever takes a run over from a node that was suspended in
the middle need not wait for it much longer than for the lease."""


class RaisedInTask(Exception):
    """Carries what a function raised past whoever translates the driver's errors: they are the user's."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(repr(error))
        self.error = error


def overdue() -> AttemptError:
    """The function took too long."""
    return AttemptError(
        "transaction_timeout",
        f"the transaction took longer than {TRANSACTION_SECONDS_MAX:g} s and was rolled back; do what takes long in a "
        "task before it",
    )


def ended_by_function() -> AttemptError:
    """The function ended the transaction that was begun for it."""
    return AttemptError(
        "forbidden_statement",
        "a database task ended its transaction (COMMIT, ROLLBACK, or on MySQL a statement that commits by itself, such "
        "as CREATE TABLE): it is committed with its outcome when the function returns; SAVEPOINT may be used",
        retryable=False,
    )


def ended_earlier(run_id: RunId, task: str) -> AttemptError:
    """An earlier attempt did that, and what it wrote may be there."""
    remedy = f"DELETE FROM task_outcomes WHERE run_id = '{run_id}' AND task = '{task}'"  # noqa: S608 - it is to be read
    return AttemptError(
        "transaction_ended",
        "an earlier attempt of this database task committed by itself, so its rows may be there without an outcome, and "
        f"it is not run again; look at them, mend the function, and if it is to run again: {remedy}, then "
        "`headrace runs retry`",
        retryable=False,
    )


def went_on_after_error() -> AttemptError:
    """A statement failed, which spoils a transaction of PostgreSQL, and the function returned all the same."""
    return AttemptError(
        "transaction_failed",
        "a statement of the database task failed and the function went on: nothing of its transaction can be committed; "
        "put a statement that may fail into `async with db.transaction():`, which is a savepoint",
        retryable=False,
    )


def not_committed(place: str) -> StoreUnavailable:
    """The connection broke during the commit, which turned out not to have happened."""
    return StoreUnavailable(
        f"the connection to the database {place} broke before a database task was committed",
        hint="nothing of it was written; the task's retries run it again",
    )
