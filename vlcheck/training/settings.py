"""What one optimizer step reads of a run."""

from __future__ import annotations

from dataclasses import dataclass

from vlcheck.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """The few values of a run that decide what a step does and takes; where they were written no longer matters."""

    rows: int
    """Micro-batch: rows that one GPU sees at once."""
    accumulation: int
    """Micro-batches of one optimizer step."""
    checkpointing: bool
    """Whether activations are computed again in the backward pass."""
    reentrant: bool | None
    """Kind of checkpointing; None leaves it to transformers."""
    precision: str | None
    """Mixed precision: `bf16`, `fp16`, or None without it."""
    kbit_preparation: bool
    """Whether every unquantised 16-bit tensor becomes fp32."""
    attention: str | tuple[tuple[str, str], ...] | None
    """Attention implementation that is asked for, or pairs of a sub-config and its own; None lets each choose."""
    logits: str
    """Positions that logits are computed at: `supervised`, `all`, `chunked` or `fused`."""
    optimizer: str
    """Name as in transformers' `optim`."""
    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]
    """Decay of Adam's two moments."""
    epsilon: float
    """Floor of Adam's denominator."""
    max_grad_norm: float
    """Norm that gradients are clipped to; 0 clips nothing."""
    gpus: int
    """GPUs that train together."""
    sharded: bool
    """Whether they divide weights, gradients and optimizer state among themselves."""

    @property
    def supervised_only(self) -> bool:
        """Whether logits are computed only where a label needs one."""
        return self.logits != "all"


def settings_of(spec: RunSpec) -> StepSettings:
    """What a run's steps read of it."""
    training, asked = spec.training, spec.model.attention
    return StepSettings(
        rows=training.per_device_train_batch_size,
        accumulation=training.gradient_accumulation_steps,
        checkpointing=training.gradient_checkpointing,
        reentrant=training.reentrant,
        precision="bf16" if training.bf16 else "fp16" if training.fp16 else None,
        kbit_preparation=training.kbit_preparation,
        attention=asked if asked is None or isinstance(asked, str) else tuple(asked.items()),
        logits=training.logits,
        optimizer=training.optim,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        betas=(training.adam_beta1, training.adam_beta2),
        epsilon=training.adam_epsilon,
        max_grad_norm=training.max_grad_norm,
        gpus=spec.hardware.count,
        sharded=bool(training.fsdp),
    )
