"""What a script's training says as one document: a key an argument, with its place or why it is not known."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vlcheck.config.foreign.scripts.scope import written
from vlcheck.config.foreign.scripts.values import (
    Made,
    NotPlain,
    Value,
    line_of,
    places,
    plain,
    sayings,
    shown,
)
from vlcheck.finding import Json
from vlcheck.spec import Location


@dataclass
class Document:
    """What a script's training says, before any of it is judged."""

    given: dict[str, Json] = field(default_factory=dict)
    places: dict[str, Location] = field(default_factory=dict)
    unsure: dict[str, str] = field(default_factory=dict)
    """Dotted paths of arguments whose values only a run would tell; what stands there, in the script's words."""
    said: dict[str, None] = field(default_factory=dict)
    """What was taken for granted, in order."""

    def put(self, key: str, value: Value, where: Location | None = None, node: ast.expr | None = None) -> None:
        """Set a key, dotted for one of a call, to what stands there.

        Args:
            node: the expression that stands there, for one that is not known.
        """
        at = where or value.where
        try:
            found = plain(value)
        except NotPlain as unknown:
            self.doubt(key, unknown.value, at, node)
            return
        self.set(key, found, at)
        self.places |= dict(places(value, key))
        self.said |= dict.fromkeys(sayings(value))

    def doubt(self, key: str, value: Value, where: Location, node: ast.expr | None = None) -> None:
        """Keep a key as one whose value only a run would tell."""
        inner = shown(value)
        elsewhere = value.where.line != where.line and "of line" not in inner
        inner += f" of {line_of(value.where)}" if elsewhere else ""
        text = f"`{written(node)}`" if node is not None else ""
        self.unsure[key] = inner if text in ("", inner) else text if inner.startswith(text) else f"{text} ({inner})"
        self.places[key] = replace(where, key=key)

    def set(self, key: str, value: Json, where: Location) -> None:
        """Set a key to a plain value."""
        holder, _, name = key.rpartition(".")
        inner: Any = self.given.setdefault(holder, {}) if holder else self.given
        inner[name] = value
        self.places[key] = replace(where, key=key)

    def call(self, key: str, call: Made, names: Sequence[str] = (), *, leave: Sequence[str] = ()) -> None:
        """Put a call's arguments below a key; at the top where it is empty.

        Args:
            names: of the positional arguments.
            leave: arguments that are put elsewhere.
        """
        prefix = f"{key}." if key else ""
        if key:
            self.given.setdefault(key, {})
            self.places.setdefault(key, replace(call.where, key=key))
        self.said |= dict.fromkeys(call.said)
        named = dict(zip(names, call.arguments, strict=False)) | call.keywords | call.attributes
        for name, value in named.items():
            if name not in leave:
                given = value is call.keywords.get(name)
                node, where = (call.nodes.get(name), call.places.get(name)) if given else (None, None)
                self.put(prefix + name, value, where, node)
        for number, value in enumerate(call.rest):
            self.doubt(f"{prefix}**{number or ''}", value, call.where)
