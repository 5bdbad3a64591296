"""Each family's model takes the batches of its processor, and shows what a missing key does to it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from PIL import Image

from tests.model.families.settings import STAND_INS, config, setting
from vlcheck.collators.tiny_model import build_batch_model
from vlcheck.data.conversation import BadRow, Conversation, Picture, Turn
from vlcheck.finding import Unavailable
from vlcheck.model.families import family_of
from vlcheck.processing.collator import Collator
from vlcheck.processing.fallback import build_fallback
from vlcheck.processing.labels import IGNORE_INDEX

MLLAMA = "meta-llama/Llama-3.2-11B-Vision-Instruct"
PALIGEMMA = "google/paligemma2-3b-pt-224"
LLAVA = "llava-hf/llava-1.5-7b-hf"

NONE, SILENT, LOUD = "none", "silent", "error"
DROPPED: dict[str, dict[str, str]] = {
    "google/gemma-4-E2B-it": {"mm_token_type_ids": NONE, "pixel_values": SILENT, "image_position_ids": LOUD},
    "google/gemma-4-26B-A4B-it": {"mm_token_type_ids": SILENT, "pixel_values": SILENT, "image_position_ids": LOUD},
    "google/gemma-4-12B-it": {"mm_token_type_ids": SILENT, "pixel_values": SILENT, "image_position_ids": LOUD},
    "google/gemma-3-4b-it": {"token_type_ids": SILENT, "pixel_values": SILENT},
    "Qwen/Qwen2.5-VL-3B-Instruct": {"mm_token_type_ids": SILENT, "pixel_values": SILENT, "image_grid_thw": LOUD},
    "Qwen/Qwen3-VL-2B-Instruct": {"mm_token_type_ids": LOUD, "pixel_values": SILENT, "image_grid_thw": LOUD},
    "Qwen/Qwen3-VL-30B-A3B-Instruct": {"mm_token_type_ids": LOUD, "pixel_values": SILENT, "image_grid_thw": LOUD},
    "HuggingFaceTB/SmolVLM2-256M-Video-Instruct": {"pixel_values": SILENT, "pixel_attention_mask": NONE},
    "HuggingFaceM4/Idefics3-8B-Llama3": {"pixel_values": SILENT, "pixel_attention_mask": NONE},
    LLAVA: {"pixel_values": SILENT},
    "mistral-community/pixtral-12b": {"pixel_values": SILENT, "image_sizes": LOUD},
    "llava-hf/llava-v1.6-mistral-7b-hf": {"pixel_values": SILENT, "image_sizes": LOUD},
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": {
        "pixel_values": SILENT, "image_sizes": LOUD, "batch_num_images": LOUD,
    },
    PALIGEMMA: {"token_type_ids": SILENT, "pixel_values": SILENT},
    "OpenGVLab/InternVL3-1B-hf": {"pixel_values": SILENT},
    MLLAMA: {
        "pixel_values": SILENT, "aspect_ratio_ids": LOUD, "aspect_ratio_mask": LOUD, "cross_attention_mask": SILENT,
    },
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": {"pixel_values": SILENT, "image_sizes": LOUD},
}  # fmt: skip
"""What becomes of the loss without a key, transformers 5.23: nothing, another value, or an error."""


@pytest.fixture(params=STAND_INS)
def name(request) -> str:
    setting(request.param)  # skips where a package is missing
    return request.param


@cache
def parts(name: str) -> tuple[Any, torch.nn.Module]:
    """A processor that computes pixels, and the model that takes its batches."""
    values = config(name)
    family = family_of(values)
    processor = build_fallback(family, values)
    if "gemma-4" in name:
        family.dialogue.budget(processor, 70)
    return processor, build_batch_model(values, family, processor)


def collator(name: str, **options: Any) -> Collator:
    return Collator(parts(name)[0], family_of(config(name)).dialogue, **options)


def noise(width: int, height: int, seed: int) -> Picture:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)
    return Picture(Image.fromarray(pixels.numpy()))


def row(*turns: Any) -> Conversation:
    """A conversation of questions and answers in turn."""
    roles = ("user", "assistant")
    return Conversation(
        tuple(Turn(roles[n % 2], said if isinstance(said, tuple) else (said,)) for n, said in enumerate(turns))
    )


ONE = row((noise(40, 30, 1), "What breed is it?"), "Beagle")
OTHER = row((noise(24, 50, 2), "And this one here, please?"), "A pug of course")
TEXT = row("No image?", "No.")
TWO = row((noise(30, 30, 3), noise(90, 30, 4), " Both?"), "Yes", "Sure?", "Sure")


def mixed(name: str) -> list[Conversation]:
    """Rows without image, with one and with two, of different sizes, as far as the family has them."""
    return [ONE, OTHER] if name == PALIGEMMA else [ONE, TEXT, OTHER, TWO]


def loss(name: str, batch: dict[str, torch.Tensor], **options: Any) -> float:
    with torch.no_grad():
        return float(parts(name)[1](**batch, **options).loss)


def logits(name: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return parts(name)[1](**batch).logits


def test_model_takes_a_mixed_batch_padded_on_either_side(name):
    """Rows with and without images, in one batch, at a loss that padding does not change."""
    right = collator(name)(mixed(name))

    assert loss(name, right) == pytest.approx(loss(name, collator(name, padding_side="left")(mixed(name))), abs=1e-4)
    assert set(family_of(config(name)).dialogue.batch_keys) == right.keys() - {"input_ids", "attention_mask", "labels"}


def test_what_a_missing_key_does(name):
    """Silent, loud or nothing, key by key; a silent one changes the loss by more than rounding."""
    batch = collator(name)(mixed(name))
    whole = loss(name, batch)
    found = {}
    for key in family_of(config(name)).dialogue.batch_keys:
        try:
            change = abs(loss(name, {k: v for k, v in batch.items() if k != key}) - whole)
        except (AttributeError, TypeError, ValueError):
            found[key] = LOUD
        else:
            found[key] = SILENT if change > 1e-4 else NONE

    assert found == DROPPED[name]


def test_another_image_changes_the_answer_logits(name):
    """The image reaches every family's model."""
    batch = collator(name)([ONE])
    swapped = {**batch, "pixel_values": batch["pixel_values"].flip(-1)}
    answer = batch["labels"][0] != IGNORE_INDEX

    assert (logits(name, batch) - logits(name, swapped))[0, answer].abs().max() > 1e-3


def test_no_position_sees_a_later_answer_token(name):
    """Changing the last answer token changes no logit before it, and its own."""
    batch = collator(name)([ONE])
    at = int(torch.nonzero(batch["labels"][0] != IGNORE_INDEX).max())
    changed = {**batch, "input_ids": batch["input_ids"].index_fill(1, torch.tensor(at), 5)}
    change = (logits(name, batch) - logits(name, changed))[0].abs().amax(-1)

    assert change[:at].max() < 1e-5
    assert change[at] > 1e-3


def test_accumulating_over_rows_gives_the_loss_of_the_batch(name):
    """With the number of supervised tokens given, rows one by one add up to the batch."""
    rows = mixed(name) if name != MLLAMA else [ONE, OTHER]
    batch = collator(name)(rows)
    count = (batch["labels"][:, 1:] != IGNORE_INDEX).sum()
    added = sum(loss(name, collator(name)([each]), num_items_in_batch=count) for each in rows)

    assert added == pytest.approx(loss(name, batch, num_items_in_batch=count), abs=1e-4)


def test_rows_laid_end_to_end_see_each_other(name):
    """Naive packing changes the second row's logits, so a probe for it has something to see."""
    if name == PALIGEMMA:
        pytest.skip("no row without an image")
    first, second = (collator(name)([each]) for each in (row("What is a pug?", "A dog."), TEXT))
    alone = logits(name, second)
    packed = logits(name, {key: torch.cat([first[key], second[key]], 1) for key in second})

    assert (packed[:, -alone.shape[1] :] - alone).abs().max() > 1e-3


def test_llama_3_2_shows_images_to_rows_that_have_none():
    """A masked-out row attends to everything in transformers 5.23: a text row changes with its neighbours.

    The attention output of such rows is not set to zero (`MllamaCrossAttentionDecoderLayer`), only that of the
    feed-forward behind it; so text before an image sees it too.
    """
    alone, beside = collator(MLLAMA)([TEXT]), collator(MLLAMA)([TEXT, ONE])
    length = alone["input_ids"].shape[1]
    held = alone["labels"][0] != IGNORE_INDEX

    assert torch.equal(beside["input_ids"][0, :length], alone["input_ids"][0])
    assert (logits(MLLAMA, beside)[0, :length] - logits(MLLAMA, alone)[0])[held].abs().max() > 0.1


def test_the_model_is_the_same_each_time(name):
    """Weights come from a seed, none is all zero, and the global random state stays."""
    processor, model = parts(name)
    before = torch.random.get_rng_state()
    again = build_batch_model(config(name), family_of(config(name)), processor)

    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert [key for key, weight in model.named_parameters() if not weight.any()] == []
    assert sum(weight.numel() for weight in model.parameters()) * 4 < 16 * 2**20


@pytest.mark.parametrize(("name", "conversation", "reason"), [
    (PALIGEMMA, TEXT, "it holds no image; this family takes at least one"),
    (PALIGEMMA, TWO, "turns are user, assistant, user, assistant; this family takes one question and one answer"),
    (MLLAMA, Conversation((Turn("system", ("Be brief.",)), *ONE.turns)), "the chat template refuses it"),
    (LLAVA, row((noise(8, 8, 1), "Is <image> a word?"), "No"), "2 image placeholders for 1 images"),
    ("google/gemma-3-4b-it", row((noise(8, 8, 1), "<image_soft_token>"), "No"), "an image's soft token"),
    ("google/gemma-4-E2B-it", row("<|video|>", "No"), "the processor refuses it"),
    ("OpenGVLab/InternVL3-1B-hf", row("<video>", "No"), "the processor refuses it"),
    ("Qwen/Qwen3-VL-2B-Instruct", Conversation((ONE.turns[0], Turn("assistant", ("Pug",), "Hm"))), "thinking block"),
])  # fmt: skip
def test_what_a_family_cannot_hold_is_refused_by_name(name, conversation, reason):
    """Never a batch that means something else."""
    with pytest.raises(BadRow, match=reason):
        collator(name)([conversation])


def test_an_answer_that_runs_into_its_header_is_refused():
    """A template without a break before the answer: `assis` and `tant` are one token."""
    values = config("Qwen/Qwen3-VL-2B-Instruct")
    processor = build_fallback(family_of(values), values)
    processor.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assis{% endif %}{{ m.content[0].text }}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assis{% endif %}"
    )

    with pytest.raises(BadRow, match="cut into one token with its header"):
        Collator(processor, family_of(values).dialogue)([row("Who?", "tant")])


def test_prompts_hold_no_labels():
    """PaliGemma's processor makes labels even where nothing is answered."""
    assert "labels" not in collator(PALIGEMMA).prompts([ONE], [1])


@pytest.mark.parametrize(("name", "package"), [
    ("google/gemma-4-12B-it", "torchvision"),
    ("mistral-community/pixtral-12b", "torchvision"),
    ("mistralai/Mistral-Small-3.1-24B-Instruct-2503", "torchvision"),
])  # fmt: skip
def test_a_missing_package_is_named(name, package):
    """There is no form of these classes without it in transformers."""
    try:
        __import__(package)
    except ImportError:
        with pytest.raises(Unavailable, match=f"needs {package}, which is not installed"):
            build_fallback(family_of(config(name)), config(name))
    else:
        pytest.skip(f"{package} is installed")
