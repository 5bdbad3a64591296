"""The synthetic batch of a family against the batch that its processor and our collator make."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)

from vlcheck.collators.probes import ask, picture
from vlcheck.collators.regions import map_tokens
from vlcheck.finding import Unavailable
from vlcheck.memory.batch import make_batch
from vlcheck.memory.shape import Shape
from vlcheck.model import catalogue
from vlcheck.model.build import transformers_config
from vlcheck.model.families import described, family_of
from vlcheck.processing.collator import Collator
from vlcheck.processing.fallback import build_fallback
from vlcheck.processing.labels import IGNORE_INDEX

SIZE = (960, 672)
"""20 by 14 soft tokens of Gemma 4, its whole budget: smaller images are padded, a synthetic one never is."""
FILLING = {"llava_next": (672, 672), "llava_onevision": (768, 768), "llava": (896, 720), "mistral3": (840, 784)}
"""Sizes that fill their tiles, or are as near to a square as their soft tokens allow, as a synthetic image is."""
LACKING = {kind: {"pixel_attention_mask"} for kind in ("smolvlm", "idefics3")}
"""Keys that the synthetic batches of the measured runs had not either: 8 bytes a pixel of a tile, in each row."""
MODELS = {
    (str(entry.config["model_type"]), (entry.config.get("vision_config") or {}).get("model_type")): entry.config
    for entry in catalogue.entries()
    if entry.config["model_type"] in described()
}


@pytest.mark.parametrize("values", MODELS.values(), ids=lambda values: values["model_type"])
def test_synthetic_batch_has_the_keys_shapes_and_types_of_a_real_one(values: dict[str, Any]):
    """Two rows with one image each, at the full-size model's geometry."""
    family = family_of(values)
    try:
        collator = Collator(build_fallback(family, values), family.dialogue)
    except Unavailable as missing:
        pytest.skip(missing.reason)
    size = FILLING.get(values["model_type"], SIZE)
    real = collator([ask("row", "Which breed is it?", "Beagle", picture(size))] * 2)
    shape = Shape(
        rows=2,
        tokens=real["input_ids"].shape[1],
        soft_tokens=int((real["input_ids"][0] == map_tokens(collator.template).soft_id).sum()),
        supervised=int((real["labels"][0] != IGNORE_INDEX).sum()),
    )

    made = make_batch(family, transformers_config(values).to_dict(), shape)

    lacking = LACKING.get(values["model_type"], set())
    assert _forms(made) == {key: form for key, form in _forms(real).items() if key not in lacking}
    assert lacking <= set(real)


@pytest.mark.parametrize("values", MODELS.values(), ids=lambda values: values["model_type"])
def test_words_never_stand_for_a_part_of_an_image(values: dict[str, Any]):
    """Soft tokens are the image's alone, however many words a row has: Pixtral's have the id 10."""
    family, config = family_of(values), transformers_config(values).to_dict()
    soft, _ = family.soft_tokens(config, None)
    layout = family.image_layout(config, soft, torch.device("meta"))

    made = make_batch(family, config, Shape(rows=2, tokens=len(layout.ids) + 100, soft_tokens=soft))

    assert int((made["input_ids"] == layout.soft).sum()) == 2 * layout.ids.count(layout.soft)


def test_several_images_are_told_apart():
    """A row's tokens see an image from its own placeholder on, as transformers' own mask has it."""
    values = next(entry.config for entry in catalogue.entries() if entry.config["model_type"] == "mllama")
    made = make_batch(family_of(values), transformers_config(values).to_dict(),
                      Shape(tokens=12, soft_tokens=1, images=2, supervised=4), pixels="meta")  # fmt: skip
    rows = made["input_ids"].tolist()
    dense = convert_sparse_cross_attention_mask_to_dense(
        [get_cross_attention_token_mask(ids, values["image_token_index"]) for ids in rows], [[4, 4]], 4, 12
    )
    assert made["cross_attention_mask"].tolist() == dense.tolist()


def _forms(batch: Any) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {key: (tensor.shape, tensor.dtype) for key, tensor in batch.items()}
