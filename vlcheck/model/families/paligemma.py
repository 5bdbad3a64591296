"""PaliGemma 2 (and 1, whose language model is Gemma 1).

Read from transformers 5.23, `models/paligemma`. The model reads the tower's last hidden state, after its
norm, and its training mask comes from `token_type_ids`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vlcheck.model.families import decoders, llava, towers, turns
from vlcheck.model.family import Dialogue, FallbackProcessor, ImageLayout, Values

if TYPE_CHECKING:
    import torch

TEXT_LAYERS = llava.TEXT_LAYERS


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Narrow both models; the projector's width is that of the language model."""
    tiny = copy.deepcopy(dict(values))
    tiny.update(
        text_config=decoders.shrunk(values["text_config"], layers[TEXT_LAYERS]),
        vision_config=towers.shrunk(values["vision_config"], layers[towers.layers(values["vision_config"])]),
        image_token_index=turns.IMAGE, projection_dim=decoders.HIDDEN, hidden_size=decoders.HIDDEN, vocab_size=64,
    )  # fmt: skip
    tiny["vision_config"]["projection_dim"] = decoders.HIDDEN
    return tiny


def sample_row(values: Values, modalities: frozenset[str]) -> dict[str, torch.Tensor]:
    """A short turn; an image has 16 soft tokens; the prefix is type 0, the answer type 1."""
    seen = "image" in modalities
    row = turns.turn(*[turns.IMAGE] * towers.PATCHES * seen)
    row["token_type_ids"] = (row["input_ids"].cumsum(-1) > row["input_ids"].sum() - 20).long()
    return row | ({"pixel_values": turns.pixels(1, 3, towers.SIDE, towers.SIDE)} if seen else {})


def image_layout(values: Values, soft_tokens: int, device: torch.device) -> ImageLayout:
    """As LLaVA, and which ids are the image's; no marker frames them."""
    return replace(llava.image_layout(values, soft_tokens, device), types="token_type_ids")


def image_options(values: Values) -> dict[str, Any]:
    """The tower's size, and its patches as soft tokens."""
    side = values["vision_config"]["image_size"]
    patches = (side // values["vision_config"]["patch_size"]) ** 2
    return {"size": {"height": side, "width": side}, "image_seq_length": patches}


DIALOGUE = Dialogue(end="<eos>", batch_keys=("token_type_ids", "pixel_values"), image_tokens=("<image>",), suffix=True)

FALLBACK = FallbackProcessor(
    processor="PaliGemmaProcessor",
    image_processor="SiglipImageProcessorPil",
    tokens={
        "<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3,
        **{f"<loc{number:04}>": 256000 + number for number in range(1024)},
        **{f"<seg{number:03}>": 257024 + number for number in range(128)},
        "<image>": 257152,
    },
    roles={
        "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
        "image_token": "<image>",
    },
    template=lambda values: None,
    byte_level=False,
    image_options=image_options,
)  # fmt: skip
"""Ids as in big_vision's PaliGemma README and the config: 1,024 places, 128 segments, the image."""

FAMILY = llava.kin(
    name="PaliGemma 2",
    model_types=("paligemma",),
    shrink=shrink,
    sample_row=sample_row,
    dropped=towers.dropped,
    dialogue=DIALOGUE,
    fallback=FALLBACK,
    image_layout=image_layout,
    measured=True,
)
