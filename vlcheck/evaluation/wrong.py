"""The rows that a model answered wrongly, as a sheet of their pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vlcheck.data.images import BadPicture, open_picture
from vlcheck.data.read import Row
from vlcheck.evaluation import files
from vlcheck.evaluation.rows import wanted_rows
from vlcheck.evidence.options import Options
from vlcheck.processing.exact_match import spread
from vlcheck.spec import RunSpec
from vlcheck.training.charts import draw_sheet

MOST_SHOWN = 40


def draw_wrong(spec: RunSpec, options: Options, rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Draw up to `MOST_SHOWN` rows that were answered wrongly, every label in turn; no picture if there is none.

    Args:
        rows: predictions.
        folder: of the evaluation.
    """
    wrong = [row for row in rows if not row["correct"]]
    (folder / files.WRONG).unlink(missing_ok=True)
    if wrong:
        shown = [wrong[at] for at in spread([row["expected"] for row in wrong], MOST_SHOWN)]
        title = f"{spec.model.id}: {len(wrong):,} of {len(rows):,} rows wrong, {len(shown)} shown"
        draw_sheet(_cells(spec, options, {row["row"]: row for row in shown}), folder / files.WRONG, title=title)


def _cells(
    spec: RunSpec, options: Options, shown: Mapping[int, Mapping[str, Any]]
) -> Iterator[tuple[Image.Image | None, tuple[str, ...]]]:
    for number, row in enumerate(wanted_rows(spec, options)):
        if number in shown and isinstance(row, Row):
            told = shown[number]
            try:
                picture = open_picture(row.pictures[0]) if row.pictures else None
            except BadPicture:
                picture = None
            yield picture, (told["name"], f"expected: {told['expected']}", f"answered: {told['answer']}")
