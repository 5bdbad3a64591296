"""The vision towers that several families hold: their layers, those whose output is dropped, their shrunken configs.

LLaVA and its kin read the tower's features at `vision_feature_layer`, an index into the hidden states, of
which there is one more than layers. Layers after the deepest index run and lead nowhere: no adapter
there ever learns, whatever the settings.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from typing import Any

from vlcheck.finding import Unavailable
from vlcheck.model.family import Values

ROOT = "model.vision_tower"
LAYERS = {
    "clip_vision_model": f"{ROOT}.encoder.layers",
    "siglip_vision_model": f"{ROOT}.encoder.layers",
    "pixtral": f"{ROOT}.transformer.layers",
    "internvl_vision": f"{ROOT}.encoder.layer",
}
"""Path of the layer list, by the tower's model type."""

SIDE, PATCH = 16, 4
PATCHES = (SIDE // PATCH) ** 2


def layers(vision: Values) -> str:
    """Path of the tower's layer list.

    Raises:
        Unavailable: for a tower of another type.
    """
    if vision["model_type"] not in LAYERS:
        raise Unavailable(f"vlcheck knows no miniature of a {vision['model_type']} vision tower")
    return LAYERS[vision["model_type"]]


def kinds(values: Values) -> Sequence[Hashable]:
    """Layers differ only in whether the model uses their output."""
    count, used = values["vision_config"]["num_hidden_layers"], max(depths(values))
    return ["used"] * used + ["dropped"] * (count - used)


def depths(values: Values) -> tuple[int, ...]:
    """How many layers each selected feature has passed; the last layer's output where none is selected."""
    count: int = values["vision_config"]["num_hidden_layers"]
    selected = values.get("vision_feature_layer", -1)
    chosen = [selected] if isinstance(selected, int) else list(selected)
    return tuple(index if index >= 0 else count + 1 + index for index in chosen)


def dropped(values: Values) -> tuple[str, ...]:
    """Layers past the deepest feature, and the pooling head, whose output nobody reads."""
    path, count = layers(values["vision_config"]), values["vision_config"]["num_hidden_layers"]
    behind = (f"{path}.{index}" for index in range(max(depths(values)), count))
    return (*behind, f"{ROOT}.head")


def shrunk(vision: Values, chosen: Sequence[int]) -> dict[str, Any]:
    """The config of the chosen layers, every width narrowed; 4 x 4 patches."""
    tiny = copy.deepcopy(dict(vision))
    square = isinstance(vision.get("image_size"), int)
    tiny.update(
        num_hidden_layers=len(chosen), hidden_size=32, intermediate_size=32, num_attention_heads=2,
        image_size=SIDE if square else [SIDE, SIDE], patch_size=PATCH if square else [PATCH, PATCH],
    )  # fmt: skip
    if tiny.get("head_dim"):
        tiny["head_dim"] = 16
    return tiny


def feature_layer(values: Values, chosen: Sequence[int]) -> int | list[int]:
    """`vision_feature_layer` of a tower that keeps the chosen layers."""
    moved = [sum(index < depth for index in chosen) for depth in depths(values)]
    return moved[0] if isinstance(values["vision_feature_layer"], int) else moved


def soft_tokens(values: Values) -> int:
    """Features of one image: its patches, and CLIP's class token unless the strategy drops the first."""
    has_class_token: bool = values["vision_config"]["model_type"] == "clip_vision_model"
    first_dropped: bool = values["vision_feature_select_strategy"] == "default"
    return PATCHES + has_class_token - first_dropped
