"""What the processors of several families do with an image: soft tokens by tile, by size, or one number for all."""

from __future__ import annotations

import math

from vlcheck.finding import Unavailable
from vlcheck.model.family import Values

PHOTO = (768, 1024)
"""Height and width in pixels of an image that nothing is known of."""
MARKER = 7
"""Stands for any id that frames soft tokens; which one it is decides no shape."""
MOST_TILES = 13
"""Tiles of a landscape photo, the whole image among them."""


def placeholder(values: Values) -> int:
    """The id of a soft token; older configs call it an index."""
    return int(values["image_token_id"] if "image_token_id" in values else values["image_token_index"])


def rectangle(count: int) -> tuple[int, int]:
    """The two factors of a number that are nearest to each other, the smaller first."""
    high = next(n for n in range(math.isqrt(count), 0, -1) if count % n == 0)
    return high, count // high


def check_fixed(values: Values, soft_tokens: int, count: int) -> None:
    """Refuse any number of soft tokens but the one that every image of this model has.

    Raises:
        Unavailable: for another number.
    """
    if soft_tokens != count:
        raise Unavailable(
            f"every image has {count} soft tokens in this {values['model_type']} model, not {soft_tokens}"
        )


def tiles_of(values: Values, soft_tokens: int, tile: int) -> int:
    """How many tiles an image has, given the soft tokens of the image and of a tile.

    Raises:
        Unavailable: for a number of soft tokens that whole tiles do not give.
    """
    if soft_tokens % tile:
        raise Unavailable(
            f"{values['model_type']} gives {tile} soft tokens a tile; {soft_tokens} is no multiple of that"
        )
    return soft_tokens // tile


def tiled(tile: int, wanted: int | None) -> tuple[int, str]:
    """Soft tokens of an image that is cut into tiles, and what was assumed: as many tiles as a limit lets through."""
    if wanted:
        return tile * max(1, wanted // tile), ""
    return tile * MOST_TILES, f"{MOST_TILES} tiles an image, as a landscape photo gives"


def unscaled(values: Values, wanted: int | None) -> tuple[int, str]:
    """Soft tokens of an image that keeps its own size, and what was assumed: a run's limit is taken to be reached."""
    if wanted:
        return wanted, ""
    vision, (high, wide) = values["vision_config"], PHOTO
    side = vision["patch_size"] * (vision.get("spatial_merge_size") or values.get("spatial_merge_size") or 1)
    count = round(high / side) * round(wide / side)
    return count, f"images of {wide} x {high} pixels, which is {count} soft tokens"
