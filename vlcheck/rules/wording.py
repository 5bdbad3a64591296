"""VLC2xx: what a row says, held against its conversation: other words, foreign words, another value for "ignore"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlcheck.collators.region_kinds import Region
from vlcheck.finding import Examined, Finding, Json, Severity, rule
from vlcheck.rules.row_checks import measured, names, quoted, rows_of, where

if TYPE_CHECKING:
    from vlcheck.collators.judge import CollatorChecks
    from vlcheck.collators.rows import RowCheck
    from vlcheck.spec import RunSpec


@rule("VLC232", "text-differs", Severity.ERROR,
      explains=("VLC202", "VLC205", "VLC206", "VLC208", "VLC209", "VLC210", "VLC211", "VLC212", "VLC214",
               "VLC215", "VLC218", "VLC220", "VLC223", "VLC229", "VLC233"))  # fmt: skip
def text_differs(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """A row says something else than its conversation, where the answer ought to be.

    Law: what is trained is what the data says. Answers that are lower-cased, belong to another row, lost their
    thinking or end in another token are trained as they stand in the row. The row's ids are held against those
    that the processor makes of the conversation; the first stretch that differs is shown.

    Remedy: hand the conversation to the chat template as it is, and its text to the processor.

    Source: measured in tests/collators/test_table.py.
    """
    rows = rows_of(checks)
    yield Examined(sum(row.answers for row in rows), "answers")
    if wrong := [row for row in rows if row.found < row.answers and not row.cut]:
        worst = wrong[0]
        yield Finding(
            f"{checks.origin}: {worst.name}: {_told(worst)}",
            where=where(spec, checks),
            measured={"rows": len(wrong), **_measured(worst)},
            fix="render each conversation as it is",
        )


def _told(row: RowCheck) -> str:
    unlike = row.difference
    if unlike is None:
        return f"{row.answers - row.found} of {row.answers} answers are not among its {row.tokens} ids"
    where_ids = f"ids {unlike.at} to {unlike.at + len(unlike.ids) - 1}" if unlike.ids else f"position {unlike.at}"
    more = f", and {unlike.more} more stretches differ" if unlike.more else ""
    return f"the row says {quoted(unlike.said)} ({where_ids}) where the conversation says {quoted(unlike.wanted)}{more}"


def _measured(row: RowCheck) -> dict[str, Json]:
    unlike = row.difference
    if unlike is None:
        return {"answers": row.answers, "found": row.found}
    return {"position": unlike.at, "ids": list(unlike.ids[:16]), "expected ids": list(unlike.wanted_ids[:16])}


@rule("VLC233", "foreign-text-supervised", Severity.ERROR, explains=("VLC218",))
def foreign_text_supervised(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """Text that the conversation does not hold is supervised beside an answer.

    Law: the header ends where the template's header ends, and the answer begins there. What a collator puts
    between the two, or behind the last end token, is trained as if the data said so.

    Remedy: supervise the answer alone, or take the added text out.

    Source: measured in tests/collators/test_table.py.
    """
    rows = rows_of(checks)
    yield Examined(sum(row.found for row in rows), "answers")
    if wrong := [row for row in rows if row.supervised[Region.FOREIGN]]:
        worst = max(wrong, key=lambda row: row.supervised[Region.FOREIGN])
        yield Finding(
            f"{checks.origin}: {worst.supervised[Region.FOREIGN]} ids beside the answer are supervised in "
            f"{names(wrong)}, which the conversation does not hold: {quoted(worst.foreign_text)}",
            where=where(spec, checks),
            measured=measured(wrong, worst),
            fix="start the span with the answer's first id, and end it with its end token",
        )


@rule("VLC234", "ignore-index", Severity.ERROR,
      explains=("VLC202", "VLC205", "VLC206", "VLC207", "VLC209", "VLC210", "VLC212", "VLC229"))  # fmt: skip
def ignore_index(spec: RunSpec, checks: CollatorChecks) -> Iterator[Finding | Examined]:
    """Another number stands in the labels where -100 ought to.

    Law: the loss leaves out -100 and nothing else. Zeros or the padding's id are trained as targets, at every
    position of the prompt; any other negative number stops the loss with an error.

    Remedy: fill labels with -100 (`torch.nn.functional.cross_entropy`'s `ignore_index`).

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html
    """
    rows = rows_of(checks)
    yield Examined(len(rows), "rows")
    if wrong := [row for row in rows if row.ignored_as is not None]:
        worst = max(wrong, key=lambda row: row.ignored_count)
        yield Finding(
            f"{checks.origin}: {worst.ignored_count} labels are {worst.ignored_as} where -100 ought to stand in "
            f"{names(wrong)}",
            where=where(spec, checks),
            measured={"rows": len(wrong), "value": worst.ignored_as, "labels": worst.ignored_count},
            fix=f"labels[labels == {worst.ignored_as}] = -100 outside the answers",
        )
