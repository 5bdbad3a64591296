"""The sections of a run whose fields are another library's, with its names and defaults, and the types of all fields.

`Quantization` has fields of transformers' `BitsAndBytesConfig`, `Lora` those of peft's `LoraConfig`, `Training` those
of transformers' `TrainingArguments`. They are part of `vlcheck.spec`, where the rest of the package takes them from.

The `Annotated` bounds are read by the dialects, which check what a user wrote before it gets here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, Len, Lt

Text: TypeAlias = Annotated[str, Len(1, 2000)]
Names: TypeAlias = tuple[Text, ...]
Count: TypeAlias = Annotated[int, Ge(1), Le(10**9)]
Index: TypeAlias = Annotated[int, Ge(0), Le(10**9)]
Function: TypeAlias = Annotated[str, Len(3, 2000)]
Positive: TypeAlias = Annotated[float, Gt(0)]
NonNegative: TypeAlias = Annotated[float, Ge(0)]
Share: TypeAlias = Annotated[float, Ge(0), Lt(1)]
DType: TypeAlias = Literal["bfloat16", "float16", "float32"]
Choice: TypeAlias = Literal["train", "freeze"]
Freezable: TypeAlias = Literal["vision", "projector", "language", "audio"]
Modality: TypeAlias = Literal["image", "text", "audio", "video"]
Framework: TypeAlias = Literal[
    "vlcheck", "trl", "transformers", "axolotl", "llamafactory", "ms-swift", "unsloth", "other"
]
SWITCHES: tuple[Framework, ...] = ("llamafactory", "ms-swift", "unsloth")
"""Frameworks that freeze parts by name."""
Platform: TypeAlias = Literal[
    "cloud-run", "kubernetes", "skypilot", "modal", "aws-batch", "sagemaker", "runpod", "local"
]
Tracker: TypeAlias = Literal["tensorboard", "wandb"]
Attention: TypeAlias = Literal[
    "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention"
]


def check_function(name: str, path: str | None, *, scripts: bool = False) -> None:
    """Hold the name of a user's function against its form.

    Args:
        scripts: whether it may be `script.py:function` as well.

    Raises:
        ValueError: if it is not `package.module:function`.
    """
    if path is not None:
        module, colon, function = path.rpartition(":")
        dotted = (scripts and module.endswith((".py", ".ipynb"))) or all(
            part.isidentifier() for part in module.split(".")
        )
        if not (colon and dotted and function.isidentifier()):
            raise ValueError(f"{name} must have the form package.module:function")


@dataclass(frozen=True, kw_only=True)
class AttentionByPart:
    """An attention implementation for each sub-config of a model; one that is left out chooses its own."""

    text_config: Attention | None = None
    """Language model."""
    vision_config: Attention | None = None
    """Vision tower."""
    audio_config: Attention | None = None
    """Audio tower."""


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """Fields of transformers' `BitsAndBytesConfig`. Leave the section out for an unquantised base."""

    load_in_4bit: bool = False
    """Replace linear layers by 4-bit ones (QLoRA)."""
    load_in_8bit: bool = False
    """Replace linear layers by LLM.int8 ones."""
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "fp4"
    """4-bit data type; the library's default is fp4, QLoRA uses nf4."""
    bnb_4bit_use_double_quant: bool = False
    """Quantise the quantisation statistics too."""
    bnb_4bit_compute_dtype: DType = "float32"
    """Type that 4-bit weights are expanded to; the library's default is float32."""
    bnb_4bit_quant_storage: Literal["uint8", "bfloat16", "float16", "float32"] = "uint8"
    """Type that holds the packed weights; matters for FSDP."""
    llm_int8_skip_modules: Names | None = None
    """Modules kept unquantised; replaces the default skip list, it does not extend it."""
    llm_int8_threshold: NonNegative = 6.0
    """Outlier threshold of LLM.int8."""

    def __post_init__(self) -> None:
        if self.load_in_4bit == self.load_in_8bit:
            raise ValueError("exactly one of load_in_4bit and load_in_8bit must be true")


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Fields of peft's `LoraConfig`."""

    r: Annotated[int, Ge(1), Le(65536)] = 8
    """Rank."""
    lora_alpha: Positive = 8
    """Scaling numerator: the delta is multiplied by lora_alpha / r."""
    lora_dropout: Share = 0.0
    """Dropout on the adapter's input."""
    target_modules: Text | Annotated[Names, Len(1, 10_000)] | None = None
    """`all-linear`, a regex for the whole module path, or a list of suffixes; unset is PEFT's default."""
    exclude_modules: Text | Names | None = None
    """A regex for the whole path, or a list of suffixes; a parent's name excludes none of its children."""
    target_parameters: Names | None = None
    """Parameters adapted directly, for example fused experts."""
    modules_to_save: Names | None = None
    """Modules trained in full, as a copy."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which biases train."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(r)."""
    use_dora: bool = False
    """Weight-decomposed LoRA."""
    layers_to_transform: Index | tuple[Index, ...] | None = None
    """Only these layer indices; needs target_modules as a list."""
    layers_pattern: Text | Names | None = None
    """Name of the layer list that layers_to_transform counts in."""
    rank_pattern: Mapping[str, Count] = field(default_factory=dict)
    """Ranks that differ from r, by module pattern."""
    alpha_pattern: Mapping[str, Positive] = field(default_factory=dict)
    """Alphas that differ from lora_alpha, by module pattern."""
    ensure_weight_tying: bool = False
    """Keep tied weights tied when one of them is in modules_to_save."""
    task_type: Literal["CAUSAL_LM", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION"] | None = "CAUSAL_LM"
    """PEFT's task type."""


@dataclass(frozen=True, kw_only=True)
class CheckpointingKwargs:
    """Keyword arguments of torch's `checkpoint`."""

    use_reentrant: bool | None = None
    """Reentrant checkpointing drops the gradient of a block whose input needs none."""


@dataclass(frozen=True, kw_only=True)
class Offload:
    """Where DeepSpeed keeps something."""

    device: Literal["none", "cpu", "nvme"] = "none"
    """`none` leaves it on the GPUs."""


@dataclass(frozen=True, kw_only=True)
class ZeroOptimization:
    """Fields of DeepSpeed's `zero_optimization`."""

    stage: Literal[0, 1, 2, 3] = 0
    """What GPUs divide: 1 the optimizer state, 2 gradients too, 3 weights too; 0 nothing."""
    offload_optimizer: Offload | None = None
    """Where the optimizer state lies."""
    offload_param: Offload | None = None
    """Where the weights lie between their uses; stage 3 only."""

    def __post_init__(self) -> None:
        if self.offload_param is not None and self.stage != 3:
            raise ValueError("offload_param needs stage 3")
        if self.offload_optimizer is not None and self.stage == 0:
            raise ValueError("offload_optimizer needs a stage from 1 to 3")


@dataclass(frozen=True, kw_only=True)
class Training:
    """The fields of transformers' `TrainingArguments` that matter here, and some about the script around it."""

    framework: Framework | None = None
    """Whose loop and collator will run; what this file leaves out takes that framework's default."""
    framework_version: Text | None = None
    """Version of the framework; unset is the newest that vlcheck knows."""
    freeze: tuple[Freezable, ...] = ()
    """Parts that get no adapter, by the switches of llamafactory (`freeze_vision_tower`, ...), ms-swift (`freeze_vit`,
    ...) and unsloth (`finetune_vision_layers`, ...), and in a run without lora those that stay as they are; unset is
    the framework's default."""
    output_dir: Text = "trainer_output"
    """Where checkpoints and adapters go."""
    per_device_train_batch_size: Count = 8
    """Micro-batch: samples a GPU sees at once."""
    per_device_eval_batch_size: Count = 8
    """Samples a GPU sees at once in evaluation."""
    gradient_accumulation_steps: Count = 1
    """Micro-batches summed into one optimizer step."""
    num_train_epochs: Positive = 3.0
    """Passes over the training split."""
    max_steps: Annotated[int, Ge(-1), Le(10**9)] = -1
    """Optimizer steps; a positive number overrides num_train_epochs."""
    learning_rate: Annotated[float, Gt(0), Le(10)] = 5e-5
    """Peak learning rate."""
    lr_scheduler_type: Literal[
        "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
    ] = "linear"
    """Shape of the schedule."""
    warmup_steps: NonNegative = 0
    """Warm-up in optimizer steps, or a share of all steps when below 1."""
    optim: Literal[
        "adamw_torch",
        "adamw_torch_fused",
        "adamw_8bit",
        "adamw_bnb_8bit",
        "paged_adamw_8bit",
        "paged_adamw_32bit",
        "adafactor",
        "sgd",
    ] = "adamw_torch_fused"
    """Optimizer."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay."""
    adam_beta1: Share = 0.9
    """Decay of the first moment."""
    adam_beta2: Share = 0.999
    """Decay of the second moment."""
    adam_epsilon: Positive = 1e-8
    """Denominator's floor."""
    max_grad_norm: NonNegative = 1.0
    """Gradient norm that steps are clipped to."""
    bf16: bool = False
    """Mixed precision in bfloat16."""
    fp16: bool = False
    """Mixed precision in float16."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass."""
    gradient_checkpointing_kwargs: CheckpointingKwargs | None = None
    """Passed to torch's checkpoint; unset is non-reentrant in transformers 5."""
    gradient_checkpointing_share: Annotated[float, Gt(0), Le(1)] = 1.0
    """Share of the language model's layers, from the first on, that are checkpointed in vlcheck's own loop."""
    torch_compile: bool = False
    """Compile the layers that repeat, in vlcheck's own loop on a GPU, where the run is long enough to earn the time."""
    kbit_preparation: bool = False
    """Call peft's `prepare_model_for_kbit_training`, which turns every unquantised 16-bit tensor into fp32."""
    logits: Literal["supervised", "all", "chunked", "fused"] = "supervised"
    """Positions that logits are computed at; `all` is transformers' own loss, `chunked` never holds them all at once
    (TRL), `fused` computes the loss inside the head (Liger, cut-cross-entropy)."""
    logging_steps: Positive = 500
    """Log every so many optimizer steps."""
    eval_strategy: Literal["no", "steps", "epoch"] = "no"
    """When to evaluate on data.eval_split while the run trains."""
    eval_steps: Positive | None = None
    """Evaluate every so many optimizer steps, or a share of all steps when below 1; unset is logging_steps."""
    load_best_model_at_end: bool = False
    """Publish the adapter of the best evaluation in place of the last step's."""
    metric_for_best_model: Literal["eval_loss", "accuracy"] | None = None
    """What the best evaluation is told by; unset is eval_loss. For accuracy the model answers every row."""
    early_stopping_patience: Count | None = None
    """End the run after so many evaluations in a row that are no better than the best."""
    report_to: Tracker | tuple[Tracker, ...] | None = None
    """Trackers that get every step, beside metrics.jsonl: tensorboard, wandb."""
    run_name: Text | None = None
    """What pictures and trackers call the run; unset is the name of output_dir."""
    save_strategy: Literal["no", "steps", "epoch", "best"] = "steps"
    """When to write a checkpoint."""
    save_steps: Positive = 500
    """Write a checkpoint every so many optimizer steps."""
    save_total_limit: Count | None = None
    """Checkpoints kept."""
    dataloader_num_workers: Index = 0
    """Processes that decode images while the model trains; with 0 a thread does."""
    remove_unused_columns: bool = True
    """transformers' Trainer drops columns that the model's forward does not name; vlcheck's own loop drops none."""
    fsdp: Text | None = None
    """What FSDP shards, as TrainingArguments takes it: `full_shard`, `shard_grad_op`, `no_shard` or a hybrid of the
    first two, with `offload` or `auto_wrap` after it."""
    zero_optimization: ZeroOptimization | None = None
    """What DeepSpeed shards, as in its own config."""
    packing: bool = False
    """TRL's: several conversations in one row of max_length tokens."""
    padding_free: bool = False
    """TRL's: the rows of a micro-batch one after another, without padding."""
    activation_offloading: bool = False
    """TRL's: activations wait in main memory for the backward pass."""
    assistant_only_loss: bool = False
    """TRL's: the loss is of the assistant's turns; needs a template that marks them."""
    completion_only_loss: bool | None = None
    """TRL's: the loss is of `completion`; unset is on for rows of prompt and completion."""
    seed: Index = 42
    """Seed of every random number generator."""

    @property
    def reentrant(self) -> bool | None:
        """Kind of checkpointing that is asked for; None leaves it to transformers."""
        kwargs = self.gradient_checkpointing_kwargs
        return None if kwargs is None else kwargs.use_reentrant

    def __post_init__(self) -> None:
        if self.bf16 and self.fp16:
            raise ValueError("bf16 and fp16 exclude each other")
        if self.eval_strategy == "no" and (self.load_best_model_at_end or self.early_stopping_patience):
            asked = "load_best_model_at_end" if self.load_best_model_at_end else "early_stopping_patience"
            raise ValueError(f"{asked} needs evaluations; eval_strategy may be steps or epoch")
        if self.fsdp and self.zero_optimization is not None:
            raise ValueError("fsdp and zero_optimization exclude each other")
        if self.framework == "vlcheck" and self.logits in ("chunked", "fused"):
            raise ValueError(f"logits: {self.logits} is not vlcheck's own loop, which takes supervised or all")
