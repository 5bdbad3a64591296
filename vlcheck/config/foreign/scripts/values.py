"""What a name of a script stands for, as far as its text tells."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeAlias

from vlcheck.config.reading.quoting import quoted
from vlcheck.finding import Json
from vlcheck.spec import Location

Scalar: TypeAlias = bool | int | float | str | None

DTYPES = {"bfloat16": "bfloat16", "float16": "float16", "half": "float16", "float32": "float32", "float": "float32",
          "uint8": "uint8"}  # fmt: skip
"""Types of torch, by the names that torch gives them."""
_ENUMS = ("TaskType", "SchedulerType", "IntervalStrategy", "SaveStrategy", "OptimizerNames")


@dataclass(frozen=True, kw_only=True, eq=False)
class Value:
    """Something that an expression gives."""

    where: Location
    said: tuple[str, ...] = ()
    """What was taken for granted on the way to it, a sentence each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plain(Value):
    """A constant."""

    value: Scalar


@dataclass(frozen=True, kw_only=True, eq=False)
class Items(Value):
    """A list, tuple or set."""

    items: list[Value]


@dataclass(frozen=True, kw_only=True, eq=False)
class Entries(Value):
    """A dict with constant keys."""

    entries: dict[Scalar, Value]
    rest: list[Value] = field(default_factory=list)
    """What is unpacked into it and not known."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Imported(Value):
    """Something of a module, by its dotted path; never imported here."""

    path: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Own(Value):
    """A function, lambda or class of the script."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
    bases: tuple[Value, ...] = ()
    names: dict[str, Value] = field(default_factory=dict)
    """Of a class: what its body assigns."""
    held: object = None
    """Of a function: the scope that it was defined in."""

    @property
    def name(self) -> str:
        """As the script calls it."""
        return "lambda" if isinstance(self.node, ast.Lambda) else self.node.name


@dataclass(frozen=True, kw_only=True, eq=False)
class Part(Value):
    """An attribute or an item of something that is not known from within."""

    of: Value
    name: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Each(Value):
    """Any element of something that a loop or a comprehension goes through; `by` makes others of them."""

    of: Value
    by: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Made(Value):
    """What a call gives: of an imported function or class, of a class of the script, or of a method of `of`."""

    callee: str
    """Dotted path, or the method's name with a dot before it."""
    of: Value | None = None
    arguments: list[Value] = field(default_factory=list)
    keywords: dict[str, Value] = field(default_factory=dict)
    rest: list[Value] = field(default_factory=list)
    """What is unpacked into the call and not known."""
    attributes: dict[str, Value] = field(default_factory=dict)
    """Set later: `args.learning_rate = ...`."""
    own: Own | None = None
    """The script's class that is called."""
    order: int = 0
    """Calls count on in the order in which they are reached."""
    nodes: dict[str, ast.expr] = field(default_factory=dict)
    """What stands in the call for each keyword."""
    places: dict[str, Location] = field(default_factory=dict)
    """Where each keyword stands."""
    scope: object = None
    """The scope of the call."""
    sure: bool = True
    """Whether no condition that only a run decides stands before it."""

    def given(self, name: str, position: int | None = None) -> Value | None:
        """An argument by its name or its position; None where it is left out."""
        if name in self.attributes:
            return self.attributes[name]
        if name in self.keywords:
            return self.keywords[name]
        return self.arguments[position] if position is not None and position < len(self.arguments) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Unknown(Value):
    """What only a run would tell; `text` is the expression at which knowledge ends."""

    text: str


class NotPlain(Exception):
    """A value that no config could hold; `value` is the part of it that is not known."""

    def __init__(self, value: Value) -> None:
        super().__init__()
        self.value = value


MOST_DEPTH = 32
MOST_VALUES = 20_000
"""Items of a value, those of its items among them: a list that holds another twice, and so on, has any number."""


def plain(value: Value) -> Json:
    """A value in JSON's types: types of torch and enums by their names.

    Raises:
        NotPlain: if some of it is not known, or it holds more than `MOST_VALUES` or itself.
    """
    return _plain(value, count(1), 0)


def _plain(value: Value, counted: count[int], depth: int) -> Json:
    if next(counted) > MOST_VALUES or depth > MOST_DEPTH:
        raise NotPlain(value)
    match value:
        case Plain():
            return value.value
        case Items():
            return [_plain(item, counted, depth + 1) for item in value.items]
        case Entries() if not value.rest:
            return {str(key): _plain(item, counted, depth + 1) for key, item in value.entries.items()}
        case Imported():
            *_, holder, last = ("", *value.path.split("."))
            if value.path.startswith("torch.") and last in DTYPES:
                return DTYPES[last]
            if holder in _ENUMS:
                return last if holder == "TaskType" else last.lower()
    raise NotPlain(value)


def places(value: Value, key: str) -> Iterator[tuple[str, Location]]:
    """Dotted paths of a value's items and entries, each with its place."""
    inner: Iterable[tuple[object, Value]] = ()
    if isinstance(value, Items | Entries):
        inner = enumerate(value.items) if isinstance(value, Items) else value.entries.items()
    for name, item in inner:
        path = f"{key}.{name}"
        yield path, replace(item.where, key=path)
        yield from places(item, path)


def sayings(value: Value) -> Iterator[str]:
    """What was taken for granted of a value and of its parts."""
    todo, seen = [value], {id(value)}
    while todo:
        found = todo.pop()
        yield from found.said
        inner: list[Value] = []
        match found:
            case Items():
                inner = found.items
            case Entries():
                inner = [*found.entries.values()]
            case Part() | Each():
                inner = [found.of]
        todo += [part for part in inner[::-1] if id(part) not in seen]
        seen |= {id(part) for part in inner}


def saying(value: Value, *sentences: str) -> Value:
    """The value with more that was taken for granted."""
    more = tuple(sentence for sentence in sentences if sentence not in value.said)
    return replace(value, said=(*value.said, *more)) if more else value


def truth(value: Value) -> bool | None:
    """Whether a value counts as true; None where only a run tells."""
    match value:
        case Plain():
            return bool(value.value)
        case Items():
            return bool(value.items)
        case Entries():
            return bool(value.entries) or (None if value.rest else False)
        case Own():
            return True
        case Made():
            return True if value.callee.rpartition(".")[2][:1].isupper() else None
    return None


NOT_GIVEN = "no command line is known, so these are their defaults: "
NOT_SET = "the environment is taken to set none of these: "
CARD = "a card with bfloat16 is taken to be there, so these are true: "
TOGETHER = (NOT_GIVEN, NOT_SET, CARD)
"""Beginnings of sentences that are told together."""


def line_of(where: Location) -> str:
    """A line of a script, or of a notebook's cell, in words."""
    cell = where.file.rpartition(":cell ")[2] if ":cell " in where.file else ""
    return f"line {where.line} of cell {cell}" if cell else f"line {where.line}"


def shown(value: Value) -> str:  # noqa: PLR0911  one for each kind of value
    """A value in a few words, for messages."""
    match value:
        case Made(own=Own() as own):
            return f"`{own.name}(...)` of {line_of(value.where)}"
        case Made():
            return f"`{value.callee.removeprefix('.').removeprefix('builtins.')}(...)` of {line_of(value.where)}"
        case Own():
            return f"`{value.name}` of {line_of(value.where)}"
        case Unknown():
            return f"`{value.text}`"
        case Part():
            return f"`{value.name}` of {shown(value.of)}"
        case Each():
            return f"an element of {shown(value.of)}"
    try:
        return quoted(plain(value))
    except (NotPlain, TypeError):
        return f"`{value.path}`" if isinstance(value, Imported) else "something"


def root(value: Value) -> Value:
    """What a part, or a call of a method, is of."""
    while True:
        inner = value.of if isinstance(value, Part | Each | Made) else None
        if inner is None:
            return value
        value = inner


_PUBLISHED = ("trl", "peft", "transformers", "datasets", "accelerate", "unsloth", "unsloth_zoo")


def public(path: str) -> str:
    """The path by which a tool publishes a name: `trl.trainer.sft_config.SFTConfig` is `trl.SFTConfig`."""
    first, *inner = path.split(".")
    if first not in _PUBLISHED or len(inner) < 2:
        return path
    kept = next((at for at, name in enumerate(inner) if name[:1].isupper()), len(inner) - 1)
    return ".".join((first, *inner[kept:]))
