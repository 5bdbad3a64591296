"""The tape of a micro-batch between two that were simulated: more rows make blocks larger, and change nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from vlcheck.memory.shape import Shape
from vlcheck.memory.tape import Tape


def neighbours(shape: Shape, simulated: Iterable[Shape]) -> tuple[Shape, Shape] | None:
    """The nearest two shapes around this one that differ from it in their rows alone, the smaller first.

    Returns:
        None where there are none, or where rows differ from each other: their sum does not grow evenly, then.
    """
    alike = sorted({each.rows for each in simulated if each.with_rows(shape.rows) == shape})
    fewer = [rows for rows in alike if rows < shape.rows]
    more = [rows for rows in alike if rows > shape.rows]
    if not fewer or not more or not shape.with_rows(more[0]).even:
        return None
    return shape.with_rows(fewer[-1]), shape.with_rows(more[0])


def tape_between(rows: int, fewer: tuple[int, Tape], more: tuple[int, Tape]) -> Tape | None:
    """The tape of so many rows, each block on the line between its two sizes, rounded up.

    A workspace that grows by steps, and an expert's share of the tokens, may lie a little off that line.

    Args:
        fewer, more: rows and tape of the two that were simulated.

    Returns:
        None where the two do not take the same steps.
    """
    (low, small), (high, large) = fewer, more
    if small.events != large.events or small.marks != large.marks:
        return None
    above, span = rows - low, high - low
    sizes = [size - (size - wide) * above // span for size, wide in zip(small.sizes, large.sizes, strict=True)]
    return Tape(small.events, sizes, small.causes, small.marks)
