"""Pictures of an evaluation and of a training run, as PNG; Pillow alone draws them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw as Pen

INK, FAINT, PAPER, LINE = (30, 30, 30), (215, 215, 215), (255, 255, 255), (31, 79, 214)
GOOD, BAD = (31, 119, 80), (200, 60, 40)
PALE, MARK = (178, 196, 240), (224, 122, 24)
NO_LABEL = "no label"
WIDEST_TITLE = 900
"""Pixels that a title may widen a picture to; a longer one is cut with dots."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 500, 90, 30, 50, 60

CELL, COLUMNS = 160, 8
"""Pixels of a picture on a sheet, and pictures side by side."""
SMOOTHED = 0.06
"""Share of a curve's values that each point of its smooth line is the mean of."""
MANY = 20
"""Values from which on a curve is smoothed."""

Colour: TypeAlias = tuple[int, int, int]
Font: TypeAlias = Any


def draw_confusion(
    labels: Sequence[str], confusion: Mapping[tuple[str, str | None], int], file: Path, *, title: str
) -> None:
    """Draw a confusion matrix: a row a label, a column an answer, the last column for answers that are no label.

    A field is coloured by its share of the row, green on the diagonal and red off it, and holds its count.

    Args:
        labels: in the order of rows and columns.
        confusion: counts by label and answer, None for an answer that is no label.
    """
    cell, font = (24, _font(13)) if len(labels) > 12 else (44, _font(16))
    answers: list[str | None] = [*labels, None]
    shown = [_cut(label) for label in labels]
    margin = 16 + int(max(font.getlength(name) for name in (*shown, NO_LABEL)))
    left, top = margin + 30, margin + 70
    width = max(left + cell * len(answers) + 30, min(32 + math.ceil(_font(16).getlength(title)), WIDEST_TITLE))
    picture = Image.new("RGB", (width, top + cell * len(labels) + 30), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((16, 12), _fitting(title, _font(16), width - 32), INK, _font(16))
    pen.text((16, 36), "rows: expected, columns: answered", INK, font)
    for column, name in enumerate((*shown, NO_LABEL)):
        _write_upwards(picture, name, left + cell * column + cell // 2, top - 6, font)
    for row, label in enumerate(labels):
        y = top + cell * row
        pen.text((left - 8, y + cell // 2), shown[row], INK, font, anchor="rm")
        total = sum(confusion.get((label, answer), 0) for answer in answers)
        for column, answer in enumerate(answers):
            count = confusion.get((label, answer), 0)
            share = count / total if total else 0.0
            fill = _mixed(PAPER, GOOD if answer == label else BAD, share**0.5)
            x = left + cell * column
            pen.rectangle((x, y, x + cell, y + cell), fill=fill, outline=FAINT)
            if count:
                ink = PAPER if share > 0.4 else INK
                size = font if pen.textlength(str(count), font) < cell - 2 else _font(9)
                pen.text((x + cell // 2, y + cell // 2), str(count), ink, size, anchor="mm")
    x = left + cell * len(labels)
    pen.line((x, top, x, top + cell * len(labels)), INK, 2)
    _save(picture, file)


def draw_curve(
    points: Sequence[tuple[int, float]],
    file: Path,
    *,
    title: str,
    x_label: str,
    y_label: str,
    marks: Sequence[tuple[int, float]] = (),
) -> None:
    """Draw values over steps: each faintly, and over them their mean over `SMOOTHED` of the steps around each.

    Values that are not finite are left out, the line is broken there, and a note in the picture counts them.

    Args:
        points: step and value, steps ascending; there may be none.
        file: replaced as a whole.
        marks: step and value of evaluations, drawn as dots.
    """
    picture = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen, font = ImageDraw.Draw(picture), _font(14)
    finite = [(x, y) for x, y in (*points, *marks) if math.isfinite(y)]
    pen.text((LEFT, 14), _fitting(title, _font(16), WIDTH - LEFT - 330), INK, _font(16))
    pen.text((WIDTH // 2, HEIGHT - 12), x_label, INK, font, anchor="ms")
    pen.text((LEFT - 8, TOP - 8), y_label, INK, font, anchor="rs")
    if lost := sum(not math.isfinite(y) for _, y in points):
        note = f"{lost} of {len(points)} values not finite, left out"
        pen.text((WIDTH - RIGHT, 14), note, BAD, font, anchor="ra")
    elif marks:
        pen.text((WIDTH - RIGHT, 14), "dots: evaluation split", MARK, font, anchor="ra")
    if not finite:
        pen.text((WIDTH // 2, HEIGHT // 2), "no values", INK, font, anchor="mm")
    else:
        across = ticks(min(x for x, _ in finite), max(x for x, _ in finite), whole=True)
        up = ticks(min(y for _, y in finite), max(y for _, y in finite))
        _draw_axes(pen, across, up, font)
        stretches, smoothed = _stretches(points), len(finite) >= MANY
        for stretch in stretches:
            _draw_line(pen, stretch, across, up, PALE if smoothed else LINE)
        for stretch in stretches if smoothed else ():
            _draw_line(pen, smooth(stretch), across, up, LINE)
        for x, y in _placed([mark for mark in marks if math.isfinite(mark[1])], across, up):
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), MARK, PAPER)
    _save(picture, file)


def smooth(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The mean of each value and its neighbours, a share of `SMOOTHED` of all; fewer of them at both ends."""
    half = max(1, round(len(points) * SMOOTHED / 2))
    sums = list(accumulate((y for _, y in points), initial=0.0))
    found = []
    for at, (x, _) in enumerate(points):
        start, stop = max(0, at - half), min(len(points), at + half + 1)
        found.append((x, (sums[stop] - sums[start]) / (stop - start)))
    return found


def draw_sheet(cells: Iterable[tuple[Image.Image | None, Sequence[str]]], file: Path, *, title: str) -> None:
    """Draw pictures side by side, each with its lines below it.

    Args:
        cells: a picture of any size, None where it has none, and lines, which are cut to the width of their cell.
        file: replaced as a whole.
    """
    held = [(_thumbnail(picture), lines) for picture, lines in cells]
    font, columns = _font(12), max(1, min(COLUMNS, len(held)))
    tall = CELL + 18 * max((len(lines) for _, lines in held), default=0) + 14
    width, rows = max(WIDEST_TITLE, 16 + columns * (CELL + 16)), -(-len(held) // columns)
    sheet = Image.new("RGB", (width, 48 + rows * tall), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((16, 12), _fitting(title, _font(16), width - 32), INK, _font(16))
    for number, (picture, lines) in enumerate(held):
        x, y = 16 + number % columns * (CELL + 16), 48 + number // columns * tall
        pen.rectangle((x - 1, y - 1, x + CELL, y + CELL), outline=FAINT)
        if picture is not None:
            sheet.paste(picture, (x + (CELL - picture.width) // 2, y + (CELL - picture.height) // 2))
        for at, line in enumerate(lines):
            pen.text((x, y + CELL + 4 + 18 * at), _fitting(" ".join(line.split()), font, CELL), INK, font)
    _save(sheet, file)


def _thumbnail(picture: Image.Image | None) -> Image.Image | None:
    if picture is None:
        return None
    small = picture.convert("RGB")
    small.thumbnail((CELL, CELL))
    return small


def ticks(least: float, greatest: float, *, whole: bool = False) -> list[float]:
    """Round values, equally far apart, the first at or below `least` and the last at or above `greatest`.

    Steps are 1, 2 or 5 times a power of ten, and there are three to eight values.

    Args:
        whole: steps are at least 1.
    """
    least, greatest = float(least), float(greatest)
    span = greatest - least
    if not span > max(1e-9 * max(abs(least), abs(greatest)), 1e-100):  # one value, or too near for steps between
        span = max(abs(least), abs(greatest), 1e-100) if max(abs(least), abs(greatest)) > 1e-100 else 1.0
    exponent = math.floor(math.log10(span / 6))
    steps = (factor * 10.0**power for power in (exponent, exponent + 1) for factor in (1, 2, 5))
    step = next(step for step in steps if step * 6 >= span * (1 - 1e-9))
    step = max(1.0, step) if whole else step
    first = math.floor(least / step + 1e-9)
    last = max(math.ceil(greatest / step - 1e-9), first + 2)
    digits = max(0, -math.floor(math.log10(step)))
    return [round(number * step, digits) for number in range(first, last + 1)]


def _draw_axes(pen: Pen, across: Sequence[float], up: Sequence[float], font: Font) -> None:
    for value in up:
        y = _scaled(value, up, HEIGHT - BOTTOM, TOP)
        pen.line((LEFT, y, WIDTH - RIGHT, y), FAINT)
        pen.text((LEFT - 8, y), _number(value), INK, font, anchor="rm")
    for value in across:
        x = _scaled(value, across, LEFT, WIDTH - RIGHT)
        pen.line((x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 5), INK)
        pen.text((x, HEIGHT - BOTTOM + 8), _number(value), INK, font, anchor="ma")
    pen.line((LEFT, TOP, LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM), INK)


def _placed(
    points: Sequence[tuple[int, float]], across: Sequence[float], up: Sequence[float]
) -> list[tuple[float, float]]:
    return [(_scaled(x, across, LEFT, WIDTH - RIGHT), _scaled(y, up, HEIGHT - BOTTOM, TOP)) for x, y in points]


def _draw_line(
    pen: Pen, stretch: Sequence[tuple[int, float]], across: Sequence[float], up: Sequence[float], colour: Colour
) -> None:
    spots = _placed(stretch, across, up)
    if len(spots) == 1:
        x, y = spots[0]
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), colour)
    else:
        pen.line(spots, colour, 2, joint="curve")


def _save(picture: Image.Image, file: Path) -> None:
    """Put a picture in the place of the one before, so that nobody sees half of it."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        picture.save(draft, "PNG")
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _fitting(text: str, font: Font, width: float) -> str:
    """A text, cut to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _stretches(points: Sequence[tuple[int, float]]) -> list[list[tuple[int, float]]]:
    """Runs of finite values."""
    runs: list[list[tuple[int, float]]] = [[]]
    for x, y in points:
        if math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _scaled(value: float, axis: Sequence[float], start: int, stop: int) -> float:
    return start + (value - axis[0]) / (axis[-1] - axis[0]) * (stop - start)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 and value == int(value) and abs(value) < 1e9 else f"{value:.6g}"


def _write_upwards(picture: Image.Image, text: str, x: int, bottom: int, font: Font) -> None:
    """Text turned by 90 degrees, centred at x, ending at `bottom`."""
    length, height = int(font.getlength(text)) + 2, 20
    strip = Image.new("RGB", (length, height), PAPER)
    ImageDraw.Draw(strip).text((0, height // 2), text, INK, font, anchor="lm")
    picture.paste(strip.rotate(90, expand=True), (x - height // 2, bottom - length))


def _font(size: int) -> Font:
    """Pillow's own font, so that a picture looks alike on all machines."""
    return ImageFont.load_default(size=size)


def _cut(label: str) -> str:
    return label if len(label) <= 32 else f"{label[:31]}..."


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
