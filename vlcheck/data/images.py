"""Open the images of samples, the way training sees them: turned upright, in RGB, never a decompression bomb."""

from __future__ import annotations

import io
import stat
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vlcheck.data.conversation import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST_PIXELS = 100_000_000
"""A 100-megapixel photo is 286 MiB once decoded; larger ones are refused before a pixel is read."""
PLAIN_PIXELS = 2_000_000
"""Of a plain-text PPM, which Pillow (12) reads number by number: 2.8 s a megapixel, measured on one core."""
STRIP_ROWS = 256
FIRST = ("JPEG", "PNG", "WEBP")
"""Formats that most images of data sets have."""


class BadPicture(Exception):
    """An image that cannot be read; the message names it and says why."""


@dataclass(frozen=True)
class Decoded:
    """An image as training sees it, and how it was stored."""

    image: Image
    """Upright, in RGB."""
    format: str
    """Pillow's name of the file's format, whatever its name says; empty for an image that was open already."""
    mode: str
    """Pillow's name of how a pixel is stored: RGB, L, P, RGBA, CMYK, I;16, ..."""
    size: tuple[int, int]
    """Width and height as stored, before turning."""
    orientation: int
    """EXIF orientation; 1 is upright."""
    transparent: bool
    """Whether any pixel lets a background through."""


def open_picture(picture: Picture) -> Image:
    """The image alone, without Pillow's warnings; as `decode`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return decode(picture).image


def decode(picture: Picture) -> Decoded:
    """Decode an image in full, apply its EXIF orientation, convert it to RGB.

    Transparent pixels are laid over white, as a viewer shows them; `convert("RGB")` alone would bring up
    whatever colour the encoder left under them. Pillow's warnings are left to the caller to silence:
    `catch_warnings` is not safe among threads, and threads call this.

    Raises:
        BadPicture: if there is no such file, it is no image, it is cut short, or it holds more than
            `LARGEST_PIXELS`, or `PLAIN_PIXELS` as plain text.
    """
    from PIL import ImageOps
    from PIL.ExifTags import Base

    try:
        opened = _opened(picture)
        width, height = opened.size
        if width * height > LARGEST_PIXELS:
            raise BadPicture(f"{picture}: {width} x {height} pixels; allowed: at most {LARGEST_PIXELS:,}")
        if any(tile[0] == "ppm_plain" for tile in getattr(opened, "tile", ())) and width * height > PLAIN_PIXELS:
            raise BadPicture(f"{picture}: {width} x {height} pixels as plain text; allowed: at most {PLAIN_PIXELS:,}")
        opened.load()
        orientation = opened.getexif().get(Base.Orientation, 1)
        turned = ImageOps.exif_transpose(opened) if orientation in range(2, 9) else opened  # which copies, in any case
        image, transparent = _in_rgb(turned)
        return Decoded(
            image, opened.format or "", opened.mode, (width, height),
            orientation if orientation in range(1, 9) else 1, transparent,
        )  # fmt: skip
    except BadPicture:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise BadPicture(f"{picture}: {_reason(error)}") from error


def read_size(picture: Picture) -> tuple[int, int]:
    """Width and height of an image in pixels as training sees it, turned upright; from its header alone.

    Raises:
        BadPicture: if there is no such file, it is no image, or it holds more than `LARGEST_PIXELS`.
    """
    from PIL.ExifTags import Base

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = _opened(picture)
            width, height = opened.size
            if width * height > LARGEST_PIXELS:
                raise BadPicture(f"{picture}: {width} x {height} pixels; allowed: at most {LARGEST_PIXELS:,}")
            said = opened.format != "PNG" or "exif" in opened.info  # Pillow would decode a PNG to look for more
            turned = said and opened.getexif().get(Base.Orientation, 1) in range(5, 9)
        return (height, width) if turned else (width, height)
    except BadPicture:
        raise
    except Exception as error:  # as in `decode`
        raise BadPicture(f"{picture}: {_reason(error)}") from error


def _in_rgb(upright: Image) -> tuple[Image, bool]:
    from PIL import Image

    if not upright.has_transparency_data:
        return (upright if upright.mode == "RGB" else upright.convert("RGB")), False
    made, opaque = Image.new("RGB", upright.size), True
    for top in range(0, upright.height, STRIP_ROWS):  # a copy of the whole at every step would take gigabytes
        layers = upright.crop((0, top, upright.width, min(top + STRIP_ROWS, upright.height))).convert("RGBA")
        opaque = opaque and layers.getchannel("A").getextrema()[0] == 255
        made.paste(Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB"), (0, top))
    return made, not opaque


def _opened(picture: Picture) -> Image:
    from PIL import Image

    source = picture.source
    if isinstance(source, Path):
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):  # asked before opening: to open a pipe is to wait for its writer
            raise BadPicture(f"{picture}: is {'a folder' if stat.S_ISDIR(status.st_mode) else 'not a regular file'}")
        if status.st_size == 0:
            raise BadPicture(f"{picture}: the file is empty")
        return Image.open(source, formats=_formats())
    if isinstance(source, bytes):
        if not source:
            raise BadPicture(f"{picture}: no bytes")
        return Image.open(io.BytesIO(source), formats=_formats())
    assert isinstance(source, Image.Image)
    return source


@cache
def _formats() -> tuple[str, ...]:
    """Every format that Pillow decodes by itself; for PostScript it would run Ghostscript on the file.

    Pillow tries them in turn; photos come first, or each would be offered to a dozen decoders before its own.
    """
    from PIL import Image

    Image.init()
    return tuple(sorted((name for name in Image.ID if name != "EPS"), key=lambda name: name not in FIRST))


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
