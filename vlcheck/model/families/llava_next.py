"""LLaVA-NeXT (LLaVA 1.6).

Read from transformers 5.23, `models/llava_next`. Differs from LLaVA 1.5 in that an image is seen whole and
in crops, whose rows end in `image_newline`, a parameter of the model itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vlcheck.model.families import llava, towers, turns
from vlcheck.model.family import Family, Part, Values

if TYPE_CHECKING:
    import torch


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """As LLaVA; one crop covers the image."""
    return llava.shrink(values, layers) | {"image_grid_pinpoints": [[towers.SIDE, towers.SIDE]]}


def sample_row(values: Values, modalities: frozenset[str]) -> dict[str, torch.Tensor]:
    """A short turn; an image has the soft tokens of the whole, of the crop, and a newline for each of 4 rows."""
    import torch

    if "image" not in modalities:
        return turns.turn()
    whole, crop = towers.soft_tokens(values), towers.PATCHES + towers.SIDE // towers.PATCH
    row = turns.turn(*[turns.IMAGE] * (whole + crop))
    row["pixel_values"] = turns.pixels(1, 2, 3, towers.SIDE, towers.SIDE)
    row["image_sizes"] = torch.tensor([[towers.SIDE, towers.SIDE]])
    return row


def image_options(values: Values) -> dict[str, Any]:
    """As LLaVA, and the sizes into which crops may be laid."""
    return llava.image_options(values) | {"image_grid_pinpoints": values["image_grid_pinpoints"]}


DIALOGUE = replace(llava.DIALOGUE, batch_keys=("pixel_values", "image_sizes"))

FALLBACK = replace(
    llava.FALLBACK,
    processor="LlavaNextProcessor",
    image_processor="LlavaNextImageProcessorPil",
    template=lambda values: "llava_next.jinja",
    image_options=image_options,
)
"""The template is that of llava-hf/llava-v1.6-mistral-7b-hf, as trl 1.16 ships it too; Mistral's `[INST]` is no
special token there. It has no generation prompt: a question's end is where an answer begins."""

FAMILY = Family(
    name="LLaVA-NeXT",
    model_types=("llava_next",),
    parts={
        "model": Part.PROJECTOR,  # image_newline, a bare parameter
        "model.vision_tower": Part.VISION,
        "model.multi_modal_projector": Part.PROJECTOR,
        "model.language_model": Part.LANGUAGE,
        "lm_head": Part.LANGUAGE,
    },
    layer_kinds=llava.layer_kinds,
    shrink=shrink,
    sample_row=sample_row,
    dropped=llava.dropped,
    dialogue=DIALOGUE,
    fallback=FALLBACK,
)
