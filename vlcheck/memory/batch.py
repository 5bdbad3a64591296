"""A synthetic micro-batch of a model at full size: what the processor and the collator would hand to it.

Shapes, number types and positions are those of real batches; pixels and words are arbitrary. Each family's
processor is followed as read in transformers 5.23.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch

from vlcheck.finding import Unavailable
from vlcheck.memory.shape import Shape
from vlcheck.model.family import Values
from vlcheck.processing.collator import Batch
from vlcheck.processing.labels import IGNORE_INDEX


@dataclass(frozen=True)
class ImageLayout:
    """How a processor presents one image: ids in the text, tensors beside it."""

    ids: tuple[int, ...]
    """Placeholders and the markers around them."""
    soft: int
    """The id that stands for a soft token."""
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Of one image; stacked along their first axis."""
    types: str = ""
    """Key under which the processor says which ids are soft tokens."""
    per_row: bool = False
    """Whether tensors carry an axis for rows before that of a row's images."""


def make_batch(config: Values, shape: Shape, *, pixels: str | torch.device = "cpu") -> Batch:
    """A batch of this shape, its labels included.

    Args:
        config: the model's config, as `transformers_config(...).to_dict()` gives it.
        pixels: where images are; on meta they take no memory.

    Raises:
        Unavailable: for a model type whose processor is not described here, or an image that it cannot give.
    """
    kind = str(config["model_type"])
    if kind not in PICTURES:
        raise Unavailable(f"vlcheck does not know what the processor of {kind} hands to the model; "
                          f"known: {', '.join(PICTURES)}")  # fmt: skip
    picture = PICTURES[kind](config, shape, torch.device(pixels))
    body = [id_ for _ in range(shape.images) for id_ in picture.ids]
    words = shape.tokens - len(body)
    if words < shape.supervised + 1:
        raise Unavailable(f"{shape.tokens} tokens do not hold the ids of {shape.images} images ({len(body)}) and "
                          f"{shape.supervised} supervised tokens")  # fmt: skip
    row = torch.tensor([5, *body, *(6 + n % 20 for n in range(words - 1))])
    ids = row.repeat(shape.rows, 1)
    labels = torch.full_like(ids, IGNORE_INDEX)
    labels[:, -shape.supervised :] = ids[:, -shape.supervised :]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    if picture.types:
        batch[picture.types] = (ids == picture.soft).long()
    for name, tensor in picture.tensors.items() if shape.images else ():
        many = tensor.repeat(shape.rows * shape.images, *[1] * (tensor.dim() - 1))
        batch[name] = many.unflatten(0, (shape.rows, -1)) if picture.per_row else many  # type: ignore[no-untyped-call]
    return batch


# --------------------------------------------------------------------------- what each processor does


def _gemma4(config: Values, shape: Shape, device: torch.device) -> ImageLayout:
    """Patches of one image, padded to the budget; three by three of them make a soft token."""
    vision, patches = config["vision_config"], 9 * shape.soft_tokens
    high, wide = _rectangle(shape.soft_tokens)
    grid = torch.meshgrid(torch.arange(3 * wide), torch.arange(3 * high), indexing="xy")
    soft = _soft_id(config)
    return ImageLayout(
        (config["boi_token_id"], *[soft] * shape.soft_tokens, config["eoi_token_id"]),
        soft,
        {
            "pixel_values": torch.ones(1, patches, 3 * vision["patch_size"] ** 2, device=device),
            "image_position_ids": torch.stack(grid, -1).reshape(1, -1, 2),
        },
        "mm_token_type_ids",
    )


def _gemma3(config: Values, shape: Shape, device: torch.device) -> ImageLayout:
    soft, side, count = _soft_id(config), config["vision_config"]["image_size"], config["mm_tokens_per_image"]
    _fixed(shape, count, "Gemma 3")
    ids = (config["boi_token_index"], *[soft] * count, config["eoi_token_index"])
    return ImageLayout(ids, soft, {"pixel_values": torch.ones(1, 3, side, side, device=device)}, "token_type_ids")


def _qwen(config: Values, shape: Shape, device: torch.device) -> ImageLayout:
    """Patches of all images in one sequence, with the grid of each."""
    vision = config["vision_config"]
    merge, (high, wide) = vision["spatial_merge_size"], _rectangle(shape.soft_tokens)
    soft, depth = _soft_id(config), vision["temporal_patch_size"]
    count = high * wide * merge**2
    return ImageLayout(
        (config["vision_start_token_id"], *[soft] * shape.soft_tokens, config["vision_end_token_id"]),
        soft,
        {
            "pixel_values": torch.ones(count, 3 * depth * vision["patch_size"] ** 2, device=device),
            "image_grid_thw": torch.tensor([[1, high * merge, wide * merge]]),
        },
        "mm_token_type_ids",
    )


def _smolvlm(config: Values, shape: Shape, device: torch.device) -> ImageLayout:
    """An image is cut into tiles, and each of them becomes the same number of soft tokens."""
    vision, soft = config["vision_config"], _soft_id(config)
    tile = (vision["image_size"] // vision["patch_size"]) ** 2 // config["scale_factor"] ** 2
    tiles = _tiles(shape, tile, "SmolVLM")
    pixels = torch.ones(tiles, 3, vision["image_size"], vision["image_size"], device=device)
    ids = tuple(id_ for _ in range(tiles) for id_ in (7, *[soft] * tile, 7))
    return ImageLayout(ids, soft, {"pixel_values": pixels}, per_row=True)


def _llava(config: Values, shape: Shape, device: torch.device) -> ImageLayout:
    vision = config["vision_config"]
    side, patch, soft = vision["image_size"], vision["patch_size"], _soft_id(config)
    count = (side // patch) ** 2 + (config.get("vision_feature_select_strategy") == "full")
    _fixed(shape, count, "LLaVA")
    return ImageLayout(tuple([soft] * count), soft, {"pixel_values": torch.ones(1, 3, side, side, device=device)})


def _llava_next(config: Values, shape: Shape, device: torch.device) -> ImageLayout:
    """The image as a whole, then its tiles; a newline ends each row of soft tokens over the tiles."""
    vision, soft, layouts = config["vision_config"], _soft_id(config), layouts_of(config)
    if shape.soft_tokens not in layouts:
        raise Unavailable(f"images that fill their tiles have {', '.join(map(str, sorted(layouts)))} soft tokens in "
                          f"this {config['model_type']} model, not {shape.soft_tokens}")  # fmt: skip
    high, wide = layouts[shape.soft_tokens]
    side = vision["image_size"]
    tensors = {"pixel_values": torch.ones(1, 1 + high * wide, 3, side, side, device=device),
               "image_sizes": torch.tensor([[high * side, wide * side]])}  # fmt: skip
    return ImageLayout(tuple([soft] * shape.soft_tokens), soft, tensors)


def _llava_onevision(config: Values, shape: Shape, device: torch.device) -> ImageLayout:
    """As LLaVA-NeXT, and the number of images of each row; where they are several, none is cut into tiles."""
    if shape.images > 1:
        raise Unavailable("LLaVA-OneVision's processor is described for one image a row")
    picture = _llava_next(config, shape, device)
    return replace(picture, tensors={**picture.tensors, "batch_num_images": torch.tensor([1])})


def layouts_of(config: Values) -> dict[int, tuple[int, int]]:
    """Soft tokens of an image that fills its tiles, to the tiles' rows and columns.

    LLaVA-OneVision shrinks what many tiles give (`anyres_max_9`); such images are left out.
    """
    vision = config["vision_config"]
    side, patches = vision["image_size"], vision["image_size"] // vision["patch_size"]
    limit = config.get("vision_aspect_ratio")
    most = int(limit.removeprefix("anyres_max_")) if limit else 10**6
    extra = config["model_type"] == "llava_next" and config.get("vision_feature_select_strategy") == "full"
    tiles = [(high // side, wide // side) for high, wide in config["image_grid_pinpoints"]]
    return {
        patches**2 + extra + high * patches * (wide * patches + 1): (high, wide)
        for high, wide in tiles
        if high * wide <= most
    }


def _internvl(config: Values, shape: Shape, device: torch.device) -> ImageLayout:
    vision, soft = config["vision_config"], _soft_id(config)
    (side, _), (patch, _) = vision["image_size"], vision["patch_size"]
    tile = int((side // patch * config["downsample_ratio"]) ** 2)
    tiles = _tiles(shape, tile, "InternVL")
    return ImageLayout(
        (7, *[soft] * tile * tiles, 7), soft, {"pixel_values": torch.ones(tiles, 3, side, side, device=device)}
    )


def _paligemma(config: Values, shape: Shape, device: torch.device) -> ImageLayout:
    vision, soft = config["vision_config"], _soft_id(config)
    count = (vision["image_size"] // vision["patch_size"]) ** 2
    _fixed(shape, count, "PaliGemma")
    pixels = torch.ones(1, 3, vision["image_size"], vision["image_size"], device=device)
    return ImageLayout(tuple([soft] * count), soft, {"pixel_values": pixels}, "token_type_ids")


def _mistral3(config: Values, shape: Shape, device: torch.device) -> ImageLayout:
    """Whole images at their own size; two by two patches make a soft token, and each row of them ends in a marker."""
    vision, soft, merge = config["vision_config"], _soft_id(config), config.get("spatial_merge_size") or 1
    high, wide = _rectangle(shape.soft_tokens)
    height, width = (n * merge * vision["patch_size"] for n in (high, wide))
    tensors = {"pixel_values": torch.ones(1, 3, height, width, device=device),
               "image_sizes": torch.tensor([[height, width]])}  # fmt: skip
    return ImageLayout(tuple(id_ for _ in range(high) for id_ in (*[soft] * wide, 7)), soft, tensors)


def _pixtral_or_llava(config: Values, shape: Shape, device: torch.device) -> ImageLayout:
    known = config["vision_config"]["model_type"] != "pixtral"
    return (_llava if known else _mistral3)(config, shape, device)


PICTURES: Mapping[str, Callable[[Values, Shape, torch.device], ImageLayout]] = {
    "gemma4": _gemma4,
    "gemma3": _gemma3,
    "qwen2_5_vl": _qwen,
    "qwen3_vl": _qwen,
    "qwen3_vl_moe": _qwen,
    "smolvlm": _smolvlm,
    "idefics3": _smolvlm,
    "llava": _pixtral_or_llava,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "internvl": _internvl,
    "paligemma": _paligemma,
    "mistral3": _mistral3,
}
"""Model types whose processors are described, each by a function of config and shape."""
UNMEASURED = frozenset({"llava_next", "llava_onevision"})
"""Of these, those whose projection was never held against a run of any relative."""


def _soft_id(config: Values) -> int:
    """The placeholder; older configs call it an index."""
    return int(config["image_token_id"] if "image_token_id" in config else config["image_token_index"])


def _rectangle(count: int) -> tuple[int, int]:
    """The two factors of a number that are nearest to each other."""
    high = next(n for n in range(math.isqrt(count), 0, -1) if count % n == 0)
    return high, count // high


def _tiles(shape: Shape, tile: int, name: str) -> int:
    if shape.soft_tokens % tile:
        raise Unavailable(f"{name} gives {tile} soft tokens a tile; {shape.soft_tokens} is no multiple of that")
    return shape.soft_tokens // tile


def _fixed(shape: Shape, count: int, name: str) -> None:
    if shape.soft_tokens != count:
        raise Unavailable(f"every image has {count} soft tokens in this {name} model, not {shape.soft_tokens}")
