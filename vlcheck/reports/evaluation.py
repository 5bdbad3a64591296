"""Evaluations and comparisons for people: the share with its interval first, then where it is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vlcheck.reports.units import plain

Document: TypeAlias = Mapping[str, Any]

WIDEST_MATRIX = 12
"""Classes of a confusion that is printed as a table."""
MOST_ROWS = 60
MOST_CONFUSIONS = 12
MOST_LISTED = 10
MOST_CHANGES = 5
NO_LABEL = "(no label)"


def render_evaluation(document: Document, folder: str, *, width: int = 100, color: bool = False) -> str:
    """An evaluation: accuracy, macro-F1, classes from the worst on, the confusion, notes."""
    console, settings = _console(width, color), document["settings"]
    adapter = settings["adapter"]
    asked = f"with {adapter['folder']}" if adapter else "merged" if "merged" in settings else "without an adapter"
    _say(console, f"{settings['model']} {asked}, split {settings['split']}")
    _say(console, f"accuracy {_share(document)}", "bold")
    _say(console, f"macro-F1 {document['macro_f1']:.3f} over {len(document['classes'])} labels")
    if document["no_label"]:
        _say(console, f"{document['no_label']} answers are no label of the split")
    if document["cut_off"]:
        _say(console, f"{document['cut_off']} answers were cut off at {settings['max_new_tokens']} tokens")
    pace = document["rows_per_second"]
    if pace:
        _say(console, f"{document['seconds']:.1f} s, {pace:.1f} rows a second, batches of {document['batch_size']}")
    console.print()
    _print_classes(console, document["classes"])
    _print_confusion(console, document)
    if document["quarantined"]:
        _say(console, f"{len(document['quarantined'])} rows could not be read and are not counted:", "yellow")
        for row in document["quarantined"][:MOST_LISTED]:
            _say(console, f"  {row['name']}: {row['problem']}")
        _say_more(console, len(document["quarantined"]) - MOST_LISTED)
    for note in document["notes"]:
        _say(console, f"note: {note}")
    _say(console, f"written to {folder}")
    return _text(console)


def render_comparison(document: Document, *, width: int = 100, color: bool = False) -> str:
    """A comparison: both accuracies, who is right where, the test, the classes that changed most."""
    console = _console(width, color)
    for name, side in (("A", document["first"]), ("B", document["second"])):
        _say(console, f"{name}  {_share({**side, 'n': document['n']})}  {side['file']}")
    console.print()
    table = _table("", "B right", "B wrong")
    table.add_row("A right", str(document["both"]), str(document["first_only"]))
    table.add_row("A wrong", str(document["second_only"]), str(document["neither"]))
    console.print(table)
    console.print()
    low, high = document["interval"]
    _say(console, f"B - A  {100 * document['difference']:+.1f} points (95% interval {100 * low:+.1f} to "
                  f"{100 * high:+.1f}), McNemar's exact p = {document['p']:.3g}", "bold")  # fmt: skip
    majority = document["majority"]
    _say(console, f"always {majority['label']!r} would have {majority['correct'] / document['n']:.1%}, "
                  f"{majority['correct']:,} of {document['n']:,} rows: the majority class")  # fmt: skip
    moved = [row for row in document["classes"] if row["first"] != row["second"]]
    lost = [row for row in moved if row["second"] < row["first"]][:MOST_CHANGES]
    gained = [row for row in reversed(moved) if row["second"] > row["first"]][:MOST_CHANGES]
    for title, rows in (("B lost most", lost), ("B gained most", gained)):
        for number, row in enumerate(rows):
            _say(console, f"{title if not number else '':13}  {row['second'] - row['first']:+d} of {row['n']}  "
                          f"{row['label']}")  # fmt: skip
    console.print()
    for key, (first, second) in document["differ"].items():
        _say(console, f"compared: {key} {_named(first)} and {_named(second)}")
    for warning in document["warnings"]:
        _say(console, f"warning: {warning}", "yellow")
    return _text(console)


def _print_classes(console: Console, classes: Sequence[Document]) -> None:
    table = _table("label", "rows", "right", "answered", "precision", "recall", "F1")
    worst = sorted(classes, key=lambda row: (row["f1"], row["label"]))
    for row in worst[:MOST_ROWS]:
        precision = "-" if row["precision"] is None else f"{row['precision']:.3f}"
        counts = (str(row[key]) for key in ("n", "correct", "answered"))
        table.add_row(Text(plain(row["label"])), *counts, precision, f"{row['recall']:.3f}", f"{row['f1']:.3f}")
    console.print(table)
    _say_more(console, len(worst) - MOST_ROWS)
    console.print()


def _print_confusion(console: Console, document: Document) -> None:
    """The whole matrix where it is small, its largest errors where it is not."""
    labels = [row["label"] for row in document["classes"]]
    if len(labels) <= WIDEST_MATRIX and console.width >= sum(len(label) + 2 for label in labels) + 30:
        counts = {(each["expected"], each["answered"]): each["rows"] for each in document["confusion"]}
        table = _table("expected \\ answered", *labels, NO_LABEL)
        for label in labels:
            found = (counts.get((label, answer), 0) for answer in (*labels, None))
            table.add_row(Text(plain(label)), *(str(count) if count else "." for count in found))
        console.print(table)
    else:
        errors = [each for each in document["confusion"] if each["expected"] != each["answered"]]
        table = _table("rows", "expected", "answered", left=(1, 2))
        for each in sorted(errors, key=lambda each: -int(each["rows"]))[:MOST_CONFUSIONS]:
            answered = NO_LABEL if each["answered"] is None else each["answered"]
            table.add_row(str(each["rows"]), Text(plain(each["expected"])), Text(plain(answered)))
        console.print(table if errors else Text("no confusion"))
        _say_more(console, len(errors) - MOST_CONFUSIONS)
    console.print()


def _share(counted: Document) -> str:
    low, high = counted["interval"]
    return (
        f"{counted['accuracy']:.1%} (95% interval {low:.1%} to {high:.1%}), {counted['correct']:,} of "
        f"{counted['n']:,} rows"
    )


def _named(value: Any) -> str:
    return str(value["folder"]) if isinstance(value, Mapping) and "folder" in value else str(value or "none")


def _say_more(console: Console, more: int) -> None:
    if more > 0:
        _say(console, f"... and {more} more in evaluation.json")


def _say(console: Console, line: str, style: str = "") -> None:
    console.print(Text(plain(line), style), soft_wrap=True)


def _table(*heads: str, left: Sequence[int] = (0,)) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, head in enumerate(heads):
        table.add_column(Text(plain(head)), justify="left" if number in left else "right", overflow="fold")
    return table


def _console(width: int, color: bool) -> Console:
    return Console(
        file=StringIO(), width=width, color_system="standard" if color else None, no_color=not color,
        force_terminal=color, force_jupyter=False, legacy_windows=False, markup=False, emoji=False, highlight=False,
    )  # fmt: skip


def _text(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return "".join(line.rstrip() + "\n" for line in console.file.getvalue().splitlines())
