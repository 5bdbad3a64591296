"""A script's or notebook's syntax tree, and where each node of it stands."""

from __future__ import annotations

import ast
import bisect
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vlcheck.config.reading.text import unprintable
from vlcheck.spec import ConfigError, Location, Problem

MAX_BYTES = 8 * 1024 * 1024
"""Notebooks hold the pictures that they drew."""
MAX_CODE = 512 * 1024
"""Characters of Python."""

_MAGIC = re.compile(r"(?P<indent>\s*)(?P<assigned>[\w., ]+=\s*)?[%!](?P<rest>.*)")
_INSTALLS = re.compile(r"\b(?:pip3?|uv pip) install\b(?P<what>.*)")
_PIN = re.compile(r"(?:^|[\s\"'])(?P<name>[A-Za-z][\w.-]*)(?:\[[\w,]*\])?==(?P<version>\d[\w.]*)")


@dataclass(frozen=True)
class Source:
    """The statements of a script; lines of all cells of a notebook count on."""

    file: str
    body: tuple[ast.stmt, ...]
    cells: tuple[tuple[int, int], ...] = ()
    """First line and number of each code cell; none for a script."""
    pins: Mapping[str, tuple[str, Location]] | None = None
    """Package to the version that a `pip install` of the notebook names, and where."""
    magics: tuple[tuple[int, str], ...] = ()
    """Lines of the notebook that are IPython's, not Python, and which they are, counted through all cells."""

    def place(self, node: ast.AST, key: str = "") -> Location:
        """Where a node stands: line and column of the script, or of the cell."""
        return self.at(getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1, key)

    def at(self, line: int, column: int, key: str = "") -> Location:
        """The place of a line that counts through all cells."""
        return _placed(self.file, self.cells, line, column, key)


def read_source(path: str | os.PathLike[str]) -> Source:
    """Parse a script, or the code cells of a notebook, without running anything.

    Raises:
        ConfigError: with one problem, at its place, if it cannot be read or is no Python.
    """
    file = os.fsdecode(path)
    text = _read(file)
    if text.lstrip().startswith("{"):
        return _notebook(file, text)
    if len(text) > MAX_CODE:
        raise _refusal(file, f"holds {len(text)} characters of Python; allowed: at most {MAX_CODE}")
    return Source(file, tuple(_parsed(text, file, (), 1)))


def _read(file: str) -> str:
    try:
        with Path(file).open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refusal(file, f"byte 0x{error.object[error.start]:02x} is not UTF-8; allowed: UTF-8 text") from None
    except (OSError, ValueError) as error:
        raise _refusal(file, f"cannot be read: {error}") from None
    if len(raw) > MAX_BYTES:
        raise _refusal(file, f"larger than {MAX_BYTES // 2**20} MiB")
    return text


def _notebook(file: str, text: str) -> Source:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refusal(file, f"is a broken notebook: {str(error)[:80]}") from None
    held = document.get("cells") if isinstance(document, dict) else None
    if not isinstance(held, list):
        raise _refusal(file, "is a broken notebook: it has no list of cells")
    body: list[ast.stmt] = []
    cells: list[tuple[int, int]] = []
    pins: dict[str, tuple[str, Location]] = {}
    magics: list[tuple[int, str]] = []
    line = 1
    for number, cell in enumerate(held, 1):
        code = _code(cell)
        if code is None:
            continue
        cells.append((line, number))
        if line + len(code) > MAX_CODE:
            raise _refusal(file, f"holds more than {MAX_CODE} characters of Python")
        plain = code.split("\n")
        if not _is_plain(code):
            plain = list(_without_magics(code, pins, partial(_placed, file, tuple(cells), column=1), line))
            pairs = enumerate(zip(code.split("\n"), plain, strict=True), line)
            magics += [(at, was) for at, (was, left) in pairs if was != left]
        body += _parsed("\n".join(plain), file, tuple(cells), line)
        line += max(1, len(plain))
    return Source(file, tuple(body), tuple(cells), pins, tuple(magics))


def _code(cell: object) -> str | None:
    """The source of a code cell; None for another."""
    if not isinstance(cell, dict) or cell.get("cell_type") != "code":
        return None
    source = cell.get("source", "")
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def _is_plain(code: str) -> bool:
    """Whether a cell is Python as it stands: a line that begins with % may go on with the one before."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _without_magics(
    code: str, pins: dict[str, tuple[str, Location]], place: Callable[..., Location], first: int
) -> Iterator[str]:
    """The lines of a cell, those of IPython emptied; what they install at a version is noted.

    Args:
        place: of a line that counts through all cells; `first` is the cell's first.
    """
    lines = code.split("\n")
    foreign = bool(lines) and re.match(r"\s*%%(?!capture|time)\w+", lines[0]) is not None
    continued = installing = False
    for number, line in enumerate(lines, first):
        found = _MAGIC.fullmatch(line)
        magic = foreign or continued or (found is not None and _is_magic(line))
        if magic:
            installs = _INSTALLS.search(line) if not line.lstrip().startswith("#") else None
            installing = installs is not None or (installing and continued)
            for pin in _PIN.finditer(installs["what"] if installs else line) if installing else ():
                pins[pin["name"].lower().replace("_", "-")] = pin["version"], place(line=number)
            continued = line.rstrip().endswith("\\") and not foreign
            indent = found["indent"] if found and not foreign else ""
            assigned = found["assigned"] if found and not foreign else None
            yield f"{indent}{assigned}..." if assigned else f"{indent}pass" if indent and not foreign else ""
        else:
            yield "" if re.fullmatch(r"\s*\??[\w.]+\?{1,2}\s*", line) and "?" in line else line


def _is_magic(line: str) -> bool:
    """Whether a line is IPython's: it begins with % or !, or assigns what such a line gives."""
    start = line.lstrip()
    return start.startswith(("%", "!")) or re.match(r"[\w., ]+=\s*[%!]\s*[A-Za-z]", start) is not None


def _parsed(text: str, file: str, cells: tuple[tuple[int, int], ...], first: int) -> list[ast.stmt]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a script's own invalid escapes
            tree = ast.parse(text)
    except SyntaxError as error:
        at = first - 1 + (error.lineno or 1)
        raise _at(_placed(file, cells, at, max(1, error.offset or 1)), f"is not valid Python: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        reason = "nested too deeply" if not isinstance(error, ValueError) else str(error)
        raise _at(_placed(file, cells, first, 1), f"is not valid Python: {reason}") from None
    ast.increment_lineno(tree, first - 1)
    return tree.body


def _placed(
    file: str, cells: tuple[tuple[int, int], ...] | list[tuple[int, int]], line: int, column: int, key: str = ""
) -> Location:
    if not cells:
        return Location(file, line, column, key)
    start, number = cells[max(0, bisect.bisect_right([first for first, _ in cells], line) - 1)]
    return Location(f"{file}:cell {number}", line - start + 1, column, key)


def _refusal(file: str, message: str) -> ConfigError:
    return _at(Location(file), message)


def _at(where: Location, message: str) -> ConfigError:
    found = unprintable(message)
    return ConfigError(Problem(where, message if found is None else ascii(message)[1:-1]))
