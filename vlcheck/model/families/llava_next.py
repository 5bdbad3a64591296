"""LLaVA-NeXT (LLaVA 1.6).

Read from transformers 5.23, `models/llava_next`. Differs from LLaVA 1.5 in that an image is seen whole and
in crops, whose rows end in `image_newline`, a parameter of the model itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vlcheck.finding import Unavailable
from vlcheck.model.families import images, llava, towers, turns
from vlcheck.model.family import ImageLayout, Values

if TYPE_CHECKING:
    import torch


def shrink(values: Values, layers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """As LLaVA; one crop covers the image."""
    return llava.shrink(values, layers) | {"image_grid_pinpoints": [[towers.SIDE, towers.SIDE]]}


def sample_row(values: Values, modalities: frozenset[str]) -> dict[str, torch.Tensor]:
    """A short turn; an image has the soft tokens of the whole, of the crop, and a newline for each of 4 rows."""
    import torch

    if "image" not in modalities:
        return turns.turn()
    whole, crop = towers.soft_tokens(values), towers.PATCHES + towers.SIDE // towers.PATCH
    row = turns.turn(*[turns.IMAGE] * (whole + crop))
    row["pixel_values"] = turns.pixels(1, 2, 3, towers.SIDE, towers.SIDE)
    row["image_sizes"] = torch.tensor([[towers.SIDE, towers.SIDE]])
    return row


def image_layout(values: Values, soft_tokens: int, device: torch.device) -> ImageLayout:
    """The image as a whole, then its tiles; a newline ends each row of soft tokens over the tiles.

    Raises:
        Unavailable: for images that leave a tile unfilled: their soft tokens depend on their proportions too.
    """
    import torch

    side, soft, layouts = values["vision_config"]["image_size"], images.placeholder(values), tile_layouts(values)
    if soft_tokens not in layouts:
        raise Unavailable(f"images that fill their tiles have {', '.join(map(str, sorted(layouts)))} soft tokens in "
                          f"this {values['model_type']} model, not {soft_tokens}")  # fmt: skip
    high, wide = layouts[soft_tokens]
    return ImageLayout(
        ids=(soft,) * soft_tokens,
        soft=soft,
        tensors={
            "pixel_values": torch.ones(1, 1 + high * wide, 3, side, side, device=device),
            "image_sizes": torch.tensor([[high * side, wide * side]]),
        },
    )


def soft_tokens(values: Values, wanted: int | None) -> tuple[int, str]:
    """Two by two tiles where the config has them, else the largest square."""
    squares = {high: soft for soft, (high, wide) in tile_layouts(values).items() if high == wide}
    tiles = 2 if 2 in squares else max(squares)
    return squares[tiles], f"images that fill {tiles} x {tiles} tiles"


def tile_layouts(values: Values) -> dict[int, tuple[int, int]]:
    """Soft tokens of an image that fills its tiles, to the tiles' rows and columns.

    LLaVA-OneVision shrinks what many tiles give (`anyres_max_9`); such images are left out. The whole image has
    the class token too, where the tower has one and the strategy drops nothing.
    """
    vision = values["vision_config"]
    side, patches = vision["image_size"], vision["image_size"] // vision["patch_size"]
    limit = values.get("vision_aspect_ratio")
    most = int(limit.removeprefix("anyres_max_")) if limit else 10**6
    class_token = limit is None and values.get("vision_feature_select_strategy") == "full"
    tiles = [(high // side, wide // side) for high, wide in values["image_grid_pinpoints"]]
    return {
        patches**2 + class_token + high * patches * (wide * patches + 1): (high, wide)
        for high, wide in tiles
        if high * wide <= most
    }


def image_options(values: Values) -> dict[str, Any]:
    """As LLaVA, and the sizes into which crops may be laid."""
    return llava.image_options(values) | {"image_grid_pinpoints": values["image_grid_pinpoints"]}


LLAMA_2 = 32_064
"""Entries of the vocabulary of Llama 2 and Mistral, the image and padding to a multiple of 64 among them."""

DIALOGUE = replace(llava.DIALOGUE, batch_keys=("pixel_values", "image_sizes"))

FALLBACK = replace(
    llava.FALLBACK,
    processor="LlavaNextProcessor",
    image_processor="LlavaNextImageProcessorPil",
    template=lambda values: "llava.jinja" if values["text_config"]["model_type"] == "llama" else "llava_next.jinja",
    image_options=image_options,
)
"""The template is that of llava-hf/llava-v1.6-mistral-7b-hf, as trl 1.16 ships it too; Mistral's `[INST]` is no
special token there. It has no generation prompt: a question's end is where an answer begins. Vicuna's template is
that of LLaVA 1.5."""

FAMILY = llava.kin(
    name="LLaVA-NeXT",
    model_types=("llava_next",),
    newline=True,
    shrink=shrink,
    sample_row=sample_row,
    dialogue=DIALOGUE,
    fallback=FALLBACK,
    image_layout=image_layout,
    soft_tokens=soft_tokens,
)

OTHER_VOCABULARIES = replace(
    FAMILY,
    name="LLaVA-NeXT around Llama 3, Qwen or Yi",
    applies=lambda values: (values.get("text_config") or {}).get("vocab_size", 0) > LLAMA_2,
    dialogue=None,
    fallback=None,
)
"""What ends a turn and which ids are special is the language model's; of these, vlcheck has not learnt it."""
