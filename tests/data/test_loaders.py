"""What the loaders of training scripts make of odd images: the facts that the rules' severities rest on."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.faults import sixteen_bits, turned
from tests.photos import encoded, photo
from vlcheck.data.conversation import Picture
from vlcheck.data.images import BadPicture, decode, open_picture


def by_pillow(content: bytes) -> Image.Image:
    """As a collator does it that calls PIL itself."""
    return Image.open(io.BytesIO(content)).convert("RGB")


def by_datasets(content: bytes) -> Image.Image:
    """As a row of `datasets` comes."""
    import datasets

    return datasets.Image().decode_example({"bytes": content, "path": None}).convert("RGB")


def by_transformers(content: bytes, path) -> Image.Image:
    """As a processor loads a path."""
    from transformers.image_utils import load_image

    path.write_bytes(content)
    return load_image(str(path))


def test_orientation(tmp_path):
    """Raw Pillow leaves a photo on its side; `datasets`, transformers and vlcheck turn it."""
    content = turned(6)
    assert by_pillow(content).size == (96, 64)
    assert by_datasets(content).size == (64, 96)
    assert by_transformers(content, tmp_path / "a.jpg").size == (64, 96)
    assert open_picture(Picture(content)).size == (64, 96)


def test_transparency():
    """`convert` brings up the hidden colour; vlcheck lays the image over white, as a viewer does."""
    hidden = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    content = encoded(hidden, "PNG")
    assert by_pillow(content).getpixel((0, 0)) == (200, 0, 0)
    assert by_datasets(content).getpixel((0, 0)) == (200, 0, 0)
    assert open_picture(Picture(content)).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits():
    """Conversion cuts where it should scale: all but the darkest pixels become white."""
    image = sixteen_bits()
    assert np.asarray(image).max() > 20_000
    assert (np.asarray(by_pillow(encoded(image, "PNG"))) == 255).mean() > 0.95


def test_how_an_image_was_stored():
    """One decoding tells pixels, format, mode, size and orientation."""
    decoded = decode(Picture(turned(6)))
    assert (decoded.format, decoded.mode, decoded.size, decoded.orientation) == ("JPEG", "RGB", (96, 64), 6)
    assert (decoded.image.size, decoded.image.mode, decoded.transparent) == ((64, 96), "RGB", False)
    grey = decode(Picture(encoded(photo(1).convert("L"), "PNG")))
    assert (grey.format, grey.mode, grey.orientation) == ("PNG", "L", 1)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_orientation_that_means_nothing(orientation):
    """Viewers and loaders pass over it."""
    decoded = decode(Picture(turned(orientation)))
    assert (decoded.orientation, decoded.image.size) == (1, (96, 64))


def test_postscript_is_never_run():
    """Pillow would hand the file to Ghostscript."""
    with pytest.raises(BadPicture, match="no image format that Pillow knows"):
        open_picture(Picture(encoded(photo(1), "EPS"), "a.jpg"))
