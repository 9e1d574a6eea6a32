"""A static look at workflow code for what a replay cannot repeat: ``headrace check``.

Looks at the functions decorated with ``@workflow`` and at the functions and methods of the same file that they call, as
far as that can be seen without running anything (:mod:`headrace.durable.check_reach`). What only a run can show is
caught there (:mod:`headrace.durable.virtual`).
A line that ends in ``# headrace: allow`` (or ``# headrace: allow[rule]``) is left alone, as is the line after a comment
that says so.
"""

from __future__ import annotations

import ast
import re
from collections import deque
from collections.abc import Iterator

import msgspec

from headrace.durable.check_reach import FUNCTIONS, Function, Reach
from headrace.durable.check_rules import (
    CALLS,
    DURABLE,
    METHODS_OF_PATHS,
    MUTATORS,
    OF_ONE_LOOP,
    PATH_METHODS,
    REMEDIES,
    VALUES,
    dotted_prefixes,
)
from headrace.durable.check_sets import Sets

_ALLOW = re.compile(r"#\s*headrace:\s*allow(?:\[([\w\s,-]+)\])?")


class Finding(msgspec.Struct, frozen=True, order=True):
    """Something in workflow code that a replay cannot repeat. ``line`` and ``column`` count from 1; ``rule`` is what
    ``allow[...]`` names; ``workflow`` is the function it was reached from."""

    file: str
    line: int
    column: int
    rule: str
    message: str
    remedy: str
    workflow: str


class Report(msgspec.Struct, frozen=True):
    """What was looked at in one file."""

    file: str
    workflows: tuple[str, ...]
    findings: tuple[Finding, ...]


def check_source(text: str, file: str) -> Report:
    """Check the text of a Python file. Raises ``SyntaxError``."""
    module = _Module(ast.parse(text, filename=file), file, text)
    found: dict[tuple[int, int, str], Finding] = {}
    for workflow in module.workflows:
        for function in module.reached_from(workflow):
            for finding in _Look(module, function, workflow.name).findings():
                found.setdefault((finding.line, finding.column, finding.rule), finding)
    names = tuple(workflow.name for workflow in module.workflows)
    return Report(file, names, tuple(sorted(finding for finding in found.values() if not module.allows(finding))))


class _Module:
    """One file: what its names stand for, which functions it defines."""

    def __init__(self, tree: ast.Module, file: str, text: str) -> None:
        self.file = file
        self._lines = text.splitlines()
        self.names = dict(_imports(tree))
        """Local name to what was imported under it: ``t`` to ``time``, ``sleep`` to ``time.sleep``."""
        for node, targets in _assignments(tree.body):  # pause = time.sleep
            if isinstance(node.value, ast.Name | ast.Attribute) and (full := self.dotted(node.value)) in CALLS:
                self.names.update(dict.fromkeys(targets, full))
        self.reach = Reach(tree)
        every = [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
        self.workflows = [node for node in every if self.has_decorator(node, "workflow")]
        self.awaited = {
            node.name
            for node in every
            if isinstance(node, ast.AsyncFunctionDef) or self.has_decorator(node, "task", "workflow")
        }
        """Functions whose calls do nothing until they are awaited."""
        self.globals = {target for _, targets in _assignments(tree.body) for target in targets}
        self.shared = {
            f"{owner}{target}": (kind, node.lineno)
            for owner, body in [
                ("", tree.body),
                *((f"{c.name}.", c.body) for c in tree.body if isinstance(c, ast.ClassDef)),
            ]
            for node, targets in _assignments(body)
            if (kind := self._of_one_loop(node.value)) is not None
            for target in targets
        }
        """Names and ``Class.names`` of the module that hold something of one event loop: what, and in which line."""

    def _of_one_loop(self, value: ast.expr | None) -> str | None:
        """Which object of asyncio an expression makes, itself or for what it holds: ``defaultdict(asyncio.Lock)``."""
        if value is None or isinstance(value, ast.Lambda):
            return None
        for call in (node for node in ast.walk(value) if isinstance(node, ast.Call)):
            for node in ast.walk(call):
                full = self.dotted(node) if isinstance(node, ast.Name | ast.Attribute) else None
                if full in OF_ONE_LOOP:
                    return f"{'is' if call is value and node is call.func else 'holds'} an {full}"
        return None

    def dotted(self, node: ast.expr) -> str | None:
        """The full name of ``a.b.c`` with imports resolved; None for anything else."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        return ".".join([self.names.get(node.id, node.id), *reversed(parts)])

    def has_decorator(self, function: Function, *names: str) -> bool:
        """Whether a function has one of Headrace's decorators."""
        for decorator in function.decorator_list:
            full = self.dotted(decorator.func if isinstance(decorator, ast.Call) else decorator) or ""
            head, _, last = full.rpartition(".")
            if last in names and (not head or head.startswith("headrace") or head not in self.names.values()):
                return True
        return False

    def reached_from(self, workflow: Function) -> Iterator[Function]:
        """The workflow and the functions of this file that it calls, directly or through others."""
        waiting: deque[Function] = deque([workflow])
        seen = {workflow}
        while waiting:
            function = waiting.popleft()
            yield function
            for _, called in self.reach.calls(function):
                if called not in seen and not self.has_decorator(called, "task", "workflow"):
                    seen.add(called)
                    waiting.append(called)

    def allows(self, finding: Finding) -> bool:
        """Whether a comment says to leave a line alone."""
        for number in (finding.line, finding.line - 1):
            text = self._lines[number - 1] if 0 < number <= len(self._lines) else ""
            if number != finding.line and not text.lstrip().startswith("#"):
                continue
            found = _ALLOW.search(text)
            if found and (found[1] is None or finding.rule in {name.strip() for name in found[1].split(",")}):
                return True
        return False


def _assignments(body: list[ast.stmt]) -> Iterator[tuple[ast.Assign | ast.AnnAssign, list[str]]]:
    """The assignments of a block with the names that they bind."""
    for node in body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield node, [target.id for target in targets if isinstance(target, ast.Name)]


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield (
                    name.asname or name.name.partition(".")[0],
                    name.name if name.asname else name.name.partition(".")[0],
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.names[0].name == "*":
                head = f"{node.module}."
                known = (*CALLS, *VALUES, *DURABLE)
                yield from ((full.removeprefix(head), full) for full in known if full.startswith(head))
            for name in node.names:
                yield name.asname or name.name, f"{node.module}.{name.name}"


class _Look(ast.NodeVisitor):
    """Looks at one function."""

    def __init__(self, module: _Module, function: Function, workflow: str) -> None:
        self._module = module
        self._function = function
        self._workflow = workflow
        self._found: list[Finding] = []
        self._locals = set(_assigned(function))
        self._asynchronous = {
            call for call, called in module.reach.calls(function) if isinstance(called, ast.AsyncFunctionDef)
        }
        self._orderless: set[ast.comprehension] = set()
        """Loops of which nobody sees the order."""
        self._sets = Sets(function, module.dotted)
        self._sagas = {
            node.optional_vars.id
            for node in ast.walk(function)
            if isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name)
            if isinstance(node.context_expr, ast.Call)
            and module.dotted(node.context_expr.func) in ("headrace.saga", "saga")
        }

    def findings(self) -> list[Finding]:
        """Everything found, in no order."""
        if isinstance(self._function, ast.FunctionDef) and self._module.has_decorator(self._function, "workflow"):
            self._report(self._function, "not-async", f"workflow {self._function.name} is not an `async def` function")
        for statement in self._function.body:
            self.visit(statement)
        return self._found

    def _report(self, node: ast.AST, rule: str, message: str) -> None:
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1
        self._found.append(Finding(self._module.file, line, column, rule, message, REMEDIES[rule], self._workflow))

    # ---- functions inside ------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Functions inside are workflow code too, but for tasks."""
        if not self._module.has_decorator(node, "task"):
            self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """As above."""
        if not self._module.has_decorator(node, "task"):
            self.generic_visit(node)

    # ---- calls and names ---------------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        """Blocking calls, threads, chance, sets that become lists."""
        full = self._module.dotted(node.func)
        if full is not None and not self._is_local(node.func):
            rule = next((CALLS[prefix] for prefix in dotted_prefixes(full) if prefix in CALLS), None)
            if rule is not None:
                self._report(node, rule, f"{full}() {_WHY[rule]}")
            if full in ("contextlib.suppress", "suppress"):
                self._swallows(node, f"suppress({', '.join(map(ast.unparse, node.args))})", node.args, trivial=True)
        for given in (*node.args, *(keyword.value for keyword in node.keywords)):
            self._hands_on(given)
        if isinstance(node.func, ast.Attribute):
            self._method(node, node.func)
        if full in _ORDERLESS and node.args and isinstance(node.args[0], ast.GeneratorExp | ast.ListComp):
            self._orderless.update(node.args[0].generators)
        if full in _ORDERED and node.args:
            self._iterates(node.args[0])
        self.generic_visit(node)

    def _hands_on(self, given: ast.expr) -> None:
        """A function that is given to another, to be called there: ``partial(time.sleep, 5)``."""
        full = self._module.dotted(given) if isinstance(given, ast.Name | ast.Attribute) else None
        if full in CALLS and full.count(".") and not self._is_local(given):
            self._report(given, CALLS[full], f"{full} {_WHY[CALLS[full]]}")

    def _is_local(self, node: ast.expr) -> bool:
        """Whether a dotted name begins with a variable of the function."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self._locals and node.id not in self._module.names

    def _method(self, node: ast.Call, method: ast.Attribute) -> None:
        made = method.value
        is_path = isinstance(made, ast.Call) and self._module.dotted(made.func) == "pathlib.Path"
        if method.attr in PATH_METHODS or (is_path and method.attr in METHODS_OF_PATHS):
            self._report(node, "blocking", f".{method.attr}() reads or writes files")
        elif method.attr == "run_in_executor":
            self._report(node, "thread", f".run_in_executor() {_WHY['thread']}")
        elif method.attr in MUTATORS and isinstance(method.value, ast.Name):
            self._mutates(node, method.value.id)
        elif method.attr == "pop" and not node.args:
            self._iterates(method.value)
        elif method.attr == "join" and len(node.args) == 1:
            self._iterates(node.args[0])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """``os.environ`` and its kin."""
        full = self._module.dotted(node)
        if full in VALUES:
            self._report(node, VALUES[full], f"{full} {_WHY[VALUES[full]]}")
        if full is not None:
            self._shares(node, full)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        """The same, imported by name."""
        full = self._module.names.get(node.id)
        if full in VALUES and isinstance(node.ctx, ast.Load):
            self._report(node, VALUES[full], f"{full} {_WHY[VALUES[full]]}")
        self._shares(node, node.id)

    # ---- forgotten awaits ----------------------------------------------------------------------------------------------

    def visit_Expr(self, node: ast.Expr) -> None:
        """A call whose result nobody takes."""
        if isinstance(node.value, ast.Call):
            function = node.value.func
            if isinstance(function, ast.Call) and isinstance(function.func, ast.Attribute):
                function = function.func.value  # charge.options(...)(order)
            full = self._module.dotted(function)
            if self._is_step(function):
                full = "headrace.Saga.step"
            is_awaited = isinstance(function, ast.Name) and function.id in self._module.awaited
            if full in DURABLE or is_awaited or node.value in self._asynchronous:
                what = full or ast.unparse(function)
                self._report(node.value, "not-awaited", f"{what}() is called but not awaited: it does not run")
        self.generic_visit(node)

    def _is_step(self, function: ast.expr) -> bool:
        """Whether it is the ``step`` of a saga."""
        if not isinstance(function, ast.Attribute) or function.attr != "step":
            return False
        return isinstance(function.value, ast.Name) and function.value.id in self._sagas

    # ---- sets ----------------------------------------------------------------------------------------------------------

    def _iterates(self, node: ast.expr) -> None:
        if self._sets.has(node):
            self._report(node, "set-order", "a set gives its items in another order in every process")

    def visit_Starred(self, node: ast.Starred) -> None:
        """``[*names]``, ``gather(*calls)``."""
        if isinstance(node.ctx, ast.Load):
            self._iterates(node.value)
        self.generic_visit(node)

    def visit_Set(self, node: ast.Set) -> None:
        """``{*names}`` is a set again."""
        for item in node.elts:
            if isinstance(item, ast.Starred):
                self.visit(item.value)
            else:
                self.visit(item)

    def visit_Assign(self, node: ast.Assign) -> None:
        """``first, second = names``."""
        if any(isinstance(target, ast.Tuple | ast.List) for target in node.targets):
            self._iterates(node.value)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        """Loops over sets."""
        self._iterates(node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        """The same in comprehensions. One that makes a set again has no order to lose."""
        if node not in self._orderless:
            self._iterates(node.iter)
        self.generic_visit(node)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        """A set of a set."""
        for generator in node.generators:
            self.generic_visit(generator)
        self.visit(node.elt)

    # ---- the clock ---------------------------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        """``import datetime`` inside of a function is past the stand-ins for modules' names."""
        if any(name.name == "datetime" for name in node.names):
            self._report(node, "clock", "datetime imported inside of a function has the real clock")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """The same by name."""
        if node.module == "datetime" and any(name.name in ("datetime", "date") for name in node.names):
            self._report(node, "clock", "datetime imported inside of a function has the real clock")

    # ---- what outlives the run ---------------------------------------------------------------------------------------

    def visit_Global(self, node: ast.Global) -> None:
        """``global`` is there to assign."""
        self._report(node, "global", f"the code changes the global {', '.join(node.names)}")

    def _mutates(self, node: ast.AST, name: str) -> None:
        if name in self._module.globals and name not in self._locals:
            self._report(node, "global", f"the code changes the global {name}")

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """``CACHE[key] = value``."""
        if isinstance(node.ctx, ast.Store | ast.Del) and isinstance(node.value, ast.Name):
            self._mutates(node, node.value.id)
        self.generic_visit(node)

    def _shares(self, node: ast.expr, name: str) -> None:
        """A queue, lock or event of the module: whoever waits with it in a run is woken by nobody outside of it."""
        if name in self._module.shared and not self._is_local(node):
            kind, line = self._module.shared[name]
            what = f"{name} (line {line}) {kind} that all runs of the process share, and a replay finds as they left it"
            self._report(node, "shared", f"{what}; waiting with it, a run is woken by nobody else")

    # ---- swallowed errors --------------------------------------------------------------------------------------------

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        """Handlers that take what they must pass on."""
        if not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
            what = "except:" if node.type is None else f"except {ast.unparse(node.type)}:"
            trivial = all(isinstance(inner, ast.Pass | ast.Continue) for inner in node.body)
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type] if node.type else None
            self._swallows(node, what, kinds, trivial=trivial)
        self.generic_visit(node)

    def _swallows(self, node: ast.AST, what: str, kinds: list[ast.expr] | None, *, trivial: bool) -> None:
        """``kinds`` are caught and not raised again, all there are if None; ``trivial``: and nothing else is done."""
        caught = {"BaseException"} if kinds is None else {self._module.dotted(kind) for kind in kinds}
        if "BaseException" in caught or (trivial and caught & _CANCELLED):
            self._report(node, "swallows-cancel", f"`{what}` keeps a cancellation from ending the code")
        elif trivial and "Exception" in caught:
            self._report(node, "swallows-errors", f"`{what}` hides every failure")


_CANCELLED = {"asyncio.CancelledError", "asyncio.exceptions.CancelledError"}
_ORDERED = {"list", "tuple", "enumerate", "next", "iter", "map", "filter", "zip", "str.join"}
_ORDERLESS = {"all", "any", "sum", "min", "max", "len", "set", "frozenset", "sorted"}
_WHY = {
    "blocking": "blocks every other run of the process, and does it again in every replay",
    "thread": "starts something that a replay cannot repeat",
    "chance": "gives another value in every replay",
    "surroundings": "may differ in a replay, which may happen on another machine",
}


def _assigned(function: Function) -> Iterator[str]:
    """Names that a function binds: parameters and assignments."""
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
