"""The micro-batches that a run can draw from its rows, and the few that bound what any of them takes."""

from __future__ import annotations

import statistics
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from vlcheck.finding import Unavailable
from vlcheck.memory.batch import layout_of
from vlcheck.memory.rows import check_modalities, shape_of
from vlcheck.memory.shape import Basis, Shape
from vlcheck.model.family import Family, Values
from vlcheck.processing.lengths import Lengths, RowLength
from vlcheck.spec import Data

SHAPES = 3
"""Micro-batches that are simulated to find the worst."""
WIDER = 4096
"""How many numbers of soft tokens are tried from a measured one upward, for one that the family's images can have."""


def shapes_of(lengths: Lengths, data: Data, family: Family, config: Values, *, rows: int,
              most: int = SHAPES) -> tuple[Shape, ...]:  # fmt: skip
    """Micro-batches of which one takes at least what any takes that the run can draw; the longest first.

    A micro-batch is padded to its longest row. With that row in it, it holds at most the images and answers of that
    row and of the fullest others that are no longer. Of draws that are beaten in every respect nothing is kept; where
    more than `most` remain, neighbours in length are joined into one that is as full as each.

    Args:
        config: the model's config, as `transformers_config(...).to_dict()` gives it.
        rows: micro-batch.
        most: micro-batches at most; with fewer the worst is bounded less tightly.

    Raises:
        Unavailable: for a model whose processor is not described, or video or audio.
    """
    check_modalities(data)
    size, limit = rows, data.max_length
    known = _trained(lengths.rows, limit, drop=data.overflow == "drop")
    if not known:
        return (shape_of(data, family, config, rows=size),)
    typical = _shape(_Draw.of([_middle(known)] * size), data, family, config)
    basis, told = Basis.ROWS, [f"the worst micro-batch of {len(known):,} rows; one of middling rows is {typical}"]
    if lengths.unread:
        told.append(lengths.unread)
        basis = Basis.ASSUMED
    if lengths.unread and limit is not None:
        told.append(f"a row of max_length ({limit} tokens) among the others, the worst case")
        basis = Basis.LIMIT
        known.append(replace(_fullest(known), tokens=limit))
    drawn = _joined(_unbeaten(_draws(known, size)), most)
    return tuple(
        replace(_shape(draw, data, family, config), basis=basis, typical=typical, assumptions=tuple(told))
        for draw in drawn
    )


def shapes_drawn(batches: Iterable[Sequence[RowLength]], data: Data, family: Family, config: Values) -> list[Shape]:
    """Micro-batches that were drawn, but for those that another one beats in every respect; the longest first.

    Args:
        batches: the rows of each.
        config: as for `shapes_of`.
    """
    return [_shape(draw, data, family, config) for draw in _unbeaten(map(_Draw.of, batches))]


@dataclass(frozen=True)
class _Draw:
    """Bounds of the micro-batches that have the same longest row."""

    tokens: int
    soft_tokens: int
    """Of all images."""
    pixels: int
    """Numbers of all images."""
    images: tuple[int, ...]
    """Of each row, the most first."""
    answers: tuple[int, ...]
    """Supervised tokens of each row, the most first."""
    padded: bool = False
    """Whether rows differ in length."""

    @classmethod
    def of(cls, rows: Sequence[RowLength]) -> _Draw:
        """Of rows that are known one by one."""
        return cls(
            max(row.tokens for row in rows),
            sum(row.soft_tokens for row in rows),
            sum(row.pixels for row in rows),
            tuple(sorted((row.images for row in rows), reverse=True)),
            tuple(sorted((row.supervised for row in rows), reverse=True)),
            len({row.tokens for row in rows}) > 1,
        )

    @property
    def sums(self) -> tuple[int, ...]:
        """What must be no lower in another draw for that to take as much."""
        return (self.tokens, self.soft_tokens, self.pixels, sum(self.images), self.images[0],
                sum(self.answers), self.answers[0], self.padded)  # fmt: skip


def _trained(rows: Sequence[RowLength], limit: int | None, *, drop: bool) -> list[RowLength]:
    """Rows that reach the model: a longer one than the limit is left out, or cut by frameworks that cut."""
    if limit is None:
        return [*rows]
    return [replace(row, tokens=min(row.tokens, limit)) for row in rows if row.tokens <= limit or not drop]


def _middle(rows: Sequence[RowLength]) -> RowLength:
    return RowLength(*(int(statistics.median_high(getattr(row, name) for row in rows)) for name in RowLength.__slots__))


def _fullest(rows: Sequence[RowLength]) -> RowLength:
    return RowLength(*(max(getattr(row, name) for row in rows) for name in RowLength.__slots__))


def _draws(rows: Sequence[RowLength], size: int) -> Iterator[_Draw]:
    """For each row the draw that it is the longest of.

    Epochs follow each other without a gap, so a micro-batch may hold a row twice, the last of one epoch and the first
    of the next.
    """
    others, padded = size - 1, size > 1 and len({row.tokens for row in rows}) > 1
    twice = -(-others // len(rows))
    tops: dict[str, list[int]] = {name: [0] * others for name in RowLength.__slots__}
    for row in sorted(rows, key=lambda row: row.tokens):
        for name, top in tops.items():
            for _ in range(min(twice, others)):
                insort(top, getattr(row, name))
            del top[: max(0, len(top) - others)]
        yield _Draw(
            row.tokens,
            row.soft_tokens + sum(tops["soft_tokens"]),
            row.pixels + sum(tops["pixels"]),
            tuple(sorted((row.images, *tops["images"]), reverse=True)),
            tuple(sorted((row.supervised, *tops["supervised"]), reverse=True)),
            padded,
        )


def _unbeaten(draws: Iterator[_Draw]) -> list[_Draw]:
    """Those that no other one equals or exceeds in every respect, the longest first."""
    kept: list[_Draw] = []
    for draw in sorted(draws, key=lambda draw: draw.sums, reverse=True):
        sums = draw.sums
        if not any(all(more >= own for more, own in zip(other.sums, sums, strict=True)) for other in kept):
            kept.append(draw)
    return kept


def _joined(draws: list[_Draw], most: int) -> list[_Draw]:
    """At most so many, cut apart where lengths differ most; each as full as all that it stands for."""
    gaps = sorted(
        range(1, len(draws)), key=lambda number: draws[number - 1].tokens / draws[number].tokens, reverse=True
    )
    cuts = [0, *sorted(gaps[: most - 1]), len(draws)]
    return [_join(draws[start:stop]) for start, stop in pairwise(cuts)]


def _join(draws: Sequence[_Draw]) -> _Draw:
    return _Draw(
        max(draw.tokens for draw in draws),
        max(draw.soft_tokens for draw in draws),
        max(draw.pixels for draw in draws),
        tuple(map(max, *(draw.images for draw in draws))) if len(draws) > 1 else draws[0].images,
        tuple(map(max, *(draw.answers for draw in draws))) if len(draws) > 1 else draws[0].answers,
        any(draw.padded for draw in draws),
    )


def _shape(draw: _Draw, data: Data, family: Family, config: Values) -> Shape:
    """A micro-batch of equal images that holds at least this."""
    count = sum(draw.images)
    soft = _soft_tokens(draw, count, data, family, config) if count else 1
    body = draw.images[0] * len(layout_of(family, config, soft, torch.device("meta")).ids) if count else 0
    answers = tuple(max(1, each) for each in draw.answers)
    tokens = max(draw.tokens, body + answers[0] + 1, draw.images[0] * (soft + 2) + answers[0])
    return Shape(rows=len(draw.images), tokens=tokens, soft_tokens=soft, images=draw.images[0], supervised=answers[0],
                 pictures=draw.images, answers=answers, padded=draw.padded)  # fmt: skip


def _soft_tokens(draw: _Draw, count: int, data: Data, family: Family, config: Values) -> int:
    """Soft tokens of each of so many equal images that have together what was measured, or a little more.

    A processor that pads every image to a budget is known by its pixels: they are the same for every image.
    """
    mean, pixels = -(-draw.soft_tokens // count), -(-draw.pixels // count)
    if family.soft_tokens is not None:
        budget, _ = family.soft_tokens(config, data.max_soft_tokens)
        if budget >= mean and _pixels(family, config, budget) == pixels:
            return budget
    for soft in range(max(1, mean), max(1, mean) + WIDER):
        try:
            if _pixels(family, config, soft) >= pixels:
                return soft
        except Unavailable as missing:
            refused = missing
    raise Unavailable(f"images of {mean} soft tokens have no memory model in {family.name}: {refused.reason}")


def _pixels(family: Family, config: Values, soft_tokens: int) -> int:
    layout = layout_of(family, config, soft_tokens, torch.device("meta"))
    return layout.tensors["pixel_values"].numel() if "pixel_values" in layout.tensors else 0
