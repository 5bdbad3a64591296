"""A config that was built in Python, checked as strictly as one that was read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from vlcheck.config.reading.quoting import named
from vlcheck.config.reading.text import unprintable
from vlcheck.finding import Json
from vlcheck.spec import ConfigError, Location, Problem

MAX_DEPTH = 32
MAX_VALUES = 20_000


def plain_values(document: Mapping[str, Any], name: str) -> tuple[dict[str, Json], Mapping[str, Location]]:
    """Copy a mapping into JSON's types, and note which keys it sets.

    Raises:
        ConfigError: for a key that is no string, or a value that YAML could not have given.
    """
    holder: list[Any] = []
    sources: dict[str, Location] = {}
    todo: list[tuple[tuple[str, ...], Any, Any]] = [((), document, holder.append)]
    while todo:
        path, value, attach = todo.pop()
        where = Location(name, key=".".join(path))
        sources[where.key] = where
        if len(path) > MAX_DEPTH or len(sources) > MAX_VALUES:
            limit = f"{MAX_DEPTH} levels" if len(path) > MAX_DEPTH else f"{MAX_VALUES} values"
            raise ConfigError(Problem(where, f"{named(path)} goes beyond {limit}"))
        if isinstance(value, Mapping):
            copied: dict[str, Any] = {}
            attach(copied)
            todo += [((*path, _key(k, path, where)), v, _setter(copied, k)) for k, v in value.items()][::-1]
        elif isinstance(value, list | tuple):
            items: list[Any] = []
            attach(items)
            todo += [((*path, str(index)), item, items.append) for index, item in enumerate(value)][::-1]
        else:
            attach(_scalar(value, path, where))
    if not isinstance(holder[0], dict):
        raise ConfigError(Problem(Location(name), f"document is a {type(document).__name__}; allowed: a mapping"))
    return holder[0], MappingProxyType(sources)


def _key(key: Any, path: tuple[str, ...], where: Location) -> str:
    if type(key) is not str or unprintable(key):
        raise ConfigError(
            Problem(where, f"key {named([ascii(key)])} in {named(path) or 'document'}; allowed: a string")
        )
    return key


def _setter(copied: dict[str, Any], key: str) -> Any:
    return lambda value: copied.__setitem__(key, value)


def _scalar(value: Any, path: tuple[str, ...], where: Location) -> Json:
    if value is None or type(value) in (bool, int, float, str):
        found = unprintable(value) if isinstance(value, str) else None
        if found:
            message = f"{named(path)} holds the control character U+{ord(found[0]):04X}; allowed: printable text"
            raise ConfigError(Problem(where, message))
        if type(value) is int and value.bit_length() > 1300:
            raise ConfigError(
                Problem(where, f"{named(path)} is an integer of {value.bit_length()} bits; allowed: 1300")
            )
        plain: Json = value
        return plain
    kind = type(value).__name__
    raise ConfigError(
        Problem(
            where, f"{named(path)} is a {kind}; allowed: null, bool, int, float, str, or lists and mappings of them"
        )
    )
