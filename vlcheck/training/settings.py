"""What one optimizer step reads of a run."""

from __future__ import annotations

from dataclasses import dataclass

from vlcheck.spec import RunSpec, Training

SAMPLES = 3
"""Rows of an evaluation whose answers are shown."""
EIGHT_BIT_FROM = 4096
"""Parameters with fewer elements keep fp32 state in an 8-bit optimizer (bitsandbytes 0.50)."""


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """What GPUs divide among themselves, and what lies on the host."""

    name: str = ""
    """What does it, as a user knows it; empty where nothing does."""
    states: bool = False
    """The optimizer's state is divided."""
    gradients: bool = False
    weights: bool = False
    """Weights are divided, and gathered layer by layer where they are used."""
    host_states: bool = False
    """The optimizer's state lies in main memory."""
    host_weights: bool = False
    masters: bool = False
    """16-bit weights that train have fp32 copies in the optimizer's state, on which it steps."""


def sharding_of(training: Training) -> Sharding:
    """What FSDP (torch, `ShardingStrategy`) or DeepSpeed's ZeRO divides in a run.

    DeepSpeed steps on fp32 copies (0.18, runtime/zero/stage_1_and_2.py, `single_partition_of_fp32_groups`).
    Under `shard_grad_op` weights are whole from a step's first use of them to its last.
    """
    if (zero := training.zero_optimization) is not None:
        states, weights = (
            each is not None and each.device != "none" for each in (zero.offload_optimizer, zero.offload_param)
        )
        return Sharding(name=f"ZeRO-{zero.stage}", states=zero.stage >= 1, gradients=zero.stage >= 2,
                        masters=True, weights=zero.stage == 3, host_states=states, host_weights=weights)  # fmt: skip
    words = (training.fsdp or "").replace(",", " ").lower().split()
    if not words:
        return Sharding()
    offload = "offload" in words
    if "no_shard" in words:
        return Sharding(name="FSDP no_shard", host_states=offload, host_weights=offload)
    whole = "shard_grad_op" in words or "hybrid_shard_zero2" in words
    return Sharding(name="FSDP shard_grad_op" if whole else "FSDP full_shard", states=True, gradients=True,
                    weights=not whole, host_states=offload, host_weights=offload and not whole)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """The few values of a run that decide what a step does and takes; where they were written no longer matters."""

    rows: int
    """Micro-batch: rows that one GPU sees at once."""
    accumulation: int
    """Micro-batches of one optimizer step."""
    checkpointing: float
    """Share of the language model's layers whose activations are computed again; 0 without checkpointing anywhere."""
    reentrant: bool | None
    """Kind of checkpointing; None leaves it to transformers."""
    precision: str | None
    """Mixed precision: `bf16`, `fp16`, or None without it."""
    compiled: bool
    """Whether the layers that repeat are compiled."""
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
    sharding: Sharding
    """What they divide among themselves."""
    own_loop: bool
    """Whether vlcheck's own loop trains: its DDP leaves frozen tensors out."""

    eval_rows: int
    """Rows that one GPU evaluates at once while the run trains; 0 where it does not."""

    answers: int
    """Rows of them that the model answers at once, at most; 0 where it answers none."""

    @property
    def answered_rows(self) -> int:
        """Rows that the model answers at once behind an evaluation."""
        return min(self.eval_rows, self.answers)

    @property
    def eval_supervised_only(self) -> bool:
        """Whether evaluation computes logits only where a label needs one: Liger's fused loss is one of training."""
        return self.logits not in ("all", "fused")

    @property
    def replicated(self) -> bool:
        """Whether several GPUs hold the whole model each: DDP."""
        return self.gpus > 1 and not self.sharding.states

    @property
    def supervised_only(self) -> bool:
        """Whether logits are computed only where a label needs one."""
        return self.logits != "all"


def _answers(training: Training, *, own_loop: bool) -> int:
    """Rows that are answered at once: vlcheck's own loop shows a few, or asks every row where accuracy is wanted."""
    if not own_loop:
        return 0
    return training.per_device_eval_batch_size if training.metric_for_best_model == "accuracy" else SAMPLES


def settings_of(spec: RunSpec) -> StepSettings:
    """What a run's steps read of it."""
    training, asked = spec.training, spec.model.attention
    own_loop = spec.own_loop
    evaluates = training.eval_strategy != "no" and spec.data.eval_split is not None
    return StepSettings(
        rows=training.per_device_train_batch_size,
        accumulation=training.gradient_accumulation_steps,
        checkpointing=training.gradient_checkpointing and (training.gradient_checkpointing_share if own_loop else 1),
        reentrant=training.reentrant,
        precision="bf16" if training.bf16 else "fp16" if training.fp16 else None,
        compiled=training.torch_compile,
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
        sharding=sharding_of(training),
        own_loop=own_loop,
        eval_rows=training.per_device_eval_batch_size if evaluates else 0,
        answers=_answers(training, own_loop=own_loop),
    )
