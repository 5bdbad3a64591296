"""Attributes and items of a script's values: config objects, command-line parsers, dataclasses, containers."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import fields, replace

from vlcheck.config.foreign.scripts.scope import Script
from vlcheck.config.foreign.scripts.values import (
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
    plain,
    saying,
)
from vlcheck.config.frameworks import TRANSFORMERS, TRL, Framework
from vlcheck.spec import Location, Training

_ARGUMENTS: Mapping[str, Framework] = {
    "transformers.TrainingArguments": TRANSFORMERS,
    "transformers.Seq2SeqTrainingArguments": TRANSFORMERS,
    "trl.SFTConfig": TRL,
}
_TRAINING = {one.name: one.default for one in fields(Training) if isinstance(one.default, bool | int | float | str)}
"""Fields of `TrainingArguments` and their defaults, which are those of a run's description."""
_FIELDS = ("dataclasses.field", "pydantic.Field", "pydantic.fields.Field")


def attribute(value: Value, name: str, where: Location) -> Value:
    """What `value.name` is."""
    match value:
        case Imported():
            return Imported(where=where, said=value.said, path=f"{value.path}.{name}")
        case Own() if name in value.names:
            return _default(value.names[name], f"{value.name}.{name}", where) or value.names[name]
        case Made():
            return _of_made(value, name, where)
        case Unknown():
            return value
        case Plain() if name == "value":  # of an enum's member: a constant has no such attribute
            return value
    return Part(where=where, of=value, name=name)


def set_attribute(holder: Value, name: str, value: Value, script: Script, where: Location) -> None:
    """Set an attribute of an object or a class; it counts among the script's calls."""
    if isinstance(holder, Own):
        holder.names[name] = value
        return
    if isinstance(holder, Made):
        holder.attributes[name] = replace(value, where=where) if isinstance(value, Plain | Items | Entries) else value
    order = len(script.calls) + 1
    made = Made(where=where, callee=f".{name}=", of=holder, arguments=[value], order=order, sure=not script.unsure)
    script.calls.append(made)


def item(value: Value, key: Value, where: Location) -> Value:  # noqa: PLR0911  one for each kind of value
    """What `value[key]` is."""
    at = key.value if isinstance(key, Plain) else None
    match value:
        case Entries():
            if isinstance(key, Plain) and at in value.entries:
                return saying(value.entries[at], *value.said)
        case Items():
            if isinstance(at, int) and -len(value.items) <= at < len(value.items):
                return saying(value.items[at], *value.said)
        case Plain(value=str() as text) if isinstance(at, int) and -len(text) <= at < len(text):
            return Plain(where=where, said=value.said, value=text[at])
        case Made() if isinstance(at, int) and (found := _several(value, at, where)) is not None:
            return found
        case Made() | Part() | Each():
            if isinstance(key, Plain):
                return Part(where=where, of=value, name=str(at))
        case Unknown():
            return value
    return Unknown(where=where, text="an item that is not known")


def unpacked(value: Value, count: int, where: Location) -> list[Value]:
    """The values that an assignment to `count` names gives them."""
    if isinstance(value, Items) and len(value.items) == count:
        return value.items
    return [item(value, Plain(where=where, value=index), where) for index in range(count)]


def _of_made(made: Made, name: str, where: Location) -> Value:
    found = made.given(name)
    if found is not None:
        return saying(found, *made.said)
    if made.own is not None:
        for held in (made.own, *(base for base in made.own.bases if isinstance(base, Own))):
            if name in held.names:
                value = held.names[name]
                default = _default(value, f"{held.name}.{name}", where) or value
                return saying(default, *made.said)
    if name in _TRAINING and made.callee in _ARGUMENTS:
        return Plain(where=where, said=made.said, value=_argument(_ARGUMENTS[made.callee], name))
    wrapped = made.arguments[0] if made.arguments else None
    if isinstance(wrapped, Entries) and name in wrapped.entries:  # EasyDict({...}), OmegaConf.create({...})
        return saying(wrapped.entries[name], *made.said)
    if made.callee == "argparse.Namespace":
        return Unknown(where=where, text=f"args.{name}")
    return Part(where=where, of=made, name=name)


def _argument(row: Framework, name: str) -> Scalar:
    """What a field of training arguments is that nobody sets."""
    fact = row.defaults.get(f"training.{name}")
    found = fact.value if fact is not None else _TRAINING[name]
    return found if isinstance(found, bool | int | float | str) else None


def _several(made: Made, at: int, where: Location) -> Value | None:
    """One of the things that a call gives back together."""
    if made.callee.endswith(".prepare") and 0 <= at < len(made.arguments):
        return made.arguments[at]
    if made.callee.endswith(".from_pretrained") and made.callee.startswith("unsloth"):
        return made if at == 0 else Part(where=where, of=made, name=str(at))
    return None


def _default(  # noqa: PLR0911  one for each kind of default
    value: Value, name: str, where: Location
) -> Value | None:
    """The default of a dataclass's field; None where the value is no field."""
    if not isinstance(value, Made) or value.callee not in _FIELDS:
        return None
    if (default := value.given("default", 0 if "pydantic" in value.callee else None)) is not None:
        return default
    match value.given("default_factory"):
        case Own(node=ast.Lambda()) as factory:
            return factory.names.get("return") or Unknown(where=value.where, text=name)
        case Own() as factory:
            return Made(where=value.where, callee=factory.name, own=factory)
        case Imported(path="builtins.list"):
            return Items(where=value.where, items=[])
        case Imported(path="builtins.dict"):
            return Entries(where=value.where, entries={})
    return Unknown(where=where, text=name)


def text_of(value: Value) -> str | None:
    """A constant text; None for anything else."""
    return value.value if isinstance(value, Plain) and isinstance(value.value, str) else None


def whole(value: Value) -> int | None:
    """A constant integer; None for anything else."""
    found = plain(value) if isinstance(value, Plain) else None
    return found if type(found) is int else None
