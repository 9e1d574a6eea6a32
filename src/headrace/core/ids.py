"""The names of things. Ids are distinct types so that one cannot be passed for another.

Ids are minted by the shell (:func:`headrace.engine.minting.new_run_id`): the core has no randomness.
"""

from __future__ import annotations

from typing import NewType

RunId = NewType("RunId", str)
"""26 characters of Crockford base 32: 48 bits of milliseconds, then 80 random bits. Sorts by creation time."""

NodeId = NewType("NodeId", str)
"""The name of one engine process, unique in a store while it lives."""

WorkflowVersion = NewType("WorkflowVersion", str)
"""16 hex digits: a hash of the definition."""

Epoch = NewType("Epoch", int)
"""Rises by one whenever the right to a node's runs changes hands."""


def attempt_key(run_id: str, task: str, item: int | None, attempt: int) -> str:
    """The name of one attempt, the same whoever computes it: repeating an effect is harmless."""
    return f"{run_id}/{task}/{attempt}" if item is None else f"{run_id}/{task}[{item}]/{attempt}"
