"""What a command sees: the allowed part of the engine's environment, and the attempt's own variables."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from headrace.contracts.current import idempotency_key
from headrace.contracts.execution import Attempt

ALLOWED = ("PATH", "HOME", "LANG", "LC_*", "TZ", "TMPDIR", "USER", "SHELL")
"""Inherited by every command. Anything else (passwords in the engine's environment, say) has to be allowed by name."""

_UNSAFE = re.compile(r"[^A-Z0-9_]")


def argument_variable(name: str) -> str:
    """The variable that carries an argument: ``HEADRACE_ARG_`` and the name in capitals, odd characters as ``_``."""
    return "HEADRACE_ARG_" + _UNSAFE.sub("_", name.upper())


def inherited(allow: Iterable[str], environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The allowed part of the engine's environment. A name ending in ``*`` allows a prefix."""
    source = os.environ if environment is None else environment
    exact: set[str] = set()
    prefixes: list[str] = []
    for name in (*ALLOWED, *allow):
        if name.endswith("*"):
            prefixes.append(name[:-1])
        else:
            exact.add(name)
    chosen = {name: source[name] for name in exact if name in source}
    if prefixes:
        ends = tuple(prefixes)
        chosen.update({name: value for name, value in source.items() if name.startswith(ends)})
    return chosen


def attempt_environment(attempt: Attempt, work_dir: str, output_file: str) -> dict[str, str]:
    """The attempt's own variables. Arguments are text as they are, everything else as JSON."""
    found = {
        "HEADRACE_RUN_ID": attempt.run_id,
        "HEADRACE_WORKFLOW": attempt.workflow,
        "HEADRACE_TASK": attempt.task,
        "HEADRACE_ATTEMPT": str(attempt.attempt),
        "HEADRACE_ITEM": "" if attempt.item is None else str(attempt.item),
        "HEADRACE_KEY": attempt.key,
        "HEADRACE_IDEMPOTENCY_KEY": idempotency_key(attempt),
        "HEADRACE_WORK_DIR": work_dir,
        "HEADRACE_OUTPUT": output_file,
    }
    if attempt.headers:
        found["HEADRACE_HEADERS"] = json.dumps(attempt.headers, ensure_ascii=False)
    for name, value in attempt.args.items():
        found[argument_variable(name)] = as_text(value)
    return found


def as_text(value: Any) -> str:
    """A value as an environment variable or a word of a command: strings as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
