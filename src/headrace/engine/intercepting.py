"""Interceptors around attempts: a bound task that goes through them."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.contracts.execution import Attempt, BoundTask
from headrace.contracts.interceptor import Interceptors, chained


def intercepted(bound: BoundTask, interceptors: Interceptors) -> BoundTask:
    """The task with the interceptors of attempts around it; the task itself where there are none."""
    return InterceptedTask(bound, interceptors) if interceptors.run_attempt else bound


class InterceptedTask:
    """A bound task inside of what surrounds it."""

    def __init__(self, inner: BoundTask, interceptors: Interceptors) -> None:
        self._inner = inner
        self._run = chained(interceptors.run_attempt, inner.run)
        self.executor = inner.executor

    async def run(self, attempt: Attempt) -> Any:
        """See :class:`headrace.contracts.execution.BoundTask`. Interceptors may change what they are given: it belongs to
        the definition, to another task or to the run, so they get their own."""
        own = msgspec.structs.replace(
            attempt,
            args=_copied(attempt.args),
            config=_copied(attempt.config),
            headers=dict(attempt.headers),
            intercepted=True,
        )
        return await self._run(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _copied(value: Any) -> Any:
    """A plain value with containers of its own."""
    if type(value) is list:
        return [_copied(part) for part in value]
    if type(value) is dict:
        return {name: _copied(part) for name, part in value.items()}
    return value
