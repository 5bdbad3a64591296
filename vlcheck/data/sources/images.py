"""The image of a row, from whatever its column holds: a path, bytes, or what `datasets` made of them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlcheck.config.reading.quoting import quoted
from vlcheck.data.conversation import BadRow, Picture
from vlcheck.data.sources.row import shown, sound_text

SUFFIXES = frozenset((
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".jp2", ".png", ".pgm", ".pnm", ".ppm",
    ".tga", ".tif", ".tiff", ".webp",
))  # fmt: skip
"""Files that are taken for images by their name; whether they are is found when they are opened."""

MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")
"""First bytes of JPEG, PNG, GIF, WebP, BMP and TIFF files."""


def pictures_of(value: Any, folder: Path | None, name: str) -> tuple[Picture, ...]:
    """The images of one cell; a list is several.

    Args:
        folder: what relative paths are relative to; None where the data has no files of its own.
        name: what messages call an image without a path.

    Raises:
        BadRow: if the cell holds no image, or one that would have to be fetched.
    """
    if isinstance(value, list | tuple):
        return tuple(p for n, v in enumerate(value, 1) for p in pictures_of(v, folder, f"{name}, image {n}"))
    return (picture_of(value, folder, name),)


def picture_of(value: Any, folder: Path | None, name: str) -> Picture:
    """One image; arguments and errors as for `pictures_of`."""
    from PIL import Image

    if isinstance(value, Picture):
        return value
    if isinstance(value, bytes | Image.Image):
        return Picture(value, name)
    if isinstance(value, Mapping):
        if isinstance(value.get("bytes"), bytes):
            path = value.get("path")
            return Picture(value["bytes"], f"{name} ({shown(path)})" if isinstance(path, str) and path else name)
        return picture_of(value.get("path") or value.get("url"), folder, name)
    if not isinstance(value, str) or not value:
        raise BadRow(f"the image is {quoted(_named(value))}; allowed: a path, or an image's bytes")
    if value.startswith("data:"):
        return Picture(_decoded(value), name)
    if value.startswith(("http://", "https://", "s3://", "gs://", "hf://")):
        raise BadRow(f"the image {quoted(value)} is not fetched; allowed: a local file")
    path = sound_text(value.removeprefix("file://"), "the image's path")
    return Picture((folder or Path()) / path, shown(path))


def looks_like(value: Any) -> bool:
    """Whether a cell holds an image or a list of them, by the names of files and the first bytes."""
    if isinstance(value, list | tuple):
        return bool(value) and looks_like(value[0])
    if isinstance(value, Mapping):
        return "bytes" in value and (looks_like(value.get("bytes")) or looks_like(value.get("path")))
    if isinstance(value, bytes):
        return value.startswith(MAGIC)
    return isinstance(value, str) and (Path(value[-12:]).suffix.lower() in SUFFIXES or value.startswith("data:image/"))


def _decoded(uri: str) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma or not head.endswith(";base64"):
        raise BadRow(f"the image is {quoted(head)}; allowed: data:image/…;base64,…")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRow(f"the image's base64 text cannot be decoded: {error}") from None


def _named(value: Any) -> Any:
    """What messages show of a value that is no image."""
    return value if value is None or isinstance(value, str | int | float) else type(value).__name__
