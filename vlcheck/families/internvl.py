"""InternVL 3, in the layout that transformers trains (`-hf`).

Read from transformers 5.23, `models/internvl`. The projector takes 2 x 2 patches as one soft token.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlcheck.families import decoders, towers, turns
from vlcheck.family import Family, Part, Values

if TYPE_CHECKING:
    import torch

TEXT_LAYERS = "model.language_model.layers"


def layer_kinds(values: Values) -> Mapping[str, Sequence[Hashable]]:
    """Text layers by attention type, vision layers by whether their output is used."""
    return {
        TEXT_LAYERS: decoders.kinds(values["text_config"]),
        towers.layers(values["vision_config"]): towers.kinds(values),
    }


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


FAMILY = Family(
    name="InternVL 3",
    model_types=("internvl",),
    parts={
        "model.vision_tower": Part.VISION,
        "model.multi_modal_projector": Part.PROJECTOR,
        "model.language_model": Part.LANGUAGE,
        "lm_head": Part.LANGUAGE,
    },
    layer_kinds=layer_kinds,
    shrink=shrink,
    sample_row=sample_row,
    dropped=towers.dropped,
)
