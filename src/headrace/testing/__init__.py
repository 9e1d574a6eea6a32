"""The public test kit: for people who test workflows, and for people who write backends.

- :class:`~headrace.testing.environment.Environment`: the engine on virtual time, with stand-ins for tasks and crashes.
- :mod:`~headrace.testing.store_conformance`: what every store must do, as a suite to inherit.
- :mod:`~headrace.testing.executor_conformance`: the same for executors.
- :mod:`~headrace.testing.server_conformance`: the same for servers that speak the worker protocol;
  :mod:`~headrace.testing.server_lock_conformance`: for its part about locks.
- :mod:`~headrace.testing.broker_conformance`: the same for brokers;
  :mod:`~headrace.testing.faulty_broker` makes any of them worse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.testing.crashes import CrashReport
    from headrace.testing.environment import Environment, EnvironmentRun

__all__ = ["CrashReport", "Environment", "EnvironmentRun"]


def __getattr__(name: str) -> Any:
    if name == "CrashReport":
        from headrace.testing import crashes  # noqa: PLC0415 - the suites do not need the engine

        return crashes.CrashReport
    if name in __all__:
        from headrace.testing import environment  # noqa: PLC0415

        return getattr(environment, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
