"""Gemma 4 12B, which has no towers.

Read from transformers 5.23, `models/gemma4_unified`. Raw patches and raw sound are projected straight into
the language model: `embed_vision` is the projector, and `embed_audio` is all there is for sound. Nothing
clips.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vlcheck.model.families import gemma4, images, turns
from vlcheck.model.family import Family, ImageLayout, Part, Values

if TYPE_CHECKING:
    import torch

TEXT_LAYERS = "model.language_model.layers"
SPECIAL_IDS = {
    "image_token_id": turns.IMAGE,
    "video_token_id": turns.VIDEO,
    "boi_token_id": turns.START,
    "eoi_token_id": turns.END,
    "audio_token_id": turns.AUDIO,
    "boa_token_id": 45,
    "eoa_token_id": 46,
    "eoa_token_index": 46,
    "eos_token_id": 1,
}


def layer_kinds(values: Values) -> Mapping[str, Sequence[Hashable]]:
    """Layers differ by attention type; full attention may have no value projection (`attention_k_eq_v`)."""
    return {TEXT_LAYERS: values["text_config"]["layer_types"]}


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Narrow every width; `per_layer_config` is derived again from the rest."""
    tiny = copy.deepcopy(dict(values)) | SPECIAL_IDS
    text, chosen = tiny["text_config"], layers[TEXT_LAYERS]
    text.pop("per_layer_config", None)
    text.update(
        layer_types=[text["layer_types"][index] for index in chosen],
        num_hidden_layers=len(chosen), hidden_size=64, intermediate_size=64, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, global_head_dim=32, vocab_size=64, vocab_size_per_layer_input=64,
        num_global_key_value_heads=1 if text.get("attention_k_eq_v") else None, sliding_window=32, pad_token_id=0,
        bos_token_id=2, eos_token_id=1,
    )  # fmt: skip
    if tiny.get("vision_config"):
        tiny["vision_config"].pop("model_patch_size", None)
        tiny["vision_config"].update(
            patch_size=2, pooling_kernel_size=2, mm_embed_dim=64, mm_posemb_size=16, output_proj_dims=64
        )
    if tiny.get("audio_config"):
        tiny["audio_config"] = {"model_type": tiny["audio_config"]["model_type"], "audio_embed_dim": 32}
    return tiny


def sample_row(values: Values, modalities: frozenset[str]) -> dict[str, torch.Tensor]:
    """A short turn; an image has 2 x 2 soft tokens, a sound 4."""
    import torch

    image, sound = [turns.START, *[turns.IMAGE] * 4, turns.END], [45, *[turns.AUDIO] * 4, 46]
    seen, heard = "image" in modalities, "audio" in modalities and bool(values.get("audio_config"))
    row = turns.turn(*image * seen, *sound * heard)
    row["mm_token_type_ids"] = turns.types(row, (turns.IMAGE, turns.VIDEO, turns.AUDIO))
    if seen:
        vision, side = values["vision_config"], torch.arange(2)
        row["pixel_values"] = turns.pixels(1, 4, 3 * (vision["patch_size"] * vision["pooling_kernel_size"]) ** 2)
        row["image_position_ids"] = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(1, -1, 2)
    if heard:
        row["input_features"] = turns.pixels(1, 4, values["audio_config"]["audio_embed_dim"])
        row["input_features_mask"] = torch.ones(1, 4, dtype=torch.bool)
    return row


def image_layout(values: Values, soft_tokens: int, device: torch.device) -> ImageLayout:
    """Pieces of one image, padded to the budget; the processor has merged three by three patches into each."""
    import torch

    vision, soft = values["vision_config"], images.placeholder(values)
    side, (high, wide) = vision["patch_size"] * vision["pooling_kernel_size"], images.rectangle(soft_tokens)
    grid = torch.meshgrid(torch.arange(wide), torch.arange(high), indexing="xy")
    return ImageLayout(
        ids=(values["boi_token_id"], *[soft] * soft_tokens, values["eoi_token_id"]),
        soft=soft,
        tensors={
            "pixel_values": torch.ones(1, soft_tokens, 3 * side**2, device=device),
            "image_position_ids": torch.stack(grid, -1).reshape(1, -1, 2),
        },
        types="mm_token_type_ids",
    )


DIALOGUE = gemma4.DIALOGUE

FALLBACK = replace(gemma4.FALLBACK, processor="Gemma4UnifiedProcessor", image_processor="Gemma4UnifiedImageProcessor")
"""The image processor has no form without torchvision."""

FAMILY = Family(
    name="Gemma 4 12B",
    model_types=("gemma4_unified",),
    parts={
        "model.embed_vision": Part.PROJECTOR,
        "model.embed_audio": Part.AUDIO,
        "model.language_model": Part.LANGUAGE,
        "lm_head": Part.LANGUAGE,
    },
    layer_kinds=layer_kinds,
    shrink=shrink,
    sample_row=sample_row,
    dialogue=DIALOGUE,
    fallback=FALLBACK,
    image_layout=image_layout,
    soft_tokens=gemma4.soft_tokens,
    most_soft_tokens=gemma4.SOFT_TOKENS[-1],
)
