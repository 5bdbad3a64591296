"""The live door on a card: what it costs before a run's first step, and that it changes no bit of the run."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from tests.integrations import live_samples as live
from vlcheck import RunCheckCallback, check_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="workers would share the card: run with -n 0"),
]
LAYERS = 16
LARGER = {
    "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": LAYERS, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "global_head_dim": 256, "vocab_size": 262_144,
    "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2),
}  # fmt: skip
"""Of the text model: 1.6 billion parameters, drawn on the card; ids stay the tiny processor's."""


def trainer_of(folder: Any, *callbacks: Any, model: Any = None) -> Trainer:
    """Two steps of two rows in bf16."""
    parts = live.sound()
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=2, max_steps=2, learning_rate=1e-3, remove_unused_columns=False,
        report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True, seed=3, bf16=True,
        full_determinism=True,
    )  # fmt: skip
    return Trainer(
        model=model if model is not None else parts.model,
        args=arguments,
        train_dataset=parts.rows,
        data_collator=parts.collator,
        processing_class=parts.processor,
        callbacks=list(callbacks),
    )


def trained(folder: Any, *callbacks: Any) -> tuple[list[float], dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Losses, trained weights and random states behind the run."""
    trainer = trainer_of(folder, *callbacks)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    weights = {name: p.detach().cpu() for name, p in trainer.model.named_parameters() if p.requires_grad}
    return losses, weights, torch.get_rng_state(), torch.cuda.get_rng_state()


def test_a_run_with_it_equals_the_run_without_bit_for_bit(tmp_path):
    """Under deterministic kernels; two runs without it are held against each other first."""
    bare, again, looked = trained(tmp_path), trained(tmp_path), trained(tmp_path, RunCheckCallback())
    for other in (again, looked):
        assert bare[0] == other[0]
        assert all(torch.equal(bare[1][name], other[1][name]) for name in bare[1])
        assert torch.equal(bare[2], other[2])
        assert torch.equal(bare[3], other[3])


def test_it_looks_in_less_than_a_minute(tmp_path, record_property):
    """At a model of 1.6 billion parameters, before its first step."""
    from peft import get_peft_model
    from transformers import AutoModelForImageTextToText

    from vlcheck.model.build import transformers_config

    values = {**live.config(), "text_config": {**live.config()["text_config"], **LARGER}}
    with torch.device("cuda"):
        base = AutoModelForImageTextToText.from_config(transformers_config(values), dtype=torch.bfloat16)
    trainer = trainer_of(tmp_path, model=get_peft_model(base, live.lora()).train())
    torch.cuda.synchronize()
    begun = time.monotonic()
    report = check_run(trainer)
    torch.cuda.synchronize()
    seconds = time.monotonic() - begun
    record_property("seconds", seconds)
    assert {outcome.rule.code for outcome in report.outcomes if outcome.examined} >= {"VLC202", "VLC406", "VLC008"}
    assert seconds < 60, f"{seconds:.1f} s"
