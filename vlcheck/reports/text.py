"""The report for people: one block a finding, then every rule that could not judge, then the sum."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from vlcheck.finding import Finding, Outcome, Report, Severity, Verdict
from vlcheck.reports.summary import config_file, summarise
from vlcheck.reports.units import plain, show_measured, show_parameters
from vlcheck.spec import Location

SHOWN = 5  # findings of one rule; the JSON report holds all
STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold cyan"}


class TextLine(NamedTuple):
    """A line before wrapping; what does not fit goes on `hang` columns deeper, unless it is kept whole."""

    text: Text
    indent: int = 0
    hang: int = 2
    wrap: bool = True


def render(report: Report, *, width: int = 100, color: bool = False) -> str:
    """Write a report for a terminal of `width` columns.

    Words longer than a line are left whole, so that paths and module names can be copied. Control
    characters of whatever the report quotes are shown as escapes.
    """
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
        for line in build_lines(report):
            _print(console, line, width)
    return capture.get()


def build_lines(report: Report) -> Iterator[TextLine]:
    """The report's lines in order, before wrapping."""
    yield _header(report)
    found = report.found()
    for root, consequences in _grouped(found):
        yield from _blocks(root, consequences)
    rest = [
        *_skipped(report.with_verdict(Verdict.SKIPPED)),
        *_failed(report.with_verdict(Verdict.ERROR)),
        *_not_applicable(report.with_verdict(Verdict.NOT_APPLICABLE)),
        *_passed(report.with_verdict(Verdict.PASSED)),
        *(TextLine(_styled("note to the reader: ", "bold", remark)) for remark in report.remarks),
    ]
    if rest:
        yield TextLine(Text())
    yield from rest
    yield TextLine(Text())
    yield TextLine(Text(str(summarise(report)), "bold"), wrap=False)


def _header(report: Report) -> TextLine:
    subject = report.subject
    parts = [str(subject.get("model") or report.spec.model.id)]
    if subject.get("family"):
        parts.append(str(subject["family"]))
    if isinstance(subject.get("parameters"), int):
        parts.append(show_parameters(subject["parameters"]))
    if subject.get("config_origin"):
        parts.append(f"config from {subject['config_origin']}")
    if subject.get("adapter"):
        parts.append(f"adapter {subject['adapter']}")
    return TextLine(_styled(f"{config_file(report)}: ", "bold", ", ".join(parts)))


# --------------------------------------------------------------------------- findings


def _grouped(found: Sequence[Outcome]) -> list[tuple[Outcome, list[Outcome]]]:
    """Each root cause with its consequences, errors first.

    A consequence of a consequence stands under the first cause. Rules that explain each other in a
    circle have no first cause: each of them stands for itself, so that nothing found goes missing.
    """
    by_code = {o.rule.code: o for o in found}
    homes = {o.rule.code: _first_cause(o, by_code) for o in found}
    groups = [
        (root, [o for o in found if o is not root and homes[o.rule.code] == root.rule.code])
        for root in found
        if homes[root.rule.code] == root.rule.code
    ]
    return sorted(groups, key=lambda group: -max(o.rule.severity for o in (group[0], *group[1])))


def _first_cause(outcome: Outcome, by_code: dict[str, Outcome]) -> str:
    seen = [outcome.rule.code]
    for code in seen:
        causes = [c for c in by_code[code].explained_by if c in by_code and c != code]
        if not causes:
            return code
        seen.extend(c for c in causes if c not in seen)
    return outcome.rule.code


def _blocks(root: Outcome, consequences: Sequence[Outcome]) -> Iterator[TextLine]:
    for finding in root.findings[:SHOWN]:
        yield TextLine(Text())
        yield TextLine(_heading(root, finding.where))
        yield from _indented(finding.message, hang=0)
        if finding.measured:
            yield TextLine(_styled("measured: ", "dim", show_measured(finding.measured)), 2)
        yield from _fix(finding)
    if not root.findings:
        yield TextLine(Text())
        yield TextLine(_heading(root, None))
        yield from _indented(root.rule.title, hang=0)
    if len(root.findings) > SHOWN:
        yield TextLine(
            Text(f"... and {len(root.findings) - SHOWN} more of {root.rule.code} (--format json lists all)"), 2
        )
    for consequence in consequences:
        yield TextLine(_styled("explains ", "dim", f"{_named(consequence)}: {_first_message(consequence)}"), 2)


def _heading(outcome: Outcome, where: Location | None) -> Text:
    severity = outcome.rule.severity
    place = "" if where is None else f"  {plain(where.key or where.file if where.file == '<python>' else str(where))}"
    return Text.assemble((str(severity), STYLES[severity]), f" {_named(outcome)}", (place, "dim"))


def _fix(finding: Finding) -> Iterator[TextLine]:
    if "\n" in finding.fix:  # a piece of YAML: keep its own indentation
        yield TextLine(Text("fix:", "green"), 2)
        yield from _indented(finding.fix, indent=4)
    elif finding.fix:
        yield TextLine(_styled("fix: ", "green", finding.fix), 2)


def _first_message(outcome: Outcome) -> str:
    first = outcome.findings[0].message if outcome.findings else outcome.rule.title
    return first if len(outcome.findings) < 2 else f"{first} (and {len(outcome.findings) - 1} more)"


# --------------------------------------------------------------------------- the other verdicts


def _skipped(outcomes: Sequence[Outcome]) -> Iterator[TextLine]:
    for (reason, unlock), alike in _alike(outcomes).items():
        yield TextLine(_styled("skipped: ", "yellow", f"{', '.join(map(_named, alike))}: {reason}"))
        if unlock:
            yield TextLine(_styled("unlock: ", "green", unlock), 2)


def _failed(outcomes: Sequence[Outcome]) -> Iterator[TextLine]:
    for outcome in outcomes:
        last = (outcome.reason.strip().splitlines() or ["no reason given"])[-1]
        yield TextLine(_styled("failed to run: ", "bold red", f"{_named(outcome)}: {last}"))
    if outcomes:
        yield TextLine(Text("this is a fault of vlcheck; --format json holds the traceback"), 2)


def _not_applicable(outcomes: Sequence[Outcome]) -> Iterator[TextLine]:
    if outcomes:
        yield TextLine(
            _styled("not applicable: ", "dim", f"{', '.join(o.rule.code for o in outcomes)} (reasons: --format json)")
        )


def _passed(outcomes: Sequence[Outcome]) -> Iterator[TextLine]:
    if outcomes:
        yield TextLine(_styled("passed: ", "green", ", ".join(map(_examined, outcomes))))


def _examined(outcome: Outcome) -> str:
    looked_at = ", ".join(f"{examined.count} {examined.what}" for examined in outcome.examined)
    return f"{outcome.rule.code} ({looked_at})" if looked_at else outcome.rule.code


def _alike(outcomes: Iterable[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    """Outcomes by their reason and what would unlock them."""
    alike: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        alike.setdefault((outcome.reason, outcome.unlock), []).append(outcome)
    return alike


# --------------------------------------------------------------------------- lines


def _named(outcome: Outcome) -> str:
    return plain(f"{outcome.rule.code} {outcome.rule.name}")


def _styled(label: str, style: str, quoted: str) -> Text:
    return Text.assemble((plain(label), style), plain(quoted))


def _indented(quoted: str, *, indent: int = 2, hang: int = 2) -> Iterator[TextLine]:
    for line in quoted.splitlines():
        yield TextLine(Text(plain(line)), indent, hang)


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
