"""The code brain: decides a run by running its coroutine against its history.

:mod:`headrace.durable.fold` applies one event, :mod:`headrace.durable.decide` turns an input into events. Nothing in them
reads a clock or does I/O; user code is kept from it by the loop and by :mod:`headrace.durable.virtual`.
"""

from __future__ import annotations

from headrace.core.run import Unit
from headrace.core.view import RunView, view_run
from headrace.durable import effects, following
from headrace.durable.decide import OPEN, create, decide
from headrace.durable.fold import fold, replaying
from headrace.durable.looking import close
from headrace.durable.run import CodeRun


def launchable(run: CodeRun) -> list[Unit]:
    """Calls that owe an attempt."""
    if not run.launching:
        return []
    stops = run.stops
    return [unit for unit in run.tasks if unit.state in OPEN and not unit.external and unit.node.id not in stops]


class CodeBrain:
    """Decides by replaying code."""

    new = staticmethod(CodeRun)
    create = staticmethod(create)
    decide = staticmethod(decide)
    fold = staticmethod(fold)
    folding = staticmethod(replaying)
    launchable = staticmethod(launchable)
    deadline = staticmethod(following.deadline)
    pending = staticmethod(effects.pending)
    close = staticmethod(close)

    @staticmethod
    def view(run: CodeRun, *, items: bool = False) -> RunView:
        """The run as people read it."""
        view = view_run(run, items=items)  # type: ignore[arg-type]
        view.next_run = run.next_run
        view.details, view.kind = run.details, "code"
        return view


CODE_BRAIN = CodeBrain()
