"""Interceptors for the command line: ``HEADRACE_INTERCEPTORS=module:attribute``."""

from __future__ import annotations

import os
from collections.abc import Sequence

from headrace.cli.codec import named_objects
from headrace.contracts.interceptor import Interceptor
from headrace.core.errors import HeadraceError

VARIABLE = "HEADRACE_INTERCEPTORS"


def interceptors_from_environment() -> Sequence[Interceptor]:
    """The interceptors the variable names, looked for in the working directory first; none if it is not set. The
    attribute is an interceptor, a list of them, or a function (or the class itself) that returns one of these. Raises
    :class:`HeadraceError` for anything else."""
    found = named_objects(VARIABLE, lambda one: isinstance(one, Interceptor), "an interceptor")
    for one in found or ():
        if not isinstance(one, Interceptor):
            raise HeadraceError(
                f"{VARIABLE}={os.environ[VARIABLE]} is no interceptor but {type(one).__name__}",
                hint="an interceptor is an instance of a subclass of headrace.Interceptor",
            )
    return found or ()
