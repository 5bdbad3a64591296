"""Methods of a script's constants and containers whose result their arguments decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vlcheck.config.foreign.scripts import pure
from vlcheck.config.foreign.scripts.values import Entries, Items, NotPlain, Plain, Scalar, Value, plain, saying, sayings
from vlcheck.spec import Location

_TEXT_METHODS = ("format", "strip", "lstrip", "rstrip", "lower", "upper", "title", "capitalize", "replace", "join",
                 "removeprefix", "removesuffix", "startswith", "endswith", "split", "rsplit", "count",
                 "find")  # fmt: skip
PATH_PARTS = ("resolve", "absolute", "expanduser", "as_posix")
"""Methods of a path after which it is the same for our purpose."""


def method(value: Value, name: str, arguments: Sequence[Value], keywords: Mapping[str, Value],
           where: Location) -> Value | None:  # fmt: skip
    """What a method of a constant or a container gives; lists and dicts are changed in place."""
    match value:
        case Plain(value=str() as text) if name in PATH_PARTS and not arguments:
            return saying(pure.made_of(text, where) or value, *value.said)
        case Plain(value=str() as text) if name in _TEXT_METHODS:
            return _text_method(value, text, name, arguments, keywords, where)
        case Items(items=items):
            if name == "append" and len(arguments) == 1 and len(items) < pure.MOST_ITEMS:
                items.append(arguments[0])
            elif name == "extend" and len(arguments) == 1 and isinstance(arguments[0], Items):
                items.extend(arguments[0].items[: pure.MOST_ITEMS - len(items)])
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
        raw = [plain(argument) for argument in arguments]
        named = {key: plain(argument) for key, argument in keywords.items()}
        if name in ("replace", "join") and len(text) > pure.MOST_CHARACTERS // 10:
            return None
        if name == "format" and pure.is_wide(text):
            return None
        said = [*value.said, *(one for argument in (*arguments, *keywords.values()) for one in sayings(argument))]
        return pure.made_of(getattr(text, name)(*raw, **named), where, said)
    except (NotPlain, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, MemoryError):
        return None
