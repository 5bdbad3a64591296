"""Fields of a run that the command line sets, whatever file the run was read from: `--set lora.r=16`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlcheck.config import native
from vlcheck.config.hardware import TYPED
from vlcheck.config.native_text import as_document
from vlcheck.config.reading.quoting import quoted
from vlcheck.config.reading.scalars import plain_value
from vlcheck.config.reading.yaml_lines import parse_yaml
from vlcheck.finding import Json
from vlcheck.spec import ConfigError, Location, Problem, RunSpec, Unread


def read_typed(settings: Sequence[str]) -> dict[str, Json]:
    """What `--set` options say: dotted path to value; of a path that is given twice the last counts.

    Raises:
        ConfigError: for one that is not `section.key=value`, or whose list or mapping is no YAML.
    """
    found: dict[str, Json] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or "." not in path.strip(". "):
            message = f"--set {quoted(setting)[1:-1]}: allowed: section.key=value, as in lora.r=16"
            raise ConfigError(Problem(Location(TYPED), message))
        found[path.strip()] = _value(text.strip(), path.strip())
    return found


def overruled(spec: RunSpec, typed: Mapping[str, Json]) -> RunSpec:
    """The run with these fields; each of them has the command line as its place.

    Keys of another tool's file that stood for these fields are no longer told as not understood.

    Raises:
        ConfigError: if a path is no field, or a value is none of those that it allows.
    """
    if not typed:
        return spec
    document, sources = as_document(spec), {"": Location(TYPED), **spec.sources}
    fill(document, sources, typed)
    read = native.to_spec(document, sources, Path())
    kept = replace(spec.origin, unread=_still(spec.origin.unread, typed)) if spec.origin is not None else None
    return replace(read, origin=kept)


def fill(document: dict[str, Any], sources: dict[str, Location], typed: Mapping[str, Json]) -> None:
    """Set these fields in a document of vlcheck's own sections; what they exclude goes."""
    for path, value in typed.items():
        *above, last = path.split(".")
        holder = document
        for depth, part in enumerate(above, 1):
            if depth > 1:
                sources.setdefault(key := ".".join(above[:depth]), Location(TYPED, key=key))
            inner = holder.get(part)
            holder[part] = inner if isinstance(inner, dict) else {}
            holder = holder[part]
        gone = [f"data.{name}" for name in _SOURCES] if path.removeprefix("data.") in _SOURCES else [path]
        for key in [key for key in sources if any(key == old or key.startswith(f"{old}.") for old in gone)]:
            del sources[key]
        for old in gone:
            holder.pop(old.rpartition(".")[2], None)
        holder[last] = value
        sources[path] = Location(TYPED, key=path)


_SOURCES = ("dataset", "path", "generated")
"""Keys of `data` of which a run has one."""


def _value(text: str, path: str) -> Json:
    if text[:1] in ("[", "{", '"', "'"):
        document, _ = parse_yaml(f"value: {text}", f"--set {path}")
        return document.get("value")
    if path == "data.path" or (path == "model.id" and text.startswith(("./", "../"))):
        return str(Path(text).expanduser().absolute())  # relative to where the command runs
    try:
        return plain_value(text)
    except ValueError as wrong:
        raise ConfigError(Problem(Location(TYPED), f"--set {path}: {wrong}")) from None


def _still(unread: Sequence[Unread], typed: Mapping[str, Json]) -> tuple[Unread, ...]:
    """What is still not understood."""
    return tuple(key for key in unread if not any(f"it decides {path}" in key.message for path in typed))
