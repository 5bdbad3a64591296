"""Open the images of samples, the way training sees them: turned upright, in RGB, never a decompression bomb."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from vlcheck.conversation import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST_PIXELS = 100_000_000
"""A 100-megapixel photo is 286 MiB once decoded; larger ones are refused before a pixel is read."""


class BadPicture(Exception):
    """An image that cannot be read; the message names it and says why."""


def open_picture(picture: Picture) -> Image:
    """Decode an image in full, apply its EXIF orientation, convert it to RGB.

    Transparent pixels are laid over white, as a viewer shows them; `convert("RGB")` alone would bring up
    whatever colour the encoder left under them.

    Raises:
        BadPicture: if there is no such file, it is no image, it is cut short, or it holds more than
            `LARGEST_PIXELS`.
    """
    from PIL import Image, ImageOps

    try:
        opened = _opened(picture)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own warning about large images; the limit here is ours
            width, height = opened.size
            if width * height > LARGEST_PIXELS:
                raise BadPicture(f"{picture}: {width} x {height} pixels; allowed: at most {LARGEST_PIXELS:,}")
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            if upright.mode == "RGB":
                return upright
            if upright.has_transparency_data:
                layers = upright.convert("RGBA")
                return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
            return upright.convert("RGB")
    except BadPicture:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise BadPicture(f"{picture}: {_reason(error)}") from error


def _opened(picture: Picture) -> Image:
    from PIL import Image

    source = picture.source
    if isinstance(source, Path):
        if source.stat().st_size == 0:
            raise BadPicture(f"{picture}: the file is empty")
        return _unlimited(source)
    if isinstance(source, bytes):
        if not source:
            raise BadPicture(f"{picture}: no bytes")
        return _unlimited(io.BytesIO(source))
    assert isinstance(source, Image.Image)
    return source


def _unlimited(file: Path | io.BytesIO) -> Image:
    """Read the header only; how many pixels are too many is decided by the caller, in one place."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(file)


def _reason(error: Exception) -> str:
    """Why an image cannot be read, without the object's address that Pillow prints."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "no image format that Pillow knows"
    if isinstance(error, Image.DecompressionBombError):
        return f"more pixels than allowed ({LARGEST_PIXELS:,})"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"cannot be decoded: {error or type(error).__name__}"
