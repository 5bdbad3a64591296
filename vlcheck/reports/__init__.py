"""Report formats: each is a function from a `Report` to a string."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from vlcheck.finding import Report

FORMATS = ("text", "json", "sarif", "junit", "github", "markdown")
SUFFIXES: Mapping[str, str] = MappingProxyType(
    {".sarif": "sarif", ".sarif.json": "sarif", ".json": "json", ".xml": "junit", ".md": "markdown"}
)
"""The format of a file whose name ends so."""


def _render(form: str, report: Report, **options: object) -> str:
    """Import a format when it is asked for."""
    written: str = importlib.import_module(f"vlcheck.reports.{form}").render(report, **options)
    return written


RENDERERS: Mapping[str, Callable[..., str]] = MappingProxyType({form: partial(_render, form) for form in FORMATS})
"""Each takes a report; text takes `width`, `color`, `verbose`, and junit `fail_on`, by name."""


def destination(output: str, otherwise: str) -> tuple[str, str]:
    """The format and the path of `FORMAT:PATH`, or of a path whose suffix names its format.

    Args:
        otherwise: the format of a path that does not say.

    Raises:
        ValueError: if what stands before the colon is a word, and no format.
    """
    form, colon, path = output.partition(":")
    if colon and form in FORMATS:
        return form, path
    if colon and path and form.isalpha() and len(form) > 1:  # one letter is a drive
        raise ValueError(f"no format {form!r}; formats: {', '.join(FORMATS)}; a file of that name is ./{output}")
    ending = max((suffix for suffix in SUFFIXES if output.lower().endswith(suffix)), key=len, default="")
    return SUFFIXES.get(ending, otherwise), output
