"""Mistral Small 3.1.

Read from transformers 5.23, `models/mistral3`: a Pixtral tower and a projector that merges 2 x 2 patches by a
linear layer of its own, `multi_modal_projector.patch_merger`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vlcheck.model.families import images, llava, pixtral, towers, turns
from vlcheck.model.family import Values

if TYPE_CHECKING:
    import torch


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """As LLaVA; 16 patches become 4 soft tokens."""
    return llava.shrink(copy.deepcopy(values), layers) | {"spatial_merge_size": 2}


def sample_row(values: Values, modalities: frozenset[str]) -> dict[str, torch.Tensor]:
    """A short turn; an image has 4 soft tokens."""
    import torch

    if "image" not in modalities:
        return turns.turn()
    row = turns.turn(*[turns.IMAGE] * (towers.PATCHES // 4))
    row["pixel_values"] = turns.pixels(1, 3, towers.SIDE, towers.SIDE)
    row["image_sizes"] = torch.tensor([[towers.SIDE, towers.SIDE]])
    return row


DIALOGUE = pixtral.DIALOGUE

FALLBACK = replace(
    pixtral.FALLBACK,
    tokens={**pixtral.TOKENS, "[SYSTEM_PROMPT]": 17, "[/SYSTEM_PROMPT]": 18, "[TOOL_CONTENT]": 19},
    template=lambda values: "mistral3.jinja",
)
"""The template is that of mistralai/Mistral-Small-3.1-24B-Instruct-2503, without the page of system text that it
writes where a conversation has none."""

FAMILY = llava.kin(
    name="Mistral Small 3",
    model_types=("mistral3",),
    shrink=shrink,
    sample_row=sample_row,
    dropped=towers.dropped,
    dialogue=DIALOGUE,
    fallback=FALLBACK,
    image_layout=pixtral.image_layout,
    soft_tokens=images.unscaled,
    measured=True,
)
