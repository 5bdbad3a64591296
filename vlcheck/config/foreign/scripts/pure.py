"""Functions and operators whose result their arguments decide: arithmetic, texts, paths, the environment's defaults."""

from __future__ import annotations

import ast
import operator
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlcheck.config.foreign.scripts.values import (
    Entries,
    Items,
    NotPlain,
    Plain,
    Scalar,
    Value,
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
_TEXT_METHODS = frozenset(
    "format strip lstrip rstrip lower upper title capitalize replace removeprefix removesuffix startswith endswith "
    "split rsplit join count find zfill".split()
)
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
PATH_PARTS = ("resolve", "absolute", "expanduser", "as_posix")
"""Methods of a path after which it is the same for our purpose."""


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
    if isinstance(left, Items) and isinstance(right, Items) and isinstance(kind, ast.Add):
        if len(left.items) + len(right.items) > MOST_ITEMS:
            return None
        return saying(Items(where=left.where, items=[*left.items, *right.items]), *left.said, *right.said)
    if isinstance(left, Entries) and isinstance(right, Entries) and isinstance(kind, ast.BitOr):
        both, rest = {**left.entries, **right.entries}, [*left.rest, *right.rest]
        return saying(Entries(where=left.where, entries=both, rest=rest), *left.said, *right.said)
    if type(kind) not in _BINARY:
        return None
    try:
        one, other = _raw(left), _raw(right)
        if isinstance(kind, ast.Mod) and isinstance(one, str) and isinstance(other, list):
            other = tuple(other)
        if isinstance(kind, ast.Div) and isinstance(one, str) and isinstance(other, str):  # paths
            return made_of(posixpath.join(one, other), where, _both(left, right))
        if _too_large(kind, one, other):
            return None
        return made_of(_BINARY[type(kind)](one, other), where, _both(left, right))
    except (NotPlain, TypeError, ValueError, ArithmeticError, KeyError):
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
    if path in ("os.environ.get", "os.getenv"):
        return _environment(arguments, keywords, where)
    if path == "builtins.dict":
        held = arguments[0] if arguments else Entries(where=where, entries={})
        if isinstance(held, Entries):
            return Entries(where=where, said=held.said, entries={**held.entries, **keywords}, rest=held.rest)
        return None
    if path in _PATHS:
        path = "os.path.join" if arguments else path
    if path in ("builtins.list", "builtins.tuple") and arguments and isinstance(arguments[0], Items):
        return arguments[0]
    if path not in _FUNCTIONS or keywords:
        return None
    try:
        raw = [_raw(argument) for argument in arguments]
        if path == "builtins.int" and isinstance(raw[0], str) and len(raw[0]) > MOST_BITS:
            return None
        return made_of(_FUNCTIONS[path](*raw), where, [said for value in arguments for said in sayings(value)])
    except (NotPlain, TypeError, ValueError, ArithmeticError, IndexError, AttributeError):
        return None


def counted(arguments: Sequence[Value]) -> range | None:
    """The numbers of `range(...)`; None where they are not known."""
    try:
        return range(*[_raw(argument) for argument in arguments])
    except (NotPlain, TypeError, ValueError, OverflowError):
        return None


def method(value: Value, name: str, arguments: Sequence[Value], keywords: Mapping[str, Value],
           where: Location) -> Value | None:  # fmt: skip
    """What a method of a constant or a container gives; lists and dicts are changed in place."""
    match value:
        case Plain(value=str() as text) if name in PATH_PARTS and not arguments:
            return saying(made_of(text, where) or value, *value.said)
        case Plain(value=str() as text) if name in _TEXT_METHODS:
            return _text_method(value, text, name, arguments, keywords, where)
        case Items(items=items):
            if name == "append" and len(arguments) == 1 and len(items) < MOST_ITEMS:
                items.append(arguments[0])
            elif name == "extend" and len(arguments) == 1 and isinstance(arguments[0], Items):
                items.extend(arguments[0].items[: MOST_ITEMS - len(items)])
            elif name == "copy":
                return Items(where=where, said=value.said, items=[*items])
            return Plain(where=where, value=None) if name in ("append", "extend") else None
        case Entries():
            return _dict_method(value, name, arguments, keywords, where)
    return None


def _dict_method(value: Entries, name: str, arguments: Sequence[Value], keywords: Mapping[str, Value],
                 where: Location) -> Value | None:  # fmt: skip
    entries = value.entries
    key: Scalar = arguments[0].value if arguments and isinstance(arguments[0], Plain) else None
    if name in ("get", "pop") and arguments and isinstance(arguments[0], Plain):
        if key in entries:
            return saying(entries.pop(key) if name == "pop" else entries[key], *value.said)
        if not value.rest:
            return arguments[1] if len(arguments) > 1 else Plain(where=where, value=None)
    if name == "update":
        if arguments and isinstance(arguments[0], Entries):
            entries.update(arguments[0].entries)
            value.rest.extend(arguments[0].rest)
        elif arguments:
            value.rest.append(arguments[0])
        entries.update(keywords)
        return Plain(where=where, value=None)
    if name == "copy":
        return Entries(where=where, said=value.said, entries=dict(entries), rest=[*value.rest])
    if not value.rest and name in ("keys", "values", "items"):
        keys = [Plain(where=held.where, value=key) for key, held in entries.items()]
        pairs = [Items(where=one.where, items=[one, entries[one.value]]) for one in keys]
        found: list[Value] = [*(keys if name == "keys" else entries.values() if name == "values" else pairs)]
        return Items(where=where, items=found)
    return None


def _text_method(value: Value, text: str, name: str, arguments: Sequence[Value], keywords: Mapping[str, Value],
                 where: Location) -> Value | None:  # fmt: skip
    try:
        raw = [_raw(argument) for argument in arguments]
        named = {key: _raw(argument) for key, argument in keywords.items()}
        if name in ("replace", "join") and len(text) > MOST_CHARACTERS // 10:
            return None
        if name in ("format", "zfill") and (len(text) > 2_000 or any(_wide(part) for part in [text, *raw])):
            return None
        said = [*value.said, *(one for argument in (*arguments, *keywords.values()) for one in sayings(argument))]
        return made_of(getattr(text, name)(*raw, **named), where, said)
    except (NotPlain, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, MemoryError):
        return None


def _wide(part: Any) -> bool:
    """Whether a format could ask for a text of any length."""
    if isinstance(part, int) and not isinstance(part, bool):
        return abs(part) > 10**9
    return isinstance(part, str) and any(len(word) > 4 and word.isdigit() for word in part.replace("}", ":").split(":"))


def _environment(arguments: Sequence[Value], keywords: Mapping[str, Value], where: Location) -> Value | None:
    default = arguments[1] if len(arguments) > 1 else keywords.get("default")
    if not arguments or default is None or not isinstance(arguments[0], Plain):
        return None
    said = f"line {where.line}: the environment does not set {arguments[0].value}, so its default is taken"
    return saying(default, said)


def _too_large(kind: ast.operator, one: Any, other: Any) -> bool:
    if isinstance(kind, ast.Pow):
        return not all(isinstance(part, int | float) and abs(part) <= 1024 for part in (one, other))
    if isinstance(kind, ast.LShift):
        return not isinstance(other, int) or not 0 <= other <= MOST_BITS
    if isinstance(kind, ast.Mult):
        sides = {type(one), type(other)}
        return bool(sides & {str, list}) and not (isinstance(one, int) or isinstance(other, int)) or _repeats(one, other)
    return isinstance(kind, ast.Mod) and isinstance(one, str) and (len(one) > 2_000 or _wide(one.replace("%", ":")))


def _repeats(one: Any, other: Any) -> bool:
    """Whether a text or list is repeated to more than is kept."""
    held, count = (other, one) if isinstance(one, int) else (one, other)
    return isinstance(held, str | list) and isinstance(count, int) and len(held) * max(count, 0) > MOST_ITEMS


def _raw(value: Value) -> Any:
    return plain(value)


def _both(left: Value, right: Value) -> list[str]:
    return [*dict.fromkeys((*sayings(left), *sayings(right)))]
