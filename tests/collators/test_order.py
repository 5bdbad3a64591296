"""Rows that come back in another order: told from answers or images that went to other rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image, ImageEnhance

from tests.broken.collators import dropping, redrawn, with_images
from tests.broken.table import QWEN, asked, own
from vlcheck.collators.order import matched, order_of
from vlcheck.collators.regions import map_tokens
from vlcheck.data.conversation import Picture

FIRST = with_images(lambda images: [Picture(Image.new("RGB", (120, 96), "red"))])([asked("Bengal")])[0]
SECOND = with_images(lambda images: [Picture(Image.new("RGB", (96, 120), "blue"))])([asked("Russian Blue")])[0]


def order(given, rows=(FIRST, SECOND), change=dict):
    """The order of a batch that was made of other rows than those that were given."""
    collator = own(QWEN)
    wanted = collator.tensors([row for each in rows for row in collator.template.rows(each)])
    return order_of(change(collator(list(given))), rows, wanted, collator, map_tokens(collator.template))


def brighter(rows):
    return redrawn(lambda image: ImageEnhance.Brightness(image).enhance(0.8))(rows)


def answers_swapped(rows):
    return [replace(rows[0], turns=(rows[0].turns[0], rows[1].turns[1])),
            replace(rows[1], turns=(rows[1].turns[0], rows[0].turns[1]))]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), [
    ([FIRST, SECOND], None),
    ([SECOND, FIRST], (1, 0)),
    (brighter([SECOND, FIRST]), (1, 0)),
    (answers_swapped([FIRST, SECOND]), None),
    ([SECOND, SECOND], None),
    ([SECOND], None),
], ids=["in place", "sorted", "sorted and darker", "answers swapped", "one row twice", "one row lost"])  # fmt: skip
def test_rows_and_their_images_move_together(given, expected):
    """With alike questions, only the images tell a sorted batch from one whose answers were swapped."""
    assert order(given) == expected


def test_rows_that_are_alike_stay_where_they_are():
    """Of two equal rows the first comes first."""
    rows = (FIRST, SECOND, FIRST)

    assert order([FIRST, FIRST, SECOND], rows) == (0, 2, 1)
    assert order(rows, rows) is None


def test_without_pixels_nothing_is_known_of_their_order():
    """A batch that lacks them is judged as it was given."""
    assert order([SECOND, FIRST], change=dropping("pixel_values")) is None


def test_rows_by_themselves_are_put_into_the_order_of_a_batch():
    """By their words; where these are no permutation, they stay as they are."""
    collator = own(QWEN)
    alone = [collator([FIRST]), collator([SECOND])]
    token_map = map_tokens(collator.template)

    assert matched(collator([SECOND, FIRST]), alone, token_map) == alone[::-1]
    assert matched(collator([FIRST, SECOND]), alone, token_map) is alone
    assert matched(collator([FIRST, FIRST]), alone, token_map) is alone
    assert matched(collator(answers_swapped([FIRST, SECOND])), alone, token_map) is alone
