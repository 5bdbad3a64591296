"""YAML with line numbers.

ruamel's loader is not used: it resolves tags, recurses once a level and shares aliased nodes, so a few
hundred bytes can run code, exhaust the stack or unfold to gigabytes. Here its events become a tree in which
an alias is a second edge to its anchor, and the tree is then unfolded within fixed limits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from vlcheck.config.reading.text import read_text
from vlcheck.config.reading.tree import MAX_DEPTH, MAX_NODES, MERGE, Mark, Node, build_tree, kind, refuse
from vlcheck.finding import Json
from vlcheck.spec import ConfigError, Location, Problem

MAX_CHARACTERS = 4 * 1024 * 1024  # of values and key paths, after alias expansion


def read_yaml(path: str | os.PathLike[str]) -> tuple[dict[str, Json], Mapping[str, Location]]:
    """Read one YAML mapping, and where each of its values was written.

    Returns:
        The document, and its sources: dotted path (`lora.r`, `lora.target_modules.0`, `""` for the whole)
        to the place of the key, or of the item; `<<` to the first merge key, if there is one.

    Raises:
        ConfigError: with one problem, at the place where the file stops being usable.
    """
    return parse_yaml(read_text(path), os.fsdecode(path))


def parse_yaml(text: str, file: str) -> tuple[dict[str, Json], Mapping[str, Location]]:
    """Read one YAML mapping of a text.

    Args:
        file: stands for the file in places.

    Raises:
        ConfigError: as `read_yaml`.
    """
    root = build_tree(text, file)
    if root is None:
        emptiness = "only comments" if text.strip() else "nothing"
        raise ConfigError(Problem(Location(file), f"file holds {emptiness}; allowed: a mapping of keys to values"))
    if not isinstance(root.content, dict):
        refuse(file, root.mark, f"top level is {kind(root)}; allowed: a mapping of keys to values")
    return _unfolded(root, file)


def _unfolded(root: Node, file: str) -> tuple[dict[str, Json], Mapping[str, Location]]:
    document: list[Any] = []
    sources: dict[str, Location] = {}
    nodes = characters = 0
    todo: list[tuple[tuple[str, ...], Mark, Node, Callable[[Any], None]]] = [((), root.mark, root, document.append)]
    while todo:
        path, mark, node, attach = todo.pop()
        key = ".".join(path)
        nodes += 1
        characters += len(key) + (len(node.content) if isinstance(node.content, str) else 0)
        if nodes > MAX_NODES or characters > MAX_CHARACTERS:
            limit = f"{MAX_NODES} values" if nodes > MAX_NODES else f"{MAX_CHARACTERS} characters"
            section = sources.get(path[0] if path else "", sources[""])
            message = f"more than {limit} up to this key, aliases expanded; allowed: at most {limit}"
            refuse(file, (section.line, section.column), message, path[:1])
        if len(path) > MAX_DEPTH:
            refuse(file, mark, f"nested deeper than {MAX_DEPTH} levels, aliases expanded", path)
        sources.setdefault(key, Location(file, *mark, key))
        if isinstance(node.content, dict):
            mapping: dict[str, Any] = {}
            if node.merged is not None:
                sources.setdefault(MERGE, Location(file, *node.merged, key))
            attach(mapping)
            entries = node.content.items()
            todo += [((*path, k), at, child, partial(mapping.__setitem__, k)) for k, (at, child) in entries][::-1]
        elif isinstance(node.content, list):
            items: list[Any] = []
            attach(items)
            todo += [((*path, str(i)), at, child, items.append) for i, (at, child) in enumerate(node.content)][::-1]
        else:
            attach(node.content)
    return document[0], MappingProxyType(sources)
