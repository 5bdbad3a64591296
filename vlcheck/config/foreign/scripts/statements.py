"""Follow a script's statements in the order in which a run would reach them, without running one."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlcheck.config.foreign.scripts import pure
from vlcheck.config.foreign.scripts.calls import followed, through
from vlcheck.config.foreign.scripts.expressions import evaluate, function
from vlcheck.config.foreign.scripts.objects import set_attribute, unpacked, whole
from vlcheck.config.foreign.scripts.scope import Scope, Script, merged, written
from vlcheck.config.foreign.scripts.source import Source
from vlcheck.config.foreign.scripts.values import (
    Entries,
    Imported,
    Items,
    Made,
    Own,
    Plain,
    Unknown,
    Value,
    public,
    truth,
)

_ENDS = ("builtins.exit", "builtins.quit", "sys.exit", "os._exit")


def read(source: Source) -> tuple[Script, Scope]:
    """Follow a script from its first line to its last."""
    script = Script(source, run)
    module = Scope(script, {"__name__": Plain(where=source.at(1, 1), value="__main__")})
    module.names["__file__"] = Plain(where=source.at(1, 1), value=source.file)
    run(source.body, module)
    return script, module


def follow_uncalled(script: Script, module: Scope) -> list[Own]:
    """Follow the module's functions that nothing has called, as a scheduler would call them; which those were."""
    before = {*script.entered}
    for own in [value for value in module.names.values() if isinstance(value, Own)]:
        if not isinstance(own.node, ast.ClassDef) and own.node not in script.entered and own.held is module:
            followed(own, [], {}, module, own.where)
    return [own for own in module.names.values() if isinstance(own, Own) and own.node in script.entered - before]


def run(body: Sequence[ast.stmt], scope: Scope) -> str:
    """Follow statements; how they end: `return`, `raise`, or nothing where they reach their last line."""
    for node in body:
        if scope.script.spent():
            return ""
        ended = _statement(node, scope)
        if ended:
            return ended
    return ""


def _statement(node: ast.stmt, scope: Scope) -> str:
    known = _KINDS.get(type(node))
    return (known(node, scope) if known is not None else "") or ""


def _expression(node: ast.Expr, scope: Scope) -> str:
    value = evaluate(node.value, scope)
    return "raise" if isinstance(value, Made) and value.callee in _ENDS else ""


def _assignment(node: ast.Assign, scope: Scope) -> None:
    value = evaluate(node.value, scope)
    for target in node.targets:
        _assign(target, value, scope)
        if isinstance(target, ast.Name):
            scope.nodes[target.id] = node.value


def _annotated(node: ast.AnnAssign, scope: Scope) -> None:
    if node.value is not None:
        _assign(node.target, evaluate(node.value, scope), scope)


def _augmented(node: ast.AugAssign, scope: Scope) -> None:
    _assign(node.target, evaluate(_as_binary(node), scope), scope)


def _return(node: ast.Return, scope: Scope) -> str:
    nothing = Plain(where=scope.script.place(node), value=None)
    scope.returned.append(evaluate(node.value, scope) if node.value is not None else nothing)
    return "return"


def _while(node: ast.While, scope: Scope) -> str:
    evaluate(node.test, scope)
    return _maybe([node.body], scope, node)


def _with(node: ast.With | ast.AsyncWith, scope: Scope) -> str:
    for held in node.items:
        value = evaluate(held.context_expr, scope)
        if held.optional_vars is not None:
            _assign(held.optional_vars, value, scope)
    return run(node.body, scope)


def _match(node: ast.Match, scope: Scope) -> str:
    subject = evaluate(node.subject, scope)
    for case in node.cases:
        fits = _fits(case.pattern, subject, scope) if case.guard is None else None
        if fits is None:
            break
        if fits:
            return _under(subject, case.body, scope)
    else:
        return ""
    left = node.cases[node.cases.index(case) :]
    last = left[-1]
    whole = last.guard is None and isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None
    return _maybe([one.body for one in left], scope, node, exhaustive=whole)


def _fits(pattern: ast.pattern, subject: Value, scope: Scope) -> bool | None:
    """Whether a value is what a case waits for; None where only a run tells, or the case takes the value apart."""
    match pattern:
        case ast.MatchAs(pattern=None):
            if pattern.name is not None:
                scope.keep(pattern.name, subject)
            return True
        case ast.MatchValue(value=wanted):
            return pure.compared(ast.Eq(), subject, evaluate(wanted, scope))
        case ast.MatchSingleton(value=constant):
            return subject.value is constant if isinstance(subject, Plain) else None
        case ast.MatchOr(patterns=several):
            fits = [_fits(one, subject, scope) for one in several]
            return True if True in fits else None if None in fits else False
    return None


def _under(condition: Value, body: Sequence[ast.stmt], scope: Scope) -> str:
    """Follow the statements that a known condition leads to; what they set says what the condition was taken to be."""
    under = scope.script.under
    depth = len(under)
    under += condition.said
    ended = run(body, scope)
    del under[depth:]
    return ended


def _as_binary(node: ast.AugAssign) -> ast.BinOp:
    target = node.target
    loaded: ast.expr = target
    if isinstance(target, ast.Name):
        loaded = ast.copy_location(ast.Name(target.id, ast.Load()), target)
    return ast.copy_location(ast.BinOp(loaded, node.op, node.value), node)


def _assign(target: ast.expr, value: Value, scope: Scope) -> None:
    where = scope.script.place(target)
    match target:
        case ast.Name():
            scope.keep(target.id, value)
        case ast.Tuple() | ast.List():
            if any(isinstance(part, ast.Starred) for part in target.elts):
                for part in target.elts:
                    inner = part.value if isinstance(part, ast.Starred) else part
                    _assign(inner, Unknown(where=where, text=written(inner)), scope)
                return
            for part, given in zip(target.elts, unpacked(value, len(target.elts), where), strict=True):
                _assign(part, given, scope)
        case ast.Attribute():
            set_attribute(evaluate(target.value, scope), target.attr, value, scope.script, where)
        case ast.Subscript():
            holder, key = evaluate(target.value, scope), evaluate(target.slice, scope)
            if isinstance(holder, Entries) and isinstance(key, Plain):
                holder.entries[key.value] = value
            elif isinstance(holder, Entries):
                holder.rest.append(key)
            elif isinstance(holder, Imported) and holder.path == "os.environ" and isinstance(key, Plain):
                scope.script.set_variable(key.value, value)
            elif isinstance(holder, Items) and (at := whole(key)) is not None and 0 <= at < len(holder.items):
                holder.items[at] = value


def _import(node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
    where = scope.script.place(node)
    for alias in node.names:
        if alias.name == "*" and isinstance(node, ast.ImportFrom):
            scope.script.stars.append(node.module or "")
            continue
        if isinstance(node, ast.Import):
            name = alias.asname or alias.name.partition(".")[0]
            path = alias.name if alias.asname else name
        else:
            name = alias.asname or alias.name
            path = f"{'.' * node.level}{node.module or ''}.{alias.name}"
        scope.names[name] = Imported(where=where, path=public(path))


def _class(node: ast.ClassDef, scope: Scope) -> None:
    inner = Scope(scope.script, {}, scope)
    bases = tuple(evaluate(base, scope) for base in node.bases)
    body = [part for part in node.body if isinstance(part, ast.Assign | ast.AnnAssign | ast.FunctionDef)]
    run(body, inner)
    own = Own(where=scope.script.place(node), node=node, bases=bases, names=inner.names, held=scope)
    scope.keep(node.name, own)


def _if(node: ast.If, scope: Scope) -> str:
    condition = evaluate(node.test, scope)
    known = truth(condition)
    if known is None:
        return _maybe([node.body, node.orelse], scope, node)
    return _under(condition, node.body if known else node.orelse, scope)


def _for(node: ast.For | ast.AsyncFor, scope: Scope) -> str:
    over = evaluate(node.iter, scope)
    where = scope.script.place(node.target)
    scope.script.loops.append((written(node.target), over))
    for element in through(over, where) or [Unknown(where=where, text=written(node.iter))]:
        _assign(node.target, element, scope)
        ended = run(node.body, scope)
        if ended:
            return ended if isinstance(over, Items) else ""
    return run(node.orelse, scope)


def _try(node: ast.Try | ast.TryStar, scope: Scope) -> str:
    handlers = [handler.body for handler in node.handlers]
    ended = _maybe([[*node.body, *node.orelse], *handlers], scope, node, exhaustive=True)
    return run(node.finalbody, scope) or ended


def _maybe(branches: list[list[ast.stmt]], scope: Scope, node: ast.stmt, *, exhaustive: bool = False) -> str:
    """Follow branches of which only a run takes one: what they assign differently is one of several.

    Args:
        exhaustive: whether one of them is taken for certain; two of an `if` always are.
    """
    before = dict(scope.names)
    ends: list[str] = []
    results: list[dict[str, Value]] = []
    for number, body in enumerate(branches):
        doubtful = number > 0 or not exhaustive  # what a `try` tries is the way a run goes
        scope.names = dict(before)
        scope.script.unsure += doubtful
        ended = run(body, scope)
        scope.script.unsure -= doubtful
        ends.append(ended)
        if not ended:
            results.append(scope.names)
    if not exhaustive and not isinstance(node, ast.If):
        results.append(dict(before))
        ends.append("")
    scope.names = dict(before)
    if not results:
        return "return" if "return" in ends else "raise"
    first = results[0]
    for other in results[1:]:
        merged(scope, before, first, other, scope.script.place(node))
        first = scope.names
    scope.names = dict(first)
    return ""


_KINDS: Mapping[type[ast.stmt], Callable[[Any, Scope], str | None]] = {
    ast.Expr: _expression,
    ast.Assign: _assignment,
    ast.AnnAssign: _annotated,
    ast.AugAssign: _augmented,
    ast.Import: _import,
    ast.ImportFrom: _import,
    ast.FunctionDef: lambda node, scope: scope.keep(node.name, function(node, scope)),
    ast.AsyncFunctionDef: lambda node, scope: scope.keep(node.name, function(node, scope)),
    ast.ClassDef: _class,
    ast.Return: _return,
    ast.Raise: lambda node, scope: "raise",
    ast.If: _if,
    ast.For: _for,
    ast.AsyncFor: _for,
    ast.While: _while,
    ast.With: _with,
    ast.AsyncWith: _with,
    ast.Try: _try,
    ast.TryStar: _try,
    ast.Match: _match,
}
"""How each kind of statement is followed, and how it ends; others change nothing that is known."""
