"""A run as the text of a native config, each line with a comment on where its value came from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from vlcheck.config.reading.scalars import plain_value
from vlcheck.config.validation.allowed import keys, sections
from vlcheck.spec import Location, RunSpec

_PLAIN = re.compile(r"[A-Za-z][\w./-]*")


def write_native(spec: RunSpec, name: str) -> str:
    """The config that describes the run in vlcheck's own words: what its file set, and its framework's defaults.

    What is not written is left to its default, as in the run itself. Read again, the text gives an equal run.

    Args:
        name: of the file that the run was read from.
    """
    return "\n".join((*_head(spec, name), *_sections(spec), ""))


def as_document(spec: RunSpec) -> dict[str, Any]:
    """The sections that a native config of the run would have, in JSON's types, without what is left to defaults."""
    document: dict[str, Any] = {} if spec.lora is None else {"lora": {}}
    for section, hint in sections().items():
        held = getattr(spec, section)
        if held is None and section in spec.sources:
            document[section] = None
        for name in keys(hint) if held is not None else ():
            path = f"{section}.{name}"
            if any(key == path or key.startswith(f"{path}.") for key in spec.sources):
                document.setdefault(section, {})[name] = _bare(getattr(held, name))
    return document


def _head(spec: RunSpec, name: str) -> Iterator[str]:
    yield f"# {name} as a vlcheck config; each line says where its value came from."
    origin = spec.origin
    if origin is None:
        return
    yield from (f"# Taken for granted: {_one_line(sentence)}" for sentence in origin.assumed)
    yield from (f"# Not understood: {_one_line(key.message)} ({_place(key.where)})" for key in origin.unread)
    for argument in origin.outdated:
        instead = f"; {argument.instead} is meant" if argument.instead else ""
        yield f"# {_one_line(argument.message)}{instead} ({_place(argument.where)})"
    if origin.idle:
        yield f"# Without effect on what is judged: {', '.join(sorted({where.key for where in origin.idle}))}"


def _sections(spec: RunSpec) -> Iterator[str]:
    for section, hint in sections().items():
        held = getattr(spec, section)
        lines = [] if held is None else [*_lines(spec, section, held, keys(hint))]
        if lines:
            yield from ("", f"{section}:", *lines)
        elif held is None and section in spec.sources:  # nobody's default either
            yield from ("", f"{section}: null  # {_origin(spec.sources[section])}")
        elif section == "lora":
            yield from ("", "# no lora: every weight is trained" if held is None else "lora: {}  # PEFT's defaults")


def _lines(spec: RunSpec, section: str, held: Any, names: Mapping[str, Any]) -> Iterator[str]:
    for name in names:
        path = f"{section}.{name}"
        below = (where for key, where in spec.sources.items() if key.startswith(f"{path}."))
        where = spec.sources.get(path) or next(below, None)
        if where is not None:
            yield f"  {name}: {_value(getattr(held, name))}  # {_origin(where)}"


def _origin(where: Location) -> str:
    return _one_line(where.default or f"{where.key}, {_place(where)}")


def _place(where: Location) -> str:
    return _one_line(str(where))


def _value(value: Any) -> str:
    """A value in YAML's flow style, text without quotes where it needs none."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and plain_value(value) == value:
        return value
    return json.dumps(_bare(value), ensure_ascii=False)


def _bare(value: Any) -> Any:
    """The value in JSON's types, fields that are not set left out."""
    if is_dataclass(value):
        held = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: _bare(inner) for name, inner in held.items() if inner is not None}
    if isinstance(value, Mapping):
        return {key: _bare(inner) for key, inner in value.items()}
    return [_bare(item) for item in value] if isinstance(value, list | tuple) else value


def _one_line(text: str) -> str:
    return " ".join(text.split())
