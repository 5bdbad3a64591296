"""Where a script generates in batches, and on which side it pads what it generates from."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vlcheck.config.foreign.scripts.source import Source
from vlcheck.origin import Generation

SIDE = "padding_side"
_Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef


def generations(source: Source) -> tuple[Generation, ...]:
    """Calls of `generate` in a scope that pads its inputs, each with the padding side that is in force.

    In force is the last constant that the same function sets before the call; where it sets none, what all of the
    script sets, if that is one value. Where it sets several, or a value that only a run tells, the side is empty.
    """
    module = ast.Module(list(source.body), [])
    everywhere = {side for _, side in _sides(module)}
    return tuple(
        Generation(source.place(call), _in_force(scope, call, everywhere))
        for scope in (module, *_functions(module))
        if any(_pads(node) for node in _own(scope))
        for call in _own(scope)
        if _generates(call)
    )


def _in_force(scope: _Scope, call: ast.AST, everywhere: set[str]) -> str:
    before = [side for line, side in _sides(scope) if line <= getattr(call, "lineno", 0)]
    if before:
        return before[-1]
    return next(iter(everywhere)) if len(everywhere) == 1 else ""


def _sides(scope: _Scope) -> list[tuple[int, str]]:
    """Line and value of everything that sets a padding side, in the order of lines; not a constant is empty."""
    nodes = ast.walk(scope) if isinstance(scope, ast.Module) else _own(scope)
    return sorted(found for node in nodes for found in _set_by(node))


def _set_by(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Assign) and any(isinstance(t, ast.Attribute) and t.attr == SIDE for t in node.targets):
        yield node.lineno, _constant(node.value)
    if isinstance(node, ast.keyword) and node.arg == SIDE:
        yield node.lineno, _constant(node.value)


def _constant(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _generates(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "generate"


def _pads(node: ast.AST) -> bool:
    """Whether it is `padding=True` or `padding="longest"` of a call: rows of a batch made equally long."""
    return (
        isinstance(node, ast.keyword)
        and node.arg == "padding"
        and isinstance(node.value, ast.Constant)
        and node.value.value in (True, "longest", "max_length")
    )


def _functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _own(scope: _Scope) -> Iterator[ast.AST]:
    """The nodes of a scope without those of functions in it."""
    waiting: list[ast.AST] = list(scope.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting.extend(ast.iter_child_nodes(node))
