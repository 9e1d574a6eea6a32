"""Golden stories: a graph, what happens to it, and what the core makes of that, as text.

A story file begins with comments and a graph in YAML; after ``====`` come steps. A line at the margin is given to the
core, the indented lines below it are what follows: the events, numbered, then what is owed to the world (only when that
changed). ``pytest --update-stories`` writes the indented lines anew.

Steps::

    start {"param": 1}            at +5s                         states
    a succeeds [1, 2]             a[2] fails ValueError          a skips no data
    a fails exit 3                a fails http 503 after=7       a fails Odd bases=OSError permanent
    a#1 succeeds                  (an outcome of attempt 1, if that is over: late)
    a launched                    a started                      a stopped
    a beats 7                     a handed-over                  (its function is over, the outcome comes from outside)
    a told 1                      a told-failure ValueError      a told-beat 7
    cancel, pause, resume, retry, retry a b, task timeout a, run timeout
    crash                         (the process dies; another one folds the history and goes on)
    loaded DIGEST [1]             lost DIGEST why
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from headrace.core import events as ev
from headrace.core import inputs as inp
from headrace.core.effects import Effect, Launch, LoadValue, SetTimer, pending
from headrace.core.errors import InvalidCommand
from headrace.core.run import LostValue

from checked import CheckedRun  # isort: skip
from graphs import graph_of  # isort: skip

BORDER = "===="
_unit = re.compile(r"([\w-]+)(?:\[(\d+)\])?(?:#(\d+))?").fullmatch


class Story:
    """One story file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()
        self._head, _, self._steps = self.text.partition(f"{BORDER}\n")
        workflow = yaml.safe_load(self._head)
        self._spec = graph_of(workflow.pop("tasks"), **workflow)
        self.run: CheckedRun | None = None
        self._owed: list[str] = []

    def told(self) -> str:
        """The file as it would be if written now."""
        lines = []
        for line in self._steps.splitlines():
            if line.startswith("    "):
                continue
            lines.append(line)
            if line and not line.startswith("#"):
                lines += [f"    {told}" for told in self._step(line)]
        return self._head + f"{BORDER}\n" + "\n".join(lines) + "\n"

    def _step(self, line: str) -> list[str]:
        verb, _, rest = line.partition(" ")
        if verb == "start":
            self.run = CheckedRun(self._spec, json.loads(rest) if rest else {})
            return self._tell(1, self.run.created)
        assert self.run is not None, f"{self.path.name}: the first step is start"
        if verb == "states":
            return [self._states()]
        first = len(self.run.events) + 1
        try:
            return self._tell(first, self._act(line))
        except InvalidCommand as refused:
            return [f"refused: {refused.message}"]

    def _tell(self, first: int, events: list[ev.Event]) -> list[str]:
        assert self.run is not None
        told = [f"{number} {event_text(event)}" for number, event in enumerate(events, first)]
        owed = [effect_text(effect) for effect in pending(self.run.run)]
        if owed != self._owed:
            told.append("owed: " + (", ".join(owed) or "nothing"))
        self._owed = owed
        return told or ["nothing follows"]

    def _states(self) -> str:
        assert self.run is not None
        run = self.run.run
        units = [f"{unit.name} {unit.state}" for unit in run.units()]
        return f"run {run.state}: " + ", ".join(units)

    def _act(self, line: str) -> list[ev.Event]:
        """Give one step to the core."""
        run = self.run
        assert run is not None
        words = line.split()
        match words:
            case ["at", delay]:
                run.now += float(delay.removeprefix("+").removesuffix("s"))
                return []
            case ["crash"]:
                self.run = run.recovered()
                return self.run.give(inp.Recovered())
            case ["cancel", *reason]:
                return run.give(inp.Cancel(" ".join(reason)))
            case ["pause", *reason]:
                return run.give(inp.Pause(" ".join(reason)))
            case ["resume"]:
                return run.give(inp.Resume())
            case ["retry", *tasks]:
                return run.give(inp.Retry(tuple(tasks)))
            case ["run", "timeout"]:
                return run.give(inp.RunTimedOut())
            case ["task", "timeout", task]:
                return run.give(inp.TaskTimedOut(task))
            case ["loaded", digest, *_]:
                run.run.values[digest] = json.loads(line.split(maxsplit=2)[2])
                return run.give(inp.ValuesLoaded())
            case ["lost", digest, *why]:
                run.run.values[digest] = LostValue(" ".join(why))
                return run.give(inp.ValuesLoaded())
            case [name, verb, *rest]:
                return self._outcome(name, verb, rest)
        raise AssertionError(f"{self.path.name}: cannot read the step {line!r}")

    def _outcome(self, name: str, verb: str, rest: list[str]) -> list[ev.Event]:
        run = self.run
        found = _unit(name)
        assert run is not None
        assert found is not None, f"{self.path.name}: {name!r} is no unit"
        task, item = found[1], int(found[2]) if found[2] else None
        unit = run.run.unit(task, item)
        assert unit is not None, f"{self.path.name}: there is no {name}"
        number = int(found[3]) if found[3] else unit.attempt + 1
        if verb == "launched":
            run.launch(task, item)
            return []
        if verb == "started":
            return run.give(inp.Started(task, item, number, run.now, "node"))
        told = json.loads(" ".join(rest)) if rest and verb in ("beats", "told", "told-beat") else None
        if verb == "beats":
            return run.give(inp.Heartbeat(task, item, number, told))
        if verb == "told-beat":
            return run.give(inp.Heartbeat(task, item, number, told, strict=True))
        if verb == "told":
            return run.give(inp.Outcome(task, item, number, told))
        if verb == "told-failure":
            return run.give(inp.Outcome(task, item, number, failure=failure_of(rest)))
        unit.launched = False
        if verb == "handed-over":
            return run.give(inp.Started(task, item, number, run.now, "node", external=True))
        if verb == "succeeds":
            return run.give(inp.Succeeded(task, item, number, run.now, json.loads(" ".join(rest) or "null")))
        if verb == "skips":
            return run.give(inp.Skipped(task, item, number, run.now, " ".join(rest)))
        if verb == "stopped":
            return run.give(inp.Cancelled(task, item, number, run.now))
        assert verb == "fails", f"{self.path.name}: cannot read {verb!r}"
        failure = failure_of(rest)
        started = None if failure.type in ("queue_timeout", "template") else run.now
        said = {"details": unit.details} if failure.type == "heartbeat_timeout" else {}
        return run.give(inp.Failed(task, item, number, started, failure, **said))


def failure_of(words: list[str]) -> ev.Failure:
    """``ValueError``, ``exit 3``, ``http 503 after=7``, ``Odd bases=OSError,Exception permanent``."""
    fields: dict[str, Any] = {}
    for word in words[1:]:
        if word.isdigit():
            fields["code"] = int(word)
        elif word in ("permanent", "retryable"):
            fields["retryable"] = word == "retryable"
        elif word.startswith("after="):
            fields["retry_after"] = float(word.removeprefix("after="))
        else:
            fields["bases"] = tuple(word.removeprefix("bases=").split(","))
    return ev.Failure(words[0], "it broke", **fields)


def event_text(event: ev.Event) -> str:
    """An event as one line: its tag, its unit, and what it says."""
    words = [str(type(event).__struct_config__.tag)]
    task = getattr(event, "task", None)
    if task is not None:
        item = getattr(event, "item", None)
        words.append(task if item is None else f"{task}[{item}]")
    if task is not None and getattr(event, "attempt", 0):
        words.append(f"#{event.attempt}")  # type: ignore[union-attr]
    for name in ("state", "failed_task", "output", "items", "tasks", "reason", "retry_at", "details"):
        value = getattr(event, name, None)
        if value not in (None, "", ()):
            words.append(f"{name}={json.dumps(value)}")
    failure = getattr(event, "failure", None)
    if failure is not None:
        words.append(f"failure={failure.type}")
        if failure.message != "it broke":
            words.append(f"({failure.message})")
    if getattr(event, "timed_out", False):
        words.append("timed_out")
    if getattr(event, "external", False):
        words.append("external")
    return " ".join(words)


def effect_text(effect: Effect) -> str:
    """An effect in a few words."""
    if isinstance(effect, Launch):
        name = effect.task if effect.item < 0 else f"{effect.task}[{effect.item}]"
        when = f" at {effect.not_before:g}s" if effect.not_before else ""
        return f"launch {name}#{effect.attempt}{when}"
    if isinstance(effect, SetTimer):
        return f"timer {effect.kind} {effect.task} {effect.at:g}s".replace("  ", " ")
    assert isinstance(effect, LoadValue)
    return f"load {effect.digest}"
