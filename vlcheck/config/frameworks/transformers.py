"""transformers' `Trainer`, on whose arguments the others stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlcheck.config.frameworks.row import Fact, Framework, reentrant

_TRAINER = "transformers/training_args.py"

ARGUMENTS: Mapping[str, Fact[Any]] = {
    "training.per_device_train_batch_size": Fact(8, f"{_TRAINER}:777"),
    "training.num_train_epochs": Fact(3.0, f"{_TRAINER}:778"),
    "training.learning_rate": Fact(5e-5, f"{_TRAINER}:787"),
    "training.lr_scheduler_type": Fact("linear", f"{_TRAINER}:788"),
    "training.warmup_steps": Fact(0, f"{_TRAINER}:798"),
    "training.optim": Fact("adamw_torch_fused", f"{_TRAINER}:811"),
    "training.weight_decay": Fact(0.0, f"{_TRAINER}:822"),
    "training.max_grad_norm": Fact(1.0, f"{_TRAINER}:866"),
    "training.bf16": Fact(False, f"{_TRAINER}:874"),
    "training.gradient_checkpointing": Fact(False, f"{_TRAINER}:1545"),
    "training.gradient_checkpointing_kwargs": Fact(reentrant(False), "transformers/modeling_utils.py:3149"),
    "training.logging_steps": Fact(500, f"{_TRAINER}:1001"),
    "training.save_steps": Fact(500, f"{_TRAINER}:1183"),
    "training.seed": Fact(42, f"{_TRAINER}:1293"),
    "training.remove_unused_columns": Fact(True, f"{_TRAINER}:1373"),
}
"""transformers' `TrainingArguments`, on which the others stand."""

HEAD: Mapping[str, Fact[Any]] = {"training.logits": Fact("all", "transformers/loss/loss_utils.py:61")}
"""transformers' own loss: logits at every position, turned into fp32 as a whole."""


TRANSFORMERS = Framework(
    name="transformers",
    version="5.23",
    package="transformers",
    collator=Fact("", "transformers/trainer.py:566: its own pads tensors, and none of them makes labels of a chat"),
    supervises=Fact("none", "transformers/trainer.py:566"),
    too_long=Fact("kept", "transformers/trainer.py: no limit"),
    columns=Fact((), "transformers/trainer.py: those that the model's forward names"),
    freezes=Fact((), "peft decides"),
    defaults={**ARGUMENTS, **HEAD},
)
