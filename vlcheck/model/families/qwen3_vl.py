"""Qwen3-VL, dense: 2B, 4B, 8B, 32B.

Read from transformers 5.23, `models/qwen3_vl`. Three vision layers are tapped besides the last: each has a
merger of its own in `deepstack_merger_list`, whose output is added after one of the first text layers.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from vlcheck.model.families import decoders, images, qwen2_5_vl
from vlcheck.model.families.qwen2_5_vl import SPECIAL_IDS, TEXT_LAYERS, VISION_LAYERS, image_layout, sample_row
from vlcheck.model.family import FallbackProcessor, Family, Part, Values


def layer_kinds(values: Values) -> Mapping[str, Sequence[Hashable]]:
    """Every tapped vision layer, and every text layer that takes a tapped feature, is a kind of its own."""
    taps, depth = values["vision_config"]["deepstack_visual_indexes"], values["vision_config"]["depth"]
    return {
        TEXT_LAYERS: [
            (kind, index if index < len(taps) else None)
            for index, kind in enumerate(decoders.kinds(values["text_config"]))
        ],
        VISION_LAYERS: [taps.index(index) if index in taps else None for index in range(depth)],
    }


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Narrow both models; all taps stay."""
    tiny = copy.deepcopy(dict(values)) | SPECIAL_IDS
    tiny["text_config"] = decoders.shrunk(values["text_config"], layers[TEXT_LAYERS])
    chosen = list(layers[VISION_LAYERS])
    tiny["vision_config"].update(
        depth=len(chosen), hidden_size=32, intermediate_size=32, num_heads=2, out_hidden_size=decoders.HIDDEN,
        patch_size=4, temporal_patch_size=2, spatial_merge_size=2, num_position_embeddings=16,
        deepstack_visual_indexes=[chosen.index(tap) for tap in values["vision_config"]["deepstack_visual_indexes"]],
    )  # fmt: skip
    return tiny


DIALOGUE = qwen2_5_vl.DIALOGUE

FALLBACK = FallbackProcessor(
    processor="Qwen3VLProcessor",
    image_processor="Qwen2VLImageProcessorPil",
    tokens={
        **qwen2_5_vl.TOKENS, "<tool_call>": 151657, "</tool_call>": 151658, "<tool_response>": 151665,
        "</tool_response>": 151666, "<think>": 151667, "</think>": 151668,
    },
    roles=qwen2_5_vl.ROLES,
    template=lambda values: "qwen3_vl.jinja",
    image_options=qwen2_5_vl.image_options,
)  # fmt: skip
"""The template is that of Qwen/Qwen3-VL-8B-Instruct without tool calls and video: no system turn of its own."""

FAMILY = Family(
    name="Qwen3-VL",
    model_types=("qwen3_vl",),
    parts={
        "model.visual": Part.VISION,
        "model.visual.merger": Part.PROJECTOR,
        "model.visual.deepstack_merger_list": Part.PROJECTOR,
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
    soft_token_side=32,
    measured=True,
)
