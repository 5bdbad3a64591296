"""What becomes of a key of another tool's file: each format is a table of these."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from vlcheck.finding import Json
from vlcheck.spec import Concern

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")

Package: TypeAlias = Literal["transformers", "trl", "axolotl", "llamafactory", "ms-swift"]


@dataclass(frozen=True)
class Idle:
    """No effect on what is judged."""


@dataclass(frozen=True)
class Together:
    """Read beside other keys by the format's own `settle`, which says what became of it."""


@dataclass(frozen=True)
class Unjudged:
    """Not understood: it can change what it touches, and no field of a run holds it."""

    touches: tuple[Concern, ...]
    harmless: tuple[Json, ...] = (None, False)
    """Values at which it changes nothing."""


@dataclass(frozen=True)
class To:
    """Mapped: it sets a field of the run."""

    path: str
    """Dotted path of the field."""
    convert: Callable[[Json], Json] = lambda value: value
    """Makes the field's value of the file's; raises ValueError, with what is allowed, for one that it cannot take."""
    otherwise: Idle | Unjudged | None = None
    """What becomes of a value that the tool takes and the field does not know; None refuses it."""


@dataclass(frozen=True)
class Gone:
    """An argument that a version of its package no longer takes: a finding, and judged as what it was meant for."""

    package: Package
    since: str
    """First release read that lacks it."""
    source: str
    """The releases between which it went, and the file."""
    instead: str
    """What to write in its place; empty where nothing is needed."""
    meant: To | Idle | Unjudged | Together = Idle()


Write: TypeAlias = Callable[[Json], str]
"""How a format writes a field: its value to `key: value`; None to what takes it out, or names it. Empty: it cannot."""

Fate: TypeAlias = To | Idle | Together | Unjudged | Gone


def idle(names: str) -> dict[str, Fate]:
    """Rows for keys, separated by blanks, that change nothing that is judged."""
    return dict.fromkeys(names.split(), Idle())


def unjudged(names: str, *touches: Concern, harmless: Iterable[Json] = (None, False)) -> dict[str, Fate]:
    """Rows for keys, separated by blanks, that can change what they touch."""
    return dict.fromkeys(names.split(), Unjudged(touches, tuple(harmless)))


def same(section: str, names: str) -> dict[str, Fate]:
    """Rows for keys, separated by blanks, that a section of the run has under the same name."""
    return {name: To(f"{section}.{name}") for name in names.split()}


def together(names: str) -> dict[str, Fate]:
    """Rows for keys, separated by blanks, that the format's `settle` reads."""
    return dict.fromkeys(names.split(), Together())


def named(key: str) -> Write:
    """A field that is written as this key, with the value that it has."""
    return lambda value: key if value is None else f"{key}: {flow(value)}"


def flow(value: Json) -> str:
    """A value in YAML's flow style, text without quotes where it needs none."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    text = str(value)
    return text if not isinstance(value, str) or _PLAIN.fullmatch(text) else "'" + text.replace("'", "''") + "'"


def one_of(choices: Mapping[str, Json]) -> Callable[[Json], Json]:
    """A conversion by name; a name that is not there stays as it is."""
    return lambda value: choices.get(value, value) if isinstance(value, str) else value
