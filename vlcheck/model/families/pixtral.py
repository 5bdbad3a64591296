"""Pixtral 12B: a LLaVA by its config, with another tower, another processor and other turns.

Read from transformers 5.23, `models/llava` and `models/pixtral`. An image keeps its own size; each row of
patches ends in `[IMG_BREAK]`, the last one in `[IMG_END]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vlcheck.model.families import images, llava
from vlcheck.model.family import Dialogue, FallbackProcessor, ImageLayout, Values

if TYPE_CHECKING:
    import torch


def applies(values: Values) -> bool:
    """Whether a LLaVA has Pixtral's tower."""
    return bool(values["vision_config"].get("model_type") == "pixtral")


def image_layout(values: Values, soft_tokens: int, device: torch.device) -> ImageLayout:
    """Whole images at their own size; two by two patches make a soft token, and each row of them ends in a marker."""
    import torch

    vision, soft, merge = values["vision_config"], images.placeholder(values), values.get("spatial_merge_size") or 1
    high, wide = images.rectangle(soft_tokens)
    height, width = (n * merge * vision["patch_size"] for n in (high, wide))
    return ImageLayout(
        ids=tuple(id_ for _ in range(high) for id_ in (*[soft] * wide, images.MARKER)),
        soft=soft,
        tensors={
            "pixel_values": torch.ones(1, 3, height, width, device=device),
            "image_sizes": torch.tensor([[height, width]]),
        },
    )


def image_options(values: Values) -> dict[str, Any]:
    """The longer side is scaled down to the tower's size, never up."""
    side = values["vision_config"]["patch_size"] * values.get("spatial_merge_size", 1)
    return {
        "size": {"longest_edge": values["vision_config"]["image_size"]},
        "patch_size": {"height": side, "width": side},
    }


def options(values: Values) -> dict[str, Any]:
    """How the tower cuts an image, and how many patches the projector joins along each side."""
    merged = values.get("spatial_merge_size", 1)
    return {"patch_size": values["vision_config"]["patch_size"], "spatial_merge_size": merged}


def budget(processor: Any, soft_tokens: int) -> None:
    """Cap an image's soft tokens, line ends included, by what a square image would take."""
    cutting, side = processor.image_processor, processor.patch_size * processor.spatial_merge_size
    along = max((n for n in range(1, 512) if n * (n + 1) <= soft_tokens), default=1)
    cutting.size = type(cutting.size)(longest_edge=along * side)


TOKENS = {
    "<unk>": 0, "<s>": 1, "</s>": 2, "[INST]": 3, "[/INST]": 4, "[AVAILABLE_TOOLS]": 5, "[/AVAILABLE_TOOLS]": 6,
    "[TOOL_RESULTS]": 7, "[/TOOL_RESULTS]": 8, "[TOOL_CALLS]": 9, "[IMG]": 10, "<pad>": 11, "[IMG_BREAK]": 12,
    "[IMG_END]": 13,
}  # fmt: skip
"""Ids as in mistral-common's Tekken tokenizer and the config."""

ROLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

DIALOGUE = Dialogue(
    end="</s>",
    batch_keys=("pixel_values", "image_sizes"),
    image_tokens=("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
    budget=budget,
)

FALLBACK = FallbackProcessor(
    processor="PixtralProcessor",
    image_processor="PixtralImageProcessorPil",
    tokens=TOKENS,
    roles=ROLES,
    template=lambda values: "pixtral.jinja",
    adds_bos=True,
    image_options=image_options,
    options=options,
)
"""The template is that of mistral-community/pixtral-12b: the system text goes into the last question. It has no
generation prompt: `[/INST]` is where an answer begins."""

FAMILY = llava.kin(
    name="Pixtral",
    model_types=("llava",),
    applies=applies,
    dialogue=DIALOGUE,
    fallback=FALLBACK,
    image_layout=image_layout,
    soft_tokens=images.unscaled,
    measured=True,
)
