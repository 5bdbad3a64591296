"""Charts: legible, whole, and honest about what they leave out."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlcheck.training import charts
from vlcheck.training.charts import BAD, GOOD, draw_confusion, draw_curve, ticks

FLOATS = st.floats(-1e12, 1e12, allow_nan=False)


@given(FLOATS, FLOATS)
def test_ticks_are_round_and_around_the_values(one, other):
    """Few, ascending, equally far apart by 1, 2 or 5 times a power of ten, and the values lie between them."""
    least, greatest = sorted((one, other))
    found = ticks(least, greatest)
    step = found[1] - found[0]

    assert 3 <= len(found) <= 9
    assert all(a < b for a, b in itertools.pairwise(found))
    slack = 1e-6 * step + 1e-9 * max(abs(least), abs(greatest))
    assert found[0] <= least + slack
    assert found[-1] >= greatest - slack


@pytest.mark.parametrize(
    ("least", "greatest", "found"),
    [
        (0, 60, [0, 10, 20, 30, 40, 50, 60]),
        (0.12, 2.3, [0, 0.5, 1, 1.5, 2, 2.5]),
        (5, 5, [5, 6, 7]),
        (0, 0, [0, 0.2, 0.4]),
        (-3, 4, [-4, -2, 0, 2, 4]),
    ],
)
def test_ticks_of_ordinary_axes(least, greatest, found):
    """What a reader expects to see."""
    assert ticks(least, greatest) == pytest.approx(found)


def test_steps_are_whole():
    """There is no step 0.5."""
    assert ticks(0, 2, whole=True) == [0, 1, 2]


def colours(file):
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        return {colour for _, colour in picture.getcolors(1 << 20)}


@pytest.mark.parametrize(
    ("points", "noted"),
    [
        ([(1, 2.0), (2, 1.0), (3, 0.5)], False),
        ([(1, 2.0), (2, math.nan), (3, math.inf), (4, 0.5)], True),
        ([(1, math.nan)], True),
        ([(1, 3.0)], False),
        ([(1, 1e-9), (2, 1e30)], False),
        ([], False),
    ],
)
def test_curve_says_what_is_left_out(tmp_path, points, noted):
    """A note in red where values are not finite, whatever else there is to draw."""
    draw_curve(points, tmp_path / "loss.png", title="Loss", x_label="step", y_label="loss")

    assert (BAD in colours(tmp_path / "loss.png")) == noted


@pytest.mark.parametrize("count", [1, 6, 37])
def test_confusion_is_legible(tmp_path, count):
    """Every label has a row and a column of at least 24 pixels; right is green, wrong is red."""
    labels = [f"label number {number}" for number in range(count)]
    confusion = {(label, label): 100 for label in labels[:-1]} | {(labels[-1], None): 100}
    draw_confusion(labels, confusion, tmp_path / "confusion.png", title="Confusion")

    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) >= 24 * count
        assert max(picture.size) < 2000
    assert BAD in colours(tmp_path / "confusion.png")
    assert (GOOD in colours(tmp_path / "confusion.png")) == (count > 1)


@pytest.mark.parametrize("labels", [2, 40])
@pytest.mark.parametrize("title", ["a short one", f"by/{'long-' * 7}name, split validation: 1 of 5,678 correct"])
def test_the_title_is_not_cut_off(tmp_path, labels, title):
    """The picture is as wide as its title; right of the last letter there is paper."""
    names = [f"label {number}" for number in range(labels)]
    draw_confusion(names, {(name, name): 1 for name in names}, tmp_path / "a.png", title=title)
    with Image.open(tmp_path / "a.png") as picture:
        strip = picture.convert("L").crop((picture.width - 14, 8, picture.width, 30))
        assert strip.getextrema() == (255, 255)
        assert picture.width >= 16 + charts._font(16).getlength(title)


def test_a_curve_is_smoothed_where_it_has_many_values():
    """The mean of both neighbours, of one at either end; what is straight stays straight between them."""
    assert charts.smooth([(1, 1.0), (2, 4.0), (3, 1.0)]) == [(1, 2.5), (2, 2.0), (3, 2.5)]
    line = [(number, 2.0 * number) for number in range(100)]
    assert [y for _, y in charts.smooth(line)][3:-3] == pytest.approx([y for _, y in line][3:-3])


def test_a_sheet_of_any_pictures(tmp_path):
    """Wide, high, none; and lines longer than a cell."""
    pictures = [Image.new("RGB", (900, 20)), Image.new("L", (3, 700)), None]
    charts.draw_sheet([(each, ("x" * 200, "y")) for each in pictures], tmp_path / "a.png", title="t" * 500)
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size == (900, 48 + 160 + 2 * 18 + 14)
