"""A family without a record: parts from the model's own submodels, never from names."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from tests.model.families.models import SMALLEST, entry, reference, table
from vlcheck.finding import Unavailable
from vlcheck.model.build import UnbuildableConfig
from vlcheck.model.families import FAMILIES, family_of
from vlcheck.model.families.generic import derive
from vlcheck.model.family import Part
from vlcheck.model.modules import tabulate
from vlcheck.model.reference import build_reference
from vlcheck.model.tiny_run import shrink
from vlcheck.spec import Lora, ModelRef, RunSpec, Training

INSIDE_THE_TOWER = {"Qwen2.5-VL", "Qwen3-VL", "Qwen3-VL-MoE"}


@pytest.mark.parametrize("hub_id", SMALLEST)
def test_derived_parts_are_those_of_the_record(hub_id):
    """With the record forgotten, the parts come out the same, but for what the doubt names."""
    derived = derive(entry(hub_id).config, reference(hub_id))

    for row in table(hub_id).rows:
        found = derived.part_of(row.name)
        if row.part is Part.PROJECTOR and family_of(entry(hub_id).config).name in INSIDE_THE_TOWER:
            assert found is Part.VISION
        elif row.part is Part.AUDIO and row.name.startswith("model.embed_audio"):
            assert found is Part.PROJECTOR
        else:
            assert found is row.part, row.name


@pytest.mark.parametrize(("model_type", "parts", "routed"), [
    ("aria", {"model.vision_tower": Part.VISION, "model.multi_modal_projector": Part.PROJECTOR}, 32),
    ("idefics2", {"model.vision_model": Part.VISION, "model.connector.perceiver_resampler": Part.PROJECTOR}, 0),
    ("ovis2", {"model.vision_tower": Part.VISION, "model.visual_embeddings_table": Part.PROJECTOR}, 0),
    ("blip-2", {"vision_model": Part.VISION, "qformer": Part.PROJECTOR, "language_projection": Part.PROJECTOR}, 0),
    ("llama4", {"vision_model": Part.VISION, "language_model.model": Part.LANGUAGE}, 48),
])  # fmt: skip
def test_unknown_families_are_told_apart(model_type, parts, routed):
    """Towers, resamplers, Q-Formers and routed experts of families that have no record."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(model_type))
    family = derive({"model_type": model_type}, model)
    rows = tabulate(model, model, family).rows

    assert [row.name for row in rows if row.part is None and row.parameters] == []
    assert {path: family.parts[path] for path in parts} == parts
    assert sum(part is Part.EXPERTS for part in family.parts.values()) == routed
    assert sum(part is Part.ROUTER for part in family.parts.values()) == routed
    assert family.doubt.startswith("unknown family")


def test_what_cannot_be_told_apart_is_refused():
    """A model that is not made of submodels has no parts to derive."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model("git"))

    with pytest.raises(LookupError, match="'git' is of no family"):
        derive({"model_type": "git"}, model)


def test_text_only_model_types_are_refused():
    """What is no image-text-to-text model has neither a record nor a reference to derive from."""
    with pytest.raises(LookupError, match="'llama' is of no family"):
        family_of({"model_type": "llama"})
    with pytest.raises(UnbuildableConfig, match="llama is not an image-text-to-text model"):
        build_reference({"model_type": "llama"})


def test_no_miniature_without_a_record():
    """Gradient evidence is then unavailable, with the reason."""
    hub_id = "HuggingFaceTB/SmolVLM2-256M-Video-Instruct"
    spec = RunSpec(model=ModelRef(id=hub_id), lora=Lora(target_modules="all-linear"), training=Training())
    derived = derive(entry(hub_id).config, reference(hub_id))

    with pytest.raises(Unavailable, match="knows no miniature of smolvlm"):
        shrink(spec, entry(hub_id).config, derived, table(hub_id))


def test_gemma_3n_without_timm_is_one_message():
    """Its record names parts alone; transformers says which package is missing."""
    if find_spec("timm"):
        pytest.skip("timm is installed")
    record = next(family for family in FAMILIES if family.name == "Gemma 3n")

    assert record.shrink is None
    assert "never built" in record.doubt
    with pytest.raises(UnbuildableConfig, match="requires the timm library"):
        build_reference({"model_type": "gemma3n"})
