"""A family that the package has never heard of: one record and one row, and every part of vlcheck knows it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.gemma4.configuration_gemma4 import Gemma4Config
from transformers.models.gemma4.modeling_gemma4 import Gemma4ForConditionalGeneration

from tests import tiny
from tests.memory.test_project import NF4
from vlcheck import audit
from vlcheck.collators.probes import ask, picture
from vlcheck.finding import Report, Verdict
from vlcheck.gpus import gpu
from vlcheck.memory.batch import make_batch
from vlcheck.memory.project import project_memory
from vlcheck.memory.shape import Shape
from vlcheck.model import families
from vlcheck.model.build import Weights, base_of, build_model, transformers_config
from vlcheck.model.families import gemma4
from vlcheck.model.family import Dialogue, FallbackProcessor, Family, ImageLayout, Part
from vlcheck.model.modules import Placement, tabulate
from vlcheck.model.reference import build_reference
from vlcheck.processing.collator import Collator
from vlcheck.processing.fallback import build_fallback
from vlcheck.processing.labels import IGNORE_INDEX
from vlcheck.spec import Hardware, Intent, Lora, ModelRef, RunSpec, Training

KIND = "harbour"


class HarbourConfig(Gemma4Config):
    model_type = KIND


class HarbourForConditionalGeneration(Gemma4ForConditionalGeneration):
    config_class = HarbourConfig


AutoConfig.register(KIND, HarbourConfig, exist_ok=True)
AutoModelForImageTextToText.register(HarbourConfig, HarbourForConditionalGeneration, exist_ok=True)


def image_layout(values: Any, soft_tokens: int, device: torch.device) -> ImageLayout:
    """One row of soft tokens, each of three by three patches."""
    grid = torch.meshgrid(torch.arange(3 * soft_tokens), torch.arange(3), indexing="xy")
    width = 3 * values["vision_config"]["patch_size"] ** 2
    return ImageLayout(
        ids=(values["boi_token_id"], *[values["image_token_id"]] * soft_tokens, values["eoi_token_id"]),
        soft=values["image_token_id"],
        tensors={
            "pixel_values": torch.ones(1, 9 * soft_tokens, width, device=device),
            "image_position_ids": torch.stack(grid, -1).reshape(1, -1, 2),
        },
        types="mm_token_type_ids",
    )


HARBOUR = Family(
    name="Harbour",
    model_types=(KIND,),
    parts={
        "model.vision_tower": Part.VISION,
        "model.embed_vision": Part.PROJECTOR,
        "model.language_model": Part.LANGUAGE,
        "lm_head": Part.LANGUAGE,
    },
    clip_wrapper="Gemma4ClippableLinear",
    layer_kinds=gemma4.layer_kinds,
    shrink=gemma4.shrink,
    sample_row=gemma4.sample_row,
    dialogue=Dialogue(
        end="<turn|>",
        batch_keys=("mm_token_type_ids", "pixel_values", "image_position_ids"),
        image_tokens=("<|image|>", "<|image>", "<image|>"),
        thought=("<|channel>thought\n", "\n<channel|>"),
    ),
    fallback=FallbackProcessor(
        processor="Gemma4Processor",
        image_processor="Gemma4ImageProcessorPil",
        tokens=gemma4.FALLBACK.tokens,
        roles=gemma4.FALLBACK.roles,
        template=lambda values: "gemma4-small.jinja",
        byte_level=False,
        image_options=lambda values: {"patch_size": 4, "pooling_kernel_size": 3},
    ),
    image_layout=image_layout,
    soft_tokens=lambda values, wanted: (wanted or 12, "" if wanted else "12 soft tokens an image"),
)


@pytest.fixture
def values(monkeypatch) -> dict[str, Any]:
    """The config of a model of the new family, which is the only one there is."""
    made = tiny.gemma4() | {"model_type": KIND}
    monkeypatch.setattr(families, "FAMILIES", (HARBOUR,))
    return made


def spec(model: str = "tiny", **training: Any) -> RunSpec:
    return RunSpec(
        model=ModelRef(id=model),
        quantization=NF4,
        lora=Lora(r=4, lora_alpha=4, target_modules="all-linear"),
        training=Training(bf16=True, gradient_checkpointing=True, per_device_train_batch_size=1, **training),
        hardware=Hardware(gpu="h100"),
        intent=Intent(vision="train", projector="train", language="train"),
    )


def test_it_gets_placement(values):
    """Every module is of a part, and every clip wrapper is known to hold its adapter inside."""
    family = families.family_of(values)
    model = base_of(build_model(spec(), Weights.META, config=values))
    table = tabulate(model, build_reference(values), family)
    clipped = list(table.where(clipped=True))

    assert family is HARBOUR
    assert type(model) is HarbourForConditionalGeneration
    assert len(clipped) == tiny.VISION_WRAPPERS
    assert {row.placement for row in clipped} == {Placement.INSIDE}
    assert table.parts() == (Part.VISION, Part.PROJECTOR, Part.LANGUAGE)
    assert all(row.part for row in table.rows)


def test_it_gets_batches_and_labels(values):
    """Its processor's batch holds the keys of the record, and supervises the answer with its end."""
    collator = Collator(build_fallback(HARBOUR, values), HARBOUR.dialogue)
    batch = collator([ask("row", "Which breed is it?", "Beagle", picture((96, 96)))])
    supervised = batch["input_ids"][batch["labels"] != IGNORE_INDEX]

    assert set(HARBOUR.dialogue.batch_keys) <= set(batch)
    assert collator.processor.tokenizer.decode(supervised) == "Beagle<turn|>"


def test_it_gets_a_memory_projection(values):
    """A real step of its model on its own batch, with the doubt that no run was measured."""
    made = make_batch(HARBOUR, transformers_config(values).to_dict(), Shape(rows=2, tokens=64, soft_tokens=12))
    plan = project_memory(spec(), values, HARBOUR, gpu("h100"))

    assert int((made["mm_token_type_ids"] == 1).sum()) == 2 * 12
    assert made["pixel_values"].shape == (2, 9 * 12, 3 * 4**2)
    assert sum(line.size for line in plan.lines) == plan.allocated_bytes > 0
    assert plan.shape.assumptions[0] == "12 soft tokens an image"
    assert plan.doubts == ("no Harbour run was measured",)


def test_its_runs_are_audited_like_any_other(values, tmp_path):
    """Rules of every subject judge such a run; none skips for want of a family."""
    path = tiny.write_folder(tmp_path / "model", values, tiny.FINITE)
    outcomes = {outcome.rule.code: outcome for outcome in _audit(str(path)).outcomes}

    assert outcomes.keys() >= set(JUDGED)
    assert {code: outcomes[code].verdict for code in JUDGED} == dict.fromkeys(JUDGED, Verdict.PASSED)
    assert not [outcome.rule.code for outcome in outcomes.values() if outcome.verdict is Verdict.ERROR]


JUDGED = ("VLC101", "VLC103", "VLC205", "VLC206", "VLC208", "VLC214", "VLC219", "VLC301", "VLC406")
"""Placement, clamps, labels, batches, memory, reach."""


def _audit(path: str) -> Report:
    return audit(spec(path), offline=True)
