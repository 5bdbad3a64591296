"""Lines of the user's own code: where a call came from, where a function is written. What is not known has none."""

from __future__ import annotations

import functools
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlcheck.spec import Location

INSTALLED = ("site-packages", "dist-packages", "unsloth_compiled_cache")
"""Folders whose files no user wrote."""
LIBRARIES = ("accelerate", "datasets", "peft", "torch", "transformers", "trl", "unsloth", "vlcheck")
"""Packages that are libraries wherever they lie, a checkout in the working folder included."""


def calling_line(own: Callable[[str, str], bool]) -> tuple[str, int] | None:
    """File and line of the innermost code, of all that led to this call, that is one's own; None where none is.

    Args:
        own: called with a code object's file and its module's name.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if own(frame.f_code.co_filename, frame.f_globals.get("__name__", "")):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return None


def written_at(function: Any, own: Callable[[str, str], bool]) -> tuple[str, int] | None:
    """File and first line of a function, a method, or the call of an object; None where none of it is one's own."""
    function = getattr(function, "data_collator", function)  # transformers' wrapper that drops columns
    while isinstance(function, functools.partial):
        function = function.func
    for each in (function, getattr(type(function), "torch_call", None), type(function).__call__):
        code = getattr(each, "__code__", None)
        if code is not None and own(code.co_filename, getattr(each, "__module__", "") or ""):
            return code.co_filename, code.co_firstlineno
    return None


def is_users(file: str, module: str) -> bool:
    """Whether a file is on this disk, and neither Python's own nor a library's."""
    path = Path(file)
    return (
        module.partition(".")[0] not in LIBRARIES
        and not any(part in INSTALLED for part in path.parts)
        and not path.is_relative_to(sysconfig.get_path("stdlib"))
        and path.is_file()
    )


def called_at() -> dict[str, Location]:
    """The place of a run, as its sources hold it: the user's line that is running; empty where none is known."""
    found = calling_line(is_users)
    return {"": as_place(*found)} if found is not None else {}


def as_place(file: str, line: int, key: str = "") -> Location:
    """A line of a file, which is named as seen from the working folder."""
    path, here = Path(file), Path.cwd()
    return Location(str(path.relative_to(here)) if path.is_relative_to(here) else file, line, 1, key)


def collator_at(
    collate: Any,
    place: Callable[[str, int, str], Location] = as_place,
    own: Callable[[str, str], bool] = is_users,
) -> dict[str, Location]:
    """The place of a run's collator, as its sources hold it; empty where no user wrote it.

    Args:
        place: what a line of a file is called.
        own: as for `calling_line`.
    """
    found = written_at(collate, own)
    return {"data.collator": place(*found, "data.collator")} if found is not None else {}
