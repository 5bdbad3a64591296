"""Laws of the projection, on real tiny models."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny
from vlcheck.finding import Unavailable
from vlcheck.gpus import GPUS, gpu
from vlcheck.memory.batch import make_batch
from vlcheck.memory.parallel import NCCL_BYTES
from vlcheck.memory.project import Simulation, project_memory
from vlcheck.memory.rows import shape_of
from vlcheck.memory.shape import Shape
from vlcheck.memory.weights import pack, stored
from vlcheck.model.attention import attention_support
from vlcheck.model.build import Weights, build_model, transformers_config
from vlcheck.model.families import described, family_of
from vlcheck.model.families.generic import derive
from vlcheck.model.reference import build_reference
from vlcheck.spec import AttentionByPart, Lora, ModelRef, Offload, Quantization, RunSpec, Training, ZeroOptimization
from vlcheck.training.settings import settings_of

NF4 = Quantization(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
H100 = gpu("h100")
GEMMA = tiny.gemma4(clip=False)
FEW = settings(max_examples=max(4, settings.default.max_examples // 25))
"""A plan takes a second: 4 examples by default, 200 under the thorough profile."""
FAMILIES = {
    "google/gemma-4-31B-it": 20, "google/gemma-4-26B-A4B-it": 20, "google/gemma-4-E4B-it": 20,
    "Qwen/Qwen2.5-VL-7B-Instruct": 20, "google/gemma-3-4b-it": 4, "Qwen/Qwen3-VL-8B-Instruct": 20,
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": 4, "llava-hf/llava-1.5-7b-hf": 16, "OpenGVLab/InternVL3-8B-hf": 4,
    "google/paligemma2-3b-pt-224": 16, "mistralai/Mistral-Small-3.1-24B-Instruct-2503": 20,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": 20, "Qwen/Qwen2-VL-2B-Instruct": 20,
}  # fmt: skip


def spec(*, rank: int = 4, **training) -> RunSpec:
    return RunSpec(
        model=ModelRef(id="tiny"),
        quantization=NF4,
        lora=Lora(r=rank, lora_alpha=4, lora_dropout=0.05, target_modules="all-linear", exclude_modules=".*audio.*"),
        training=Training(**({"bf16": True, "gradient_checkpointing": True, "optim": "paged_adamw_8bit"} | training)),
    )


def plan(values=GEMMA, shape: Shape | None = None, **settings):
    return project_memory(spec(**settings), values, family_of(values), H100, shape or Shape(tokens=64, soft_tokens=20))


@cache
def peak(**settings) -> int:
    return plan(**settings).allocated_bytes


@cache
def simulated(checkpointing: bool) -> Simulation:
    return Simulation(spec(gradient_checkpointing=checkpointing), GEMMA, family_of(GEMMA))


@pytest.mark.parametrize("hub_id", [
    pytest.param(hub_id, marks=pytest.mark.slow if number % 2 else ()) for number, hub_id in enumerate(FAMILIES)
])  # fmt: skip
def test_every_described_family_is_projected(hub_id):
    """A real step of the real model runs to its end, and its lines add up to its peak to the byte.

    Every second one by default, the others with `-m slow`.
    """
    values = tiny.shrunken(hub_id)
    found = plan(values, Shape(rows=2, tokens=64, soft_tokens=FAMILIES[hub_id]))
    assert sum(line.size for line in found.lines) == found.allocated_bytes > 0
    assert found.allocated_bytes <= found.reserved_bytes <= found.driver_bytes
    assert not found.doubts


@pytest.mark.parametrize("hub_id", ["llava-hf/llava-v1.6-mistral-7b-hf", "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
                                    "google/gemma-4-12B-it", "meta-llama/Llama-3.2-11B-Vision-Instruct"])  # fmt: skip
def test_a_family_that_was_never_measured_is_projected_with_a_doubt(hub_id):
    values = tiny.shrunken(hub_id)
    soft, _ = family_of(values).soft_tokens(transformers_config(values).to_dict(), 20)
    found = plan(values, Shape(rows=2, tokens=64, soft_tokens=soft))
    assert sum(line.size for line in found.lines) == found.allocated_bytes > 0
    assert found.doubts == (f"no {family_of(values).name} run was measured",)


def test_images_that_leave_a_tile_unfilled_are_refused():
    """How many soft tokens they have depends on their proportions too."""
    values = tiny.shrunken("llava-hf/llava-v1.6-mistral-7b-hf")
    with pytest.raises(Unavailable, match=r"images that fill their tiles have \d+.* not 7"):
        make_batch(family_of(values), transformers_config(values).to_dict(), Shape(tokens=64, soft_tokens=7))


def test_described_families_are_the_tested_ones():
    tested = {"gemma4", "gemma3", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "smolvlm", "idefics3", "llava",
                 "internvl", "paligemma", "mistral3", "llava_next", "llava_onevision", "gemma4_unified",
                 "mllama"}  # fmt: skip
    assert set(described()) == tested


def test_undescribed_family_is_refused():
    """Never a silent guess."""
    values = tiny.shrunken("Qwen/Qwen2.5-VL-7B-Instruct")
    derived = derive(values, build_reference(values))
    with pytest.raises(Unavailable, match="does not know what the processor of qwen2_5_vl hands to the model; known: "):
        project_memory(spec(), values, derived, H100, Shape(tokens=64, soft_tokens=20))
    with pytest.raises(Unavailable, match="does not know what the processor of qwen2_5_vl hands to the model; known: "):
        shape_of(spec().data, derived, transformers_config(values).to_dict(), rows=1)


@FEW
@given(st.integers(1, 3), st.integers(0, 2), st.booleans())
def test_more_rows_or_tokens_never_lower_the_peak(rows, more, checkpointing):
    simulation = simulated(checkpointing)
    small = simulation.plan(H100, Shape(rows=rows, tokens=64, soft_tokens=20))
    rowed = simulation.plan(H100, Shape(rows=rows + more, tokens=64, soft_tokens=20))
    longer = simulation.plan(H100, Shape(rows=rows, tokens=64 + 64 * more, soft_tokens=20))
    assert small.allocated_bytes <= rowed.allocated_bytes
    assert small.allocated_bytes <= longer.allocated_bytes


@pytest.mark.parametrize(("less", "more"), [({"rank": 4}, {"rank": 32}),
                                            ({"optim": "adamw_8bit"}, {"optim": "adamw_torch"}),
                                            ({}, {"kbit_preparation": True}), ({}, {"logits": "all"}),
                                            ({}, {"gradient_accumulation_steps": 2})])  # fmt: skip
def test_more_never_lowers_the_peak(less, more):
    """Rank, precision of the optimizer or of the weights, positions with logits, gradients that stay."""
    assert peak(**less) <= peak(**more)


def test_experts_are_adapted_beside_layers():
    """PEFT folds a delta into fused experts, in their own type; such a run takes more than one of layers alone."""
    values, shape = tiny.gemma4(experts=True, clip=False), Shape(rows=2, tokens=64, soft_tokens=20)
    fused = ("experts.gate_up_proj", "experts.down_proj")
    takes = {
        targets: project_memory(
            replace(spec(), lora=Lora(r=4, target_modules="all-linear", target_parameters=targets)),
            values, family_of(values), H100, shape,
        )
        for targets in (None, fused)
    }  # fmt: skip
    assert takes[None].of("adapters") < takes[fused].of("adapters")
    assert takes[None].allocated_bytes < takes[fused].allocated_bytes


def test_checkpointing_never_raises_the_kept_activations():
    shape = Shape(rows=4, tokens=64, soft_tokens=20)
    kept = [plan(shape=shape, gradient_checkpointing=on) for on in (True, False)]
    assert kept[0].of("activations") <= kept[1].of("activations")
    assert kept[0].allocated_bytes <= kept[1].allocated_bytes


def test_packed_weights_take_what_bitsandbytes_takes():
    """Meta's stand-ins store the bytes of layers that were quantised for real."""
    run = spec()
    meta = build_model(run, Weights.META, config=GEMMA)
    pack(meta)
    real = build_model(run, Weights.RANDOM, config=GEMMA, device="cpu")
    assert [s.size for s in stored(meta)] == [s.size for s in stored(real)]


def test_attention_by_part_is_projected_or_refused():
    """Each tower runs what it is asked for; one that refuses it ends the run before its first step."""
    values, shape = tiny.gemma4(clip=False, audio=True), Shape(rows=2, tokens=64, soft_tokens=20)

    def at(asked):
        run = replace(spec(), model=ModelRef(id="tiny", attn_implementation=asked))
        return project_memory(run, values, family_of(values), H100, shape)

    by_part = at(AttentionByPart(text_config="eager", vision_config="sdpa"))
    assert 0 < sum(by_part.kernels.values()) < sum(at(None).kernels.values())
    assert by_part.allocated_bytes != at("eager").allocated_bytes
    assert at(AttentionByPart(text_config="flash_attention_2")).doubts == (
        "flash_attention_2 is projected as torch's own attention kernels",
    )
    if not all(attention_support(build_reference(values), "sdpa").values()):
        with pytest.raises(Unavailable, match="Gemma4AudioModel refuses attn_implementation 'sdpa', so the base"):
            at("sdpa")


def test_projection_leaves_no_trace():
    """Autocast and attention are as they were."""
    before = torch.is_autocast_enabled("cuda"), torch.nn.functional.scaled_dot_product_attention
    plan()
    assert (torch.is_autocast_enabled("cuda"), torch.nn.functional.scaled_dot_product_attention) == before


def test_another_card_widens_the_band_and_says_why():
    found = project_memory(spec(), GEMMA, family_of(GEMMA), gpu("l4"), Shape(tokens=64, soft_tokens=20))
    assert found.band > plan().band
    assert found.doubts == ("extrapolated: nothing was measured on a L4",)
    assert {row.name: row.basis for row in GPUS}["h100"] == "measured"


def test_sharding_divides():
    run = spec()
    family, shape = family_of(GEMMA), Shape(tokens=64, soft_tokens=20)
    sharded = replace(run, hardware=replace(run.hardware, count=4), training=replace(run.training, fsdp="full_shard"))
    one, parts = (project_memory(each, GEMMA, family, H100, shape) for each in (run, sharded))
    assert parts.of("quantised weights") * 4 - one.of("quantised weights") in range(4)
    assert parts.doubts


def on_four(**training):
    """A run on four GPUs, its base and its optimizer large enough to tell what is divided."""
    run = spec(optim="adamw_torch_fused", **training)
    return replace(run, hardware=replace(run.hardware, count=4))


def zero(stage, **more):
    return on_four(zero_optimization=ZeroOptimization(stage=stage, **more))


CPU = Offload(device="cpu")
WHOLE = {"quantised weights": 1, "gradients": 1, "optimizer state": 1}
"""Causes, and by how many their bytes are divided; one that is left out of a strategy's lies on the host."""
DIVIDED = {
    "FSDP full_shard": (on_four(fsdp="full_shard auto_wrap"), dict.fromkeys(WHOLE, 4)),
    "FSDP shard_grad_op": (on_four(fsdp="shard_grad_op"), {**WHOLE, "gradients": 4, "optimizer state": 4}),
    "FSDP no_shard": (on_four(fsdp="no_shard"), WHOLE),
    "FSDP full_shard, offload": (on_four(fsdp="full_shard offload"), {"gradients": 4}),
    "ZeRO-1": (zero(1), {**WHOLE, "optimizer state": 4}),
    "ZeRO-2": (zero(2), {**WHOLE, "gradients": 4, "optimizer state": 4}),
    "ZeRO-3": (zero(3), dict.fromkeys(WHOLE, 4)),
    "ZeRO-2, offload": (zero(2, offload_optimizer=CPU), {"quantised weights": 1, "gradients": 4}),
    "ZeRO-3, offload": (zero(3, offload_optimizer=CPU, offload_param=CPU), {"gradients": 4}),
}


@pytest.fixture(scope="module")
def undivided() -> Simulation:
    run = spec(optim="adamw_torch_fused")
    return Simulation(run, GEMMA, family_of(GEMMA))


@pytest.mark.parametrize("name", DIVIDED)
def test_what_is_divided_and_what_lies_on_the_host(undivided, name):
    """Each strategy by its own division, to the byte; what lies on the host is no line."""
    run, shares = DIVIDED[name]
    shape = Shape(tokens=64, soft_tokens=20)
    one = undivided.plan(H100, shape)
    each = undivided.plan(H100, shape, settings_of(run))
    for cause in WHOLE:
        before, after = (sum(x.size for x in p.lines if x.cause.partition(" (")[0] == cause) for p in (one, each))
        assert after == (-(-before // shares[cause]) if cause in shares else 0), cause
    (unsure,) = (doubt for doubt in each.doubts if doubt.startswith(f"{name.partition(',')[0]} is projected"))
    assert ("_bucket_size" in unsure) is name.startswith("ZeRO")
    assert "what NCCL takes was measured on 2 GPUs, not 4" in each.doubts
    assert each.outside_bytes == one.outside_bytes + NCCL_BYTES


@pytest.mark.parametrize("name", ["packing", "padding_free", "activation_offloading"])
def test_what_no_simulated_step_does_is_refused_by_name(name):
    with pytest.raises(Unavailable, match=f"training.{name} has no memory model: "):
        plan(**{name: True})


def test_parts_trained_in_full_count_their_gradients_and_state():
    """A projector in `modules_to_save`: a copy of its weights, its gradients, its optimizer state."""
    values = tiny.shrunken("llava-hf/llava-1.5-7b-hf")
    shape = Shape(rows=2, tokens=64, soft_tokens=16)
    run = replace(spec(optim="adamw_torch_fused", gradient_accumulation_steps=2), quantization=None)
    saved = replace(run, lora=replace(run.lora, exclude_modules=".*multi_modal_projector.*",
                                      modules_to_save=("multi_modal_projector",)))  # fmt: skip
    without = replace(run, lora=replace(run.lora, exclude_modules=".*multi_modal_projector.*"))
    one, other = (Simulation(each, values, family_of(values)) for each in (saved, without))
    tensors = [p for n, p in one.model.named_parameters() if "modules_to_save" in n and p.requires_grad]
    size = sum(p.numel() * p.element_size() for p in tensors)
    more, less = (each.plan(H100, shape) for each in (one, other))
    assert tensors
    assert more.of("optimizer state") - less.of("optimizer state") == 2 * size + 4 * len(tensors)
    assert more.of("adapters") - less.of("adapters") == size
    held = [sum(line.size for line in p.lines if line.cause == "gradients") for p in (more, less)]
    assert held[0] - held[1] == size


def test_rows_say_what_they_assume():
    family, config, data = family_of(GEMMA), transformers_config(GEMMA).to_dict(), spec().data
    assert shape_of(data, family, config, rows=1).assumptions
    told = shape_of(replace(data, max_soft_tokens=70), family, config, rows=1, tokens=128)
    assert not told.assumptions
