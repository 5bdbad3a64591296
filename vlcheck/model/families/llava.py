"""LLaVA 1.5. Pixtral 12B is a LLaVA too, with another tower; what differs is in its own file.

Read from transformers 5.23, `models/llava`. LLaVA 1.5 reads CLIP's features one layer before the last
(`vision_feature_layer: -2`), so the last layer and the norm behind it lead nowhere; Pixtral reads the last.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlcheck.model.families import decoders, images, towers, turns
from vlcheck.model.family import Dialogue, FallbackProcessor, Family, ImageLayout, Part, Values

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
    """Narrow both models; the projector follows."""
    tiny = copy.deepcopy(dict(values))
    seeing = layers[towers.layers(values["vision_config"])]
    tiny.update(
        text_config=decoders.shrunk(values["text_config"], layers[TEXT_LAYERS]),
        vision_config=towers.shrunk(values["vision_config"], seeing),
        vision_feature_layer=towers.feature_layer(values, seeing),
        image_token_index=turns.IMAGE, pad_token_id=0,
    )  # fmt: skip
    return tiny


def sample_row(values: Values, modalities: frozenset[str]) -> dict[str, torch.Tensor]:
    """A short turn; an image has 16 soft tokens."""
    import torch

    if "image" not in modalities:
        return turns.turn()
    row = turns.turn(*[turns.IMAGE] * towers.soft_tokens(values))
    row["pixel_values"] = turns.pixels(1, 3, towers.SIDE, towers.SIDE)
    if values["vision_config"]["model_type"] == "pixtral":
        row["image_sizes"] = torch.tensor([[towers.SIDE, towers.SIDE]])
    return row


def dropped(values: Values) -> tuple[str, ...]:
    """What lies behind the selected feature; CLIP's last norm always does."""
    return (*towers.dropped(values), f"{towers.ROOT}.post_layernorm")


def image_layout(values: Values, soft_tokens: int, device: torch.device) -> ImageLayout:
    """One square image, every patch of it a soft token."""
    import torch

    side, soft, count = values["vision_config"]["image_size"], images.placeholder(values), features(values)
    images.check_fixed(values, soft_tokens, count)
    return ImageLayout(
        ids=(soft,) * count, soft=soft, tensors={"pixel_values": torch.ones(1, 3, side, side, device=device)}
    )


def soft_tokens(values: Values, wanted: int | None) -> tuple[int, str]:
    """The one number that the config fixes for every image; no limit changes it."""
    return features(values), ""


def features(values: Values) -> int:
    """What the projector gets of an image: its patches, and one more where the strategy drops none."""
    vision = values["vision_config"]
    patches: int = (vision["image_size"] // vision["patch_size"]) ** 2
    return patches + (values.get("vision_feature_select_strategy") == "full")


def image_options(values: Values) -> dict[str, Any]:
    """The shorter side is scaled to the tower's size, what sticks out is cut off."""
    side = values["vision_config"]["image_size"]
    return {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}


def options(values: Values) -> dict[str, Any]:
    """How many features the projector gets; CLIP adds a class token, which the strategy drops again."""
    vision = values["vision_config"]
    return {
        "patch_size": vision["patch_size"],
        "vision_feature_select_strategy": values["vision_feature_select_strategy"],
        "num_additional_image_tokens": int(vision["model_type"] == "clip_vision_model"),
    }


TOKENS = {"<unk>": 0, "<s>": 1, "</s>": 2, "<image>": 32000, "<pad>": 32001}
ROLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "image_token": "<image>"}

DIALOGUE = Dialogue(end="</s>", batch_keys=("pixel_values",), image_tokens=("<image>",))

FALLBACK = FallbackProcessor(
    processor="LlavaProcessor",
    image_processor="CLIPImageProcessorPil",
    tokens=TOKENS,
    roles=ROLES,
    template=lambda values: "llava.jinja",
    byte_level=False,
    adds_bos=True,
    image_options=image_options,
    options=options,
)
"""Ids as in the config; the template is that of llava-hf/llava-1.5-7b-hf, which never writes `</s>`."""


def kin(*, newline: bool = False, **record: Any) -> Family:
    """The record of a family in LLaVA's layout: a tower, a projector and a language model, each at LLaVA's path.

    Args:
        newline: the model itself owns `image_newline`, a bare parameter between the parts.
        record: fields of `Family`; those that are not given here are LLaVA's own.
    """
    between = {"model": Part.PROJECTOR} if newline else {}
    shared: dict[str, Any] = {
        "parts": {
            **between,
            "model.vision_tower": Part.VISION,
            "model.multi_modal_projector": Part.PROJECTOR,
            "model.language_model": Part.LANGUAGE,
            "lm_head": Part.LANGUAGE,
        },
        "layer_kinds": layer_kinds,
        "shrink": shrink,
        "sample_row": sample_row,
        "dropped": dropped,
        "dialogue": DIALOGUE,
        "fallback": FALLBACK,
        "image_layout": image_layout,
        "soft_tokens": soft_tokens,
    }
    return Family(**(shared | record))


FAMILY = kin(name="LLaVA 1.5", model_types=("llava",), measured=True)
