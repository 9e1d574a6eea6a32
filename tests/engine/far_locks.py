"""A task for a process of its own."""

from headrace import lock


def in_a_process() -> int:
    with lock("door") as held:
        return held.token
