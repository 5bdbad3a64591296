"""The synthetic batch of a family against the batch that its processor and our collator make."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vlcheck.collators.probes import ask, picture
from vlcheck.collators.regions import map_tokens
from vlcheck.finding import Unavailable
from vlcheck.memory.batch import PICTURES, make_batch
from vlcheck.memory.shape import Shape
from vlcheck.model import catalogue
from vlcheck.model.build import transformers_config
from vlcheck.model.families import family_of
from vlcheck.processing.collator import Collator
from vlcheck.processing.fallback import build_fallback
from vlcheck.processing.labels import IGNORE_INDEX

SIZE = (960, 672)
"""20 by 14 soft tokens of Gemma 4, its whole budget: smaller images are padded, a synthetic one never is."""
FILLING = {"llava_next": (672, 672), "llava_onevision": (768, 768)}
"""Sizes that fill their tiles, as a synthetic image does."""
LACKING = {"smolvlm": {"pixel_attention_mask"}}
"""Keys that the synthetic batches of the measured runs had not either: 8 bytes a pixel of a tile, in each row."""
MODELS = {
    (str(entry.config["model_type"]), entry.config["vision_config"].get("model_type")): entry.config
    for entry in catalogue.entries()
    if entry.config["model_type"] in PICTURES
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

    made = make_batch(transformers_config(values).to_dict(), shape)

    lacking = LACKING.get(values["model_type"], set())
    assert _forms(made) == {key: form for key, form in _forms(real).items() if key not in lacking}
    assert lacking <= set(real)


def _forms(batch: Any) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {key: (tensor.shape, tensor.dtype) for key, tensor in batch.items()}
