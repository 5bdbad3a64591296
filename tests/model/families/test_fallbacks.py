"""Stand-ins at the models' real sizes: as many placeholders as the model computes features, real special ids."""

from __future__ import annotations

import pytest
import torch

from tests.model.families.models import KIN, entry
from tests.model.families.settings import REAL, setting
from tests.model.families.test_batches import noise, row
from vlcheck.collators.tiny_model import build_batch_model
from vlcheck.finding import Unavailable
from vlcheck.model.build import transformers_config
from vlcheck.model.families import family_of
from vlcheck.model.families.images import placeholder
from vlcheck.processing.collator import Collator
from vlcheck.processing.fallback import build_fallback

PHOTO = noise(500, 375, 0)
SOFT_TOKENS = {
    "google/gemma-4-E2B-it": 266,
    "google/gemma-4-26B-A4B-it": 266,
    "google/gemma-4-12B-it": 266,
    "google/gemma-3-4b-it": 256,
    "Qwen/Qwen2.5-VL-3B-Instruct": 234,
    "Qwen/Qwen3-VL-2B-Instruct": 192,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": 192,
    "HuggingFaceTB/SmolVLM2-256M-Video-Instruct": 832,
    "llava-hf/llava-1.5-7b-hf": 576,
    "mistral-community/pixtral-12b": 768,
    "llava-hf/llava-v1.6-mistral-7b-hf": 2340,
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": 1728,
    "google/paligemma2-3b-pt-224": 256,
    "OpenGVLab/InternVL3-1B-hf": 3328,
    "meta-llama/Llama-3.2-11B-Vision-Instruct": 1,
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": 252,
}
"""Of a 500 x 375 photo. Llama 3.2 has one id for an image, read by cross-attention."""

CAPPED = {
    "google/gemma-4-E2B-it": (70, 63),
    "Qwen/Qwen2.5-VL-3B-Instruct": (100, 88),
    "Qwen/Qwen3-VL-2B-Instruct": (100, 88),
    "HuggingFaceTB/SmolVLM2-256M-Video-Instruct": (320, 320),
    "mistral-community/pixtral-12b": (156, 108),
    "OpenGVLab/InternVL3-1B-hf": (1280, 256),
}
"""A budget, and what the photo takes under it."""


@pytest.fixture(params=SOFT_TOKENS)
def hub_id(request) -> str:
    return request.param


def processor(hub_id: str):
    values = entry(hub_id).config
    try:
        return build_fallback(family_of(values), values)
    except Unavailable as unavailable:
        pytest.skip(unavailable.reason)


@pytest.mark.parametrize("hub_id", KIN)
def test_placeholder_is_the_id_that_the_model_replaces(hub_id):
    """A stand-in of a relative has the vocabulary of its own language model, or there is none."""
    if family_of(entry(hub_id).config).fallback is None:
        with pytest.raises(Unavailable, match="no stand-in for a LLaVA-NeXT around"):
            build_fallback(family_of(entry(hub_id).config), entry(hub_id).config)
        return
    token = family_of(entry(hub_id).config).dialogue.image_tokens[0]
    full = transformers_config(entry(hub_id).config).to_dict()

    assert processor(hub_id).tokenizer.convert_tokens_to_ids(token) == placeholder(full)


def soft_tokens(hub_id: str, made, batch) -> int:
    token = family_of(entry(hub_id).config).dialogue.image_tokens[0]
    return int((batch["input_ids"] == made.tokenizer.convert_tokens_to_ids(token)).sum())


def test_a_photo_has_the_soft_tokens_that_the_model_computes(hub_id):
    """The count is known, and the model, at the real size of an image, takes the batch."""
    made, values = processor(hub_id), entry(hub_id).config
    batch = Collator(made, family_of(values).dialogue)([row((PHOTO, "Which breed?"), "Beagle")])

    assert soft_tokens(hub_id, made, batch) == SOFT_TOKENS[hub_id]
    if "Llama-3.2" not in hub_id:  # 4 tiles of 1,601 patches attend to each other: a second
        with torch.no_grad():
            assert torch.isfinite(build_batch_model(values, family_of(values), made)(**batch).loss)


@pytest.mark.parametrize("hub_id", CAPPED)
def test_a_budget_caps_the_soft_tokens(hub_id):
    """The photo takes no more than it is allowed; tiles are few or many, as its shape will have it."""
    made, dialogue = processor(hub_id), family_of(entry(hub_id).config).dialogue
    allowed, taken = CAPPED[hub_id]
    dialogue.budget(made, allowed)
    batch = Collator(made, dialogue)([row((PHOTO, "Which breed?"), "Beagle")])

    assert soft_tokens(hub_id, made, batch) == taken <= allowed


def test_special_ids_are_those_of_the_config(hub_id):
    """The image's id, and every other that the config names by a key of its own."""
    made, values = processor(hub_id), transformers_config(entry(hub_id).config).to_dict()
    ids = made.tokenizer.get_vocab()
    soft = family_of(values).dialogue.image_tokens[0]

    assert ids[soft] == values.get("image_token_id", values.get("image_token_index"))
    named = {
        "boi_token_id": "boi_token", "eoi_token_id": "eoi_token", "boi_token_index": "boi_token",
        "eoi_token_index": "eoi_token", "vision_start_token_id": "vision_start_token",
    }  # fmt: skip
    for key, attribute in named.items():
        token = getattr(made, attribute, None) or getattr(made.tokenizer, attribute, None)
        assert not (values.get(key) and token) or ids[token] == values[key], key


@pytest.mark.parametrize(("real", "hub_id"), [
    ("gemma-4 small", "google/gemma-4-E2B-it"),
    pytest.param("gemma-3", "google/gemma-3-4b-it", marks=pytest.mark.slow),
    pytest.param("qwen3", "Qwen/Qwen3-VL-2B-Instruct", marks=pytest.mark.slow),
])  # fmt: skip
def test_special_tokens_have_the_ids_of_the_real_tokenizer(real, hub_id):
    """Every special token of the stand-in is one of the real tokenizer, under the same id."""
    assert real in REAL
    vocabulary = setting(real).processor.tokenizer.get_vocab()
    tokens = family_of(entry(hub_id).config).fallback.tokens

    assert {token: vocabulary.get(token) for token in tokens} == dict(tokens)


@pytest.mark.parametrize("name", ["google/gemma-4-E2B-it", "google/gemma-3-4b-it", "Qwen/Qwen3-VL-2B-Instruct"])
def test_the_laws_look_at_the_batches_of_the_processor_itself(name):
    """Computing each size once changes nothing but the pixels."""
    fast = setting(name)
    whole = build_fallback(fast.family, fast.values)
    if fast.budgets:
        fast.dialogue.budget(whole, fast.budgets[0])
    rows = [row((PHOTO, "a", noise(3, 60, 1)), "b"), row("c", "b"), row((noise(16, 320, 2),), "b")]
    quick, slow = fast.collate()(rows), Collator(whole, fast.dialogue)(rows)

    assert quick.keys() == slow.keys()
    assert quick["pixel_values"].shape == slow["pixel_values"].shape
    assert all(torch.equal(quick[key], slow[key]) for key in quick if key != "pixel_values")
