"""What a call in a script gives: known functions are worked out, the script's own followed, all others kept as made."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vlcheck.config.foreign.scripts import methods, pure
from vlcheck.config.foreign.scripts.objects import attribute, set_attribute, text_of
from vlcheck.config.foreign.scripts.parsers import is_parse, parsed
from vlcheck.config.foreign.scripts.scope import DEEPEST, Scope, choose, written
from vlcheck.config.foreign.scripts.values import (
    CARD,
    NOT_GIVEN,
    Each,
    Entries,
    Imported,
    Items,
    Made,
    Own,
    Part,
    Plain,
    Unknown,
    Value,
    line_of,
    public,
    saying,
)
from vlcheck.spec import Location

_RUNNERS = ("fire.Fire", "typer.run", "absl.app.run", "tyro.cli")
"""They call the function that they are given, with what the command line says."""
_CARD = (
    "torch.cuda.is_available",
    "torch.cuda.is_bf16_supported",
    "unsloth.is_bf16_supported",
    "unsloth.is_bfloat16_supported",
    "transformers.is_torch_bf16_gpu_available",
)
"""They ask for the card that a run has."""


def called(callee: Value, arguments: list[Value], keywords: dict[str, Value], rest: list[Value], scope: Scope,
           node: ast.Call) -> Value:  # fmt: skip
    """What calling a value gives.

    Args:
        rest: what is unpacked into the call and not known.
    """
    where = scope.script.place(node)
    match callee:
        case Imported():
            path = public(callee.path)
            found = None if rest else _worked_out(path, arguments, keywords, scope, where)
            made = Made(where=where, callee=path, arguments=arguments, keywords=keywords, rest=rest)
            return _kept(made, scope, node) if found is None else found
        case Own(node=ast.ClassDef()):
            base = next((base.path for base in _bases(callee) if isinstance(base, Imported)), callee.name)
            made = Made(where=where, callee=base, arguments=arguments, keywords=keywords, rest=rest, own=callee)
            kept = _kept(made, scope, node)
            if (start := _method_of(kept, "__init__")) is not None:
                followed(start, [kept, *arguments], keywords, scope, where, rest)
            return kept
        case Own():
            return followed(callee, arguments, keywords, scope, where, rest)
        case Made(callee="functools.partial", arguments=[inner, *first]):
            return called(
                inner, [*first, *arguments], {**callee.keywords, **keywords}, [*callee.rest, *rest], scope, node
            )
        case Unknown():
            return callee
    return _kept(Made(where=where, callee=".__call__", of=callee, arguments=arguments, keywords=keywords), scope, node)


def _worked_out(path: str, arguments: list[Value], keywords: dict[str, Value], scope: Scope,
                where: Location) -> Value | None:  # fmt: skip
    """What a function gives that is known by its path; None for another."""
    if path in _RUNNERS and arguments and isinstance(arguments[0], Own):
        return followed(_by_default(arguments[0], where), [], {}, scope, where)
    if path == "builtins.getattr" and len(arguments) > 1 and (name := text_of(arguments[1])) is not None:
        return attribute(arguments[0], name, where)
    if (set_ := _setting(path, arguments, keywords, scope, where)) is not None:
        return set_
    if path in _CARD:
        return Plain(where=where, value=True, said=(f"{CARD}{path} ({line_of(where)})",))
    found = pure.function(path, arguments, keywords, where)
    if found is None and pure.is_known(path):
        return next((value for value in arguments if isinstance(value, Unknown)), None)
    return found


def _by_default(own: Own, where: Location) -> Own:
    """A function of which the command line gives the arguments."""
    said = f"{NOT_GIVEN}parameters of {own.name} ({line_of(where)})"
    return replace(own, names={name: saying(value, said) for name, value in own.names.items()})


def _setting(path: str, arguments: list[Value], keywords: Mapping[str, Value], scope: Scope,
             where: Location) -> Value | None:  # fmt: skip
    """What a call gives that sets an attribute, or asks for or sets a variable of the environment; None for another."""
    if path == "builtins.setattr" and len(arguments) == 3 and (attribute_ := text_of(arguments[1])) is not None:
        set_attribute(arguments[0], attribute_, arguments[2], scope.script, where)
        return Plain(where=where, value=None)
    own = scope.script.environment
    name = arguments[0].value if arguments and isinstance(arguments[0], Plain) else None
    if path in ("os.environ.get", "os.getenv", "os.environ.setdefault") and name in own:
        return own[name]
    if path == "os.environ.setdefault":
        found = pure.function("os.environ.get", arguments, keywords, where)
        if found is not None:
            scope.script.set_variable(name, found)
        return found
    if path == "os.environ.update" and arguments and isinstance(arguments[0], Entries):
        for key, value in arguments[0].entries.items():
            scope.script.set_variable(key, value)
    return None


def method(value: Value, name: str, arguments: list[Value], keywords: dict[str, Value], rest: list[Value],
           scope: Scope, node: ast.Call) -> Value:  # fmt: skip
    """What calling a method of a value gives."""
    where = scope.script.place(node)
    if isinstance(value, Made) and (own := _method_of(value, name)) is not None:
        return followed(own, arguments if _is_static(own) else [value, *arguments], keywords, scope, where, rest)
    if (found := methods.method(value, name, arguments, keywords, where)) is not None:
        return found
    made = _kept(
        Made(where=where, callee=f".{name}", of=value, arguments=arguments, keywords=keywords, rest=rest), scope, node
    )
    if is_parse(made):
        return parsed(made, scope.script)
    if isinstance(value, Unknown):
        return value
    if isinstance(value, Plain | Entries | Items):
        return scope.script.unknown(node)
    return made


def followed(own: Own, arguments: Sequence[Value], keywords: Mapping[str, Value], scope: Scope, where: Location,
             rest: Sequence[Value] = ()) -> Value:  # fmt: skip
    """What a function of the script returns, its parameters bound; unknown where it calls itself, or is too deep."""
    script, node = scope.script, own.node
    if isinstance(node, ast.ClassDef) or node in script.active or len(script.active) >= DEEPEST:
        return Unknown(where=where, text=f"{own.name}(...)")
    outer = own.held if isinstance(own.held, Scope) else None
    inner = Scope(script, _bound(own, arguments, keywords, rest, where), outer)
    body = [ast.Return(value=node.body)] if isinstance(node, ast.Lambda) else node.body
    script.active.append(node)
    script.entered.add(node)
    script.run(body, inner)
    script.active.pop()
    result: Value | None = None
    for value in inner.returned:
        if result is None or (isinstance(result, Plain) and result.value is None):
            result = value
        elif not (isinstance(value, Plain) and value.value is None):
            result = choose(result, value, f"`{own.name}(...)`", where)
    return result if result is not None else Plain(where=where, value=None)


def _method_of(made: Made, name: str) -> Own | None:
    """A method of an object of the script's own class; None for one of a class that is imported."""
    for own in [made.own, *_bases(made.own)] if made.own is not None else []:
        found = own.names.get(name) if isinstance(own, Own) else None
        if isinstance(found, Own) and isinstance(found.node, ast.FunctionDef):
            return found
    return None


def _is_static(own: Own) -> bool:
    """Whether a method takes no object before its arguments."""
    return isinstance(own.node, ast.FunctionDef) and any(
        written(by) == "staticmethod" for by in own.node.decorator_list
    )


def _bases(own: Own) -> list[Value]:
    """The classes above one of the script's, its own ones passed through."""
    found: list[Value] = []
    todo, seen = list(own.bases), {id(own)}
    while todo:
        base = todo.pop(0)
        found.append(base)
        if isinstance(base, Own) and id(base) not in seen:
            seen.add(id(base))
            todo += base.bases
    return found


def _bound(own: Own, arguments: Sequence[Value], keywords: Mapping[str, Value], rest: Sequence[Value],
           where: Location) -> dict[str, Value]:  # fmt: skip
    assert not isinstance(own.node, ast.ClassDef)
    spec = own.node.args
    positional = [*spec.posonlyargs, *spec.args]
    names: dict[str, Value] = dict(zip((one.arg for one in positional), arguments, strict=False))
    if spec.vararg is not None:
        names[spec.vararg.arg] = Items(where=where, items=[*arguments[len(positional) :]])
    known = {one.arg for one in (*positional, *spec.kwonlyargs)}
    names |= {name: value for name, value in keywords.items() if name in known}
    if spec.kwarg is not None:
        more = {name: value for name, value in keywords.items() if name not in known}
        names[spec.kwarg.arg] = Entries(where=where, entries=dict(more.items()), rest=[*rest])
    for one in (*positional, *spec.kwonlyargs):
        if one.arg not in names:
            default = own.names.get(one.arg)
            names[one.arg] = default if default is not None and not rest else Unknown(where=where, text=one.arg)
    return names


def _kept(made: Made, scope: Scope, node: ast.Call) -> Made:
    script = scope.script
    named = [keyword for keyword in node.keywords if keyword.arg is not None]
    nodes = {str(keyword.arg): keyword.value for keyword in named}
    places = {str(keyword.arg): script.place(keyword) for keyword in named}
    order, sure = len(script.calls) + 1, not script.unsure
    counted = replace(made, order=order, sure=sure, nodes=nodes, places=places, scope=scope)
    script.calls.append(counted)
    return counted


def through(value: Value, where: Location, by: str = "") -> list[Value]:
    """The values that a loop over something goes through: each of a known few, else one that stands for any."""
    if isinstance(value, Items) and len(value.items) <= 64:
        return value.items
    if isinstance(value, Entries) and not value.rest and len(value.entries) <= 64:
        return [Plain(where=held.where, value=key) for key, held in value.entries.items()]
    if isinstance(value, Plain) and isinstance(value.value, str) and len(value.value) <= 64:
        return [Plain(where=where, value=letter) for letter in value.value]
    if isinstance(value, Made) and value.callee == "builtins.range":
        numbers = pure.counted(value.arguments)
        if numbers is not None and len(numbers) <= 8:
            return [Plain(where=where, value=number) for number in numbers]
        return [Unknown(where=where, text="a number of range(...)")]
    one = value if isinstance(value, Unknown) else Each(where=where, of=value, by=by)
    return [one] if isinstance(value, Unknown | Made | Part | Each | Imported) else []
