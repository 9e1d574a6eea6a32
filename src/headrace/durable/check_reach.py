"""Which functions of a file its workflow code gets to: called by name, and through classes as far as the source says of
what class something is (it is made there, annotated, ``self``, or an attribute of one of these)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

_MAKES = ("__new__", "__init__", "__post_init__")
"""What runs when a class is called."""


class Reach:
    """What the calls in one file lead to."""

    def __init__(self, tree: ast.Module) -> None:
        self._functions = {node.name: node for node in tree.body if isinstance(node, FUNCTIONS)}
        self._classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self._owners = {
            method: owner for owner in self._classes.values() for method in owner.body if isinstance(method, FUNCTIONS)
        }
        self._attributes: dict[ast.ClassDef, dict[str, ast.ClassDef]] = {}

    def calls(self, function: Function) -> Iterator[tuple[ast.Call, Function]]:
        """The calls in a function and in those inside of it, each with what it leads to in this file."""
        kinds = self._kinds(function)
        for node in ast.walk(function):
            if isinstance(node, ast.Call):
                for called in self._called(node, kinds):
                    yield node, called

    def _called(self, call: ast.Call, kinds: dict[str, ast.ClassDef]) -> Iterator[Function]:
        made = self._made(call, kinds)
        if made is not None:
            for name in _MAKES:
                yield from self._method(made, name)
        elif isinstance(call.func, ast.Name) and call.func.id in self._functions:
            yield self._functions[call.func.id]
        elif isinstance(call.func, ast.Attribute):
            value = call.func.value
            kind = self._kind(value, kinds)
            if kind is None and isinstance(value, ast.Name):
                kind = self._classes.get(value.id)  # Class.method(...)
            if kind is not None:
                yield from self._method(kind, call.func.attr)

    def _made(self, call: ast.Call, kinds: dict[str, ast.ClassDef]) -> ast.ClassDef | None:
        """The class that a call makes something of: ``Class(...)``, ``cls(...)``."""
        if not isinstance(call.func, ast.Name):
            return None
        return kinds.get(call.func.id) or self._classes.get(call.func.id)

    def _method(self, owner: ast.ClassDef, name: str) -> Iterator[Function]:
        """A class's own method, or else that of the first base in this file that has it."""
        waiting, seen = [owner], {owner}
        while waiting:
            kind = waiting.pop(0)
            for node in kind.body:
                if isinstance(node, FUNCTIONS) and node.name == name:
                    yield node
                    return
            bases = [base for base in self._bases(kind) if base not in seen]
            seen.update(bases)
            waiting += bases

    def _bases(self, kind: ast.ClassDef) -> list[ast.ClassDef]:
        names = [base.id for base in kind.bases if isinstance(base, ast.Name)]
        return [self._classes[name] for name in names if name in self._classes]

    # ---- of what class something is -------------------------------------------------------------------------------

    def _kinds(self, function: Function) -> dict[str, ast.ClassDef]:
        """The variables of a function that hold something of a class of this file."""
        kinds: dict[str, ast.ClassDef] = {}
        owner = self._owners.get(function)
        first = [*function.args.posonlyargs, *function.args.args][:1]
        if owner is not None and first and not _is_static(function):
            kinds[first[0].arg] = owner
            if bases := self._bases(owner):
                kinds["super()"] = bases[0]
        for node in ast.walk(function):
            if isinstance(node, ast.arg):
                _keep(kinds, node.arg, self._annotated(node.annotation))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                _keep(kinds, node.target.id, self._annotated(node.annotation))
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        _keep(kinds, target.id, self._kind(node.value, kinds))
            elif isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
                _keep(kinds, node.optional_vars.id, self._kind(node.context_expr, kinds))
        return kinds

    def _kind(self, node: ast.expr, kinds: dict[str, ast.ClassDef]) -> ast.ClassDef | None:
        if isinstance(node, ast.Name):
            return kinds.get(node.id)
        if isinstance(node, ast.Call):
            return kinds.get(ast.unparse(node)) if ast.unparse(node) == "super()" else self._made(node, kinds)
        if isinstance(node, ast.Attribute):
            owner = self._kind(node.value, kinds)
            return None if owner is None else self._attributes_of(owner).get(node.attr)
        return None

    def _attributes_of(self, owner: ast.ClassDef) -> dict[str, ast.ClassDef]:
        """The attributes of a class that hold something of a class of this file."""
        found = self._attributes.get(owner)
        if found is not None:
            return found
        found = self._attributes[owner] = {}  # before it is filled, as attributes may be made of attributes
        for node in owner.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                _keep(found, node.target.id, self._annotated(node.annotation))
            elif isinstance(node, FUNCTIONS):
                kinds = self._kinds(node)
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Assign):
                        for target in inner.targets:
                            if isinstance(target, ast.Attribute) and self._kind(target.value, kinds) is owner:
                                _keep(found, target.attr, self._kind(inner.value, kinds))
        return found

    def _annotated(self, annotation: ast.expr | None) -> ast.ClassDef | None:
        """The class of this file that an annotation names: ``Class``, ``"Class"``, ``Class | None``."""
        if isinstance(annotation, ast.BinOp):
            return self._annotated(annotation.left) or self._annotated(annotation.right)
        if isinstance(annotation, ast.Name):
            return self._classes.get(annotation.id)
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            return self._classes.get(annotation.value)
        return None


def _keep(kinds: dict[str, ast.ClassDef], name: str, kind: ast.ClassDef | None) -> None:
    if kind is not None:
        kinds[name] = kind


def _is_static(function: Function) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "staticmethod" for node in function.decorator_list)
