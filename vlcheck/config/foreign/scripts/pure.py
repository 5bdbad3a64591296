"""Functions and operators whose result their arguments decide: arithmetic, texts, paths, the environment's defaults."""

from __future__ import annotations

import ast
import operator
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vlcheck.config.foreign.scripts.values import (
    NOT_SET,
    Entries,
    Items,
    Made,
    NotPlain,
    Plain,
    Scalar,
    Value,
    line_of,
    plain,
    saying,
    sayings,
)
from vlcheck.spec import Location

MOST_CHARACTERS = 20_000
MOST_ITEMS = 2_000
MOST_BITS = 256

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}
_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, holder: item in holder,
    ast.NotIn: lambda item, holder: item not in holder,
    ast.Is: operator.eq,
    ast.IsNot: operator.ne,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "builtins.int": int,
    "builtins.float": float,
    "builtins.str": str,
    "builtins.bool": bool,
    "builtins.len": len,
    "builtins.min": min,
    "builtins.max": max,
    "builtins.abs": abs,
    "builtins.round": round,
    "builtins.sum": sum,
    "builtins.sorted": sorted,
    "builtins.list": list,
    "builtins.tuple": list,
    "builtins.set": lambda items=(): list(dict.fromkeys(items)),
    "os.path.join": posixpath.join,
    "os.path.expanduser": str,
    "os.path.abspath": str,
    "os.path.basename": posixpath.basename,
    "os.path.dirname": posixpath.dirname,
    "os.fspath": str,
    "math.ceil": lambda number: -int(-number // 1),
    "math.floor": lambda number: int(number // 1),
}
_PATHS = ("pathlib.Path", "pathlib.PurePath", "pathlib.PosixPath")


def made_of(raw: Any, where: Location, said: Sequence[str] = ()) -> Value | None:
    """A Python value as one of a script's; None for one that is too large, or of no plain type."""
    if raw is None or isinstance(raw, bool | float):
        return Plain(where=where, said=tuple(said), value=raw)
    if isinstance(raw, int):
        return Plain(where=where, said=tuple(said), value=raw) if raw.bit_length() <= MOST_BITS else None
    if isinstance(raw, str):
        return Plain(where=where, said=tuple(said), value=raw) if len(raw) <= MOST_CHARACTERS else None
    if isinstance(raw, list | tuple) and len(raw) <= MOST_ITEMS:
        items = [made_of(item, where) for item in raw]
        kept = [item for item in items if item is not None]
        return Items(where=where, said=tuple(said), items=kept) if len(kept) == len(items) else None
    return None


def binary(kind: ast.operator, left: Value, right: Value, where: Location) -> Value | None:
    """What an operator makes of two values; None where it cannot be known."""
    if (joined := _joined(kind, left, right)) is not None:
        return joined
    if type(kind) not in _BINARY:
        return None
    try:
        one, other = _raw(left), _raw(right)
        if isinstance(kind, ast.Mod) and isinstance(one, str) and isinstance(other, list):
            other = tuple(other)
        if isinstance(kind, ast.Div) and isinstance(one, str) and isinstance(other, str):  # paths
            return made_of(posixpath.join(one, other), where, _both(left, right))
        large = _too_large(kind, one, other)
        return None if large else made_of(_BINARY[type(kind)](one, other), where, _both(left, right))
    except (NotPlain, TypeError, ValueError, ArithmeticError, KeyError):
        return None


def _joined(kind: ast.operator, left: Value, right: Value) -> Value | None:
    """Two lists or two dicts as one; their items may be of any kind."""
    if isinstance(left, Items) and isinstance(right, Items) and isinstance(kind, ast.Add):
        items = [*left.items, *right.items]
        return (
            saying(Items(where=left.where, items=items), *left.said, *right.said) if len(items) <= MOST_ITEMS else None
        )
    if isinstance(left, Entries) and isinstance(right, Entries) and isinstance(kind, ast.BitOr):
        both, rest = {**left.entries, **right.entries}, [*left.rest, *right.rest]
        return saying(Entries(where=left.where, entries=both, rest=rest), *left.said, *right.said)
    return None


def unary(kind: ast.unaryop, value: Value, where: Location) -> Value | None:
    """What an operator makes of one value; None where it cannot be known."""
    try:
        return made_of(_UNARY[type(kind)](_raw(value)), where, [*sayings(value)])
    except (NotPlain, TypeError, ArithmeticError):
        return None


def compared(kind: ast.cmpop, left: Value, right: Value) -> bool | None:
    """Whether a comparison holds; None where only a run tells."""
    try:
        return bool(_COMPARED[type(kind)](_raw(left), _raw(right)))
    except (NotPlain, TypeError, ArithmeticError):
        return None


def function(path: str, arguments: Sequence[Value], keywords: Mapping[str, Value], where: Location) -> Value | None:
    """What a known function gives; None for another, or for arguments that are not known."""
    if path in ("os.environ.get", "os.getenv", "builtins.dict"):
        return (_dict if path == "builtins.dict" else _environment)(arguments, keywords, where)
    if path in ("copy.copy", "copy.deepcopy") and arguments:
        return copied(arguments[0], deep=path == "copy.deepcopy")
    if path in ("builtins.list", "builtins.tuple") and arguments:
        return _list(arguments[0], where)
    path = "os.path.join" if path in _PATHS and arguments else path
    if path not in _FUNCTIONS or keywords:
        return None
    try:
        raw = [_raw(argument) for argument in arguments]
        long = path == "builtins.int" and isinstance(raw[0], str) and len(raw[0]) > MOST_BITS
        return (
            None
            if long
            else made_of(_FUNCTIONS[path](*raw), where, [said for value in arguments for said in sayings(value)])
        )
    except (NotPlain, TypeError, ValueError, ArithmeticError, IndexError, AttributeError):
        return None


def copied(value: Value, *, deep: bool, known: dict[int, Value] | None = None) -> Value:
    """A container or an object that changes without the one that it was copied of.

    Args:
        known: copies that were made on the way: what is held twice, or holds itself, is copied once.
    """
    known = {} if known is None else known
    if id(value) in known or not isinstance(value, Items | Entries | Made):
        return known.get(id(value), value)
    if isinstance(value, Made):
        made: Value = replace(value, keywords={**value.keywords}, attributes={**value.attributes})
        return known.setdefault(id(value), made)
    if isinstance(value, Items):
        items: list[Value] = []
        known[id(value)] = kept = replace(value, items=items)
        items += [copied(one, deep=True, known=known) if deep else one for one in value.items]
        return kept
    entries: dict[Scalar, Value] = {}
    known[id(value)] = held = replace(value, entries=entries, rest=[*value.rest])
    entries |= {key: copied(one, deep=True, known=known) if deep else one for key, one in value.entries.items()}
    return held


def _list(value: Value, where: Location) -> Value | None:
    """A list of something: of a list itself, or of numbers that `range` counts."""
    numbers = counted(value.arguments) if isinstance(value, Made) and value.callee == "builtins.range" else None
    if numbers is not None and len(numbers) <= MOST_ITEMS:
        return Items(where=where, items=[Plain(where=where, value=number) for number in numbers])
    return copied(value, deep=False) if isinstance(value, Items) else None


def is_known(path: str) -> bool:
    """Whether what a function gives follows from its arguments, were they known."""
    return path in _FUNCTIONS or path in _PATHS


def _dict(arguments: Sequence[Value], keywords: Mapping[str, Value], where: Location) -> Value | None:
    held = arguments[0] if arguments else Entries(where=where, entries={})
    if not isinstance(held, Entries):
        return None
    return Entries(where=where, said=held.said, entries=held.entries | dict(keywords.items()), rest=held.rest)


def counted(arguments: Sequence[Value]) -> range | None:
    """The numbers of `range(...)`; None where they are not known."""
    try:
        return range(*[_raw(argument) for argument in arguments])
    except (NotPlain, TypeError, ValueError, OverflowError):
        return None


def is_wide(text: str) -> bool:
    """Whether a format could ask for a text of any length: by a number, or by one that its arguments give."""
    return len(text) > MOST_ITEMS or re.search(r"\d{4}|\*|\{[^}]*\{", text) is not None


def _environment(arguments: Sequence[Value], keywords: Mapping[str, Value], where: Location) -> Value | None:
    default = arguments[1] if len(arguments) > 1 else keywords.get("default")
    if not arguments or default is None or not isinstance(arguments[0], Plain):
        return None
    said = f"{NOT_SET}{arguments[0].value} ({line_of(where)})"
    return saying(default, said)


def _too_large(kind: ast.operator, one: Any, other: Any) -> bool:
    if isinstance(kind, ast.Pow):
        return not all(isinstance(part, int | float) and abs(part) <= 1024 for part in (one, other))
    if isinstance(kind, ast.LShift):
        return not isinstance(other, int) or not 0 <= other <= MOST_BITS
    if isinstance(kind, ast.Mult):
        sides = {type(one), type(other)}
        return (bool(sides & {str, list}) and not (isinstance(one, int) or isinstance(other, int))) or _repeats(
            one, other
        )
    return isinstance(kind, ast.Mod) and isinstance(one, str) and is_wide(one)


def _repeats(one: Any, other: Any) -> bool:
    """Whether a text or list is repeated to more than is kept."""
    held, count = (other, one) if isinstance(one, int) else (one, other)
    return isinstance(held, str | list) and isinstance(count, int) and len(held) * max(count, 0) > MOST_ITEMS


def _raw(value: Value) -> Any:
    return plain(value)


def _both(left: Value, right: Value) -> list[str]:
    return [*dict.fromkeys((*sayings(left), *sayings(right)))]
