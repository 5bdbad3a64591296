"""JSON, JSON lines and CSV files: every row that cannot be used is named with its number."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlcheck.config.reading.quoting import quoted
from vlcheck.data.conversation import BadRow
from vlcheck.data.sources.flat import flat_row
from vlcheck.data.sources.lines import LONGEST_BYTES, read_lines
from vlcheck.data.sources.messages import message_row
from vlcheck.data.sources.row import NoSuchSplit, Row, RowProblem, shown
from vlcheck.spec import Data

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
"""Files that are read here: a row a line, or an element of one JSON list."""

LINED = (".jsonl", ".csv", ".tsv")
"""Those of them in which a row is a line, or a few."""

MOST_BYTES = 2**31
"""Largest list that is read: its text is held in memory."""


def read_table(file: Path, data: Data, split: str, *, whole: bool, root: Path) -> Iterator[Row | RowProblem]:
    """Yield the rows of one split.

    Args:
        whole: every row of the file belongs to the split, whatever its split column says.
        root: the folder that row names are relative to.

    Raises:
        NoSuchSplit: after the last line, if no row belongs to the split.
    """
    seen: dict[str, None] = {}
    matched = False
    title = shown(str(file.relative_to(root)))
    for number, entry in _entries(file):
        name = f"{title}:{number}" if number else title
        if isinstance(entry, BadRow):
            if split == data.train_split or whole:  # of no known split: told once
                yield RowProblem(name, split, str(entry), entry.pictures)
            continue
        if not whole and split != (belongs := _split_of(entry, data)):
            if len(seen) < 12:
                seen[belongs] = None
            continue
        matched = True
        yield read_row(entry, data, split=split, name=name, folder=file.parent)
    if not matched and not whole and (seen or split != data.train_split):
        raise NoSuchSplit(split, tuple(seen))


def read_row(values: Mapping[str, Any], data: Data, *, split: str, name: str, folder: Path | None) -> Row | RowProblem:
    """Make a row of what one line, or one example of `datasets`, holds."""
    try:
        if "messages" in values or "conversations" in values:
            return message_row(values, split=split, name=name, folder=folder)
        return flat_row(values, data, split=split, name=name, folder=folder)
    except BadRow as bad:
        return RowProblem(name, split, str(bad), bad.pictures)


def _split_of(values: Mapping[str, Any], data: Data) -> str:
    return str(values.get(data.split_column, data.train_split))


def _entries(file: Path) -> Iterator[tuple[int, Mapping[str, Any] | BadRow]]:
    """Line number and what stands there; number 0 is the file as a whole."""
    try:
        if file.suffix == ".json" and _starts_a_list(file):
            yield from _list_entries(file)
        elif file.suffix in (".jsonl", ".json"):
            yield from _json_entries(file)
        else:
            yield from _csv_entries(file, "\t" if file.suffix == ".tsv" else ",")
    except OSError as error:
        yield 0, BadRow(f"cannot be read: {error.strerror or error}")


def _starts_a_list(file: Path) -> bool:
    first = next((line for line in read_lines(file) if line.strip()), b"")
    return first.lstrip().startswith(b"[")


def _list_entries(file: Path) -> Iterator[tuple[int, Mapping[str, Any] | BadRow]]:
    """The elements of one JSON list, counted from 1 and read one by one."""
    if (size := file.stat().st_size) > MOST_BYTES:
        yield 0, BadRow(f"the list takes {size:,} bytes; allowed: {MOST_BYTES:,}, or one object a line (.jsonl)")
        return
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        yield 0, BadRow(f"byte {error.start + 1} is not UTF-8; allowed: UTF-8 text")
        return
    decoder, number = json.JSONDecoder(), 1
    here = _past(text, text.index("[") + 1)
    while text[here : here + 1] != "]":
        try:
            value, here = decoder.raw_decode(text, here)
        except (ValueError, RecursionError) as error:  # where the next element begins cannot be told
            yield number, BadRow(f"not read as JSON, nor is what follows: {str(error)[:80]}")
            return
        yield number, value if isinstance(value, dict) else BadRow(f"holds {_json_kind(value)}; allowed: an object")
        number, here = number + 1, _past(text, here)
        if text[here : here + 1] == ",":
            here = _past(text, here + 1)
        elif text[here : here + 1] != "]":
            yield number, BadRow("the list ends without a closing bracket")
            return


def _past(text: str, here: int) -> int:
    """The first character from a place on that is no space."""
    while here < len(text) and text[here].isspace():
        here += 1
    return here


def _json_entries(file: Path) -> Iterator[tuple[int, Mapping[str, Any] | BadRow]]:
    for number, line in enumerate(read_lines(file), 1):
        if line and not line.isspace():
            try:
                yield number, _json_object(line)
            except BadRow as bad:
                yield number, bad


def _json_object(line: bytes) -> Mapping[str, Any]:
    if len(line) > LONGEST_BYTES:
        raise BadRow(f"the line is longer than {LONGEST_BYTES:,} bytes; allowed: one JSON object of at most that")
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise BadRow(f"byte {error.start + 1} (0x{line[error.start]:02x}) is not UTF-8; allowed: UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise BadRow(f"column {error.colno}: {error.msg}; allowed: one JSON object") from None
    except (RecursionError, ValueError) as error:  # nested too deep, an integer of thousands of digits
        raise BadRow(f"not read as JSON: {str(error)[:80]}") from None
    if not isinstance(value, dict):
        raise BadRow(f"the line holds {_json_kind(value)}; allowed: one JSON object")
    if "file_name" in value and file_names_stand(value):
        value["image"] = value["file_name"]
    return value


def _csv_entries(file: Path, delimiter: str) -> Iterator[tuple[int, Mapping[str, Any] | BadRow]]:
    lines = (line[: LONGEST_BYTES + 1].decode("utf-8", "surrogateescape") + "\n" for line in read_lines(file))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # a cell of more than 128 KiB, a quote left open
            yield number, BadRow(f"not read as CSV: {error}")
            continue
        if not cells:
            continue
        if header is None:
            header = cells
        elif len(cells) != len(header):
            yield number, BadRow(f"{len(cells)} cells; allowed: {len(header)}, as in the header")
        else:
            values: dict[str, Any] = dict(zip(header, cells, strict=True))
            if file_names_stand(values):
                values["image"] = values["file_name"]
            yield number, values


def file_names_stand(values: Mapping[str, Any]) -> bool:
    """Whether a row names its image the way the image folders of `datasets` do."""
    return "file_name" in values and "image" not in values


def _json_kind(value: Any) -> str:
    return quoted(value) if value is None or isinstance(value, str | int | float) else "a list"
