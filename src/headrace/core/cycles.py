"""Cycles in a graph of needs. Linear in tasks and edges, and without recursion: a chain may be 100,000 tasks deep."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

Needs = Mapping[str, Sequence[str]]


def find_cycles(needs: Needs) -> list[list[str]]:
    """One shortest cycle through the first task of every set of tasks that wait for each other.

    ``needs`` maps a task to the tasks before it; names that are not keys are ignored. A cycle is
    ``[a, b, c]``: b needs a, c needs b, a needs c. A task that needs itself is ``[a]``. In the order of ``needs``.
    """
    dependents, left = _peel(needs)
    if not left:
        return []
    stuck = {task: [other for other in dependents[task] if other in left] for task in needs if task in left}
    return [_shortest(component, stuck) for component in _components(stuck)]


def _peel(needs: Needs) -> tuple[dict[str, list[str]], set[str]]:
    """Kahn's algorithm: who follows whom, and the tasks that are on a cycle or behind one."""
    dependents: dict[str, list[str]] = {task: [] for task in needs}
    waiting: dict[str, int] = {}
    for task, upstream in needs.items():
        count = 0
        for other in upstream:
            if other in dependents:
                dependents[other].append(task)
                count += 1
        waiting[task] = count
    free = [task for task, count in waiting.items() if not count]
    for task in free:  # grows while it is walked
        for other in dependents[task]:
            waiting[other] -= 1
            if not waiting[other]:
                free.append(other)
    return dependents, needs.keys() - set(free) if len(free) < len(needs) else set()


def _components(edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Tarjan's strongly connected components that hold a cycle, with an explicit stack. Members and components are
    in the order of ``edges``."""
    order = {task: position for position, task in enumerate(edges)}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    open_tasks: list[str] = []
    is_open: set[str] = set()
    found: list[list[str]] = []
    for root in edges:
        if root in index:
            continue
        work = [(root, iter(edges[root]))]
        index[root] = low[root] = len(index)
        open_tasks.append(root)
        is_open.add(root)
        while work:
            task, following = work[-1]
            for other in following:
                if other not in index:
                    index[other] = low[other] = len(index)
                    open_tasks.append(other)
                    is_open.add(other)
                    work.append((other, iter(edges[other])))
                    break
                if other in is_open:
                    low[task] = min(low[task], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[task])
                if low[task] == index[task]:
                    component = [open_tasks.pop()]
                    while component[-1] != task:
                        component.append(open_tasks.pop())
                    is_open.difference_update(component)
                    if len(component) > 1 or task in edges[task]:
                        found.append(sorted(component, key=order.__getitem__))
    return sorted(found, key=lambda component: order[component[0]])


def _shortest(component: list[str], edges: Mapping[str, Sequence[str]]) -> list[str]:
    """A shortest way from the component's first task back to itself."""
    start = component[0]
    inside = set(component)
    before: dict[str, str] = {}
    queue = deque([start])
    while queue:
        task = queue.popleft()
        for other in edges[task]:
            if other == start:
                path = [task]
                while path[-1] != start:
                    path.append(before[path[-1]])
                return path[::-1]
            if other in inside and other not in before:
                before[other] = task
                queue.append(other)
    raise AssertionError(f"{start!r} is not on a cycle")
