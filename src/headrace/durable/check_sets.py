"""What in a function is a set, as far as its source says: for :mod:`headrace.durable.check`. Its order changes from
process to process."""

from __future__ import annotations

import ast
from collections.abc import Callable

from headrace.durable.check_reach import Function

_KINDS = frozenset(
    {
        *("set", "frozenset", "typing.Set", "typing.FrozenSet", "typing.AbstractSet", "typing.MutableSet"),
        *("collections.abc.Set", "collections.abc.MutableSet"),
    }
)
_OF_SETS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
"""Methods of a set that give another."""


class Sets:
    """The sets of one function. ``dotted`` resolves names as the module imports them."""

    def __init__(self, function: Function, dotted: Callable[[ast.expr], str | None]) -> None:
        self._dotted = dotted
        self._names: set[str] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.arg) and self._annotated(node.annotation):
                self._names.add(node.arg)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                if self._annotated(node.annotation):
                    self._names.add(node.target.id)
            elif isinstance(node, ast.Assign) and self.has(node.value):
                self._names |= {target.id for target in node.targets if isinstance(target, ast.Name)}

    def has(self, node: ast.expr) -> bool:
        """Whether an expression is a set."""
        if isinstance(node, ast.Set | ast.SetComp):
            return True
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr in _OF_SETS:
                return self.has(node.func.value)
            return self._dotted(node.func) in ("set", "frozenset")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
            return self.has(node.left) or self.has(node.right)
        return isinstance(node, ast.Name) and node.id in self._names

    def _annotated(self, annotation: ast.expr | None) -> bool:
        """Whether an annotation names a set: ``set[str]``, ``"set[str]"``, ``set[str] | None``."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            try:
                annotation = ast.parse(annotation.value, mode="eval").body
            except SyntaxError:
                return False
        if isinstance(annotation, ast.BinOp):
            return self._annotated(annotation.left) or self._annotated(annotation.right)
        if isinstance(annotation, ast.Subscript):
            annotation = annotation.value
        return isinstance(annotation, ast.Name | ast.Attribute) and self._dotted(annotation) in _KINDS
