"""Llama 3.2 Vision (Mllama), 11B and 90B.

Read from transformers 5.23, `models/mllama`. The language model reads the image in cross-attention layers of
a class of their own; a row without an image skips those layers. Their gates, and those of the tower's
global layers, start at zero and let no gradient through.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlcheck.model.families import decoders, images, turns
from vlcheck.model.family import Dialogue, FallbackProcessor, Family, ImageLayout, Part, Values

if TYPE_CHECKING:
    import torch

TEXT_LAYERS = "model.language_model.layers"
LOCAL_LAYERS = "model.vision_model.transformer.layers"
GLOBAL_LAYERS = "model.vision_model.global_transformer.layers"
SIDE = 16


def layer_kinds(values: Values) -> Mapping[str, Sequence[Hashable]]:
    """Text layers attend to themselves or to the image; the tower has local and gated global layers."""
    text, vision = values["text_config"], values["vision_config"]
    crossing = set(text["cross_attention_layers"])
    return {
        TEXT_LAYERS: ["cross" if index in crossing else "self" for index in range(text["num_hidden_layers"])],
        LOCAL_LAYERS: ["local"] * vision["num_hidden_layers"],
        GLOBAL_LAYERS: ["global"] * vision["num_global_layers"],
    }


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Narrow both models; the tower's output is its last state and one intermediate one."""
    tiny = copy.deepcopy(dict(values))
    crossing, vision = values["text_config"]["cross_attention_layers"], tiny["vision_config"]
    tiny["text_config"] = decoders.shrunk(values["text_config"], layers[TEXT_LAYERS]) | {
        "cross_attention_layers": [n for n, index in enumerate(layers[TEXT_LAYERS]) if index in crossing]
    }
    vision.update(
        hidden_size=32, intermediate_size=32, attention_heads=2, num_hidden_layers=len(layers[LOCAL_LAYERS]),
        num_global_layers=len(layers[GLOBAL_LAYERS]), image_size=SIDE, patch_size=4,
        intermediate_layers_indices=[0], vision_output_dim=64,
    )  # fmt: skip
    tiny["image_token_index"] = turns.IMAGE
    return tiny


def sample_row(values: Values, modalities: frozenset[str]) -> dict[str, torch.Tensor]:
    """A short turn; every token sees all tiles of an image."""
    import torch

    if "image" not in modalities:
        return turns.turn()
    row, tiles = turns.turn(turns.IMAGE), values["vision_config"]["max_num_tiles"]
    return row | {
        "pixel_values": turns.pixels(1, 1, tiles, 3, SIDE, SIDE),
        "aspect_ratio_ids": torch.ones(1, 1, dtype=torch.long),
        "aspect_ratio_mask": torch.ones(1, 1, tiles, dtype=torch.long),
        "cross_attention_mask": torch.ones(*row["input_ids"].shape, 1, tiles, dtype=torch.long),
    }


def image_layout(values: Values, soft_tokens: int, device: torch.device) -> ImageLayout:
    """One id in the text; beside it as many tiles as there may be, whatever the image, and who may look at them."""
    import torch

    vision, soft = values["vision_config"], images.placeholder(values)
    images.check_fixed(values, soft_tokens, 1)
    side, tiles = vision["image_size"], vision["max_num_tiles"]
    full = next(n for n, (high, wide) in enumerate(vision["supported_aspect_ratios"], 1) if high * wide == tiles)
    return ImageLayout(
        ids=(soft,),
        soft=soft,
        tensors={
            "pixel_values": torch.ones(1, tiles, 3, side, side, device=device),
            "aspect_ratio_ids": torch.tensor([full]),
            "aspect_ratio_mask": torch.ones(1, tiles, dtype=torch.long),
        },
        per_row=True,
        per_token={"cross_attention_mask": torch.ones(tiles, dtype=torch.long)},
    )


def soft_tokens(values: Values, wanted: int | None) -> tuple[int, str]:
    """Always one: the language model reads the image beside the text."""
    return 1, ""


def image_options(values: Values) -> dict[str, Any]:
    """Tiles of the tower's size in pixels, and how many of them an image may be cut into."""
    side, tiles = values["vision_config"]["image_size"], values["vision_config"]["max_num_tiles"]
    return {"size": {"height": side, "width": side}, "max_image_tiles": tiles}


DIALOGUE = Dialogue(
    end="<|eot_id|>",
    batch_keys=("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask", "cross_attention_mask"),
    image_tokens=("<|image|>",),
)

FALLBACK = FallbackProcessor(
    processor="MllamaProcessor",
    image_processor="MllamaImageProcessorPil",
    tokens={
        "<|begin_of_text|>": 128000, "<|end_of_text|>": 128001, "<|finetune_right_pad_id|>": 128004,
        "<|start_header_id|>": 128006, "<|end_header_id|>": 128007, "<|eom_id|>": 128008, "<|eot_id|>": 128009,
        "<|python_tag|>": 128010, "<|image|>": 128256,
    },
    roles={
        "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|finetune_right_pad_id|>",
        "image_token": "<|image|>",
    },
    template=lambda values: "mllama.jinja",
    adds_bos=True,
    image_options=image_options,
)  # fmt: skip
"""Ids as in the config and in Llama 3's tokenizer. The template is that of meta-llama/Llama-3.2-11B-Vision-Instruct
without tools: an image and a system turn exclude each other, and a text without image gets a system turn."""

FAMILY = Family(
    name="Llama 3.2 Vision",
    model_types=("mllama",),
    parts={
        "model.vision_model": Part.VISION,
        "model.multi_modal_projector": Part.PROJECTOR,
        "model.language_model": Part.LANGUAGE,
        "lm_head": Part.LANGUAGE,
    },
    layer_kinds=layer_kinds,
    shrink=shrink,
    sample_row=sample_row,
    dialogue=DIALOGUE,
    fallback=FALLBACK,
    image_layout=image_layout,
    soft_tokens=soft_tokens,
)
