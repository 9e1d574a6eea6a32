"""Interceptors by the names a configuration gives them."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.config.named import named_objects
from headrace.config.settings import Settings
from headrace.contracts.interceptor import Interceptor
from headrace.core.errors import HeadraceError


def interceptors_of(settings: Settings) -> Sequence[Interceptor]:
    """The interceptors of the key ``interceptors``, outermost first. Each name is that of an interceptor, a list of
    them, or a function (or the class itself) that returns one of these. Raises :class:`HeadraceError` for what is
    none."""
    found: list[Interceptor] = []
    for name in settings.interceptors:
        for one in named_objects(("interceptors",), name, lambda one: isinstance(one, Interceptor), "an interceptor"):
            if not isinstance(one, Interceptor):
                raise HeadraceError(
                    f"interceptors (HEADRACE_INTERCEPTORS={name}) is no interceptor but {type(one).__name__}",
                    hint="an interceptor is an instance of a subclass of headrace.Interceptor",
                )
            found.append(one)
    return found
