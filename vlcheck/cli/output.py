"""Where a report goes: to the terminal, or whole into a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlcheck.cli.options import ReportFormat
from vlcheck.cli.streams import fail, say

if TYPE_CHECKING:
    from vlcheck.finding import Report


def check_output(output: Path, config: Path) -> None:
    """End the command if a report cannot be written there, before any work is done for it."""
    from vlcheck.data.atomic_write import check_writable

    if output.resolve() == config.resolve():
        fail(f"--output {output} would overwrite the config")
    try:
        check_writable(output)
    except OSError as refused:
        fail(f"cannot write {refused.filename or output}: {refused.strerror}")


def deliver(report: Report, form: ReportFormat, output: Path | None) -> None:
    """Print a report, or write it and print its last line."""
    from vlcheck.reports.summary import summarise

    if output is None:
        say(_rendered(report, form), utf8=form is ReportFormat.JSON)
    else:
        write(output, _rendered(report, form, terminal=False))
        say(f"{summarise(report)}; report written to {output}\n")


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all; end the command if it cannot be written."""
    from vlcheck.data.atomic_write import check_writable, write_whole

    try:
        check_writable(path)
        write_whole(path, text)
    except OSError as refused:
        fail(f"cannot write {refused.filename or path}: {refused.strerror}")


def json_text(content: Any) -> str:
    """A document for programs, as every command prints it."""
    import json

    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def terminal_options() -> dict[str, Any]:
    """Width and colour of stdout; those of a file where it is no terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return {}
    from shutil import get_terminal_size

    color = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return {"width": max(40, min(120, get_terminal_size().columns)), "color": color}


def _rendered(report: Report, form: ReportFormat, *, terminal: bool = True) -> str:
    from vlcheck.reports import RENDERERS, text

    if form is ReportFormat.TEXT and terminal:
        return text.render(report, **terminal_options())
    return RENDERERS[form](report)
