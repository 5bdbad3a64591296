"""LLaVA-OneVision.

Read from transformers 5.23, `models/llava_onevision`: the layout of LLaVA-NeXT with a SigLIP tower, whose
checkpoints already lack the layer that LLaVA skips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlcheck.families import llava_next, turns
from vlcheck.families.llava import dropped, layer_kinds
from vlcheck.family import Family, Part, Values


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """As LLaVA-NeXT, which it follows in how an image is cut."""
    return llava_next.shrink(values, layers) | {"video_token_index": turns.VIDEO}


FAMILY = Family(
    name="LLaVA-OneVision",
    model_types=("llava_onevision",),
    parts={
        "model": Part.PROJECTOR,  # image_newline, a bare parameter
        "model.vision_tower": Part.VISION,
        "model.multi_modal_projector": Part.PROJECTOR,
        "model.language_model": Part.LANGUAGE,
        "lm_head": Part.LANGUAGE,
    },
    layer_kinds=layer_kinds,
    shrink=shrink,
    sample_row=llava_next.sample_row,
    dropped=dropped,
)
