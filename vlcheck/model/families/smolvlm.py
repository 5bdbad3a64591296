"""SmolVLM 2.

Read from transformers 5.23, `models/smolvlm`. The projector is called `connector`.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlcheck.model.families import decoders, images, towers, turns
from vlcheck.model.family import Dialogue, FallbackProcessor, Family, ImageLayout, Part, Values

if TYPE_CHECKING:
    import torch

TEXT_LAYERS = "model.text_model.layers"
VISION_LAYERS = "model.vision_model.encoder.layers"
TILES = tuple(f"<row_{number // 6 + 1}_col_{number % 6 + 1}>" for number in range(36))
"""Tokens that say where a tile stood in its image."""


def layer_kinds(values: Values) -> Mapping[str, Sequence[Hashable]]:
    """Text layers by attention type; vision layers are alike."""
    return {
        TEXT_LAYERS: decoders.kinds(values["text_config"]),
        VISION_LAYERS: ["encoder"] * values["vision_config"]["num_hidden_layers"],
    }


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Narrow both models; 16 patches become 4 soft tokens."""
    tiny = copy.deepcopy(dict(values))
    tiny.update(
        text_config=decoders.shrunk(values["text_config"], layers[TEXT_LAYERS]),
        vision_config=towers.shrunk(values["vision_config"], layers[VISION_LAYERS]),
        scale_factor=2, image_token_id=turns.IMAGE, pad_token_id=0,
    )  # fmt: skip
    return tiny


def sample_row(values: Values, modalities: frozenset[str]) -> dict[str, torch.Tensor]:
    """A short turn; an image has 4 soft tokens."""
    if "image" not in modalities:
        return turns.turn()
    row = turns.turn(*[turns.IMAGE] * (towers.PATCHES // 4))
    return row | {"pixel_values": turns.pixels(1, 1, 3, towers.SIDE, towers.SIDE)}


def image_layout(values: Values, soft_tokens: int, device: torch.device) -> ImageLayout:
    """An image is cut into tiles, and each of them becomes the same number of soft tokens."""
    import torch

    soft, side, tile = images.placeholder(values), values["vision_config"]["image_size"], soft_tokens_of_tile(values)
    tiles = images.tiles_of(values, soft_tokens, tile)
    return ImageLayout(
        ids=tuple(id_ for _ in range(tiles) for id_ in (images.MARKER, *[soft] * tile, images.MARKER)),
        soft=soft,
        tensors={"pixel_values": torch.ones(tiles, 3, side, side, device=device)},
        per_row=True,
    )


def soft_tokens(values: Values, wanted: int | None) -> tuple[int, str]:
    """Those of whole tiles: as many as a limit lets through, else as a landscape photo has."""
    return images.tiled(soft_tokens_of_tile(values), wanted)


def soft_tokens_of_tile(values: Values) -> int:
    """Soft tokens of a tile: what the projector leaves of its patches."""
    vision = values["vision_config"]
    return int((vision["image_size"] // vision["patch_size"]) ** 2 // values["scale_factor"] ** 2)


def image_options(values: Values) -> dict[str, Any]:
    """An image is scaled to four tiles along its longer side and cut into tiles of the tower's size."""
    side = values["vision_config"]["image_size"]
    return {"size": {"longest_edge": 4 * side}, "max_image_size": {"longest_edge": side}}


def options(values: Values) -> dict[str, Any]:
    """How many soft tokens the processor puts in for a tile."""
    vision = values["vision_config"]
    return {"image_seq_len": (vision["image_size"] // vision["patch_size"] // values["scale_factor"]) ** 2}


def budget(processor: Any, soft_tokens: int) -> None:
    """Cap an image's soft tokens: the whole image as one tile, and as many along its longer side as still fit."""
    cutting, tiles = processor.image_processor, soft_tokens // processor.image_seq_len
    along = max((n for n in range(1, 9) if n * n + 1 <= tiles), default=1)
    side = cutting.max_image_size["longest_edge"]
    cutting.size = type(cutting.size)(longest_edge=along * side)
    cutting.do_image_splitting = along > 1


DIALOGUE = Dialogue(
    end="<end_of_utterance>",
    batch_keys=("pixel_values", "pixel_attention_mask"),
    image_tokens=("<image>", "<fake_token_around_image>", "<global-img>", *TILES),
    budget=budget,
)

FALLBACK = FallbackProcessor(
    processor="SmolVLMProcessor",
    image_processor="SmolVLMImageProcessorPil",
    tokens={
        "<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<global-img>": 49152,
        **{tile: 49153 + number for number, tile in enumerate(TILES)},
        "<fake_token_around_image>": 49189, "<image>": 49190, "<end_of_utterance>": 49279,
    },
    roles={
        "bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>", "pad_token": "<|im_end|>",
        "image_token": "<image>", "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>",
    },
    template=lambda values: "smolvlm.jinja",
    image_options=image_options,
    options=options,
)  # fmt: skip
"""The image's id is the config's; those before it follow from their order, that of `<end_of_utterance>` is the
vocabulary's last. The template is that of HuggingFaceTB/SmolVLM2-2.2B-Instruct, as trl 1.16 ships it too."""

FAMILY = Family(
    name="SmolVLM 2",
    model_types=("smolvlm",),
    parts={
        "model.vision_model": Part.VISION,
        "model.connector": Part.PROJECTOR,
        "model.text_model": Part.LANGUAGE,
        "lm_head": Part.LANGUAGE,
    },
    layer_kinds=layer_kinds,
    shrink=shrink,
    sample_row=sample_row,
    dialogue=DIALOGUE,
    fallback=FALLBACK,
    image_layout=image_layout,
    soft_tokens=soft_tokens,
    measured=True,
)
