"""Report formats: each is a function from a `Report` to a string."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from vlcheck.finding import Report


def _text(report: Report) -> str:
    from vlcheck.reports.text import render

    return render(report)


def _json(report: Report) -> str:
    from vlcheck.reports.json import render

    return render(report)


RENDERERS: Mapping[str, Callable[[Report], str]] = MappingProxyType({"text": _text, "json": _json})
