"""The same faults in every family: the codes that come up are these and no others."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.model.families.models import (
    SMALLEST,
    family,
    intent,
    labels,
    linears,
    miniature,
    only,
    small,
    small_reference,
    sound,
)
from tests.tiny import no_projection
from vlcheck.engine import audit
from vlcheck.finding import Verdict
from vlcheck.model.build import transformers_config
from vlcheck.model.family import Part
from vlcheck.spec import CheckpointingKwargs, Lora

TOWERLESS = {"google/gemma-4-12B-it"}
TIED = {"google/gemma-4-E2B-it", "google/gemma-4-26B-A4B-it", "google/gemma-4-12B-it", "google/gemma-3-4b-it",
        "Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen3-VL-2B-Instruct", "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        "google/paligemma2-3b-pt-224"}  # fmt: skip
STARVED = {"google/gemma-4-E2B-it", "google/gemma-4-26B-A4B-it", "Qwen/Qwen3-VL-2B-Instruct",
           "Qwen/Qwen3-VL-30B-A3B-Instruct"}  # fmt: skip
"""Their towers name no input embeddings, so `enable_input_require_grads` leaves the input of the first block frozen."""
NOTED = {"google/gemma-4-26B-A4B-it": {"VLC106", "VLC217"}, "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": {"VLC217"}}
"""Notes on every run of these: wrappers that clip nothing, a prompt that rendered turns do not start with."""


TURNS = {fault: SMALLEST[first::4] for first, fault in enumerate(("language", "tower", "checkpointing", "head"))}
TURNS["nothing"] = SMALLEST[::2]


def turn(fault: str) -> pytest.MarkDecorator:
    """Each structure takes its turn at one of four faults, every second one at a fifth; all at all with `-m slow`."""
    every = [pytest.param(each, marks=() if each in TURNS[fault] else pytest.mark.slow) for each in SMALLEST]
    return pytest.mark.parametrize("hub_id", every, scope="module")


def codes(hub_id: str, folder, lora: Lora, **changes) -> set[str]:
    """Codes found in a run of the miniature, its standing note aside; nothing may end in an error."""
    spec = replace(small(hub_id, folder), lora=lora, **changes)
    report = audit(spec, offline=True, reference=small_reference(hub_id), projection=no_projection, **labels(hub_id))
    assert [o.reason for o in report.with_verdict(Verdict.ERROR)] == []
    found = {outcome.rule.code for outcome in report.found()}
    assert found >= NOTED.get(hub_id, set())
    return found - NOTED.get(hub_id, set())


@turn("language")
def test_language_model_not_adapted(hub_id, tmp_path):
    """VLC401, whatever the other parts are called."""
    lora = Lora(r=4, lora_alpha=4, target_modules=only(hub_id, Part.VISION, Part.PROJECTOR))

    assert codes(hub_id, tmp_path, lora) == {"VLC401"}


@turn("tower")
def test_tower_not_adapted_against_intent(hub_id, tmp_path):
    """VLC402; where there is no tower, the projector is what was meant: VLC403."""
    left = (Part.LANGUAGE,) if hub_id in TOWERLESS else (Part.LANGUAGE, Part.PROJECTOR)
    lora = Lora(r=4, lora_alpha=4, target_modules=only(hub_id, *left))

    assert codes(hub_id, tmp_path, lora) == {"VLC403" if hub_id in TOWERLESS else "VLC402"}


@turn("nothing")
def test_nothing_matches(hub_id, tmp_path):
    """PEFT refuses, and the entry is named as dead."""
    lora = Lora(r=4, lora_alpha=4, target_modules="no_such_layer")

    assert codes(hub_id, tmp_path, lora) == {"VLC102", "VLC109"}


@turn("head")
def test_head_saved(hub_id, tmp_path):
    """VLC409 where the head is tied to the embeddings, and only there."""
    lora = replace(sound(hub_id).lora, modules_to_save=("lm_head",))

    assert codes(hub_id, tmp_path, lora) == ({"VLC409"} if hub_id in TIED else set())


@pytest.mark.parametrize(("hub_id", "changes", "experts", "expected"), [
    ("google/gemma-4-26B-A4B-it", {"exclude_modules": None}, "freeze", {"VLC408"}),
    ("google/gemma-4-26B-A4B-it", {}, None, {"VLC412"}),
    ("google/gemma-4-26B-A4B-it", {}, "train", {"VLC411"}),
    ("google/gemma-4-26B-A4B-it", {"target_parameters": ("experts.down_proj",)}, "train", set()),
    ("Qwen/Qwen3-VL-30B-A3B-Instruct", {"target_parameters": ("mlp.gate.weight",)}, "freeze", {"VLC408"}),
    ("Qwen/Qwen3-VL-30B-A3B-Instruct", {}, None, {"VLC412"}),
    ("Qwen/Qwen3-VL-30B-A3B-Instruct", {}, "train", {"VLC411"}),
    ("Qwen/Qwen3-VL-30B-A3B-Instruct", {"target_parameters": ("experts.down_proj",)}, "train", set()),
    ("Qwen/Qwen3-VL-30B-A3B-Instruct", {"target_parameters": ("experts.down_proj",)}, "freeze", {"VLC405"}),
])  # fmt: skip
def test_experts_and_router(hub_id, changes, experts, expected, tmp_path):
    """`all-linear` reaches Gemma 4's router and no fused expert; Qwen's bare router only `target_parameters` does."""
    lora = replace(sound(hub_id).lora, **changes)

    assert codes(hub_id, tmp_path, lora, intent=replace(intent(hub_id), experts=experts)) == expected


@turn("checkpointing")
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_reentrant_checkpointing_starves_some_towers(hub_id, tmp_path):
    """VLC406, with adapters in the layers alone, in the families whose tower transformers cannot wake."""
    blocks = [name for name in linears(hub_id, Part.VISION, Part.LANGUAGE) if name.startswith(layer_lists(hub_id))]
    spec = replace(small(hub_id, tmp_path), lora=Lora(r=4, target_modules="|".join(map(re.escape, blocks))))
    spec = replace(
        spec, training=replace(spec.training, gradient_checkpointing_kwargs=CheckpointingKwargs(use_reentrant=True))
    )

    report = audit(spec, offline=True, reference=small_reference(hub_id), select=("VLC406",))

    assert {outcome.rule.code for outcome in report.found()} == ({"VLC406"} if hub_id in STARVED else set())


def layer_lists(hub_id: str) -> tuple[str, ...]:
    """Paths of the miniature's layer lists."""
    values = transformers_config(miniature(hub_id)).to_dict()
    return tuple(f"{path}." for path in family(hub_id).layer_kinds(values))


def test_every_verdict_is_seen_by_default():
    """The turns leave out no structure, and neither kind of head, tower and checkpointing."""
    seen = {fault: set(structures) for fault, structures in TURNS.items()}

    assert set().union(*seen.values()) == set(SMALLEST) >= TOWERLESS
    assert seen["head"] & TIED
    assert seen["head"] - TIED
    assert seen["checkpointing"] & STARVED
    assert seen["checkpointing"] - STARVED


def test_ties_and_towers_are_those_of_the_models():
    """The tables above are what transformers builds."""
    assert {h for h in SMALLEST if small_reference(h).all_tied_weights_keys} == TIED
    assert {h for h in SMALLEST if not linears(h, Part.VISION)} == TOWERLESS
