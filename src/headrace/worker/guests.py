"""What carrying out other nodes' attempts takes: binding a call without its workflow, logs that travel, and the name of a
data folder. Used by the assembly for nodes and by the remote worker."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from headrace.backends.artifacts.logs import FileLogs
from headrace.backends.executors.binding import Binding as Surroundings
from headrace.backends.executors.kinds import TaskKinds
from headrace.contracts.execution import Executor
from headrace.contracts.interceptor import Interceptors
from headrace.contracts.ready import Call, Outcome
from headrace.core.errors import UserCodeError
from headrace.engine.intercepting import intercepted
from headrace.engine.live import Binding

BINDINGS_MAX = 1_000
"""Bound calls kept, least recently used go first."""

LOG_CHARS_MAX = 1_000_000
"""How much of an attempt's log travels to its run's owner; the middle of a longer one stays behind."""

_PLACE_FILE = ".place"


class Guests:
    """One process's dealings with other nodes' attempts."""

    def __init__(
        self,
        *,
        data_dir: Path,
        logs: FileLogs,
        executors: Mapping[str, Executor],
        kinds: TaskKinds,
        functions: Mapping[str, Callable[..., Any]],
        env_allow: tuple[str, ...],
        interceptors: Interceptors,
        source_dir: str | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._logs = logs
        self._executors = executors
        self._kinds = kinds
        self._functions = functions
        self.env_allow = env_allow
        self._interceptors = interceptors
        self._source_dir = source_dir
        """Where scripts and modules are looked for instead of the owner's folder, if that does not exist here."""
        self._bindings: OrderedDict[bytes, Binding] = OrderedDict()
        self._place: str | None = None

    def bind(self, call: Call) -> Binding:
        """The call's task, bound. Raises ``InvalidDefinition`` and ``UserCodeError``."""
        task = call.task
        if task.kind not in self._kinds:
            raise UserCodeError(f"there is no task kind {task.kind!r}", hint=f"there are: {', '.join(self._kinds)}")
        source_dir = call.source_dir
        if self._source_dir is not None and (source_dir is None or not Path(source_dir).is_dir()):
            source_dir = self._source_dir
        key = msgspec.json.encode((call.version, source_dir, task.kind, task.executor, task.config, sorted(task.args)))
        binding = self._bindings.get(key)
        if binding is None:
            surroundings = Surroundings(
                data_dir=self._data_dir,
                logs=self._logs,
                executors=self._executors,
                source_dir=source_dir,
                functions=self._functions,
                env_allow=self.env_allow,
            )
            bound = intercepted(self._kinds[task.kind].bind(task, surroundings), self._interceptors)
            binding = Binding([bound], surroundings)
            self._bindings[key] = binding
            if len(self._bindings) > BINDINGS_MAX:
                self._bindings.popitem(last=False)
        self._bindings.move_to_end(key)
        return binding

    def forget_bindings(self) -> None:
        """Bind anew from the next attempt on: code, or what shell tasks inherit, has changed."""
        self._bindings.clear()

    def read_log(self, call: Call) -> str:
        """What an attempt wrote."""
        entries = self._logs.read_logs(call.run_id, call.task.id)
        text = next((one.text for one in entries if one.item == call.item and one.attempt == call.attempt), "")
        if len(text) <= LOG_CHARS_MAX:
            return text
        half = LOG_CHARS_MAX // 2
        return f"{text[:half]}\n... {len(text) - 2 * half:,} characters left out ...\n{text[-half:]}"

    def keep_log(self, run_id: str, outcome: Outcome) -> None:
        """Store what an attempt wrote elsewhere. Blocks."""
        log = self._logs.open_log(run_id, outcome.task, outcome.item, outcome.attempt)
        log.write("stdout", outcome.log.encode("utf-8", "replace"))
        log.close()

    def place(self) -> str:
        """The name of the data folder: the same for all who work in it, on any host."""
        if self._place is None:
            file = self._data_dir / _PLACE_FILE
            with contextlib.suppress(OSError):
                self._data_dir.mkdir(parents=True, exist_ok=True)
                draft = file.with_name(f"{_PLACE_FILE}.{secrets.token_hex(8)}")
                draft.write_text(secrets.token_hex(16))
                with contextlib.suppress(FileExistsError):
                    os.link(draft, file)  # whole or not at all, and the first one stays
                draft.unlink()
            try:
                self._place = file.read_text()
            except OSError:
                self._place = secrets.token_hex(16)
        return self._place
