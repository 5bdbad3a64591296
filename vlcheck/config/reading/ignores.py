"""`# vlcheck: ignore[VLC201] reason` in a config: findings of that rule on that line do not count.

A comment that stands alone on its line speaks for the next line that holds more than a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import ScalarEvent

from vlcheck.config.reading.quoting import quoted
from vlcheck.config.reading.text import read_text
from vlcheck.spec import ConfigError, Ignore, Location, Problem

MEANT = re.compile(r"(?:^|(?<=\s))#\s*vlcheck:\s*(?=(?P<said>ignor[^\r\n]*))", re.MULTILINE)
FORM = re.compile(r"ignore\[(?P<codes>[^\]]*)\](?P<reason>.*)")
ALLOWED = "allowed: # vlcheck: ignore[VLC201] and the reason, several codes with commas"

Spans: TypeAlias = tuple[tuple[int, int], ...]


def read_ignores(file: str) -> tuple[Ignore, ...]:
    """The ignores that the comments of a config file hold, in order; none where there is no such file.

    In YAML, what stands in a value is no comment. In any other file (a shell script) a `#` behind white space begins
    one.

    Raises:
        ConfigError: for a comment that means to ignore and does not say what, or gives no reason; each with its place.
    """
    if not Path(file).is_file():
        return ()
    text = read_text(file)
    if MEANT.search(text) is None:
        return ()
    values = _values(text)
    found = [comment for comment in MEANT.finditer(text) if not any(a <= comment.start() < b for a, b in values)]
    problems = [problem for comment in found for problem in _problems(comment, _place(comment, text, file))]
    if problems:
        raise ConfigError(*problems)
    return tuple(_ignore(comment, text, file) for comment in found)


def _problems(comment: re.Match[str], where: Location) -> Iterator[Problem]:
    said = FORM.match(comment["said"])
    if said is None or not _codes(said["codes"]):
        yield Problem(where, f"comment {quoted(comment[0] + comment['said'].rstrip())} names no rule; {ALLOWED}")
    elif not said["reason"].strip():
        yield Problem(where, f"comment {quoted(comment[0] + comment['said'].rstrip())} gives no reason; {ALLOWED}")


def _ignore(comment: re.Match[str], text: str, file: str) -> Ignore:
    said = FORM.match(comment["said"])
    assert said is not None
    where = _place(comment, text, file)
    return Ignore(where, _line_meant(text, where.line), _codes(said["codes"]), said["reason"].strip())


def _codes(listed: str) -> tuple[str, ...]:
    return tuple(code.strip().upper() for code in listed.split(",") if code.strip())


def _line_meant(text: str, line: int) -> int:
    """The comment's own line, or the next one that holds something if it stands alone."""
    lines = text.splitlines()
    for number in range(line, len(lines) + 1):
        if (said := lines[number - 1].strip()) and not said.startswith("#"):
            return number
    return line


def _place(comment: re.Match[str], text: str, file: str) -> Location:
    before = text[: comment.start()].split("\n")
    return Location(file, len(before), len(before[-1]) + 1)


def _values(text: str) -> Spans:
    """Where the values of a YAML text begin and end; of a block, its lines without the one that opens it."""
    try:
        scalars = [event for event in YAML(typ="safe", pure=True).parse(text) if isinstance(event, ScalarEvent)]
    except (YAMLError, ValueError, OverflowError):
        return ()
    return tuple(
        (text.find("\n", s.start_mark.index) if s.style in ("|", ">") else s.start_mark.index, s.end_mark.index)
        for s in scalars
    )
