"""Configs of known models, so that an audit needs neither network nor cache.

One JSON file a model: its Hub id, the source of its values, the published parameter total and what
that rests on, and the config itself in the layout of the Hub's file. Where no published total confirms the
values, the entry says so: the config was then written from memory of the Hub's file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A model whose config.json ships with vlcheck."""

    hub_id: str
    source: str
    published_parameters: int | None
    """None where no source for a total was found."""
    published_basis: str
    verified: bool
    """Whether a published parameter total confirms the config's shape."""
    config: Mapping[str, Any]


def entries() -> Iterator[Entry]:
    """Every known model, by file name."""
    for file in sorted(files(__name__).iterdir(), key=lambda item: item.name):
        if file.name.endswith(".json"):
            yield Entry(**json.loads(file.read_text("utf-8")))


def lookup(hub_id: str) -> Entry | None:
    """The entry of a model, or of the model that the same name has under its publisher.

    A mirror (`unsloth/gemma-4-31B-it`) is matched by the part after the slash; compare the entry's
    `hub_id` to see whether that happened. Upper and lower case are the same, as on the Hub.
    """
    wanted = hub_id.lower()
    known = list(entries())
    for entry in known:
        if entry.hub_id.lower() == wanted:
            return entry
    return next((e for e in known if e.hub_id.lower().split("/")[-1] == wanted.split("/")[-1]), None)
