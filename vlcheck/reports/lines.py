"""Lines of a text report: wrapped between words, harmless to a terminal, coloured where it is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from vlcheck.finding import Outcome, Report, Severity, Verdict
from vlcheck.reports.units import brief, plain
from vlcheck.spec import Location

SEVERITY_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold cyan"}


class TextLine(NamedTuple):
    """A line before wrapping; what does not fit goes on `hang` columns deeper, unless it is kept whole."""

    text: Text
    indent: int = 0
    hang: int = 2
    wrap: bool = True


def print_lines(lines: Iterable[TextLine], *, width: int, color: bool) -> str:
    """The lines as text for a terminal of `width` columns, each ended; a word longer than a line is left whole."""
    console = Console(
        file=StringIO(),
        width=width,
        color_system="standard" if color else None,
        no_color=not color,
        force_terminal=color,
        force_jupyter=False,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
    with console.capture() as capture:
        for line in lines:
            _print(console, line, width)
    return capture.get()


def styled(label: str, style: str, quoted: str) -> Text:
    """A label in a style, then a text as it is; both escaped."""
    return Text.assemble((plain(label), style), plain(quoted))


def indented(quoted: str, *, indent: int = 2, hang: int = 2) -> Iterator[TextLine]:
    """A text that keeps its own line ends, such as a piece of YAML, `indent` columns deep."""
    for line in quoted.splitlines():
        yield TextLine(Text(plain(line)), indent, hang)


def named(outcome: Outcome) -> str:
    """A rule as reports call it, by code and name."""
    return plain(f"{outcome.rule.code} {outcome.rule.name}")


def placed(where: Location) -> str:
    """A place as `file:line`; the setting where the run was built in Python, which has no lines."""
    return plain(where.key or where.file if where.file == "<python>" else str(where))


def fix_lines(fix: str) -> Iterator[TextLine]:
    """A remedy; a piece of YAML keeps its own indentation."""
    if "\n" in fix:
        yield TextLine(Text("fix:", "green"), 2)
        yield from indented(fix, indent=4)
    elif fix:
        yield TextLine(styled("fix: ", "green", fix), 2)


def failed_lines(outcomes: Sequence[Outcome]) -> Iterator[TextLine]:
    """Rules that raised, each with the last line of its traceback."""
    for outcome in outcomes:
        last = (outcome.reason.strip().splitlines() or ["no reason given"])[-1]
        yield TextLine(styled("failed to run: ", "bold red", f"{named(outcome)}: {last}"))
    if outcomes:
        yield TextLine(Text("this is a fault of vlcheck; --format json holds the traceback"), 2)


def ignored_texts(report: Report) -> Iterator[str]:
    """Findings that do not count, a sentence each: what was found, the reason, and the comment that gives it."""
    for outcome in report.outcomes:
        for ignored in outcome.ignored:
            by = f" ({ignored.where})" if ignored.where else ""
            said = f"{outcome.rule.code} {outcome.rule.name} {ignored.finding.where}: {brief(ignored.finding.message)}"
            yield f"{said}; reason: {ignored.reason}{by}"
        if outcome.verdict is Verdict.IGNORED and not outcome.ignored:
            yield named(outcome)


def ignored_lines(report: Report) -> Iterator[TextLine]:
    """The same as lines of a text report."""
    for text in ignored_texts(report):
        yield TextLine(styled("ignored: ", "dim", text))


def _print(console: Console, line: TextLine, width: int) -> None:
    breaks = _breaks(line.text.plain, width - line.indent, width - line.indent - line.hang) if line.wrap else []
    for number, part in enumerate(line.text.divide(breaks)):
        part.rstrip()
        part.pad_left(line.indent + line.hang * bool(number) if part else 0)
        console.print(part, soft_wrap=True)


def _breaks(text: str, first: int, others: int) -> list[int]:
    """Where to break a text so that its lines fit; rich's own wrapping would also break inside words."""
    breaks: list[int] = []
    column = 0
    for word in re.finditer(r"[^ ]+ *", text):
        cells = cell_len(word.group().rstrip(" "))
        if column and column + cells > (others if breaks else first):
            breaks.append(word.start())
            column = 0
        column += cell_len(word.group())
    return breaks
