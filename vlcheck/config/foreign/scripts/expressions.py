"""What an expression of a script gives, as far as its text tells. Nothing is run and nothing imported."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vlcheck.config.foreign.scripts import methods, pure
from vlcheck.config.foreign.scripts.calls import called, method, through
from vlcheck.config.foreign.scripts.objects import attribute, item, whole
from vlcheck.config.foreign.scripts.parsers import option_of, unwrapped
from vlcheck.config.foreign.scripts.scope import Scope, choose, written
from vlcheck.config.foreign.scripts.values import (
    NOT_SET,
    Each,
    Entries,
    Imported,
    Items,
    Made,
    Own,
    Part,
    Plain,
    Scalar,
    Unknown,
    Value,
    line_of,
    public,
    saying,
    sayings,
    truth,
)


def evaluate(node: ast.expr, scope: Scope) -> Value:
    """What an expression gives."""
    script = scope.script
    if script.spent():
        return script.unknown(node, "more than is followed")
    known = _KINDS.get(type(node))
    return script.unknown(node) if known is None else known(node, scope)


def function(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: Scope) -> Own:
    """A function of the script, with its parameters' defaults."""
    spec = node.args
    positional = [*spec.posonlyargs, *spec.args]
    defaults = dict(zip([one.arg for one in positional][len(positional) - len(spec.defaults) :], spec.defaults,
                        strict=False))  # fmt: skip
    defaults |= {one.arg: value for one, value in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if value}
    names = {name: unwrapped(evaluate(value, scope)) for name, value in defaults.items()}
    by = [one for one in getattr(node, "decorator_list", ()) if isinstance(one, ast.Call)]
    names |= dict(found for one in by if (found := option_of(evaluate(one, scope))) is not None)
    if isinstance(node, ast.Lambda) and not positional and not spec.kwonlyargs:
        names["return"] = evaluate(node.body, scope)
    return Own(where=scope.script.place(node), node=node, names=names, held=scope)


def _name(node: ast.Name, scope: Scope) -> Value:
    found = scope.find(node.id)
    if found is not None:
        return found
    if hasattr(builtins, node.id):
        return Imported(where=scope.script.place(node), path=f"builtins.{node.id}")
    if len(scope.script.stars) == 1:
        return Imported(where=scope.script.place(node), path=public(f"{scope.script.stars[0]}.{node.id}"))
    return scope.script.unknown(node)


def _subscript(node: ast.Subscript, scope: Scope) -> Value:
    holder = evaluate(node.value, scope)
    if isinstance(node.slice, ast.Slice):
        if isinstance(holder, Items):
            written_bounds = (node.slice.lower, node.slice.upper, node.slice.step)
            bounds = [whole(evaluate(part, scope)) if part is not None else None for part in written_bounds]
            known = all(part is None or bound is not None for part, bound in zip(written_bounds, bounds, strict=True))
            if known and bounds[2] != 0:
                return replace(holder, items=holder.items[bounds[0] : bounds[1] : bounds[2]])
            return scope.script.unknown(node)
        return holder if isinstance(holder, Unknown) else Part(where=scope.script.place(node), of=holder, name="slice")
    key = evaluate(node.slice, scope)
    if isinstance(holder, Imported) and holder.path == "os.environ":
        return (isinstance(key, Plain) and scope.script.environment.get(key.value)) or scope.script.unknown(node)
    found = item(holder, key, scope.script.place(node))
    return scope.script.unknown(node) if isinstance(found, Unknown) and not isinstance(holder, Unknown) else found


def _items(node: ast.List | ast.Tuple | ast.Set, scope: Scope) -> Value:
    items: list[Value] = []
    for element in node.elts[: pure.MOST_ITEMS]:
        if isinstance(element, ast.Starred):
            inner = evaluate(element.value, scope)
            if not isinstance(inner, Items):
                return inner if isinstance(inner, Unknown) else scope.script.unknown(node)
            items += inner.items[: pure.MOST_ITEMS]
        else:
            value = evaluate(element, scope)
            items.append(replace(value, where=scope.script.place(element)) if isinstance(value, Plain) else value)
    return Items(where=scope.script.place(node), items=items)


def _entries(node: ast.Dict, scope: Scope) -> Value:
    entries: dict[Scalar, Value] = {}
    rest: list[Value] = []
    for key, value in zip(node.keys, node.values, strict=True):
        given = evaluate(value, scope)
        if key is None:
            if isinstance(given, Entries):
                entries |= {name: saying(held, *given.said) for name, held in given.entries.items()}
                rest += given.rest
            else:
                rest.append(given)
            continue
        name = evaluate(key, scope)
        if isinstance(name, Plain):
            entries[name.value] = replace(given, where=scope.script.place(key))
        else:
            rest.append(name)
    return Entries(where=scope.script.place(node), entries=entries, rest=rest)


def _text(node: ast.JoinedStr, scope: Scope) -> Value:
    parts: list[str] = []
    said: list[str] = []
    for part in node.values:
        inner = part.value if isinstance(part, ast.FormattedValue) else part
        value = evaluate(inner, scope)
        if not isinstance(value, Plain):
            return scope.script.unknown(node)
        said += value.said
        form = part.format_spec if isinstance(part, ast.FormattedValue) else None
        if form is not None:
            wanted = evaluate(form, scope)
            pattern = wanted.value if isinstance(wanted, Plain) and isinstance(wanted.value, str) else "?"
            made = methods.method(Plain(where=value.where, value=f"{{:{pattern}}}"), "format", [value], {}, value.where)
            if not isinstance(made, Plain):
                return scope.script.unknown(node)
            value = made
        parts.append(str(value.value))
    return pure.made_of("".join(parts), scope.script.place(node), said) or scope.script.unknown(node)


def _binary(node: ast.BinOp, scope: Scope) -> Value:
    left, right = evaluate(node.left, scope), evaluate(node.right, scope)
    found = pure.binary(node.op, left, right, scope.script.place(node))
    return found or scope.script.unknown(node)


def _unary(node: ast.UnaryOp, scope: Scope) -> Value:
    value = evaluate(node.operand, scope)
    where = scope.script.place(node)
    if isinstance(node.op, ast.Not):
        known = truth(value)
        return scope.script.unknown(node) if known is None else Plain(where=where, said=value.said, value=not known)
    return pure.unary(node.op, value, where) or scope.script.unknown(node)


def _either(node: ast.BoolOp, scope: Scope) -> Value:
    stops_at = isinstance(node.op, ast.Or)
    values = [evaluate(part, scope) for part in node.values]
    for index, value in enumerate(values):
        known = truth(value)
        if known is None:
            if index + 1 < len(values) and stops_at and not isinstance(value, Unknown):
                return value
            return scope.script.unknown(node)
        if known is stops_at:
            return saying(value, *(said for one in values[:index] for said in one.said))
    return values[-1]


def _compared(node: ast.Compare, scope: Scope) -> Value:
    left = evaluate(node.left, scope)
    rights = [evaluate(right, scope) for right in node.comparators]
    said = [one for value in (left, *rights) for one in sayings(value)]
    for kind, right in zip(node.ops, rights, strict=True):
        holds = pure.compared(kind, left, right)
        none = isinstance(right, Plain) and right.value is None
        if isinstance(right, Imported) and right.path == "os.environ" and isinstance(left, Plain):
            own = left.value in scope.script.environment
            holds = own is isinstance(kind, ast.In)
            said += [] if own else [f"{NOT_SET}{left.value} ({line_of(left.where)})"]
        if holds is None and none and isinstance(left, Made | Own | Entries | Items) and truth(left):
            holds = not isinstance(kind, ast.Is | ast.Eq)
        if holds is None:
            return scope.script.unknown(node)
        if not holds:
            return Plain(where=left.where, said=tuple(said), value=False)
        left = right
    return Plain(where=left.where, said=tuple(said), value=True)


def _conditional(node: ast.IfExp, scope: Scope) -> Value:
    condition = evaluate(node.test, scope)
    known = truth(condition)
    if known is not None:
        return saying(evaluate(node.body if known else node.orelse, scope), *condition.said)
    first, second = evaluate(node.body, scope), evaluate(node.orelse, scope)
    return choose(first, second, f"`{written(node, 40)}`", scope.script.place(node))


def _call(node: ast.Call, scope: Scope) -> Value:
    script = scope.script
    arguments: list[Value] = []
    keywords: dict[str, Value] = {}
    rest: list[Value] = []
    base = evaluate(node.func.value, scope) if isinstance(node.func, ast.Attribute) else None
    callee = None if base is not None else evaluate(node.func, scope)
    for argument in node.args:
        value = evaluate(argument, scope)
        if not isinstance(argument, ast.Starred):
            arguments.append(replace(value, where=script.place(argument)) if isinstance(value, Plain) else value)
        elif isinstance(value, Items):
            arguments += value.items
        else:
            rest.append(value)
    for keyword in node.keywords:
        value = evaluate(keyword.value, scope)
        if keyword.arg is not None:
            stands = isinstance(value, Plain | Items | Entries | Imported)  # what a call made keeps its own place
            keywords[keyword.arg] = replace(value, where=script.place(keyword)) if stands else value
        elif isinstance(value, Entries):
            keywords |= {str(name): saying(held, *value.said) for name, held in value.entries.items()}
            rest += value.rest
        else:
            rest.append(value)
    if base is not None and isinstance(node.func, ast.Attribute):
        target = attribute(base, node.func.attr, script.place(node.func))
        if isinstance(base, Imported) or (isinstance(target, Own | Imported) and not isinstance(base, Made)):
            return called(target, arguments, keywords, rest, scope, node)
        return method(base, node.func.attr, arguments, keywords, rest, scope, node)
    assert callee is not None
    if isinstance(callee, Imported) and callee.path in ("builtins.enumerate", "builtins.zip", "tqdm.tqdm"):
        return arguments[0] if arguments and callee.path == "tqdm.tqdm" else script.unknown(node)
    return called(callee, arguments, keywords, rest, scope, node)


def _comprehension(node: ast.ListComp | ast.GeneratorExp | ast.SetComp, scope: Scope) -> Value:
    script, first = scope.script, node.generators[0]
    over = evaluate(first.iter, scope)
    elements = through(over, script.place(first.target))
    known = isinstance(over, Items | Entries | Plain) or (isinstance(over, Made) and over.callee == "builtins.range")
    if known and len(node.generators) == 1 and isinstance(first.target, ast.Name) and len(elements) <= 64:
        items = []
        for element in elements:
            inner = Scope(script, {first.target.id: element}, scope)
            wanted = [truth(evaluate(test, inner)) for test in first.ifs]
            if None in wanted:
                return script.unknown(node)
            if all(wanted):
                items.append(evaluate(node.elt, inner))
        return Items(where=script.place(node), items=items)
    if isinstance(over, Made | Part | Each):
        same = isinstance(node.elt, ast.Name) and isinstance(first.target, ast.Name) and node.elt.id == first.target.id
        return Each(where=script.place(node), of=over, by="" if same else written(node.elt, 40))
    return over if isinstance(over, Unknown) else script.unknown(node)


def _constant(node: ast.Constant, scope: Scope) -> Value:
    return pure.made_of(node.value, scope.script.place(node)) or scope.script.unknown(node)


def _attribute(node: ast.Attribute, scope: Scope) -> Value:
    return attribute(evaluate(node.value, scope), node.attr, scope.script.place(node))


def _named(node: ast.NamedExpr, scope: Scope) -> Value:
    value = evaluate(node.value, scope)
    scope.keep(node.target.id, value)
    return value


_KINDS: Mapping[type[ast.expr], Callable[[Any, Scope], Value]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
    ast.List: _items,
    ast.Tuple: _items,
    ast.Set: _items,
    ast.Dict: _entries,
    ast.JoinedStr: _text,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.BoolOp: _either,
    ast.Compare: _compared,
    ast.IfExp: _conditional,
    ast.Call: _call,
    ast.Lambda: function,
    ast.NamedExpr: _named,
    ast.ListComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.SetComp: _comprehension,
    ast.Await: lambda node, scope: evaluate(node.value, scope),
    ast.Starred: lambda node, scope: evaluate(node.value, scope),
}
"""What is worked out; any other expression is known only when the script runs."""
