"""Gemma 3 with a vision tower: 4B, 12B, 27B.

Read from transformers 5.23, `models/gemma3`. Nothing clips. The projector is a bare parameter,
`mm_input_projection_weight`, which no LoRA target can reach.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlcheck.model.families import images, towers
from vlcheck.model.family import Dialogue, FallbackProcessor, Family, ImageLayout, Part, Values

if TYPE_CHECKING:
    import torch

TEXT_LAYERS = "model.language_model.layers"
VISION_LAYERS = "model.vision_tower.encoder.layers"


def layer_kinds(values: Values) -> Mapping[str, Sequence[Hashable]]:
    """Text layers differ by attention type alone."""
    return {
        TEXT_LAYERS: values["text_config"]["layer_types"],
        VISION_LAYERS: ["encoder"] * values["vision_config"]["num_hidden_layers"],
    }


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Narrow every width and keep the chosen layers; 4 x 4 patches pool to 4 soft tokens."""
    tiny = copy.deepcopy(dict(values))
    text, vision = tiny["text_config"], tiny["vision_config"]
    text.pop("per_layer_config", None)
    text.update(
        layer_types=[text["layer_types"][index] for index in layers[TEXT_LAYERS]],
        num_hidden_layers=len(layers[TEXT_LAYERS]),
        hidden_size=64, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        vocab_size=64, sliding_window=32, pad_token_id=0, bos_token_id=2, eos_token_id=1,
    )  # fmt: skip
    vision.update(
        hidden_size=32, intermediate_size=32, num_hidden_layers=len(layers[VISION_LAYERS]), num_attention_heads=2,
        patch_size=4, image_size=16,
    )  # fmt: skip
    tiny.update(image_token_index=40, image_token_id=40, boi_token_index=43, eoi_token_index=44, eos_token_id=1)
    tiny["mm_tokens_per_image"] = 4
    return tiny


def sample_row(values: Values, modalities: frozenset[str]) -> dict[str, torch.Tensor]:
    """A short turn; an image has 4 soft tokens."""
    import torch

    image, size = values["image_token_index"], values["vision_config"]["image_size"]
    seen = "image" in modalities
    ids = torch.tensor([[2, 5, 6] + [43, *[image] * 4, 44] * seen + [7, 8, 9, 10, 11]])
    row = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": (ids == image).long(),
        "labels": ids.where(ids != image, -100),
    }
    return row | ({"pixel_values": torch.rand(1, 3, size, size)} if seen else {})


def image_layout(values: Values, soft_tokens: int, device: torch.device) -> ImageLayout:
    """One square image, always with the same number of soft tokens."""
    import torch

    soft, side, count = images.placeholder(values), values["vision_config"]["image_size"], values["mm_tokens_per_image"]
    images.check_fixed(values, soft_tokens, count)
    return ImageLayout(
        ids=(values["boi_token_index"], *[soft] * count, values["eoi_token_index"]),
        soft=soft,
        tensors={"pixel_values": torch.ones(1, 3, side, side, device=device)},
        types="token_type_ids",
    )


def soft_tokens(values: Values, wanted: int | None) -> tuple[int, str]:
    """The one number that the config fixes for every image; no limit changes it."""
    return int(values["mm_tokens_per_image"]), ""


DIALOGUE = Dialogue(
    end="<end_of_turn>",
    batch_keys=("token_type_ids", "pixel_values"),
    image_tokens=("<image_soft_token>", "<start_of_image>", "<end_of_image>"),
)

FALLBACK = FallbackProcessor(
    processor="Gemma3Processor",
    image_processor="Gemma3ImageProcessorPil",
    tokens={
        "<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<start_of_turn>": 105, "<end_of_turn>": 106,
        "<start_of_image>": 255999, "<end_of_image>": 256000, "<image_soft_token>": 262144,
    },
    roles={
        "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
        "image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>",
    },
    template=lambda values: "gemma3.jinja",
    byte_level=False,
    adds_bos=True,
    image_options=lambda values: {"size": dict.fromkeys(("height", "width"), values["vision_config"]["image_size"])},
    options=lambda values: {"image_seq_length": values["mm_tokens_per_image"]},
)  # fmt: skip
"""Ids as in the tokenizer.json of google/gemma-3-4b-it (sha256 4667f208...), the template as it is there."""

FAMILY = Family(
    name="Gemma 3",
    model_types=("gemma3",),
    parts={
        "model.vision_tower": Part.VISION,
        "model.multi_modal_projector": Part.PROJECTOR,
        "model.language_model": Part.LANGUAGE,
        "lm_head": Part.LANGUAGE,
    },
    overflows_in_fp16="activations of the language model (unsloth.ai/blog/gemma3)",
    layer_kinds=layer_kinds,
    shrink=shrink,
    sample_row=sample_row,
    dropped=towers.dropped,
    dialogue=DIALOGUE,
    fallback=FALLBACK,
    image_layout=image_layout,
    soft_tokens=soft_tokens,
    measured=True,
)
