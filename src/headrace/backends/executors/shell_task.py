"""Task kind ``run``: a command, in a process group of its own.

``with:`` reaches the command as environment variables (``HEADRACE_ARG_<NAME>``), so values need not be spliced into the
command's text, where a quote in a value would become shell code.

The group ends with its command: what the command left running in the background is killed when it exits (``setsid``
escapes, on purpose). Cancelling sends SIGTERM to the group, and SIGKILL after a grace.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from headrace.backends.executors import shell_environment
from headrace.backends.executors.settings import check_config, rendered_config
from headrace.backends.executors.shell_output import OutputCollector, OutputMode, read_result
from headrace.backends.executors.watched_process import WatchedProcess
from headrace.contracts.execution import Attempt, AttemptError, BindContext
from headrace.core.errors import InvalidDefinition, Problem, SkipTask
from headrace.core.spec import TaskSpec

GRACE_SECONDS_DEFAULT = 5.0
"""From SIGTERM to SIGKILL when an attempt is cancelled or times out."""

LINGER_SECONDS = 0.5
"""After the command's exit, how long its own helpers (``> >(tee log)``) may take to finish writing."""

Scalar = str | int | float | bool


class ShellConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``command``: text for ``shell -c``, or a list of words that is run as it is. ``cwd`` is relative to the
    workflow's folder, which is also the default (a fresh work folder if there is none). ``env`` adds variables; null
    removes one. ``success_codes`` and ``skip_codes`` say which exit codes mean success and "skipped". ``output``: how
    the result is read, see :func:`~headrace.backends.executors.shell_output.read_result`."""

    command: (
        Annotated[str, msgspec.Meta(extra_json_schema={"pattern": r"\S"})]
        | Annotated[list[Scalar], msgspec.Meta(extra_json_schema={"minItems": 1})]
    )
    shell: str = "/bin/sh"
    env: dict[str, Scalar | None] = {}
    cwd: str | None = None
    output: OutputMode = "auto"
    success_codes: tuple[int, ...] = (0,)
    skip_codes: tuple[int, ...] = ()


class BoundShell:
    """A command, ready to run."""

    executor = "shell"

    def __init__(self, config: ShellConfig | None, context: BindContext, grace_seconds: float) -> None:
        self._config = config
        self._context = context
        self._grace_seconds = grace_seconds

    async def run(self, attempt: Attempt) -> Any:
        """Run the command once and read its result. Raises :class:`AttemptError`: ``exit`` with the exit code,
        ``signal``, ``not_found``, ``not_executable``, ``bad_output`` and the like; :class:`SkipTask` for a skip code.
        """
        config = self._config
        if config is None or attempt.intercepted:
            config = rendered_config(attempt, ShellConfig)
        context = self._context
        work_dir = context.work_dir(attempt)
        output_file = f"{work_dir}/output"
        collected = OutputCollector(context.log(attempt), attempt.pulse)
        env = shell_environment.inherited(context.env_allow)
        env.update(shell_environment.attempt_environment(attempt, work_dir, output_file))
        for name, value in config.env.items():
            if value is None:
                env.pop(name, None)
            else:
                env[name] = shell_environment.as_text(value)
        cwd = _working_directory(config.cwd, context.source_dir, work_dir)
        process = _start(config, env, cwd, collected)
        try:
            code = await process.finish(LINGER_SECONDS)
        except BaseException:
            await self._end(process)
            raise
        finally:
            process.close_output()
        if code in config.success_codes:
            return read_result(config.output, collected, output_file)
        if code in config.skip_codes:
            raise SkipTask(f"exit code {code}")
        raise _failure(code, collected)

    async def _end(self, process: WatchedProcess) -> None:
        """SIGTERM, a grace, SIGKILL. A second cancellation cuts the grace short."""
        try:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)  # a stopped process would not see the first
            await process.wait_group(self._grace_seconds)
        finally:
            process.kill()
        await asyncio.wait([process.exited], timeout=self._grace_seconds)


class ShellTask:
    """Runs a command. ``grace_seconds`` is the time from SIGTERM to SIGKILL."""

    name: ClassVar[str] = "run"
    shorthand: ClassVar[str | None] = "command"
    Config: ClassVar[type[msgspec.Struct]] = ShellConfig

    def __init__(self, grace_seconds: float = GRACE_SECONDS_DEFAULT) -> None:
        if not 0 <= grace_seconds <= 3600:
            raise ValueError(f"grace_seconds must be between 0 and 3600, not {grace_seconds}")
        self._grace_seconds = grace_seconds

    def bind(self, task: TaskSpec, context: BindContext) -> BoundShell:
        """Check the settings. ``task.executor`` has no meaning here: a command always has a process of its own."""
        config = check_config(task, ShellConfig)
        problems: list[Problem] = []
        command = task.config.get("command")
        if not command or (isinstance(command, str) and not command.strip()):
            problems.append(Problem("the command is empty", path=("tasks", task.id, task.kind, "command")))
        taken: dict[str, str] = {}
        for name in task.args:
            variable = shell_environment.argument_variable(name)
            if variable in taken:
                message = f"{name!r} and {taken[variable]!r} would both become the variable {variable}"
                problems.append(Problem(message, path=("tasks", task.id, "with", name), hint="rename one of them"))
            taken[variable] = name
        if problems:
            raise InvalidDefinition(problems, source=f"task {task.id!r}")
        return BoundShell(config, context, self._grace_seconds)


def _working_directory(cwd: str | None, source_dir: str | None, work_dir: str) -> str:
    if cwd is None:
        return source_dir or work_dir
    return str(Path(source_dir or work_dir) / cwd)


def _start(config: ShellConfig, env: dict[str, str], cwd: str, collected: OutputCollector) -> WatchedProcess:
    command = config.command
    if isinstance(command, str):
        words = [config.shell, "-c", command]
    else:
        words = [shell_environment.as_text(word) for word in command]
    try:
        return WatchedProcess(asyncio.get_running_loop(), words, env=env, cwd=cwd, output=collected)
    except FileNotFoundError:
        if not os.path.isdir(cwd):  # noqa: PTH112
            raise AttemptError(
                "not_found", f"there is no folder {cwd} to run the command in", retryable=False
            ) from None
        message = f"there is no command {words[0]!r}: not a file, and not found on PATH ({env.get('PATH', 'not set')})"
        raise AttemptError("not_found", message, retryable=False) from None
    except (PermissionError, NotADirectoryError) as error:
        raise AttemptError(
            "not_executable", f"the command {words[0]!r} cannot be run in {cwd}: {error.strerror}", retryable=False
        ) from None
    except ValueError as error:  # a NUL byte
        raise AttemptError("bad_argument", f"the command or its environment: {error}", retryable=False) from None
    except OSError as error:
        if error.errno == 7:  # E2BIG
            raise AttemptError(
                "bad_argument",
                "the command with its environment is larger than the system allows; pass large values through files",
                retryable=False,
            ) from None
        if error.errno == 8:  # ENOEXEC
            message = f"the file {words[0]!r} is not a program; a script needs a first line such as #!/bin/sh"
            raise AttemptError("not_executable", message, retryable=False) from None
        raise AttemptError("crashed", f"the command could not be started: {error}", retryable=True) from None


def _failure(code: int, collected: OutputCollector) -> AttemptError:
    words = collected.last_words()
    tail = f":\n{words}" if words else ""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return AttemptError("signal", f"the command was ended by {name}{tail}", code=-code)
    note = {126: " (found, but not executable)", 127: " (command not found)"}.get(code, "")
    return AttemptError("exit", f"exit code {code}{note}{tail}", code=code)
