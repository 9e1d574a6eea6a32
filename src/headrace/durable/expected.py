"""What to say to a program that gives something else where a workflow is expected."""

from __future__ import annotations

import inspect
from typing import Any

from headrace.authoring.builder import Dag
from headrace.authoring.tasks import TaskFunction


def expect_workflow(given: Any, verb: str, *, graphs: str | None = None) -> None:
    """Raise ``TypeError`` unless ``given`` is a code workflow, or with ``graphs`` None a graph. ``verb`` is the function
    that was called, ``graphs`` the one that takes graphs."""
    is_graph = isinstance(given, Dag) or (hasattr(given, "spec") and not hasattr(given, "is_code_workflow"))
    if getattr(given, "is_code_workflow", False) or (is_graph and graphs is None):
        return
    name = getattr(given, "__name__", None) or repr(given)[:100]
    if isinstance(given, TaskFunction):
        why = (
            f"{given.name} is a task: call it inside of a @workflow function (`await {given.name}(...)`) or of a graph"
        )
    elif is_graph:
        why = f"{name} is a graph: {graphs}"
    elif inspect.iscoroutine(given):
        given.close()
        why = f"{name} has been called already: give the function and its arguments apart, `{verb}({name}, ...)`"
    elif isinstance(given, str):
        why = f"{given!r} is a text: give the function itself"
    elif callable(given):
        why = f"{name} is a function without @workflow: decorate it"
    else:
        why = f"{name} is a {type(given).__name__}"
    raise TypeError(f"{verb}() takes a workflow, and {why}")
