"""Task kinds by name: the built-in ones and plug-ins from ``headrace.tasks`` entry points.

Nothing is imported until a kind is asked for, so a broken plug-in harms only the workflows that use it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import msgspec

from headrace.contracts.execution import TaskKind
from headrace.contracts.outcome import message_of, user_traceback
from headrace.core.errors import UserCodeError

GROUP = "headrace.tasks"

_BUILT_IN = {
    "python": "headrace.backends.executors.python_task:PythonTask",
    "run": "headrace.backends.executors.shell_task:ShellTask",
    "http": "headrace.backends.executors.http_task:HttpTask",
    "workflow": "headrace.backends.executors.workflow_task:WorkflowTask",
}


class TaskKinds(Mapping[str, TaskKind]):
    """Kinds by name, loaded when first looked up. Looking up a kind whose plug-in is broken, or that two plug-ins
    claim, raises :class:`UserCodeError` naming the distributions; the others work."""

    def __init__(self, plugins: list[tuple[str, str, str]]) -> None:
        """``plugins`` are ``(name, "module:attribute", distribution)``."""
        self._sources: dict[str, list[tuple[str, str]]] = {
            name: [(target, "headrace")] for name, target in _BUILT_IN.items()
        }
        for name, target, distribution in plugins:
            known = self._sources.setdefault(name, [])
            if all(target != other for other, _ in known):
                known.append((target, distribution))
        self._loaded: dict[str, TaskKind] = {}

    def __getitem__(self, name: str) -> TaskKind:
        kind = self._loaded.get(name)
        if kind is None:
            kind = self._loaded[name] = self._load(name, self._sources[name])
        return kind

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def __contains__(self, name: object) -> bool:
        """Whether the name is known; says nothing on whether it loads."""
        return name in self._sources

    def use(self, kind: TaskKind) -> None:
        """A kind that is made already, in place of the one of its name."""
        self._loaded[kind.name] = kind

    def loaded(self) -> list[TaskKind]:
        """The kinds that were looked up so far."""
        return list(self._loaded.values())

    def usable(self) -> tuple[dict[str, TaskKind], list[UserCodeError]]:
        """Every kind that loads, and what is wrong with the others: for lists and schemas."""
        kinds: dict[str, TaskKind] = {}
        broken: list[UserCodeError] = []
        for name in self._sources:
            try:
                kinds[name] = self[name]
            except UserCodeError as error:
                broken.append(error)
        return kinds, broken

    @staticmethod
    def _load(name: str, sources: list[tuple[str, str]]) -> TaskKind:
        if len(sources) > 1:
            claimed = " and ".join(f"{distribution} ({target})" for target, distribution in sources)
            raise UserCodeError(f"the task kind {name!r} is claimed by {claimed}", hint="uninstall one of them")
        target, distribution = sources[0]
        hint = f"mend, upgrade or uninstall {distribution}"
        module_name, _, attribute = target.partition(":")
        try:
            found: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                found = getattr(found, part)
            kind = found() if isinstance(found, type) else found
        except (Exception, SystemExit) as error:
            raise UserCodeError(
                f"the task kind {name!r} of {distribution} ({target}) cannot be loaded: "
                f"{type(error).__name__}: {message_of(error)}",
                traceback=user_traceback(error),
                hint=hint,
            ) from None
        missing = [part for part in ("name", "Config", "shorthand", "bind") if not hasattr(kind, part)]
        if missing or not (isinstance(kind.Config, type) and issubclass(kind.Config, msgspec.Struct)):
            wrong = f"it has no {', '.join(missing)}" if missing else "its Config is not a msgspec.Struct"
            raise UserCodeError(
                f"the task kind {name!r} of {distribution} ({target}) does not fulfil the contract: {wrong}", hint=hint
            )
        return kind


def load_task_kinds() -> TaskKinds:
    """The kinds that are installed. Reads entry points (a few milliseconds), imports nothing."""
    return TaskKinds([_describe(entry) for entry in entry_points(group=GROUP)])


def _describe(entry: EntryPoint) -> tuple[str, str, str]:
    return entry.name, entry.value, entry.dist.name if entry.dist is not None else "an unknown distribution"
