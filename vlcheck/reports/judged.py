"""One paragraph that says what a report judged, so that a reader can weigh the findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vlcheck.finding import UNSEEN, Report, told_by
from vlcheck.reports.units import show_parameters


def judged_paragraph(report: Report) -> str:
    """Model, collator, processor, rows, card and versions in one paragraph; empty where nothing is known.

    What no rule looked at is left out rather than guessed. Remarks that these facts do not tell stand behind them.
    """
    subject = report.subject
    if not subject and not report.remarks:
        return ""
    facts = [*_model(subject), *_labels(subject), *_data(subject), *_card(report)]
    facts += [str(subject["job"])] if subject.get("job") else []
    versions = ", ".join(f"{name} {version.partition('+')[0]}" for name, version in report.versions.items())
    facts += [versions] if versions else []
    facts += ["patches of your script not seen (name them in model.patch)"] if subject.get("patches") == UNSEEN else []
    told = told_by(subject)
    return "; ".join([*facts, *(remark for remark in report.remarks if remark not in told)]) + "."


def _model(subject: Mapping[str, Any]) -> Iterator[str]:
    family, parameters = subject.get("family"), subject.get("parameters")
    parts = [str(family)] if family else []
    parts += [show_parameters(parameters)] if isinstance(parameters, int) else []
    if origin := str(subject.get("config_origin") or ""):  # the model's name stands above
        parts.append("config from " + origin.removesuffix(f" {subject.get('model')}").removesuffix(" of"))
    if parts:
        yield ", ".join(parts)
    if subject.get("adapter"):
        yield f"adapter {subject['adapter']}"


def _labels(subject: Mapping[str, Any]) -> Iterator[str]:
    """Whose labels were judged, made with which processor, on which rows."""
    processor = str(subject.get("processor") or "").partition(":")[0]
    if "collator" not in subject:
        if processor:
            yield f"processor: {processor}"
        return
    own, built_in = subject.get("rows", 0), subject.get("built_in_rows", 0)
    rows = [_counted(own, "row of the run's data", "rows of the run's data")] if own else []
    rows += [_counted(built_in, "built-in row", "built-in rows")] if built_in else []
    longest = subject.get("longest_row_tokens")
    on = f" on {' and '.join(rows)}" if rows else " on no row"
    yield (
        f"labels of {subject['collator']}{f' (processor: {processor})' if processor else ''}{on}"
        f"{f', the longest {longest:,} tokens' if longest else ''}"
    )


def _data(subject: Mapping[str, Any]) -> Iterator[str]:
    if "scanned_rows" in subject:
        yield f"{_counted(subject['scanned_rows'], 'row', 'rows')} of the data scanned"


def _card(report: Report) -> Iterator[str]:
    if report.subject.get("gpu"):
        memory = report.subject.get("memory")
        yield f"card {report.subject['gpu']}" + (f": {memory}" if memory else "")
    elif report.spec.hardware.gpu is None and "adapter" not in report.subject:
        yield "no card named"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
