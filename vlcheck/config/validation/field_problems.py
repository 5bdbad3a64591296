"""pydantic's errors as problems: one per wrong value, with its place, what was written and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from pydantic import ValidationError

from vlcheck.config.reading.quoting import closest, named, quoted
from vlcheck.config.validation.allowed import accepts, at, choices, inside, keys, sections, words
from vlcheck.config.validation.unknown_keys import advice
from vlcheck.finding import Json
from vlcheck.spec import Location, Problem

Path: TypeAlias = tuple[str | int, ...]
Where: TypeAlias = Callable[[Path], Location]

MAX_PROBLEMS = 100  # a file that is wrong throughout must not take minutes to say so

_UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}
_MISSING = {"missing", "missing_keyword_only_argument"}
_WORD_VALUES = {"yes": "true", "on": "true", "no": "false", "off": "false", "none": "null"}
_SPELLINGS = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32"}


def field_problems(error: ValidationError, document: Mapping[str, Json], where: Where) -> list[Problem]:
    """Turn a validation error into problems; the branches of a union count as one value."""
    problems: list[Problem] = []
    wrong: dict[Path, None] = {}
    entries = sorted(error.errors(include_url=False), key=lambda entry: where(entry["loc"]))
    if len(entries) > MAX_PROBLEMS:
        problems.append(Problem(where(entries[MAX_PROBLEMS]["loc"]), "more problems from here on; they are not listed"))
    for entry in entries[:MAX_PROBLEMS]:
        path, kind = entry["loc"], entry["type"]
        if kind in _UNKNOWN and (len(path) < 2 or _written(path, document)[: len(path) - 1] == path[:-1]):
            problems.append(Problem(where(path), f"unknown key {named(path)}; {advice(path)}"))
        elif kind in _MISSING:
            problems.append(Problem(where(path[:-1]), _missing(path)))
        elif kind == "value_error":
            problems.append(Problem(where(path), _contradiction(path, str(entry["ctx"]["error"]), document)))
        else:
            wrong[_written(path, document)] = None
    holders = {path[:length] for path in wrong for length in range(len(path))}
    innermost = [path for path in wrong if path not in holders]
    return problems + [Problem(where(path), _wrong(path, _value(path, document))) for path in innermost]


def _missing(path: Path) -> str:
    *parents, name = path
    owner = f"section {named(parents)} has no {name}" if parents else f"section {name} is missing"
    return f"{owner}; required: {words(at(path))}"


def _contradiction(path: Path, message: str, document: Mapping[str, Json]) -> str:
    """A section's own objection, with the values of the keys that it names."""
    section = _value(path, document)
    written = section if isinstance(section, dict) else {}
    names = [name for name in dict.fromkeys(re.findall(r"\w+", message)) if name in keys(at(path))]
    values = ", ".join(f"{name} is {quoted(written[name]) if name in written else 'not set'}" for name in names)
    return f"{named(path)}: {values}; {message}"


def _written(path: Path, document: Mapping[str, Json]) -> Path:
    """The part of pydantic's path that the user wrote, without the names of union branches."""
    written, annotation = path[:1], sections()[str(path[0])]
    for part in path[1:]:
        value = _value(written, document)
        fits = isinstance(value, list) if isinstance(part, int) else isinstance(value, dict) and part in value
        inner = inside(annotation, part)
        if fits and inner is not None:
            written, annotation = (*written, part), inner
    return written


def _value(path: Path, document: Mapping[str, Json]) -> Any:
    value: Any = document
    for part in path:
        value = value[part]
    return value


def _wrong(path: Path, value: Json) -> str:
    annotation = at(path)
    too_long = isinstance(value, str) and len(value) > 60
    size = f", {len(value)} characters" if isinstance(value, str) and too_long else ""
    size = f", {len(value)} items" if isinstance(value, list) and len(value) > 10 else size
    allowed = words(annotation).removesuffix(", or null") if value is None else words(annotation)
    return f"{named(path)} is {quoted(value)}{size}; allowed: {allowed}{_hint(annotation, value)}"


def _hint(annotation: Any, value: Json) -> str:
    if value is None and keys(annotation):
        return "; leave the section out or give it keys"
    if not isinstance(value, str):
        return ""
    word = _WORD_VALUES.get(value.lower(), "")
    if (accepts(annotation, bool) and word in ("true", "false")) or (
        accepts(annotation, type(None)) and word == "null"
    ):
        return f"; write {word}"
    if accepts(annotation, bool) and value.lower() in ("true", "false"):
        return f"; write {value.lower()} without quotes"
    if (accepts(annotation, int) or accepts(annotation, float)) and re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?\d+)?", value):
        return f"; write {value[:40]} without quotes"
    plain = value.removeprefix("torch.").lower()
    near = closest(_SPELLINGS.get(plain, plain), choices(annotation))
    return f"; did you mean {near}?" if near else ""
