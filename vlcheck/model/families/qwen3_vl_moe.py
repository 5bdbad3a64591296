"""Qwen3-VL with experts: 30B-A3B, 235B-A22B.

Read from transformers 5.23, `models/qwen3_vl_moe`. Experts are two fused three-dimensional parameters a layer,
and the router owns a bare weight: it is no linear layer, so `all-linear` reaches neither.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from vlcheck.model.families import images, qwen3_vl
from vlcheck.model.families.qwen2_5_vl import TEXT_LAYERS, image_layout, sample_row
from vlcheck.model.family import Family, Part, Values


def layer_kinds(values: Values) -> Mapping[str, Sequence[Hashable]]:
    """As the dense model, and by whether a text layer has experts."""
    kinds = qwen3_vl.layer_kinds(values)
    return {**kinds, TEXT_LAYERS: list(zip(kinds[TEXT_LAYERS], _sparse(values["text_config"]), strict=True))}


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """As the dense model; 4 experts, 2 of them asked."""
    tiny, sparse = qwen3_vl.shrink(values, layers), _sparse(values["text_config"])
    tiny["text_config"].pop("num_experts", None)
    tiny["text_config"].update(
        num_local_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, decoder_sparse_step=1,
        mlp_only_layers=[n for n, index in enumerate(layers[TEXT_LAYERS]) if not sparse[index]],
    )  # fmt: skip
    return tiny


def _sparse(text: Values) -> list[bool]:
    """Which text layers have experts."""
    dense, step = text.get("mlp_only_layers") or (), text.get("decoder_sparse_step") or 1
    return [index not in dense and (index + 1) % step == 0 for index in range(text["num_hidden_layers"])]


FAMILY = Family(
    name="Qwen3-VL-MoE",
    model_types=("qwen3_vl_moe",),
    parts=qwen3_vl.FAMILY.parts,
    part_classes={"Qwen3VLMoeTextTopKRouter": Part.ROUTER, "Qwen3VLMoeTextExperts": Part.EXPERTS},
    layer_kinds=layer_kinds,
    shrink=shrink,
    sample_row=sample_row,
    dialogue=qwen3_vl.DIALOGUE,
    fallback=qwen3_vl.FALLBACK,
    image_layout=image_layout,
    soft_tokens=images.unscaled,
    soft_token_side=32,
    measured=True,
)
