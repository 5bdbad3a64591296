"""A setting that a finding advises is applied to the run that caused it: the finding goes, and nothing worse comes.

Rules' broken runs are in `test_rules.py`, where they are collected once; here are runs that bring up a finding in
another way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests import tiny
from tests.rules.advice import SETTINGS, STRUCTURAL, assert_works
from tests.samples import (
    BROKEN,
    LANGUAGE,
    LANGUAGE_LIST,
    NF4,
    PROJECTOR,
    TOWER_LIST,
    TRAIN_ALL,
    VISION,
    Run,
    audio,
    experts,
    llava,
    run,
    targets,
    unknown_here,
)  # fmt: skip
from vlcheck.rules import RULES
from vlcheck.spec import AttentionByPart, Hardware, Intent, Training


def gemma3() -> dict[str, Any]:
    """A tiny Gemma 3, whose projector is a bare parameter."""
    return tiny.shrunken("google/gemma-3-4b-it")


def qwen() -> dict[str, Any]:
    """A tiny Qwen2.5-VL."""
    return tiny.shrunken("Qwen/Qwen2.5-VL-3B-Instruct")


SUFFIXES = ("q_proj", "k_proj", "v_proj", "o_proj")
OLD_REGEX = r"language_model.model.layers.[\d]+.(mlp|self_attn).(up|down|gate|q|k|v|o)_proj"
FROZEN_TOWER = Intent(vision="freeze", projector="train", language="train")

BROTHERS: dict[str, Run] = {
    "exclude what is never a target": run(qwen, lora=targets("all-linear", exclude_modules=".*lm_head.*")),
    "exclude a head by name": run(qwen, lora=targets("all-linear", exclude_modules=("lm_head",))),
    "idle entry beside a working one": run(
        lora=targets("all-linear", exclude_modules=("vision_tower", "embedding_projection")), intent=Intent()
    ),
    "two towers, one idle, an exclude that works": run(
        audio, lora=targets("all-linear", exclude_modules=".*embed_vision.*"), intent=Intent()
    ),
    "tower named by its end": run(audio, lora=targets("all-linear"), intent=FROZEN_TOWER),
    "bare projector, silent": run(gemma3, lora=targets("all-linear"), intent=Intent()),
    "bare projector, meant": run(gemma3, lora=targets("all-linear")),
    "bare projector, meant, language alone": run(gemma3, lora=targets(LANGUAGE), intent=Intent(projector="train")),
    "saved projector, meant to be frozen": run(
        gemma3, lora=targets("all-linear", modules_to_save=("multi_modal_projector",)),
        intent=Intent(projector="freeze"),
    ),
    "towers alone, tower frozen": run(lora=targets(f"{VISION}|{PROJECTOR}"), intent=FROZEN_TOWER),
    "language alone, tower frozen": run(lora=targets(LANGUAGE), intent=FROZEN_TOWER),
    "everything excluded that is meant": run(lora=targets("all-linear", exclude_modules=".*vision_tower.*")),
    "wrapper named, tower frozen": run(lora=targets(("q_proj", "v_proj")), intent=Intent(vision="freeze")),
    "regex in a list": run(qwen, lora=targets((r"model\.language_model\.layers.*\.(q|v)_proj", "down_proj"))),
    "regex in a list, nothing else": run(qwen, lora=targets((r"layers\.[0-9]+\.self_attn\.(q|v)_proj",))),
    "old path, regex in a list": run(qwen, lora=targets((OLD_REGEX,))),
    "old path as a regex": run(qwen, lora=targets(f".*{OLD_REGEX}")),
    "old path by name": run(qwen, lora=targets(("language_model.model.layers.0.self_attn.q_proj", "down_proj"))),
    "regex that hits containers": run(qwen, lora=targets(r"^(model)(?!.*(lm_head|output|emb|wte|shared)).*")),
    "heads too wide for flash, a tower without sdpa": run(
        lambda: {**tiny.gemma4_wide(), "audio_config": audio()["audio_config"]}, attn="flash_attention_2",
        lora=targets("all-linear", exclude_modules=".*audio.*"),
    ),
    "a tower without sdpa, by part": run(
        audio, attn=AttentionByPart(text_config="sdpa", audio_config="sdpa"),
        lora=targets("all-linear", exclude_modules=".*audio.*"),
    ),
    "float16 storage": run(dtype="float16"),
    "float16 compute": run(quantization=replace(NF4, bnb_4bit_compute_dtype="float16")),
    "clip alone above what helped": run(tiny.gemma4_deep, training=Training(gradient_checkpointing=True,
                                                                          max_grad_norm=1.0, learning_rate=5e-5)),
    "experts meant": run(experts, intent=replace(TRAIN_ALL, experts="train"),
                         lora=targets("all-linear", lora_dropout=0.05)),
    "router meant": run(experts, intent=replace(TRAIN_ALL, router="train", experts="freeze"), lora=targets(LANGUAGE)),
    "layers by index": run(lora=targets([*LANGUAGE_LIST], layers_to_transform=(0,))),
    "dropped layer on two GPUs, an exclude": run(
        llava, hardware=Hardware(count=2), intent=Intent(),
        lora=targets("all-linear", exclude_modules=".*multi_modal_projector.*"),
    ),
    "tied head beside another": run(lora=targets("all-linear", modules_to_save=("lm_head", "embed_vision"))),
    "skip list, a path of another model": run(
        quantization=replace(NF4, llm_int8_skip_modules=("lm_head", "language_model.x"))
    ),
    "tower frozen by its framework, meant": run(
        training=Training(framework="llamafactory", freeze=("vision", "projector", "audio"))
    ),
    "parts frozen by their framework, silent": run(
        audio, intent=Intent(), training=Training(framework="ms-swift", freeze=("vision", "projector", "audio"))
    ),
    "no targets, layers picked by name": run(
        qwen, lora=targets(None), intent=Intent(projector="train"), training=Training(framework="unsloth")
    ),
    "unset, of a model without targets of PEFT": run(qwen, lora=targets(None), intent=Intent()),
    "list of the tower's linears": run(lora=targets(TOWER_LIST), intent=Intent()),
}  # fmt: skip
"""Runs that bring up a rule's finding in another way than its broken sample does."""


FEW = {
    "exclude what is never a target", "two towers, one idle, an exclude that works", "bare projector, meant",
    "towers alone, tower frozen", "regex in a list", "old path as a regex",
    "a tower without sdpa, by part", "experts meant",
    "skip list, a path of another model",
    "parts frozen by their framework, silent",
}  # fmt: skip
"""One of every kind; the others are like one of these, and wait for `pytest -m slow`."""


@pytest.mark.parametrize("beside", [
    pytest.param(STRUCTURAL, id="structure"), pytest.param(SETTINGS, id="behaviour", marks=pytest.mark.slow),
])  # fmt: skip
@pytest.mark.parametrize("name", [
    name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in BROTHERS
])  # fmt: skip
def test_advice_works(name, beside, tmp_path):
    """Rules that run a miniature speak in the slow run, and where they gave the advice."""
    sample = BROTHERS[name]
    judging = [rule for rule in RULES if rule.code.startswith(SETTINGS)]
    assert assert_works(sample, sample.collected(tmp_path, judging), SETTINGS, beside)


def test_the_few_are_among_them():
    """A brother that is renamed does not drop out of the default run unseen."""
    assert BROTHERS.keys() > FEW


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_advice_of_broken_runs_works(name, tmp_path):
    """As `test_rules.py` has it, beside the rules that run a miniature."""
    if reason := unknown_here(name):
        pytest.skip(reason)
    sample = BROKEN[name]
    assert_works(sample, sample.collected(tmp_path, [rule for rule in RULES if rule.code == name]), (name,), SETTINGS)
