"""Gemma 4 31B in NF4 with random weights: it builds in place, trains a step, and is what the audit saw."""

from __future__ import annotations

import gc
import json
import os
import time

import pytest
import torch

from vlcheck.model import catalogue
from vlcheck.model.build import Weights, base_of, build_model, transformers_config
from vlcheck.model.families import family_of
from vlcheck.model.modules import tabulate
from vlcheck.model.reference import build_reference
from vlcheck.model.training_mode import prepare_for_training
from vlcheck.spec import CheckpointingKwargs, Lora, ModelRef, Quantization, RunSpec, Training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="workers would share the card: run with -n 0"),
]
GIB = 2**30
NF4 = Quantization(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                   bnb_4bit_compute_dtype="bfloat16")  # fmt: skip


@pytest.mark.parametrize("hub_id", ["google/gemma-4-31B-it", "google/gemma-4-E4B-it"])
def test_random_nf4_model_builds_and_trains_a_step(hub_id, record_property, capsys):
    """Build in under three minutes and 25 GiB; loss and gradients finite; module table equal to the one on meta."""
    entry = catalogue.lookup(hub_id)
    family, reference = family_of(entry.config), build_reference(entry.config)
    spec = RunSpec(
        model=ModelRef(id=hub_id),
        quantization=NF4,
        lora=Lora(r=64, lora_alpha=64, target_modules="all-linear"),
        training=Training(
            gradient_checkpointing=True, gradient_checkpointing_kwargs=CheckpointingKwargs(use_reentrant=False)
        ),
    )
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    start = time.perf_counter()
    model = build_model(spec, Weights.RANDOM, config=entry.config, device="cuda")
    torch.cuda.synchronize()
    seconds, peak = time.perf_counter() - start, torch.cuda.max_memory_allocated() - before

    table = tabulate(base_of(model), reference, family)
    meta = tabulate(base_of(build_model(spec, Weights.META, config=entry.config)), reference, family)
    prepare_for_training(
        base_of(model), checkpointing=spec.training.gradient_checkpointing, reentrant=spec.training.reentrant
    )
    values = transformers_config(entry.config).to_dict()
    row = {key: value.cuda() for key, value in family.sample_row(values, frozenset({"image", "text"})).items()}
    row["pixel_values"] = row["pixel_values"].bfloat16()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    loss = base_of(model)(**row).loss
    loss.backward()
    torch.cuda.synchronize()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    figures = {
        "model": hub_id,
        "device": torch.cuda.get_device_name(),
        "build_seconds": round(seconds, 1),
        "build_peak_gib": round(peak / GIB, 2),
        "step_seconds": round(time.perf_counter() - start, 2),
        "step_peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 2),
        "loss": float(loss.detach()),
        "gradients": len(gradients),
        "rows": len(table.rows),
        "table_equals_meta": table == meta,
    }
    with capsys.disabled():
        print("\n" + json.dumps(figures), flush=True)

    assert torch.isfinite(loss)
    assert all(torch.isfinite(grad).all() for grad in gradients)
    assert table == meta
    assert seconds < 180
    assert peak < 25 * GIB
