"""Every module that has parameters belongs to a part, and every path of a record exists."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.model.families.models import IDS, KIN, PARTS_ONLY, SMALLEST, family, reference, table
from vlcheck.model.families import FAMILIES
from vlcheck.model.family import Part

NOT_BUILT = {"Gemma 3n"}
"""It needs timm."""
EVERY = (*SMALLEST, *KIN, *PARTS_ONLY)


@pytest.mark.parametrize("hub_id", [
    pytest.param(hub_id, marks=() if hub_id in EVERY else pytest.mark.slow) for hub_id in IDS
])  # fmt: skip
def test_no_module_is_outside_all_parts(hub_id):
    """Modules with parameters are of one part each."""
    assert [row.name for row in table(hub_id).rows if row.part is None] == []


@pytest.mark.parametrize("record", [f for f in FAMILIES if f.name not in NOT_BUILT], ids=lambda record: record.name)
def test_every_path_and_class_of_a_record_exists(record):
    """No path and no class name is dead."""
    models = [reference(hub_id) for hub_id in EVERY if family(hub_id) is record]
    paths = {name for model in models for name, _ in model.named_modules()}
    classes = {type(module).__name__ for model in models for module in model.modules()}

    assert set(record.parts) <= paths
    assert set(record.part_classes) <= classes


def test_each_family_is_in_the_catalogue_but_those_not_built():
    """Nothing is claimed of a family without a model to show for it."""
    assert {family(hub_id).name for hub_id in EVERY} == {f.name for f in FAMILIES} - NOT_BUILT
    assert {family(hub_id).name for hub_id in IDS} == {f.name for f in FAMILIES} - NOT_BUILT


@pytest.mark.parametrize(("hub_id", "part", "kinds"), [
    ("Qwen/Qwen2.5-VL-3B-Instruct", Part.PROJECTOR, {"Linear": 2, "Qwen2_5_VLRMSNorm": 1}),
    ("Qwen/Qwen3-VL-2B-Instruct", Part.PROJECTOR, {"Linear": 8, "LayerNorm": 4}),
    ("Qwen/Qwen3-VL-30B-A3B-Instruct", Part.EXPERTS, {"Qwen3VLMoeTextExperts": 48}),
    ("Qwen/Qwen3-VL-30B-A3B-Instruct", Part.ROUTER, {"Qwen3VLMoeTextTopKRouter": 48}),
    ("google/gemma-4-12B-it", Part.AUDIO, {"Linear": 1}),
    ("zai-org/GLM-4.1V-9B-Thinking", Part.PROJECTOR, {"Conv2d": 1, "Linear": 4, "LayerNorm": 1}),
    ("zai-org/GLM-4.5V", Part.EXPERTS, {"Glm4vMoeTextExperts": 45}),
    ("llava-hf/llava-v1.6-mistral-7b-hf", Part.PROJECTOR, {"LlavaNextModel": 1, "Linear": 2}),
    ("meta-llama/Llama-3.2-11B-Vision-Instruct", Part.PROJECTOR, {"Linear": 1}),
    ("mistralai/Mistral-Small-3.1-24B-Instruct-2503", Part.PROJECTOR, {"Mistral3RMSNorm": 1, "Linear": 3}),
])  # fmt: skip
def test_parts_that_sit_in_unusual_places(hub_id, part, kinds):
    """Projectors inside the tower, a projector that is a linear layer, experts and routers, a bare parameter."""
    found = Counter(row.kind for row in table(hub_id).where(part=part) if row.parameters)

    assert found == kinds
