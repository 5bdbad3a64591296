"""SmolVLM 2, and Idefics 3, whose layout it keeps.

Read from transformers 5.23, `models/smolvlm` and `models/idefics3`. The projector is called `connector`.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlcheck.families import decoders, towers, turns
from vlcheck.family import Family, Part, Values

if TYPE_CHECKING:
    import torch

TEXT_LAYERS = "model.text_model.layers"
VISION_LAYERS = "model.vision_model.encoder.layers"


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


FAMILY = Family(
    name="SmolVLM 2",
    model_types=("smolvlm", "idefics3"),
    parts={
        "model.vision_model": Part.VISION,
        "model.connector": Part.PROJECTOR,
        "model.text_model": Part.LANGUAGE,
        "lm_head": Part.LANGUAGE,
    },
    layer_kinds=layer_kinds,
    shrink=shrink,
    sample_row=sample_row,
)
