"""Pictures drawn on the spot: the data of a run that must need no data."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator

from PIL import Image, ImageDraw

from vlcheck.data.conversation import Picture
from vlcheck.data.sources.flat import answered
from vlcheck.data.sources.row import NoSuchSplit, Row, RowProblem
from vlcheck.spec import Data

COLOURS = {
    "red": (214, 39, 40), "green": (44, 160, 44), "blue": (31, 79, 214), "yellow": (240, 205, 40),
    "purple": (138, 43, 190), "black": (25, 25, 25),
}  # fmt: skip
SIDE = 96
ROWS = {"train": 384, "test": 120}
"""Rows of each split; `train_samples` and `eval_samples` cut them."""


def draw_rows(data: Data, split: str) -> Iterator[Row | RowProblem]:
    """Yield one row a picture: a circle, square or triangle on a light ground, its colour the answer.

    Every picture is drawn from its split and number alone, so a row is the same in every run.

    Raises:
        NoSuchSplit: if the split is none of `ROWS`.
    """
    if split not in ROWS:
        raise NoSuchSplit(split, tuple(ROWS))
    for number in range(ROWS[split]):
        name = f"{split}[{number}]"
        colour = list(COLOURS)[number % len(COLOURS)]
        picture = Picture(_drawn(random.Random(name), colour), name)
        yield answered((picture,), colour, data, split=split, name=name)


def _drawn(dice: random.Random, colour: str) -> bytes:
    image = Image.new("RGB", (SIDE, SIDE), tuple(dice.randrange(200, 256) for _ in range(3)))
    width = dice.randrange(SIDE // 3, 2 * SIDE // 3)
    left, top = dice.randrange(SIDE - width), dice.randrange(SIDE - width)
    right, bottom = left + width, top + width
    fill = tuple(max(0, min(255, level + dice.randrange(-20, 21))) for level in COLOURS[colour])
    pen = ImageDraw.Draw(image)
    match dice.choice(("circle", "square", "triangle")):
        case "circle":
            pen.ellipse((left, top, right, bottom), fill=fill)
        case "square":
            pen.rectangle((left, top, right, bottom), fill=fill)
        case _:
            pen.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=fill)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
