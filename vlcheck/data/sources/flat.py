"""Flat rows: an image column, an answer column, and the one instruction of the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlcheck.config.reading.quoting import quoted
from vlcheck.data.conversation import BadRow, Content, Conversation, Picture, Turn
from vlcheck.data.sources.images import pictures_of
from vlcheck.data.sources.row import Row, sound_text
from vlcheck.spec import Data


def flat_row(values: Mapping[str, Any], data: Data, *, split: str, name: str, folder: Path | None) -> Row:
    """Make a row of one image cell and one answer cell.

    Raises:
        BadRow: if a column is missing or its cell is of no use.
    """
    pictures = pictures_of(_cell(values, data.image_column), folder, name)
    if not pictures:
        raise BadRow(f"column {quoted(data.image_column)} is an empty list; allowed: a path, or an image's bytes")
    try:
        answer = _cell(values, data.answer_column)
    except BadRow as missing:
        raise BadRow(str(missing), pictures) from None
    return answered(pictures, answer, data, split=split, name=name)


def answered(pictures: tuple[Picture, ...], answer: Any, data: Data, *, split: str, name: str) -> Row:
    """A row of these images: the user shows them and gives the instruction, the assistant answers.

    Raises:
        BadRow: if the answer is no text that could be learnt.
    """
    text = str(answer) if isinstance(answer, int) and not isinstance(answer, bool) else answer
    if not isinstance(text, str) or not text.strip():
        shown = answer if answer is None or isinstance(answer, str | bool | float) else type(answer).__name__
        raise BadRow(f"the answer ({data.answer_column}) is {quoted(shown)}; allowed: text", pictures)
    sound_text(text, "the answer", pictures)
    asked: tuple[Content, ...] = (*pictures, data.instruction) if data.instruction else pictures
    return Row(Conversation((Turn("user", asked), Turn("assistant", (text,))), name), split)


def _cell(values: Mapping[str, Any], column: str) -> Any:
    if column not in values:
        names = ", ".join(quoted(key) for key in list(values)[:12])
        raise BadRow(f"no column {quoted(column)}; columns: {names or 'none'}")
    return values[column]
