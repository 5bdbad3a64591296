"""VLC5xx: images that cannot be decoded, or that loaders decode differently."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vlcheck.finding import Examined, Finding, Severity, rule
from vlcheck.rules.rows import few, place

if TYPE_CHECKING:
    from vlcheck.data.scan import ImageFormat, Scan, Tally
    from vlcheck.spec import RunSpec

FORMATS = {
    ".jpg": ("JPEG", "MPO"), ".jpeg": ("JPEG", "MPO"), ".jpe": ("JPEG", "MPO"), ".jfif": ("JPEG", "MPO"),
    ".mpo": ("MPO", "JPEG"), ".png": ("PNG",), ".gif": ("GIF",), ".webp": ("WEBP",), ".bmp": ("BMP", "DIB"),
    ".tif": ("TIFF",), ".tiff": ("TIFF",), ".avif": ("AVIF",), ".jp2": ("JPEG2000",), ".tga": ("TGA",),
    ".ppm": ("PPM",), ".pgm": ("PPM",), ".pnm": ("PPM",),
}  # fmt: skip
"""What a name promises, in Pillow's names; MPO is a JPEG with more pictures behind it, as phones write it."""

WIDE = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes with more than 8 bits a pixel."""


@rule("VLC501", "unreadable-image", Severity.ERROR)
def unreadable_image(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """An image cannot be decoded: missing, cut short, empty, no image, or too large to be one.

    Opening a file reads its header alone; a photo that a broken download cut short fails when training
    first decodes it, in the middle of an epoch. Every image is decoded in full here. More than 100 million
    pixels are refused before one is read: such a file is a decompression bomb or a mistake.

    Remedy: repair, fetch again or remove the images that are named.

    Source: https://github.com/tensorflow/datasets/pull/5349 (Oxford-IIIT Pet holds such files)
    """
    yield Examined(scan.looked_at, "images decoded in full")
    if scan.unreadable.count:
        yield Finding(
            f"{scan.unreadable.count:,} of {scan.looked_at:,} images cannot be decoded: "
            f"{few(scan.unreadable.first, scan.unreadable.count)}",
            where=place(spec),
            measured={"images": scan.unreadable.count, "problems": list(scan.unreadable.first)},
        )


@rule("VLC502", "misnamed-image", Severity.WARNING)
def misnamed_image(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """The format of an image is not the one its name says.

    Pillow reads the content and does not care. Loaders that choose the decoder by the name (TensorFlow's
    `decode_jpeg`, torchvision's, DALI's) stop or return nothing; and a GIF or PNG behind `.jpg` brings
    palettes and transparency where none are expected.

    Remedy: rename the files, or write them again as what they are called.

    Source: measured on Abyssinian_5.jpg (PNG) and Abyssinian_34.jpg (GIF) of Oxford-IIIT Pet.
    """
    yield Examined(len(scan.pictures), "images with a format")
    for kind, seen in _kinds(scan, lambda k: k.suffix in FORMATS and k.format not in FORMATS[k.suffix]):
        yield _finding(spec, seen, f"{kind.format} by content, {kind.suffix} by name", {"format": kind.format})


@rule("VLC503", "transparent-image", Severity.WARNING)
def transparent_image(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """Transparent pixels: what the model sees there depends on the loader.

    `convert("RGB")`, as in most collators and in transformers' processors, drops the alpha channel and
    brings up whatever colour the encoder left under it, often black or noise. A viewer, and vlcheck's own
    loader, show white. Training and serving can differ without a word.

    Remedy: lay the images over a background once, and save them as RGB.

    Source: measured; see tests/data/test_loaders.py.
    """
    yield Examined(len(scan.pictures), "images")
    for kind, seen in _kinds(scan, lambda k: k.transparent):
        yield _finding(spec, seen, f"{kind.format} in mode {kind.mode} with transparent pixels", {"mode": kind.mode})


@rule("VLC504", "converted-mode", Severity.NOTE)
def converted_mode(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """Images are not stored in RGB: palette, grey, CMYK or an alpha channel without use.

    A loader that does not convert hands the processor one or four channels, which stops the run or, in a
    batch of its own, passes. Printers' CMYK is converted without its colour profile and shifts its colours.

    Remedy: make sure that the loader converts to RGB (vlcheck's does), or convert the files once.

    Source: https://github.com/tensorflow/datasets/pull/5349
    """
    yield Examined(len(scan.pictures), "images")
    for kind, seen in _kinds(scan, lambda k: k.mode not in ("RGB", *WIDE) and not k.transparent):
        yield _finding(spec, seen, f"{kind.format} stored in mode {kind.mode}, not RGB", {"mode": kind.mode})


@rule("VLC505", "clipped-pixels", Severity.ERROR)
def clipped_pixels(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """More than 8 bits a pixel: the conversion to RGB makes most of the image white, or black.

    Pillow does not scale 16-bit and floating point images when it converts them, it cuts: every value
    above 255 of 65,535 becomes white, every value from 0 to 1 black. Medical scans, depth maps and
    microscopy come this way. The loss falls all the same, on the text alone.

    Remedy: scale the images to 8 bits by the window that matters, and save them as RGB or grey.

    Source: measured with Pillow 13; see tests/data/test_loaders.py.
    """
    yield Examined(len(scan.pictures), "images")
    for kind, seen in _kinds(scan, lambda k: k.mode in WIDE):
        yield _finding(spec, seen, f"{kind.format} in mode {kind.mode}, cut to 8 bits by convert", {"mode": kind.mode})


@rule("VLC506", "turned-image", Severity.WARNING)
def turned_image(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """Images are stored turned, and their EXIF orientation says how to hold them.

    `PIL.Image.open` in a collator, and torchvision's decoders by default, ignore the tag: the model is
    trained on sideways pictures. `datasets`, transformers' `load_image`, vlcheck's loader and most servers
    apply it, so the served model sees another picture than the trained one did.

    Remedy: call `PIL.ImageOps.exif_transpose` in your loader, or turn the files once.

    Source: https://github.com/huggingface/datasets/pull/6739, https://github.com/sgl-project/sglang/issues/33464;
    loaders measured in tests/data/test_loaders.py
    """
    yield Examined(len(scan.pictures), "images")
    for kind, seen in _kinds(scan, lambda k: k.orientation != 1):
        yield _finding(
            spec, seen, f"EXIF orientation {kind.orientation}, upright is 1", {"orientation": kind.orientation}
        )


def _kinds(scan: Scan, wanted: Callable[[ImageFormat], bool]) -> Iterator[tuple[ImageFormat, Tally]]:
    return ((kind, seen) for kind, seen in scan.kinds.items() if wanted(kind))


def _finding(spec: RunSpec, seen: Tally, what: str, measured: dict[str, str | int]) -> Finding:
    return Finding(
        f"{few(seen.first, seen.count)}: {what}",
        where=place(spec),
        measured={**measured, "images": seen.count, "rows": list(seen.first)},
    )
