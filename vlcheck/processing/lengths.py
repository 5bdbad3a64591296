"""How long the rows of a run are once their images are expanded: from their text and their images' headers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from vlcheck.data.conversation import BadRow, Conversation
from vlcheck.data.images import BadPicture, read_size
from vlcheck.processing.chat_template import RowText
from vlcheck.processing.collator import Collator, placeholder

SECONDS = 5.0
"""Rows are read for so long; a plan that rests on a part of them says so."""
CHUNK = 64
"""Rows whose text is cut into tokens at once."""


@dataclass(frozen=True, slots=True)
class RowLength:
    """What one row takes of a batch."""

    tokens: int
    """After image expansion; up to two an image too many where a family writes line ends around it."""
    images: int = 0
    soft_tokens: int = 0
    """Of all its images together."""
    supervised: int = 1
    """Ids that the loss is taken over, the end of each answer included."""
    pixels: int = 0
    """Numbers in `pixel_values` of all its images together."""


@dataclass(frozen=True)
class Lengths:
    """The rows of a training split that could be measured."""

    rows: tuple[RowLength, ...] = ()
    unread: str = ""
    """Why these are not all rows; empty where they are."""


def measure_rows(
    conversations: Iterable[Conversation],
    collator: Collator,
    *,
    seconds: float = SECONDS,
    progress: Callable[[str], None] = lambda step: None,
) -> Lengths:
    """Measure the rows that conversations train, for at most so many seconds.

    No image of the data is decoded: its header tells its size, and a grey image of each size that occurs is given to
    the run's own processor once. A row that the collator would refuse is left out.

    Args:
        progress: told how many rows were measured.
    """
    measure = _Measure(collator)
    found: list[RowLength] = []
    end = time.monotonic() + seconds
    rows = iter(conversations)
    for chunk in iter(lambda: list(islice(rows, CHUNK)), []):
        if time.monotonic() > end:
            return Lengths(tuple(found), f"only the first {len(found):,} rows were measured, within {seconds:g} s")
        found += measure.all_of(chunk)
        progress(f"Measuring rows: {len(found):,}")
    return Lengths(tuple(found))


class _Measure:
    def __init__(self, collator: Collator) -> None:
        self.collator, self.processor = collator, collator.processor
        self.token = placeholder(self.processor)
        self.soft = self.processor.tokenizer.convert_tokens_to_ids(collator.dialogue.image_tokens[0])
        self.marked = not (collator.template.opening.bos or collator.dialogue.suffix)
        self._images: dict[tuple[int, int], tuple[int, int, int]] = {}

    def all_of(self, conversations: list[Conversation]) -> Iterator[RowLength]:
        """Of each row that can be measured."""
        rows, images = [], []
        for conversation in conversations:
            try:
                for row in self.collator.rows(conversation):
                    images.append([self._image(*read_size(picture)) for picture in row.pictures])
                    rows.append(row)
            except (BadRow, BadPicture):  # the rules of the data and of the labels name them
                del images[len(rows) :]
        if rows:
            texts = [row.text for row in rows]
            cut = self.processor.tokenizer(texts, add_special_tokens=self.marked, return_offsets_mapping=True)
            for row, offsets, own in zip(rows, cut["offset_mapping"], images, strict=True):
                yield self._row(row, offsets, own)

    def _row(self, row: RowText, offsets: list[tuple[int, int]], images: list[tuple[int, int, int]]) -> RowLength:
        tokens = len(offsets) + sum(more for more, _, _ in images)
        if row.suffix is not None:  # the processor's <bos> and line end were counted with the image
            suffix = len(self.processor.tokenizer(row.suffix, add_special_tokens=False)["input_ids"]) + 1
            return RowLength(tokens + suffix, *_sums(images), supervised=suffix, pixels=sum(n for *_, n in images))
        supervised = sum(self._answer(place.at + len(place.header), place.answer, offsets) for place in row.places)
        return RowLength(tokens, *_sums(images), supervised=supervised, pixels=sum(n for *_, n in images))

    def _answer(self, start: int, answer: str, offsets: list[tuple[int, int]]) -> int:
        stop = start + len(answer) + len(self.collator.dialogue.end)
        return sum(start <= first and last <= stop and first < last for first, last in offsets)

    def _image(self, width: int, height: int) -> tuple[int, int, int]:
        """Ids that an image of this size adds to its placeholder, soft tokens among them, numbers of its pixels."""
        from PIL import Image

        if (width, height) not in self._images:
            grey = Image.new("RGB", (width, height), "grey")
            try:
                made: Any = self.processor(text=[self.token], images=[[grey]], return_tensors="pt",
                                           add_special_tokens=False)  # fmt: skip
            except Exception as error:  # whatever a processor raises at proportions that it does not take
                raise BadRow(f"the processor refuses an image of {width} x {height} pixels: {error}") from error
            ids = made["input_ids"][0]
            alone = self.processor.tokenizer(self.token, add_special_tokens=False)["input_ids"]
            self._images[width, height] = (
                len(ids) - len(alone), int((ids == self.soft).sum()), made["pixel_values"].numel()
            )  # fmt: skip
        return self._images[width, height]


def _sums(images: list[tuple[int, int, int]]) -> tuple[int, int]:
    return len(images), sum(soft for _, soft, _ in images)
