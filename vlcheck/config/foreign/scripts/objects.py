"""Attributes and items of a script's values: config objects, command-line parsers, dataclasses, containers."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from vlcheck.config.foreign.scripts.scope import Script
from vlcheck.config.foreign.scripts.values import (
    NOT_GIVEN,
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
    plain,
    saying,
)
from vlcheck.config.frameworks import TRANSFORMERS, TRL, Framework
from vlcheck.spec import Location, Training

_PARSED = ("parse_args", "parse_known_args", "parse_args_into_dataclasses", "parse_args_and_config")
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
    return Part(where=where, of=value, name=name)


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


def options(parser: Value, calls: Sequence[Made]) -> Iterator[Made]:
    """The `add_argument` calls of a parser and of its groups."""
    for call in calls:
        if call.callee == ".add_argument" and isinstance(call.of, Made):
            holder: Value | None = call.of
            while isinstance(holder, Made) and holder.callee in (
                ".add_argument_group",
                ".add_mutually_exclusive_group",
            ):
                holder = holder.of
            if isinstance(holder, Made) and isinstance(parser, Made) and holder.order == parser.order:
                yield call


def parsed(made: Made, script: Script) -> Value:
    """What a parser's call gives: its options' defaults, or its dataclasses."""
    parser = made.of
    if not isinstance(parser, Made):
        return made
    kind = parser.callee.rpartition(".")[2]
    if kind in ("HfArgumentParser", "TrlParser"):
        classes = parser.given("dataclass_types", 0)
        held = classes.items if isinstance(classes, Items) else [classes] if classes is not None else []
        return Items(where=made.where, items=[_filled(kept, made.where) for kept in held])
    names: dict[Value | str, Value] = {}
    for option in options(parser, script.calls):
        name, value = _option(option)
        names[name] = value
    for call in script.calls:
        if call.callee == ".set_defaults" and isinstance(call.of, Made) and call.of.order == parser.order:
            names.update(call.keywords)
    space = Made(where=made.where, callee="argparse.Namespace", keywords={str(k): v for k, v in names.items()})
    if made.callee == ".parse_known_args":
        return Items(where=made.where, items=[space, Items(where=made.where, items=[])])
    return space


def is_parse(made: Made) -> bool:
    """Whether a call is a command-line parser's."""
    return made.callee.removeprefix(".") in _PARSED and isinstance(made.of, Made)


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


def _filled(kept: Value, where: Location) -> Value:
    """An object of a class whose fields the command line may set."""
    if isinstance(kept, Own):
        name = kept.name
        bases = [base.path for base in kept.bases if isinstance(base, Imported)]
        said = f"{NOT_GIVEN}fields of {name} ({line_of(where)})"
        return Made(where=where, callee=bases[0] if bases else name, own=kept, said=(said,))
    if isinstance(kept, Imported):
        short = kept.path.rpartition(".")[2]
        said = f"{NOT_GIVEN}fields of {short} ({line_of(where)})"
        return Made(where=where, callee=kept.path, said=(said,))
    return kept


def _option(call: Made) -> tuple[str, Value]:
    """An option's name in the namespace, and its value where the command line does not give it."""
    flags = [str(flag.value) for flag in call.arguments if isinstance(flag, Plain)]
    long = next((flag for flag in flags if flag.startswith("--")), flags[0] if flags else "")
    named = call.keywords.get("dest")
    name = str(named.value) if isinstance(named, Plain) else long.lstrip("-").replace("-", "_")
    action = call.keywords.get("action")
    kind = action.value if isinstance(action, Plain) else None
    default = call.keywords.get("default")
    if default is None and kind in ("store_true", "store_false"):
        default = Plain(where=call.where, value=kind == "store_false")
    required = call.keywords.get("required")
    if default is None and (not long.startswith("-") or (isinstance(required, Plain) and required.value)):
        return name, Unknown(where=call.where, text=f"args.{name}")
    default = default or Plain(where=call.where, value=None)
    return name, saying(default, f"{NOT_GIVEN}{long} ({line_of(call.where)})")


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
