"""Runs that are looked at on this GPU, each kind in a process of its own: `python -m tests.gpu.train_live KIND FOLDER`.

`bits` trains the tiny model twice bare and once looked at, under deterministic kernels; `larger` looks at a model of
1.6 billion parameters and trains its first step. Both leave an `outcome.pt`. Deterministic kernels are a setting of the
whole process, and what other tests have left on the card would count as this run's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from tests.integrations import live_samples as live
from vlcheck import RunCheckCallback, check_run
from vlcheck.finding import Report

LAYERS = 16
LARGER = {
    "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": LAYERS, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "global_head_dim": 256, "vocab_size": 262_144,
    "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2),
}  # fmt: skip
"""Of the text model: 1.6 billion parameters, drawn on the card; ids stay the tiny processor's."""


def main(kind: str, folder: Path) -> None:
    torch.save({"bits": bits, "larger": larger}[kind](folder), folder / "outcome.pt")


def bits(folder: Path) -> dict[str, Any]:
    """What two runs without the callback and one with it came to, and what was looked at."""
    callback = RunCheckCallback()
    runs = [trained(folder), trained(folder), trained(folder, callback)]
    return {"runs": runs, "verdicts": [verdicts(report) for report in callback.reports]}


def larger(folder: Path, text: Mapping[str, Any] = LARGER) -> dict[str, Any]:
    """How long a look takes before the first step, and what that step showed.

    Args:
        text: what of the text model's config is changed.
    """
    from peft import get_peft_model
    from transformers import AutoModelForImageTextToText

    from vlcheck.model.build import transformers_config

    values = {**live.config(), "text_config": {**live.config()["text_config"], **text}}
    callback = RunCheckCallback()
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        base = AutoModelForImageTextToText.from_config(transformers_config(values), dtype=torch.bfloat16)
    trainer = trainer_of(folder, callback, model=get_peft_model(base, live.lora()).train())
    begun = time.monotonic()
    report = check_run(trainer)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.monotonic() - begun
    trainer.args.max_steps = 1
    trainer.train()
    return {
        "seconds": seconds,
        "parameters": sum(p.numel() for p in base.parameters()),
        "examined": [outcome.rule.code for outcome in report.outcomes if outcome.examined],
        "verdicts": [verdicts(report) for report in callback.reports],
    }


def trainer_of(folder: Path, *callbacks: Any, model: Any = None, **changed: Any) -> Trainer:
    """Two steps of two rows in bf16."""
    parts = live.sound()
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=2, max_steps=2, learning_rate=1e-3, remove_unused_columns=False,
        report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True, seed=3, bf16=True,
        use_cpu=not torch.cuda.is_available(), **changed,
    )  # fmt: skip
    return Trainer(
        model=model if model is not None else parts.model,
        args=arguments,
        train_dataset=parts.rows,
        data_collator=parts.collator,
        processing_class=parts.processor,
        callbacks=list(callbacks),
    )


def trained(folder: Path, *callbacks: Any) -> dict[str, Any]:
    """Losses, trained weights and random states behind a run under deterministic kernels."""
    trainer = trainer_of(folder, *callbacks, full_determinism=True)
    trainer.train()
    return {
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "weights": {name: p.detach().cpu() for name, p in trainer.model.named_parameters() if p.requires_grad},
        "states": [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ())],
    }


def verdicts(report: Report) -> dict[str, list[str]]:
    """What each rule that looked at something found: nothing, if the run is sound."""
    return {
        outcome.rule.code: [finding.message for finding in outcome.findings]
        for outcome in report.outcomes
        if outcome.examined
    }


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
