"""Qwen2-VL: 2B, 7B, 72B.

Read from transformers 5.23, `models/qwen2_vl`. Qwen2.5-VL without windows: every vision layer attends to the whole
image, and the tower calls its own width `embed_dim`, that of its output `hidden_size`.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vlcheck.model.families import decoders, qwen2_5_vl
from vlcheck.model.families.qwen2_5_vl import SPECIAL_IDS, TEXT_LAYERS, VISION_LAYERS
from vlcheck.model.family import Values


def layer_kinds(values: Values) -> Mapping[str, Sequence[Hashable]]:
    """Text layers by attention type; vision layers are alike."""
    return {
        TEXT_LAYERS: decoders.kinds(values["text_config"]),
        VISION_LAYERS: ["full"] * values["vision_config"]["depth"],
    }


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Narrow both models."""
    tiny = copy.deepcopy(dict(values)) | SPECIAL_IDS
    tiny["text_config"] = decoders.shrunk(values["text_config"], layers[TEXT_LAYERS])
    tiny["vision_config"].update(
        depth=len(layers[VISION_LAYERS]), embed_dim=32, hidden_size=decoders.HIDDEN, mlp_ratio=1, num_heads=2,
        patch_size=4, temporal_patch_size=2, spatial_merge_size=2,
    )  # fmt: skip
    return tiny


FAMILY = replace(
    qwen2_5_vl.FAMILY,
    name="Qwen2-VL",
    model_types=("qwen2_vl",),
    layer_kinds=layer_kinds,
    shrink=shrink,
    fallback=replace(qwen2_5_vl.FALLBACK, processor="Qwen2VLProcessor"),
)
"""Ids and chat template are those of Qwen2.5-VL, which took them over."""
