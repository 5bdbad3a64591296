"""Objects that a function or a data set holds: in attributes, closures, arguments bound to it, globals it names."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from types import CodeType, ModuleType
from typing import Any, TypeVar

import torch

MOST = 2_000
"""Objects that are looked at; a data set in memory holds any number."""
FEW = 50
"""Entries of one container that are looked at."""
LEAVES = (str, bytes, int, float, complex, type, ModuleType, torch.Tensor, torch.nn.Module)

Kind = TypeVar("Kind")


def reachable(roots: tuple[Any, ...], kinds: tuple[type[Kind], ...]) -> list[Kind]:
    """Every object of some kinds that can be reached from others, each once, the nearest first."""
    waiting, found = list(roots), []
    seen: set[int] = set()
    while waiting and len(seen) < MOST:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, kinds):
            found.append(each)
        elif not isinstance(each, LEAVES):
            waiting += _held(each)
    return found


def _held(each: Any) -> Iterator[Any]:
    if isinstance(each, Mapping) and not hasattr(each, "tokenizer"):
        yield from list(each.values())[:FEW]
    elif isinstance(each, list | tuple | set | frozenset):
        yield from list(each)[:FEW]
    elif isinstance(each, functools.partial):
        yield from (each.func, *each.args, *each.keywords.values())
    else:
        yield from _of_function(each)
        if isinstance(own := getattr(each, "__dict__", None), Mapping):
            yield from list(own.values())[:FEW]


def _of_function(each: Any) -> Iterator[Any]:
    yield from (getattr(each, name, None) for name in ("__self__", "__func__", "__wrapped__"))
    for cell in getattr(each, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a name that was never bound
            continue
    code = getattr(each, "__code__", None)
    if isinstance(code, CodeType):
        known = getattr(each, "__globals__", {})
        yield from (known[name] for name in code.co_names if name in known)
    elif callable(each) and not isinstance(each, type):
        yield vars(type(each)).get("__call__")
