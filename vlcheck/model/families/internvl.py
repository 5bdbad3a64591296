"""InternVL 3 and 3.5, in the layout that transformers trains (`-hf`).

Read from transformers 5.23, `models/internvl`. The projector takes 2 x 2 patches as one soft token.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vlcheck.model.families import decoders, images, llava, towers, turns
from vlcheck.model.family import Dialogue, FallbackProcessor, ImageLayout, Values

if TYPE_CHECKING:
    import torch

TEXT_LAYERS = llava.TEXT_LAYERS


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Narrow both models; 16 patches become 4 soft tokens."""
    tiny = copy.deepcopy(dict(values))
    seeing = layers[towers.layers(values["vision_config"])]
    last = max(towers.depths(values)) == values["vision_config"]["num_hidden_layers"]
    tiny.update(
        text_config=decoders.shrunk(values["text_config"], layers[TEXT_LAYERS]),
        vision_config=towers.shrunk(values["vision_config"], seeing),
        vision_feature_layer=-1 if last else towers.feature_layer(values, seeing),
        image_token_id=turns.IMAGE, downsample_ratio=0.5,
    )  # fmt: skip
    return tiny


def sample_row(values: Values, modalities: frozenset[str]) -> dict[str, torch.Tensor]:
    """A short turn; an image has 4 soft tokens."""
    if "image" not in modalities:
        return turns.turn()
    row = turns.turn(turns.START, *[turns.IMAGE] * (towers.PATCHES // 4), turns.END)
    return row | {"pixel_values": turns.pixels(1, 3, towers.SIDE, towers.SIDE)}


def image_layout(values: Values, soft_tokens: int, device: torch.device) -> ImageLayout:
    """Tiles of the tower's size, framed as one image."""
    import torch

    side, soft, tile = values["vision_config"]["image_size"][0], images.placeholder(values), soft_tokens_of_tile(values)
    tiles = images.tiles_of(values, soft_tokens, tile)
    return ImageLayout(
        ids=(images.MARKER, *[soft] * tile * tiles, images.MARKER),
        soft=soft,
        tensors={"pixel_values": torch.ones(tiles, 3, side, side, device=device)},
    )


def soft_tokens(values: Values, wanted: int | None) -> tuple[int, str]:
    """Those of whole tiles: as many as a limit lets through, else as a landscape photo has."""
    return images.tiled(soft_tokens_of_tile(values), wanted)


def soft_tokens_of_tile(values: Values) -> int:
    """Soft tokens of a tile: what the projector leaves of its patches."""
    (side, _), (patch, _) = values["vision_config"]["image_size"], values["vision_config"]["patch_size"]
    return int((side // patch * values["downsample_ratio"]) ** 2)


def image_options(values: Values) -> dict[str, Any]:
    """Tiles of the tower's size, at most 12 of them beside the whole."""
    height, width = values["vision_config"]["image_size"]
    return {"size": {"height": height, "width": width}, "crop_to_patches": True, "min_patches": 1, "max_patches": 12}


def options(values: Values) -> dict[str, Any]:
    """How many soft tokens the processor puts in for a tile."""
    (height, width), patch = values["vision_config"]["image_size"], values["vision_config"]["patch_size"]
    return {"image_seq_length": int(height // patch[0] * (width // patch[1]) * values["downsample_ratio"] ** 2)}


def budget(processor: Any, soft_tokens: int) -> None:
    """Cap an image's soft tokens: at least one tile; of more tiles one is the whole image."""
    tiles = soft_tokens // processor.image_seq_length
    processor.image_processor.max_patches = max(1, tiles - 1)


DIALOGUE = Dialogue(
    end="<|im_end|>",
    batch_keys=("pixel_values",),
    image_tokens=("<IMG_CONTEXT>", "<img>", "</img>"),
    budget=budget,
)

FALLBACK = FallbackProcessor(
    processor="InternVLProcessor",
    image_processor="GotOcr2ImageProcessorPil",
    tokens={
        "<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<img>": 151665, "</img>": 151666,
        "<IMG_CONTEXT>": 151667, "<quad>": 151668, "</quad>": 151669, "<ref>": 151670, "</ref>": 151671,
        "<box>": 151672, "</box>": 151673, "<video>": 151674,
    },
    roles={
        "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "context_image_token": "<IMG_CONTEXT>",
        "start_image_token": "<img>", "end_image_token": "</img>", "video_token": "<video>",
    },
    template=lambda values: "internvl.jinja",
    image_options=image_options,
    options=options,
)  # fmt: skip
"""Ids as in the config and its vocabulary's size; the template is that of OpenGVLab/InternVL3-1B-hf."""

FAMILY = llava.kin(
    name="InternVL 3",
    model_types=("internvl",),
    shrink=shrink,
    sample_row=sample_row,
    dropped=towers.dropped,
    dialogue=DIALOGUE,
    fallback=FALLBACK,
    image_layout=image_layout,
    soft_tokens=soft_tokens,
    measured=True,
)

ADDED_BY_QWEN_3 = 4
"""Tokens for tools and thinking that Qwen 3 has and Qwen 2.5 has not; InternVL's own follow them."""

INTERNVL_3_5 = replace(
    FAMILY,
    name="InternVL 3.5",
    applies=lambda values: str((values.get("text_config") or {}).get("model_type")).startswith("qwen3"),
    fallback=replace(
        FALLBACK,
        tokens={
            token: number + ADDED_BY_QWEN_3 * (number >= FALLBACK.tokens["<img>"])
            for token, number in FALLBACK.tokens.items()
        }
        | {"<tool_response>": 151665, "</tool_response>": 151666, "<think>": 151667, "</think>": 151668},
    ),
)
"""The same around Qwen 3."""
