"""How large a run's micro-batches are, as far as its description tells; what it does not tell is assumed and said."""

from __future__ import annotations

import torch

from vlcheck.finding import Unavailable
from vlcheck.memory.batch import PICTURES, layouts_of
from vlcheck.memory.shape import Shape
from vlcheck.model.family import Values
from vlcheck.spec import RunSpec

PHOTO = (768, 1024)
"""Height and width of an image that nothing is known of."""
TEMPLATE, SUPERVISED, GRAIN = 32, 16, 64
"""Tokens of the chat template and of an answer; rows are rounded up to multiples of the last."""


def shape_of(spec: RunSpec, config: Values, *, rows: int | None = None, tokens: int | None = None,
             soft_tokens: int | None = None) -> Shape:  # fmt: skip
    """The shape of a run's micro-batch.

    Args:
        config: the model's config, as `transformers_config(...).to_dict()` gives it.
        rows, tokens, soft_tokens: what the caller knows better.

    Raises:
        Unavailable: for a model whose processor is not described, or rows that cannot hold their images.
    """
    kind, assumed = str(config["model_type"]), []
    if kind not in PICTURES:
        raise Unavailable(f"vlcheck does not know what the processor of {kind} hands to the model; "
                          f"known: {', '.join(PICTURES)}")  # fmt: skip
    images = int("image" in spec.data.modalities)
    wanted = soft_tokens or spec.data.max_soft_tokens
    soft, guess = _soft_tokens(kind, config, wanted)
    if guess and images:
        assumed.append(guess)
    probe = Shape(tokens=10**9, soft_tokens=soft)
    body = images * len(PICTURES[kind](config, probe, torch.device("meta")).ids)
    words = -(-len(spec.data.instruction or "") // 3)
    length = -(-(body + words + TEMPLATE + SUPERVISED) // GRAIN) * GRAIN
    if tokens is None and spec.data.max_length is not None:
        length = min(length, spec.data.max_length)
    if tokens is None:
        assumed.append(
            f"rows of {length} tokens: {body} of the image, {words} of the instruction, {TEMPLATE} of the template, "
            f"{SUPERVISED} of the answer, rounded up to {GRAIN}"
        )
    try:
        return Shape(rows=rows or spec.training.per_device_train_batch_size, tokens=tokens or length, soft_tokens=soft,
                     images=images, supervised=SUPERVISED, assumptions=tuple(assumed))  # fmt: skip
    except ValueError as impossible:
        raise Unavailable(str(impossible)) from impossible


def _soft_tokens(kind: str, config: Values, wanted: int | None) -> tuple[int, str]:  # noqa: PLR0911  one a family
    """Soft tokens of an image, and what was assumed for it."""
    vision = config["vision_config"]
    high, wide = PHOTO
    if kind == "gemma4":
        default = int(config.get("vision_soft_tokens_per_image") or 280)
        return wanted or default, "" if wanted else f"the processor's default of {default} soft tokens an image"
    if kind == "gemma3":
        return int(config["mm_tokens_per_image"]), ""
    if kind in ("paligemma",) or (kind == "llava" and vision["model_type"] != "pixtral"):
        patches = (vision["image_size"] // vision["patch_size"]) ** 2
        return patches + (config.get("vision_feature_select_strategy") == "full"), ""
    if kind in ("smolvlm", "idefics3", "internvl"):
        tile, most = _tile(kind, config), 13
        tiles = max(1, wanted // tile) if wanted else most
        return tile * tiles, "" if wanted else f"{most} tiles an image, as a landscape photo gives"
    if kind in ("llava_next", "llava_onevision"):
        squares = {rows: soft for soft, (rows, columns) in layouts_of(config).items() if rows == columns}
        tiles = 2 if 2 in squares else max(squares)
        return squares[tiles], f"images that fill {tiles} x {tiles} tiles"
    if wanted:
        return wanted, ""
    side = vision["patch_size"] * (vision.get("spatial_merge_size") or config.get("spatial_merge_size") or 1)
    count = round(high / side) * round(wide / side)
    return count, f"images of {wide} x {high} pixels, which is {count} soft tokens"


def _tile(kind: str, config: Values) -> int:
    vision = config["vision_config"]
    if kind == "internvl":
        (side, _), (patch, _) = vision["image_size"], vision["patch_size"]
        return int((side // patch * config["downsample_ratio"]) ** 2)
    return int((vision["image_size"] // vision["patch_size"]) ** 2 // config["scale_factor"] ** 2)
