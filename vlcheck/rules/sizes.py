"""VLC5xx: images whose size costs tokens without bound, or shows the model nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vlcheck.finding import Examined, Finding, NotApplicable, Severity, rule
from vlcheck.rules.rows import few, place

if TYPE_CHECKING:
    from vlcheck.data.scan import Scan
    from vlcheck.model.config import ModelConfig
    from vlcheck.model.family import Family
    from vlcheck.spec import RunSpec

MOST_TOKENS = 4_096
"""Soft tokens of one image, where `data.max_length` sets no limit."""
WIDEST = 20
"""Longer side over shorter side; from 200 on Qwen's processors raise an error."""
SMALLEST = 28
"""Pixels of the shorter side: what one soft token covers at the least."""


@rule("VLC507", "large-image", Severity.WARNING)
def large_image(spec: RunSpec, scan: Scan, config: ModelConfig, family: Family) -> Iterator[Finding | Examined]:
    """Large images cost this model more soft tokens than the row has room for.

    Models that take images at their own resolution, or in as many tiles as fit, spend a soft token on each
    28 x 28 pixels or so: a 12-megapixel photo is 15,000 of them. The row outgrows `max_length`, or the
    batch the memory. Counted from pixels, so an estimate; the processor's own upper bound may be lower.

    Remedy: `max_soft_tokens` in the data section, `max_pixels` in the processor, or smaller files.

    Source: https://github.com/Blaizzy/mlx-vlm/issues/1830; tiles measured in tests/data/test_sizes.py
    """
    kind = str(config.values.get("model_type"))
    if family.soft_token_side is None:
        raise NotApplicable(f"{kind} spends a bounded number of soft tokens on an image of any size")
    if spec.data.max_soft_tokens is not None:
        raise NotApplicable(f"max_soft_tokens bounds an image to {spec.data.max_soft_tokens:,} soft tokens")
    side, limit = family.soft_token_side, spec.data.max_length or MOST_TOKENS
    width, height = _sizes(scan)
    tokens = width * height // side**2
    yield Examined(len(scan.pictures), "images")
    large = (tokens > limit).nonzero()[0]
    if len(large):
        most = int(tokens.max())
        yield Finding(
            f"{_named(scan, large)}: about {most:,} soft tokens at {side} x {side} pixels each, room for {limit:,}",
            where=place(spec),
            measured={"images": len(large), "soft tokens": most, "rows": [scan.title(int(i)) for i in large[:20]]},
        )


@rule("VLC508", "extreme-aspect-ratio", Severity.WARNING)
def extreme_aspect_ratio(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """An image is so long and narrow that processors squash it, cut it, or refuse it.

    Processors with a square input (Gemma 3, PaliGemma) squash it until nothing can be read, LLaVA-1.5
    cuts out the middle, tiling ones spend most tiles on padding, and Qwen's raise an error from 200:1 on.

    Remedy: cut the image into parts, or leave the row out.

    Source: measured on the processors of transformers; see tests/data/test_sizes.py.
    """
    import numpy as np

    width, height = _sizes(scan)
    yield Examined(len(scan.pictures), "images")
    ratio = np.maximum(width, height) / np.minimum(width, height)
    wide = (ratio > WIDEST).nonzero()[0]
    if len(wide):
        yield Finding(
            f"{_named(scan, wide)}: aspect ratio {float(ratio.max()):,.0f}:1, at most {WIDEST}:1",
            where=place(spec),
            measured={"images": len(wide), "rows": [scan.title(int(i)) for i in wide[:20]]},
        )


@rule("VLC509", "tiny-image", Severity.WARNING)
def tiny_image(spec: RunSpec, scan: Scan) -> Iterator[Finding | Examined]:
    """An image is smaller than what one soft token covers.

    Thumbnails, tracking pixels and failed crops: the processor blows them up, at the price of a whole
    image (SmolVLM: 17 tiles for 10 x 10 pixels), and there is nothing on them to learn from. A height of
    1 or 3 pixels is worse: transformers' processors take it for the colour channels.

    Remedy: leave the rows out, or use the full-size images.

    Source: measured on the processors of transformers; see tests/data/test_sizes.py.
    """
    import numpy as np

    width, height = _sizes(scan)
    yield Examined(len(scan.pictures), "images")
    shorter = np.minimum(width, height)
    tiny = (shorter < SMALLEST).nonzero()[0]
    if len(tiny):
        yield Finding(
            f"{_named(scan, tiny)}: shorter side {int(shorter.min())} pixels, at least {SMALLEST}",
            where=place(spec),
            measured={"images": len(tiny), "rows": [scan.title(int(i)) for i in tiny[:20]]},
        )


def _sizes(scan: Scan) -> tuple[Any, Any]:
    from vlcheck.data.columns import numbers

    return numbers(scan.pictures.width, "u4").astype("i8"), numbers(scan.pictures.height, "u4").astype("i8")


def _named(scan: Scan, chosen: Any) -> str:
    return few([scan.title(int(index)) for index in chosen[:3]], len(chosen))
