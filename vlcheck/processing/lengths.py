"""How long the rows of a run are once their images are expanded: from their text and their images' headers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from vlcheck.data.conversation import BadRow, Conversation, Picture
from vlcheck.data.images import BadPicture, read_size
from vlcheck.processing.chat_template import RowText
from vlcheck.processing.collator import Collator, placeholder

SECONDS = 900.0
"""Rows are read for so long, which is enough for two million; a plan that rests on a part of them says so."""
REMEMBERED = 20_000
"""Rows and image files that are not measured again."""
CHUNK = 64
"""Rows whose text is cut into tokens at once."""

_Key: TypeAlias = tuple[tuple[str, str, tuple[str | tuple[int, int], ...]], ...]
"""Turns with the sizes of images in their place."""


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
    """The rows of a split that could be measured."""

    rows: tuple[RowLength, ...] = ()
    unread: str = ""
    """Why these are not all rows; empty where they are."""
    names: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """What messages call each of them."""
    slack: int = field(default=0, compare=False)
    """Tokens an image by which a row may be shorter than it was measured."""
    evaluated: Lengths | None = field(default=None, compare=False)
    """Of the split that the run evaluates on while it trains; None where it does not, or none could be read."""

    def over(self, limit: int) -> tuple[tuple[str, int], ...]:
        """Rows that are longer than a limit for certain, by name and tokens, the longest first."""
        least = ((name, row.tokens - self.slack * row.images) for name, row in zip(self.names, self.rows, strict=False))
        return tuple(sorted((each for each in least if each[1] > limit), key=lambda each: -each[1]))


@dataclass(frozen=True)
class LongRows:
    """Rows of the training split that are longer than the run allows."""

    measured: int
    """Rows that were measured, images expanded."""
    over: tuple[tuple[str, int], ...]
    """Name and tokens of each that is too long, the longest first."""


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
    names: list[str] = []
    end = time.monotonic() + seconds
    rows = iter(conversations)
    for chunk in iter(lambda: list(islice(rows, CHUNK)), []):
        if time.monotonic() > end:
            told = f"only the first {len(found):,} rows were measured, within {seconds:g} s"
            return Lengths(tuple(found), told, tuple(names), measure.slack)
        for name, length in measure.all_of(chunk):
            names.append(name)
            found.append(length)
        progress(f"Measuring rows: {len(found):,}")
    return Lengths(tuple(found), "", tuple(names), measure.slack)


class _Measure:
    """Rows that say the same and show images of the same sizes are measured once."""

    def __init__(self, collator: Collator) -> None:
        self.collator, self.processor = collator, collator.processor
        self.token = placeholder(self.processor)
        self.soft = self.processor.tokenizer.convert_tokens_to_ids(collator.dialogue.image_tokens[0])
        self.marked = not (collator.template.opening.bos or collator.dialogue.suffix)
        self._images: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._sizes = lru_cache(REMEMBERED)(read_size)
        self.slack = 0
        self._known: dict[_Key, tuple[RowLength, ...]] = {}

    def all_of(self, conversations: Sequence[Conversation]) -> Iterator[tuple[str, RowLength]]:
        """Of each row that can be measured, its conversation's name."""
        if len(self._known) > REMEMBERED:
            self._known.clear()
        keys = list(map(self._key, conversations))
        new = {key: one for key, one in zip(keys, conversations, strict=True) if key and key not in self._known}
        self._known |= zip(new, self._measured(list(new.values())), strict=True)
        for key, conversation in zip(keys, conversations, strict=True):
            for length in self._known[key] if key else ():
                yield str(conversation), length

    def _key(self, conversation: Conversation) -> _Key | None:
        """What a conversation's lengths hang on; None where an image cannot be read."""
        try:
            return tuple(
                (turn.role, turn.thinking, tuple(p if isinstance(p, str) else self._size(p) for p in turn.content))
                for turn in conversation.turns
            )
        except BadPicture:  # the rules of the data name it
            return None

    def _size(self, picture: Picture) -> tuple[int, int]:
        """Of a file that many rows show, read once."""
        return self._sizes(picture) if isinstance(picture.source, Path) else read_size(picture)

    def _measured(self, conversations: Sequence[Conversation]) -> Iterator[tuple[RowLength, ...]]:
        """The rows of each conversation, their texts cut at once; none where the collator would refuse it."""
        rows: list[RowText] = []
        images: list[list[tuple[int, int, int]]] = []
        ends = []
        for conversation in conversations:
            with contextlib.suppress(BadRow):  # the rules of the labels name it
                own = self.collator.rows(conversation)
                images += [[self._image(*self._size(picture)) for picture in row.pictures] for row in own]
                rows += own
            ends.append(len(rows))
        texts = [row.text for row in rows]
        options = {"add_special_tokens": self.marked, "return_offsets_mapping": True}
        cut = self.processor.tokenizer(texts, **options)["offset_mapping"] if rows else ()
        found = [self._row(row, offsets, own) for row, offsets, own in zip(rows, cut, images, strict=True)]
        for first, end in zip([0, *ends], ends, strict=False):
            yield tuple(found[first:end])

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
            if "\n" in self.processor.tokenizer.decode(ids[ids != self.soft]):  # which may join one of the text's
                self.slack = 2
            alone = self.processor.tokenizer(self.token, add_special_tokens=False)["input_ids"]
            self._images[width, height] = (
                len(ids) - len(alone), int((ids == self.soft).sum()), made["pixel_values"].numel()
            )  # fmt: skip
        return self._images[width, height]


def _sums(images: list[tuple[int, int, int]]) -> tuple[int, int]:
    return len(images), sum(soft for _, soft, _ in images)
