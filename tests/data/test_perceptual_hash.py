"""Copies of a picture are found, other pictures are not, and the search misses none that the definition names."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance

from tests.photos import SHARED, encoded, photo
from vlcheck.data.perceptual_hash import COARSE_BITS, FINE_BITS, Fingerprint, alike, fingerprint

PETS = SHARED / "pets"
needs_pets = pytest.mark.skipif(not PETS.is_dir(), reason="needs the real photos of ../shared/data/pets")


def again(image: Image.Image, form: str = "JPEG", **options) -> Image.Image:
    return Image.open(io.BytesIO(encoded(image, form, **options))).convert("RGB")


def marked(image: Image.Image) -> Image.Image:
    copy = image.copy()
    ImageDraw.Draw(copy).text((image.width // 3, image.height // 2), "stock.example", fill="white")
    return copy


def trimmed(image: Image.Image) -> Image.Image:
    w, h = image.size
    return image.crop((w // 100, h // 100, w - w // 100, h - h // 100))


EDITS = {
    "JPEG at quality 50": lambda image: again(image, quality=50),
    "WebP": lambda image: again(image, "WEBP"),
    "half size": lambda image: again(image.resize((image.width // 2, image.height // 2)), quality=75),
    "brighter by 10 %": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "less contrast by 15 %": lambda image: ImageEnhance.Contrast(image).enhance(0.85),
    "watermark": marked,
    "grey": lambda image: image.convert("L").convert("RGB"),
}
FOUND = 0.97
"""Share of pet photos whose edited copy is found, whatever the edit."""


def distances(one: Fingerprint, other: Fingerprint) -> tuple[int, int]:
    fine = int.from_bytes(one.fine) ^ int.from_bytes(other.fine)
    return (one.coarse ^ other.coarse).bit_count(), fine.bit_count()


def near(one: Fingerprint, other: Fingerprint) -> bool:
    coarse, fine = distances(one, other)
    return coarse <= COARSE_BITS and fine <= FINE_BITS


@pytest.mark.parametrize("edit", EDITS)
def test_edited_copies(edit):
    """Generated photos survive every edit, and are unlike each other."""
    originals = [photo(seed) for seed in range(20)]
    assert all(near(fingerprint(image), fingerprint(EDITS[edit](image))) for image in originals)


@needs_pets
@pytest.mark.parametrize("edit", EDITS)
def test_edited_photos(edit):
    """Of real photos, at least the stated share."""
    files = sorted((PETS / "images").glob("*.jpg"))[::10]
    images = [Image.open(file).convert("RGB") for file in files]
    found = [near(fingerprint(image), fingerprint(EDITS[edit](image))) for image in images]
    assert sum(found) >= FOUND * len(found)


SAME_PHOTO = {(11, 177), (24, 56), (40, 63), (5, 87), (99, 151), (122, 172)}
"""Numbers of the Abyssinian photos that are one photo twice, each pair looked at: resized, marked, toned."""


@needs_pets
def test_all_pairs_of_real_photos():
    """Of 441,330 pairs of photos, those are named that show the same photo, and no other."""
    files = sorted((PETS / "images").glob("*.jpg"))
    assert len(files) * (len(files) - 1) // 2 == 441_330
    seen = [fingerprint(Image.open(file).convert("RGB")) for file in files]
    coarse = np.array([one.coarse for one in seen], np.uint64)
    fine = np.frombuffer(b"".join(one.fine for one in seen), np.uint8).reshape(-1, 32)
    pairs = {tuple(sorted((files[a].stem, files[b].stem))) for a, b in alike(coarse, fine, coarse, fine) if a != b}
    assert pairs == {tuple(sorted(f"Abyssinian_{n}" for n in pair)) for pair in SAME_PHOTO}


def test_pages_are_too_plain():
    """Two invoices of one form look alike in a thumbnail and are not the same."""

    def page(text: str) -> Image.Image:
        image = Image.new("RGB", (400, 560), "white")
        for line in range(12):
            ImageDraw.Draw(image).text((30, 70 + line * 35), f"{text} {line * 7919 % 997}", fill="black")
        return image

    one, other = fingerprint(page("Invoice A")), fingerprint(page("Invoice B"))
    assert one.plain
    assert other.plain
    assert one.pixels != other.pixels


def test_equal_pixels_whatever_the_size():
    """The hash holds the size: 2 x 8 grey pixels are not 4 x 4."""
    assert fingerprint(Image.new("RGB", (2, 8))).pixels != fingerprint(Image.new("RGB", (4, 4))).pixels
    assert fingerprint(photo(1)) == fingerprint(again(photo(1), "PNG"))


hashes = st.tuples(st.integers(0, 2**64 - 1), st.binary(min_size=32, max_size=32))
flips = st.tuples(st.sets(st.integers(0, 63), max_size=9), st.sets(st.integers(0, 255), max_size=26))


def flipped(pair: tuple[int, bytes], bits: tuple[set[int], set[int]]) -> tuple[int, bytes]:
    coarse, fine = pair
    return (
        coarse ^ sum(1 << bit for bit in bits[0]),
        (int.from_bytes(fine) ^ sum(1 << bit for bit in bits[1])).to_bytes(32),
    )


@given(st.lists(hashes, min_size=1, max_size=20), st.lists(st.tuples(st.integers(0, 19), flips), max_size=20))
def test_search_finds_exactly_what_is_near(pictures, edits):
    """The bands miss no pair within the limits, and name none beyond them."""
    queries = [flipped(pictures[index % len(pictures)], bits) for index, bits in edits]
    expected = {
        (q, n)
        for q, (coarse_q, fine_q) in enumerate(queries)
        for n, (coarse_n, fine_n) in enumerate(pictures)
        if (coarse_q ^ coarse_n).bit_count() <= COARSE_BITS
        and (int.from_bytes(fine_q) ^ int.from_bytes(fine_n)).bit_count() <= FINE_BITS
    }

    def columns(pairs):
        fine = np.frombuffer(b"".join(fine for _, fine in pairs), np.uint8).reshape(-1, 32)
        return np.array([coarse for coarse, _ in pairs], np.uint64), fine

    assert set(alike(*columns(queries), *columns(pictures))) == expected
