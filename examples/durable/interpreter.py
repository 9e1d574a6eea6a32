"""A small language for workflows, interpreted by a workflow: what users write as JSON becomes durable.

python examples/durable/interpreter.py [STORE]

A program is a list of statements; each is one of

- ``{"call": "upper", "with": {"text": "$name"}, "as": "loud"}``: run a task, keep its result in a variable
- ``{"all": [[...], [...]]}``: run programs at the same time
- ``{"if": "$loud", "then": [...], "else": [...]}``
- ``{"wait": 60}``: seconds
- ``{"signal": "go", "as": "answer"}``: wait for a signal, keep what it says
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from headrace import Headrace, PermanentError, task, wait_for_signal, workflow

Program = list[dict[str, Any]]


@task(retries=3)
async def upper(text: str) -> str:
    """A text in capitals."""
    await asyncio.sleep(0)
    return text.upper()


@task(retries=3)
async def join(parts: list[str]) -> str:
    """Texts in one."""
    await asyncio.sleep(0)
    return " ".join(parts)


TASKS = {"upper": upper, "join": join}
"""What programs may call."""


class Interpreter:
    """One run of a program. Plain code: that it is durable does not show here."""

    def __init__(self, variables: dict[str, Any]) -> None:
        self.variables = variables

    def value(self, given: Any) -> Any:
        """``$name`` is a variable, ``$$`` begins a text with a dollar, everything else is itself."""
        if isinstance(given, list):
            return [self.value(part) for part in given]
        if isinstance(given, str) and given.startswith("$$"):
            return given[1:]
        if isinstance(given, str) and given.startswith("$"):
            if given[1:] not in self.variables:
                raise PermanentError(f"there is no variable {given}; there are: {', '.join(sorted(self.variables))}")
            return self.variables[given[1:]]
        return given

    async def run(self, program: Program) -> None:
        """Carry the statements out, one after another."""
        for statement in program:
            await self.step(statement)

    async def step(self, statement: dict[str, Any]) -> None:
        """Carry one statement out."""
        result: Any = None
        match statement:
            case {"call": str(name), **rest}:
                if name not in TASKS:
                    raise PermanentError(f"there is no task {name!r}; there are: {', '.join(sorted(TASKS))}")
                given = {key: self.value(value) for key, value in rest.get("with", {}).items()}
                result = await TASKS[name](**given)
            case {"all": list(programs)}:
                await asyncio.gather(*(self.run(program) for program in programs))
            case {"if": condition, **rest}:
                await self.run(rest.get("then", []) if self.value(condition) else rest.get("else", []))
            case {"wait": seconds}:
                await asyncio.sleep(self.value(seconds))
            case {"signal": str(name)}:
                result = await wait_for_signal(name)
            case _:
                raise PermanentError(f"not a statement: {json.dumps(statement)[:200]}")
        if "as" in statement:
            self.variables[statement["as"]] = result


@workflow
async def interpret(program: Program, variables: dict[str, Any]) -> dict[str, Any]:
    """Run a program; returns its variables."""
    interpreter = Interpreter(dict(variables))
    await interpreter.run(program)
    return interpreter.variables


GREETING: Program = [
    {
        "all": [
            [{"call": "upper", "with": {"text": "$name"}, "as": "loud"}],
            [{"wait": 0.1}, {"signal": "greeting", "as": "greeting"}],
        ]
    },
    {"if": "$greeting", "then": [{"call": "join", "with": {"parts": ["$greeting", "$loud"]}, "as": "text"}]},
]


async def main(store: str) -> None:
    """Interpret the greeting."""
    async with Headrace(store) as headrace:
        run = await headrace.start(interpret, GREETING, {"name": "Ada"})
        await headrace.signal(run.id, "greeting", "Good morning")
        print(await run.result())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite:///.headrace/headrace.db"))
