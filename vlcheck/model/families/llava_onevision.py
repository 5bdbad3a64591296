"""LLaVA-OneVision.

Read from transformers 5.23, `models/llava_onevision`: the layout of LLaVA-NeXT with a SigLIP tower, whose
checkpoints already lack the layer that LLaVA skips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vlcheck.model.families import llava, llava_next, turns
from vlcheck.model.family import Dialogue, FallbackProcessor, ImageLayout, Values

if TYPE_CHECKING:
    import torch


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """As LLaVA-NeXT, which it follows in how an image is cut."""
    return llava_next.shrink(values, layers) | {"video_token_index": turns.VIDEO}


def image_layout(values: Values, soft_tokens: int, device: torch.device) -> ImageLayout:
    """As LLaVA-NeXT, and the number of images of each row; where they are several, none is cut into tiles."""
    import torch

    alone = llava_next.image_layout(values, soft_tokens, device)
    return replace(alone, tensors={**alone.tensors, "batch_num_images": torch.tensor([1])}, several=False)


def image_options(values: Values) -> dict[str, Any]:
    """Tiles of the tower's size, and the sizes into which they may be laid."""
    side = values["vision_config"]["image_size"]
    return {"size": {"height": side, "width": side}, "image_grid_pinpoints": values["image_grid_pinpoints"]}


def options(values: Values) -> dict[str, Any]:
    """Features of a tile, and how many tiles' worth an image may keep."""
    vision = values["vision_config"]
    return {
        "num_image_tokens": (vision["image_size"] // vision["patch_size"]) ** 2,
        "vision_feature_select_strategy": values["vision_feature_select_strategy"],
        "vision_aspect_ratio": values["vision_aspect_ratio"],
    }


DIALOGUE = Dialogue(
    end="<|im_end|>",
    batch_keys=("pixel_values", "image_sizes", "batch_num_images"),
    image_tokens=("<image>",),
)

FALLBACK = FallbackProcessor(
    processor="LlavaOnevisionProcessor",
    image_processor="LlavaOnevisionImageProcessorPil",
    tokens={
        "<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<image>": 151646, "<video>": 151647,
    },
    roles={
        "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "image_token": "<image>", "video_token": "<video>",
    },
    template=lambda values: "llava_onevision.jinja",
    image_options=image_options,
    options=options,
)  # fmt: skip
"""Ids as in the config and in Qwen2's tokenizer. The template is that of llava-hf/llava-onevision-qwen2-0.5b-ov-hf:
a rendered turn has a space before its first newline, which its generation prompt has not."""

FAMILY = llava.kin(
    name="LLaVA-OneVision",
    model_types=("llava_onevision",),
    newline=True,
    shrink=shrink,
    sample_row=llava_next.sample_row,
    dialogue=DIALOGUE,
    fallback=FALLBACK,
    image_layout=image_layout,
    soft_tokens=llava_next.soft_tokens,
    soft_token_side=14,
)
