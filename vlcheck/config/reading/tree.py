"""The tree of a YAML text, built from ruamel's events with an explicit stack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from vlcheck.config.reading.quoting import named, quoted
from vlcheck.config.reading.scalars import Scalar, plain_value
from vlcheck.config.reading.text import unprintable
from vlcheck.spec import ConfigError, Location, Problem

MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_KEY = 500
MERGE = "<<"
"""YAML 1.1's key whose mapping, or list of mappings, fills in what its own mapping lacks."""

_HINTS = {
    "\\t": "indent with spaces, not with tabs",
    "mapping values are not allowed": "check the indentation; a value that holds ': ' needs quotes",
    "that cannot start any token": "put the value in quotes",
    "<block end>": "check the indentation",
}


Mark: TypeAlias = tuple[int, int]


@dataclass
class Node:
    """A value and its place; items and entries have a place of their own, where the item or key stands."""

    mark: Mark
    content: Scalar | list[tuple[Mark, Node]] | dict[str, tuple[Mark, Node]]
    open: bool = False
    merged: Mark | None = None
    """Where its merge key stands."""


@dataclass
class _Container:
    """A mapping or list whose end has not come yet."""

    node: Node
    path: tuple[str, ...]
    key: str | None = None
    key_marks: dict[str, Mark] = field(default_factory=dict)

    @property
    def next_path(self) -> tuple[str, ...]:
        if isinstance(self.node.content, list):
            return (*self.path, str(len(self.node.content)))
        return self.path if self.key is None else (*self.path, self.key)


def build_tree(text: str, file: str) -> Node | None:
    """Parse one YAML document; aliases share the node of their anchor. None if there is no document.

    Raises:
        ConfigError: at the first thing that is no valid YAML, or that a config has no use for.
    """
    root: Node | None = None
    stack: list[_Container] = []
    anchors: dict[str, Node] = {}
    nodes = 0
    for event in _events(file, text):
        mark = _mark(event.start_mark)
        path = stack[-1].next_path if stack else ()
        if isinstance(event, DocumentStartEvent):
            _check_document(event, root, file)
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            ended = stack.pop().node
            ended.open = False
            nodes += _merge(ended, file)
        elif isinstance(event, ScalarEvent | AliasEvent | MappingStartEvent | SequenceStartEvent):
            node = _node(event, anchors, file, path)
            nodes += 1
            if nodes > 2 * MAX_NODES:  # keys are nodes here
                refuse(file, mark, f"more than {MAX_NODES} values up to here; allowed: at most {MAX_NODES} values")
            if stack:
                _attach(node, mark, stack[-1], file)
            else:
                root = node
            if isinstance(event, MappingStartEvent | SequenceStartEvent):
                if len(stack) == MAX_DEPTH:
                    refuse(file, mark, f"nested deeper than {MAX_DEPTH} levels", path)
                stack.append(_Container(node, path))
    return root


def kind(node: Node) -> str:
    """Name a node's type, for messages."""
    if isinstance(node.content, dict | list):
        return "a mapping" if isinstance(node.content, dict) else "a list"
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return "null" if node.content is None else f"the {names[type(node.content)]} {quoted(node.content)}"


def refuse(file: str, mark: Mark, message: str, path: tuple[str, ...] = ()) -> NoReturn:
    """Raise the one problem that ends the reading."""
    raise ConfigError(Problem(Location(file, *mark, ".".join(path)), message))


def _events(file: str, text: str) -> Iterator[Event]:
    events = YAML(typ="safe", pure=True).parse(text)
    mark = (1, 1)
    while True:
        try:
            event = next(events, None)
        except MarkedYAMLError as error:
            at = error.problem_mark or error.context_mark
            refuse(file, _mark(at) if at else mark, f"not valid YAML: {_reason(error)}")
        except Exception as error:  # ruamel 0.19 leaks OverflowError ("\UFFFFFFFF"), ValueError (%YAML 9…9.1), …
            refuse(file, mark, f"not valid YAML after this place: {_short(str(error))}")
        if event is None:
            return
        mark = _mark(event.end_mark)
        yield event


def _check_document(event: Any, root: Node | None, file: str) -> None:
    if root is not None:
        refuse(file, _mark(event.start_mark), "a second document starts here; allowed: one document a file")
    if event.version is not None and tuple(event.version) != (1, 2):
        version = ".".join(map(str, event.version))
        refuse(file, (1, 1), f"declares YAML {version}; allowed: YAML 1.2, where yes, no, on and off are strings")


def _node(event: Any, anchors: dict[str, Node], file: str, path: tuple[str, ...]) -> Node:
    mark = _mark(event.start_mark)
    if isinstance(event, AliasEvent):
        if event.anchor not in anchors:
            refuse(file, mark, f"alias *{_short(event.anchor)} has no anchor before it", path)
        if anchors[event.anchor].open:
            refuse(file, mark, f"alias *{_short(event.anchor)} stands inside its own anchor", path)
        return anchors[event.anchor]
    if event.ctag is not None:
        tag = str(event.ctag).replace("tag:yaml.org,2002:", "!!")
        refuse(file, mark, f"tag {_short(tag)} is not allowed; write the plain value", path)
    if isinstance(event, ScalarEvent):
        node = Node(mark, _scalar(event, file, path))
    else:
        node = Node(mark, {} if isinstance(event, MappingStartEvent) else [], open=True)
    if event.anchor is not None:
        anchors[event.anchor] = node
    return node


def _scalar(event: Any, file: str, path: tuple[str, ...]) -> Scalar:
    found = unprintable(event.value)
    if found is not None:
        refuse(file, _mark(event.start_mark), f"control character U+{ord(found[0]):04X} in a value", path)
    if not event.implicit[0]:
        return str(event.value)
    try:
        return plain_value(event.value)
    except ValueError as error:
        refuse(file, _mark(event.start_mark), str(error), path)


def _attach(node: Node, mark: Mark, parent: _Container, file: str) -> None:
    content = parent.node.content
    if isinstance(content, list):
        content.append((mark, node))
    elif isinstance(content, dict) and parent.key is not None:
        content[parent.key] = (parent.key_marks[parent.key], node)
        parent.key = None
    else:
        parent.key = _key(node, mark, parent, file)
        parent.key_marks[parent.key] = mark


def _key(node: Node, mark: Mark, parent: _Container, file: str) -> str:
    key = node.content
    if not isinstance(key, str):
        refuse(file, mark, f"key is {kind(node)}; allowed: a string, if need be in quotes", parent.path)
    if len(key) > MAX_KEY:
        refuse(file, mark, f"key of {len(key)} characters; allowed: at most {MAX_KEY}", parent.path)
    first = parent.key_marks.get(key)
    if first is not None:
        path = (*parent.path, key)
        refuse(file, mark, f"duplicate key {named(path)}; first on line {first[0]}", path)
    return key


def _merge(node: Node, file: str) -> int:
    """Fill in what a merge key names, the first mapping that has a key first; returns how many keys were looked at."""
    if not isinstance(node.content, dict) or MERGE not in node.content:
        return 0
    node.merged, named = node.content.pop(MERGE)
    count = 0
    for mark, each in named.content if isinstance(named.content, list) else [(node.merged, named)]:
        if not isinstance(each.content, dict):
            refuse(file, mark, f"merge key << names {kind(each)}; allowed: a mapping, or a list of mappings")
        count += len(each.content)
        for key, entry in each.content.items():
            node.content.setdefault(key, entry)
    return count


def _reason(error: Any) -> str:
    problem = _short(str(error.problem or error.context))
    context = ""
    if error.problem and error.context and error.context_mark:
        context = f", {_short(error.context)} that starts on line {error.context_mark.line + 1}"
    hint = next((hint for sign, hint in _HINTS.items() if sign in problem), "")
    return f"{problem}{context}" + (f"; {hint}" if hint else "")


def _short(text: str) -> str:
    return named([" ".join(text.split())])


def _mark(mark: Any) -> Mark:
    return mark.line + 1, mark.column + 1
