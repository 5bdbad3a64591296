"""PaliGemma 2 (and 1, whose language model is Gemma 1).

Read from transformers 5.23, `models/paligemma`. The model reads the tower's last hidden state, after its
norm, and its training mask comes from `token_type_ids`.
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
    """Text layers by attention type; vision layers are alike."""
    return {
        TEXT_LAYERS: decoders.kinds(values["text_config"]),
        towers.layers(values["vision_config"]): towers.kinds(values),
    }


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


FAMILY = Family(
    name="PaliGemma 2",
    model_types=("paligemma",),
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
