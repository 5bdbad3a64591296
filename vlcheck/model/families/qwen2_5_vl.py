"""Qwen2.5-VL: 3B, 7B, 32B, 72B.

Read from transformers 5.23, `models/qwen2_5_vl`. The projector, `merger`, is a module of the tower. Most
vision layers attend within windows, those of `fullatt_block_indexes` to the whole image.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlcheck.model.families import decoders, images, turns
from vlcheck.model.family import Dialogue, FallbackProcessor, Family, ImageLayout, Part, Values

if TYPE_CHECKING:
    import torch

TEXT_LAYERS = "model.language_model.layers"
VISION_LAYERS = "model.visual.blocks"
GRID = 4
"""Patches along each side of the sample image."""
SPECIAL_IDS = {
    "image_token_id": turns.IMAGE,
    "video_token_id": turns.VIDEO,
    "vision_start_token_id": turns.START,
    "vision_end_token_id": turns.END,
}


def layer_kinds(values: Values) -> Mapping[str, Sequence[Hashable]]:
    """Text layers by attention type; vision layers by window or full attention."""
    vision = values["vision_config"]
    full = set(vision["fullatt_block_indexes"])
    return {
        TEXT_LAYERS: decoders.kinds(values["text_config"]),
        VISION_LAYERS: ["full" if index in full else "window" for index in range(vision["depth"])],
    }


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Narrow both models; windows hold 2 x 2 soft tokens' worth of patches."""
    tiny = copy.deepcopy(dict(values)) | SPECIAL_IDS
    tiny["text_config"] = decoders.shrunk(values["text_config"], layers[TEXT_LAYERS])
    chosen, full = layers[VISION_LAYERS], values["vision_config"]["fullatt_block_indexes"]
    tiny["vision_config"].update(
        depth=len(chosen), hidden_size=32, intermediate_size=32, num_heads=2, out_hidden_size=decoders.HIDDEN,
        patch_size=4, temporal_patch_size=2, spatial_merge_size=2, window_size=16,
        fullatt_block_indexes=[n for n, index in enumerate(chosen) if index in full],
    )  # fmt: skip
    return tiny


def sample_row(values: Values, modalities: frozenset[str]) -> dict[str, torch.Tensor]:
    """A short turn; an image has 4 x 4 patches, that is 4 soft tokens."""
    import torch

    if "image" not in modalities:
        return turns.turn()
    vision = values["vision_config"]
    row = turns.turn(turns.START, *[turns.IMAGE] * (GRID // vision["spatial_merge_size"]) ** 2, turns.END)
    width = 3 * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    return row | {
        "mm_token_type_ids": turns.types(row),
        "pixel_values": turns.pixels(GRID**2, width),
        "image_grid_thw": torch.tensor([[1, GRID, GRID]]),
    }


def image_layout(values: Values, soft_tokens: int, device: torch.device) -> ImageLayout:
    """Patches of all images in one sequence, with the grid of each."""
    import torch

    vision, soft = values["vision_config"], images.placeholder(values)
    merge, (high, wide) = vision["spatial_merge_size"], images.rectangle(soft_tokens)
    width = 3 * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    return ImageLayout(
        ids=(values["vision_start_token_id"], *[soft] * soft_tokens, values["vision_end_token_id"]),
        soft=soft,
        tensors={
            "pixel_values": torch.ones(soft_tokens * merge**2, width, device=device),
            "image_grid_thw": torch.tensor([[1, high * merge, wide * merge]]),
        },
        types="mm_token_type_ids",
    )


def image_options(values: Values) -> dict[str, Any]:
    """How the tower cuts an image. 4 to 16,384 soft tokens an image, as the checkpoints' processors have it."""
    vision = values["vision_config"]
    side = vision["patch_size"] * vision["spatial_merge_size"]
    return {
        "patch_size": vision["patch_size"],
        "temporal_patch_size": vision["temporal_patch_size"],
        "merge_size": vision["spatial_merge_size"],
        "size": {"shortest_edge": 4 * side**2, "longest_edge": 16384 * side**2},
    }


def budget(processor: Any, soft_tokens: int) -> None:
    """Cap an image's soft tokens, and with them its pixels."""
    cutting = processor.image_processor
    side = cutting.patch_size * cutting.merge_size
    lowest = min(cutting.size["shortest_edge"], soft_tokens * side**2)
    cutting.size = type(cutting.size)(shortest_edge=lowest, longest_edge=soft_tokens * side**2)


TOKENS = {
    "<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<|object_ref_start|>": 151646,
    "<|object_ref_end|>": 151647, "<|box_start|>": 151648, "<|box_end|>": 151649, "<|quad_start|>": 151650,
    "<|quad_end|>": 151651, "<|vision_start|>": 151652, "<|vision_end|>": 151653, "<|vision_pad|>": 151654,
    "<|image_pad|>": 151655, "<|video_pad|>": 151656,
}  # fmt: skip
"""Ids as in the tokenizer.json of Qwen/Qwen3 (sha256 aeb13307...), which Qwen2.5-VL and Qwen3-VL share."""

ROLES = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}

DIALOGUE = Dialogue(
    end="<|im_end|>",
    batch_keys=("mm_token_type_ids", "pixel_values", "image_grid_thw"),
    image_tokens=("<|image_pad|>", "<|vision_start|>", "<|vision_end|>"),
    budget=budget,
)

FALLBACK = FallbackProcessor(
    processor="Qwen2_5_VLProcessor",
    image_processor="Qwen2VLImageProcessorPil",
    tokens=TOKENS,
    roles=ROLES,
    template=lambda values: "qwen2_5_vl.jinja",
    image_options=image_options,
)
"""The template is that of Qwen/Qwen2.5-VL-7B-Instruct without tools and video, as trl 1.16 ships it too."""

FAMILY = Family(
    name="Qwen2.5-VL",
    model_types=("qwen2_5_vl",),
    parts={
        "model.visual": Part.VISION,
        "model.visual.merger": Part.PROJECTOR,
        "model.language_model": Part.LANGUAGE,
        "lm_head": Part.LANGUAGE,
    },
    layer_kinds=layer_kinds,
    shrink=shrink,
    sample_row=sample_row,
    dialogue=DIALOGUE,
    fallback=FALLBACK,
    image_layout=image_layout,
    soft_tokens=images.unscaled,
    soft_token_side=28,
    measured=True,
)
