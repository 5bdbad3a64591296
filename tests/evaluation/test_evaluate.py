"""What a model is asked and how it answers, on a real Gemma 4 of two layers with random weights."""

from __future__ import annotations

import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers import GenerationConfig

from vlcheck.collators.tiny_model import build_batch_model
from vlcheck.data.conversation import Conversation, Picture, Turn
from vlcheck.evidence.resolve import Evidence
from vlcheck.model.build import base_of
from vlcheck.model.training_mode import prepare_for_training
from vlcheck.processing.generate import Answer, Unasked, answer_tokens, end_ids, evaluate, generate, spoken
from vlcheck.processing.labels import IGNORE_INDEX
from vlcheck.spec import Lora, ModelRef, RunSpec

TOKENS = 6


def asked(question: str, size: tuple[int, int] = (96, 96), answer: str = "red") -> Conversation:
    picture = Picture(Image.effect_noise(size, 80).convert("RGB"), "noise")
    return Conversation((Turn("user", (picture, question)), Turn("assistant", (answer,))), question)


UNEQUAL = [asked("Which? " * (1 + 4 * number), (60 + 50 * number, 90)) for number in range(4)]
"""Prompts of four lengths, in text and in soft tokens."""


def ids_of(model, tiny, rows, batch_size):
    turns = [row.answers[-1] for row in rows]
    ends, found = end_ids(model, tiny.collator), []
    for start in range(0, len(rows), batch_size):
        stop = start + batch_size
        batch = tiny.collator.prompts(rows[start:stop], turns[start:stop])
        for ids in generate(model, batch, ends=ends, pad=0, max_new_tokens=TOKENS).tolist():
            stops = [place for place, token in enumerate(ids) if token in ends]
            found.append(ids[: stops[0] + 1] if stops else ids)  # what follows an end is padding
    return found


# --------------------------------------------------------------------------- the prompt of training


def test_prompt_is_the_training_row_up_to_its_answer(tiny):
    """Ids before the first supervised one, and every pixel, are those of training."""
    for row in tiny.rows(3):
        trained = tiny.collator.collate([row]).batch
        prompt = tiny.collator.prompts([row], [row.answers[-1]])
        first = int((trained["labels"][0] != IGNORE_INDEX).nonzero()[0])

        assert prompt["input_ids"][0].tolist() == trained["input_ids"][0, :first].tolist()
        assert prompt.keys() == trained.keys() - {"labels"}
        for key in prompt.keys() - {"input_ids", "attention_mask", "mm_token_type_ids"}:
            assert torch.equal(prompt[key], trained[key])


def test_prompts_end_in_real_tokens(tiny):
    """Padded on the left: what is generated follows the prompt itself."""
    prompts = tiny.collator.prompts(UNEQUAL, [1] * len(UNEQUAL))

    assert prompts["attention_mask"][:, -1].tolist() == [1] * len(UNEQUAL)
    assert set(prompts["attention_mask"][:, 0].tolist()) == {0, 1}


def test_budget_of_training(tiny):
    """An image takes no more soft tokens than the run allows."""
    prompt = tiny.collator.prompts([asked("?", (900, 900))], [1])
    soft = tiny.collator.processor.tokenizer.convert_tokens_to_ids(tiny.collator.dialogue.image_tokens[0])

    assert 60 < int((prompt["input_ids"] == soft).sum()) <= tiny.spec.data.max_soft_tokens


# --------------------------------------------------------------------------- greedy, batched


def test_batching_changes_no_answer(tiny, base):
    """A row is answered alike alone and among longer ones."""
    assert ids_of(base, tiny, UNEQUAL, 4) == ids_of(base, tiny, UNEQUAL, 1)


@pytest.mark.parametrize(
    "hub_id",
    [
        "Qwen/Qwen2.5-VL-3B-Instruct",
        "google/paligemma2-3b-pt-224",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("google/gemma-3-4b-it", "llava-hf/llava-1.5-7b-hf")),
    ],
)
def test_batching_changes_no_answer_of_other_families(hub_id):
    """Positions, masks and image features of other models survive padding on the left as well."""
    spec = RunSpec(model=ModelRef(id=hub_id), lora=Lora())
    config, family, processor, collator = Evidence(spec, {}, offline=True).call(
        lambda config, family, processor, own_collator: (config, family, processor, own_collator)
    )
    model = build_batch_model(config.values, family, processor.processor)
    other = SimpleNamespace(collator=collator)

    assert ids_of(model, other, UNEQUAL, 4) == ids_of(model, other, UNEQUAL, 1)


def test_padding_on_the_right_would(tiny, base):
    """The test above sees a wrong side."""
    rows = [tiny.collator.template.prompt(row, 1) for row in UNEQUAL]
    wrong = tiny.collator.tensors(rows, side="right")
    found = generate(base, wrong, ends=end_ids(base, tiny.collator), pad=0, max_new_tokens=TOKENS)

    assert [ids[:3] for ids in found.tolist()] != [ids[:3] for ids in ids_of(base, tiny, UNEQUAL, 1)]


def test_sampling_settings_of_a_checkpoint_do_not_count(tiny, base):
    """Whatever generation_config asks for, decoding is greedy, silent, and leaves it where it was."""
    before, clean = base.generation_config, ids_of(base, tiny, UNEQUAL, 4)
    theirs = GenerationConfig(
        do_sample=True, temperature=5.0, top_k=64, top_p=0.95, repetition_penalty=9.0, eos_token_id=[1], max_length=20
    )
    base.generation_config = theirs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = ids_of(base, tiny, UNEQUAL, 4)
        assert found == clean
        assert base.generation_config is theirs
    finally:
        base.generation_config = before


def test_a_model_in_training_is_left_as_it_was(tiny):
    """Mode of every module, cache switch and checkpointing come back; the cache is used meanwhile."""
    model = tiny.adapted(lora_dropout=0.5)
    expected = list(evaluate(model, tiny.collator, UNEQUAL[:2], batch_size=2, max_new_tokens=TOKENS))
    prepare_for_training(model, checkpointing=True)
    base = base_of(model)
    base.model.vision_tower.eval()
    before = {name: module.training for name, module in model.named_modules()}
    lengths = []
    hook = base.lm_head.register_forward_hook(lambda module, given, out: lengths.append(given[0].shape[1]))
    embedded = base.model.language_model.layers[0].register_forward_hook(
        lambda module, given, out: lengths.append(out.shape[1] if torch.is_tensor(out) else out[0].shape[1])
    )
    found = list(evaluate(model, tiny.collator, UNEQUAL[:2], batch_size=2, max_new_tokens=TOKENS))
    hook.remove()
    embedded.remove()

    assert found == expected
    assert {name: module.training for name, module in model.named_modules()} == before
    assert base.config.use_cache is False
    assert base.is_gradient_checkpointing
    assert lengths.count(max(lengths)) == 1  # one pass over the prompt, then one token at a time


# --------------------------------------------------------------------------- answers


def test_an_answer_ends_at_the_end_of_a_turn(tiny, base):
    """The family's end token is among the ends even where the checkpoint does not name it."""
    before = base.generation_config
    end = tiny.collator.processor.tokenizer.convert_tokens_to_ids(tiny.collator.dialogue.end)
    base.generation_config = GenerationConfig(eos_token_id=7)
    try:
        assert end_ids(base, tiny.collator)[:2] == (end, 7)
    finally:
        base.generation_config = before


def test_what_ended_and_what_was_cut_off(tiny, base):
    """An answer is counted up to its end; one that reaches the limit says so."""
    before, first = base.generation_config, ids_of(base, tiny, UNEQUAL[:1], 1)[0][0]
    (cut,) = evaluate(base, tiny.collator, UNEQUAL[:1], batch_size=1, max_new_tokens=3)
    base.generation_config = GenerationConfig(eos_token_id=first)
    try:
        (ended,) = evaluate(base, tiny.collator, UNEQUAL[:1], batch_size=1, max_new_tokens=3)
    finally:
        base.generation_config = before

    assert (cut.ended, cut.new_tokens) == (False, 3)
    assert (ended.ended, ended.new_tokens, ended.text) == (True, 1, "")
    assert (ended.row, ended.name, ended.expected) == (0, str(UNEQUAL[0]), "red")


@pytest.mark.parametrize(
    ("said", "thinking", "text"),
    [
        ("red", "", "red"),
        (" red \n", "", "red"),
        ("<|channel>thought\nis it red\n<channel|>blue", "is it red", "blue"),
        ("<|channel>thought\n<channel|>blue", "", "blue"),
        ("<|channel>thought\nis it red", "is it red", ""),
        ("<|turn>red", "", "red"),
        ("", "", ""),
    ],
)
def test_thinking_is_no_answer(tiny, said, thinking, text):
    """A thinking block is taken out, cut off it leaves nothing; special tokens are stripped."""
    ids = tiny.collator.processor.tokenizer(said, add_special_tokens=False)["input_ids"]

    assert spoken(tiny.collator, ids) == (thinking, text)


def test_the_budget_of_an_answer(tiny):
    """It is what training supervises of the longest one: its ids and the end token."""
    labels = ["red", "a very long name of a colour"]
    counts = [int((tiny.collator([asked("?", answer=label)])["labels"] != IGNORE_INDEX).sum()) for label in labels]

    assert answer_tokens(tiny.collator, labels) == max(counts)
    assert answer_tokens(tiny.collator, labels, ["think of it"]) > max(counts)


def test_a_row_that_cannot_be_asked_stops_no_other(tiny, base):
    """Its batch is asked without it, and it says why."""
    broken = Conversation((Turn("user", (Picture(b"no image", "x.jpg"),)), Turn("assistant", ("red",))), "row 1")
    rows = [UNEQUAL[0], broken, UNEQUAL[1]]
    found = list(evaluate(base, tiny.collator, iter(rows), batch_size=3, max_new_tokens=TOKENS))

    assert [type(reply) for reply in found] == [Answer, Unasked, Answer]
    assert (found[1].row, found[1].name) == (1, "row 1")
    assert "no image format" in found[1].problem
    alone = list(evaluate(base, tiny.collator, [UNEQUAL[1]], batch_size=1, max_new_tokens=TOKENS))
    assert found[2] == replace(alone[0], row=2)
