"""The miniature of each structure is built like the full model, and a gradient reaches what the record says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.model.families.models import KIN, SMALLEST, entry, family, reference, shapes, small, small_reference
from vlcheck.evidence.resolve import Evidence
from vlcheck.model.tiny_run import gradient_reach
from vlcheck.spec import Data

EVERYTHING = ("text", "image", "audio")
STRUCTURES = [*SMALLEST, *(pytest.param(hub_id, marks=pytest.mark.slow) for hub_id in KIN[1:]), KIN[0]]
"""Of the kin, Qwen2-VL shrinks by code of its own; the others by that of their relatives."""


@pytest.mark.parametrize("hub_id", STRUCTURES)
def test_miniature_is_built_like_the_model(hub_id):
    """Same paths and classes, indices aside."""
    assert shapes(small_reference(hub_id)) == shapes(reference(hub_id))


@pytest.mark.parametrize("hub_id", [
    *(pytest.param(each, marks=() if number % 2 == 0 else pytest.mark.slow) for number, each in enumerate(SMALLEST)),
    *STRUCTURES[len(SMALLEST) :],
])  # fmt: skip
def test_gradient_reaches_all_but_what_is_dropped_by_design(hub_id, tmp_path):
    """Every adapter learns; what the record calls dropped is what even full training leaves alone.

    By default on every second structure: `test_sound.py` has the reach of the others.
    """
    spec, record = small(hub_id, tmp_path), family(hub_id)
    spec = replace(spec, lora=replace(spec.lora, exclude_modules=None), data=Data(modalities=EVERYTHING))
    evidence = Evidence(spec, {"reference": small_reference(hub_id)}, offline=True)
    run, reach = evidence.call(lambda tiny: tiny.run), evidence.call(lambda reach: reach)
    declared = tuple(f"{path}." for path in record.dropped(run.config))

    assert [row.name for row in reach.unreached] == []
    assert all(row.name.startswith(declared) for row in reach.dropped)
    assert not any(row.name.startswith(declared) for row in reach.reached)
    assert unreachable(run, record) == {name for name in base_parameters(run) if name.startswith(declared)}

    modules = evidence.call(lambda modules: modules)
    text_only = gradient_reach(run, replace(spec, data=Data(modalities=("text",))), record, modules)
    assert text_only.loss == pytest.approx(math.log(64), abs=0.6)  # the miniature's vocabulary


def unreachable(run, record) -> set[str]:
    """Base parameters without a gradient although everything is trained and nothing is checkpointed."""
    run.model.gradient_checkpointing_disable()
    run.model.requires_grad_(True)
    run.model(**record.sample_row(run.config, frozenset(EVERYTHING))).loss.backward()
    base = base_parameters(run)
    run.model.requires_grad_(False)
    return {name for name, parameter in base.items() if parameter.grad is None or not parameter.grad.any()}


def base_parameters(run) -> dict[str, torch.nn.Parameter]:
    """The model's own parameters."""
    return {name: parameter for name, parameter in run.model.named_parameters() if ".lora_" not in name}


@pytest.mark.parametrize(("hub_id", "selected", "dropped"), [
    ("llava-hf/llava-1.5-7b-hf", -2, 1),
    ("llava-hf/llava-1.5-7b-hf", [-2, -5, 7], 1),
    ("llava-hf/llava-1.5-7b-hf", 20, 4),
    ("llava-hf/llava-onevision-qwen2-0.5b-ov-hf", -3, 2),
    ("OpenGVLab/InternVL3-1B-hf", -4, 3),
])  # fmt: skip
def test_dropped_layers_follow_the_feature_layer(hub_id, selected, dropped):
    """`vision_feature_layer` decides how many layers lead nowhere, negative, positive or several."""
    values = {**entry(hub_id).config, "vision_feature_layer": selected}
    record = family(hub_id)
    count = values["vision_config"]["num_hidden_layers"]

    paths = [path for path in record.dropped(values) if path.rpartition(".")[2].isdigit()]

    assert [int(path.rpartition(".")[2]) for path in paths] == list(range(count - dropped, count))
