"""What a picture's name says of its format: a known suffix, in small letters, or nothing."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from vlcheck.data.conversation import Picture
from vlcheck.data.scan import _look


@pytest.mark.parametrize(("name", "suffix"), [
    ("cat.png", ".png"), ("cat.JPG", ".jpg"), ("row 3 (cat.png)", ".png"),
    ("cat", ""), ("cat.v2", ""), ("cat.2024", ""), ("row 3 (cat.label)", ""),
])  # fmt: skip
def test_suffix(name, suffix):
    """A name without a suffix, or with one that no image has, says nothing of the format."""
    held = io.BytesIO()
    Image.new("RGB", (4, 4)).save(held, "PNG")

    assert _look(Picture(held.getvalue(), name)).kind.suffix == suffix
