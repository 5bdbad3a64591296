"""Command-line parsers of a script: options and fields by default, or as words that stand in the script say."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from vlcheck.config.foreign.scripts import pure
from vlcheck.config.foreign.scripts.objects import text_of, whole
from vlcheck.config.foreign.scripts.scope import Script
from vlcheck.config.foreign.scripts.values import (
    NOT_GIVEN,
    Entries,
    Imported,
    Items,
    Made,
    Own,
    Plain,
    Unknown,
    Value,
    line_of,
    saying,
)
from vlcheck.spec import Location

_PARSED = ("parse_args", "parse_known_args", "parse_args_into_dataclasses", "parse_args_and_config", "parse_dict")
_GROUPS = (".add_argument_group", ".add_mutually_exclusive_group")
_SWITCHES = {"store_true": True, "store_false": False}
_WORDS = {"true": True, "false": False, "none": None}


def option_of(made: Value) -> tuple[str, Value] | None:
    """The parameter that a decorator of click stands for, and its default; None for another decorator."""
    if not isinstance(made, Made) or made.callee not in ("click.option", "rich_click.option", "click.argument"):
        return None
    name, value = _option(made)
    flag = made.keywords.get("is_flag")
    if isinstance(flag, Plain) and flag.value and "default" not in made.keywords:
        value = replace(value, value=False) if isinstance(value, Plain) else value
    bare = [each for each in _flags(made) if not each.startswith("-")]
    return bare[0] if bare else name, value


def unwrapped(default: Value) -> Value:
    """A parameter's default where typer's `Option` holds it."""
    if not isinstance(default, Made) or default.callee not in ("typer.Option", "typer.Argument"):
        return default
    held = default.given("default", 0)
    if not isinstance(held, Plain):
        return held or Unknown(where=default.where, text="typer.Option(...)")
    return saying(held, f"{NOT_GIVEN}parameter ({line_of(default.where)})")


def is_parse(made: Made) -> bool:
    """Whether a call is a command-line parser's."""
    return made.callee.removeprefix(".") in _PARSED and isinstance(made.of, Made)


def parsed(made: Made, script: Script) -> Value:
    """What a parser's call gives: its options or its dataclasses, by default or as the script's own words say."""
    parser = made.of
    if not isinstance(parser, Made):
        return made
    if parser.callee.rpartition(".")[2] in ("HfArgumentParser", "TrlParser"):
        classes = parser.given("dataclass_types", 0)
        held = classes.items if isinstance(classes, Items) else [classes] if classes is not None else []
        return Items(where=made.where, items=_filled(held, _fields(made), made.where))
    found = list(_options(parser, script.calls))
    names = dict(_option(option) for option in found)
    for call in script.calls:
        if call.callee == ".set_defaults" and isinstance(call.of, Made) and call.of.order == parser.order:
            names.update(call.keywords)
    if (words := _words(made)) is not None:
        written = _written(words, found)
        names = {name: replace(value, said=()) for name, value in names.items()} | written
    space = Made(where=made.where, callee="argparse.Namespace", keywords=names)
    if made.callee == ".parse_known_args":
        return Items(where=made.where, items=[space, Items(where=made.where, items=[])])
    return space


def _options(parser: Made, calls: Sequence[Made]) -> Iterator[Made]:
    """The `add_argument` calls of a parser and of its groups."""
    for call in calls:
        if call.callee == ".add_argument" and isinstance(call.of, Made):
            holder: Value | None = call.of
            while isinstance(holder, Made) and holder.callee in _GROUPS:
                holder = holder.of
            if isinstance(holder, Made) and holder.order == parser.order:
                yield call


def _option(call: Made) -> tuple[str, Value]:
    """An option's name in the namespace, and its value where the command line does not give it."""
    flags = _flags(call)
    long = next((flag for flag in flags if flag.startswith("--")), flags[0] if flags else "")
    name, kind = _name(call), _action(call)
    default = call.keywords.get("default")
    if default is None and kind in _SWITCHES:
        default = Plain(where=call.where, value=not _SWITCHES[kind])
    required = call.keywords.get("required")
    if default is None and (not long.startswith("-") or (isinstance(required, Plain) and required.value)):
        return name, Unknown(where=call.where, text=f"args.{name}")
    default = default or Plain(where=call.where, value=None)
    return name, saying(default, f"{NOT_GIVEN}{long} ({line_of(call.where)})")


def _flags(call: Made) -> list[str]:
    return [str(flag.value) for flag in call.arguments if isinstance(flag, Plain)]


def _name(call: Made) -> str:
    flags, named = _flags(call), call.keywords.get("dest")
    long = next((flag for flag in flags if flag.startswith("--")), flags[0] if flags else "")
    return str(named.value) if isinstance(named, Plain) else long.lstrip("-").replace("-", "_")


def _action(call: Made) -> str:
    action = call.keywords.get("action")
    return action.path.rpartition(".")[2] if isinstance(action, Imported) else (action and text_of(action)) or "store"


def _words(made: Made) -> list[Value] | None:
    """The words that a parser is given in the script; None where it reads the command line, or they are not known."""
    given = made.given("args", 0)
    return list(given.items) if isinstance(given, Items) else None


def _written(words: list[Value], options: Sequence[Made]) -> dict[str, Value]:
    """What words say of a parser's options, as argparse reads them; all is unknown behind a word that is not known."""
    values: dict[str, Value] = {}
    bare = [option for option in options if not _flags(option)[:1] or not _flags(option)[0].startswith("-")]
    while words:
        word = words.pop(0)
        text = text_of(word)
        if text is None:
            return {_name(each): Unknown(where=word.where, text=f"args.{_name(each)}") for each in options}
        flag, equals, rest = text.partition("=")
        option = _flagged(flag, options) if _is_flag(word) else bare.pop(0) if bare else None
        if option is None:
            continue
        if not _is_flag(word):
            words.insert(0, word)
        elif equals:
            words.insert(0, replace(word, value=rest) if isinstance(word, Plain) else word)
        values[_name(option)] = _taken(option, flag, word.where, words)
    return values


def _is_flag(word: Value) -> bool:
    text = text_of(word) or ""
    return text.startswith("-") and not text[1:2].isdigit() and text != "-"


def _flagged(flag: str, options: Sequence[Made]) -> Made | None:
    """The option of a flag; a long one may be cut short."""
    known = {name: option for option in options for name in _flags(option)}
    switched = {name: option for name, option in known.items() if _action(option) == "BooleanOptionalAction"}
    known |= {f"--no-{name.removeprefix('--')}": option for name, option in switched.items()}
    close = [option for name, option in known.items() if flag.startswith("--") and name.startswith(flag)]
    return known.get(flag) or (close[0] if len(close) == 1 else None)


def _taken(option: Made, flag: str, where: Location, words: list[Value]) -> Value:
    """The value of an option, its words taken off the rest."""
    action, name = _action(option), _name(option)
    if action in _SWITCHES:
        return Plain(where=where, value=_SWITCHES[action])
    if action == "BooleanOptionalAction":
        return Plain(where=where, value=not flag.startswith("--no-"))
    if action != "store":
        return Unknown(where=where, text=f"args.{name}")
    count = option.keywords.get("nargs")
    if count is None or text_of(count) == "?":
        return _typed(option, words.pop(0)) if words else Unknown(where=where, text=f"args.{name}")
    most = whole(count) or len(words)
    items: list[Value] = []
    while words and len(items) < most and not _is_flag(words[0]):
        items.append(_typed(option, words.pop(0)))
    return Items(where=where, items=items)


def _typed(option: Made, word: Value) -> Value:
    kind = option.keywords.get("type")
    if kind is None:
        return word
    found = pure.function(kind.path, [word], {}, word.where) if isinstance(kind, Imported) else None
    return found or Unknown(where=word.where, text=f"args.{_name(option)}")


def _fields(made: Made) -> dict[str, Value] | None:
    """What the script itself gives a parser of dataclasses: a dict, or words as `--name value`."""
    given = made.given("args", 0)
    if isinstance(given, Entries) and not given.rest:
        return {str(name): value for name, value in given.entries.items()}
    words = _words(made)
    if words is None:
        return None
    fields: dict[str, list[Value]] = {}
    for word in words:
        text = text_of(word)
        if text is not None and _is_flag(word):
            name, equals, rest = text.partition("=")
            held = fields[name.lstrip("-").replace("-", "_")] = []
            if equals and isinstance(word, Plain):
                held.append(_read(replace(word, value=rest)))
        elif fields:
            fields[next(reversed(fields))].append(_read(word))
    yes = Plain(where=made.where, value=True)
    return {
        name: values[0] if len(values) == 1 else Items(where=made.where, items=values) if values else yes
        for name, values in fields.items()
    }


def _read(word: Value) -> Value:
    """A word as the number, truth or text that it is."""
    text = text_of(word)
    if text is None:
        return word
    if text.lower() in _WORDS:
        return Plain(where=word.where, value=_WORDS[text.lower()])
    return next((found for path in ("builtins.int", "builtins.float")
                 if (found := pure.function(path, [word], {}, word.where)) is not None), word)  # fmt: skip


def _filled(classes: Sequence[Value], given: Mapping[str, Value] | None, where: Location) -> list[Value]:
    """Objects of classes whose fields the command line, or the script's own words, may set."""
    elsewhere = {name for kept in classes if _is_closed(kept) for name in _named_by(kept)}
    made: list[Value] = []
    for kept in classes:
        if not isinstance(kept, Own | Imported):
            made.append(kept)
            continue
        bases = [base.path for base in kept.bases if isinstance(base, Imported)] if isinstance(kept, Own) else []
        name = kept.name if isinstance(kept, Own) else kept.path.rpartition(".")[2]
        callee = kept.path if isinstance(kept, Imported) else bases[0] if bases else name
        own = kept if isinstance(kept, Own) else None
        said = () if given is not None else (f"{NOT_GIVEN}fields of {name} ({line_of(where)})",)
        fields = _named_by(kept) if _is_closed(kept) else {*(given or ())} - elsewhere  # a library's takes what is left
        taken = {field: value for field, value in (given or {}).items() if field in fields}
        made.append(Made(where=where, callee=callee, own=own, said=said, attributes=taken))
    return made


def _is_closed(kept: Value) -> bool:
    """Whether a class has the fields that stand in the script, and no others."""
    return isinstance(kept, Own) and not any(isinstance(base, Imported) for base in kept.bases)


def _named_by(own: Value) -> set[str]:
    """Names of a class's fields, those of the script's own classes above it among them."""
    if not isinstance(own, Own) or not isinstance(own.node, ast.ClassDef):
        return set()
    fields = {part.target.id for part in own.node.body
              if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)}  # fmt: skip
    return fields.union(*(_named_by(base) for base in own.bases))
