"""One description of a fine-tuning run, whatever file it was written in.

Every config dialect becomes the same frozen `RunSpec`. Section and field names are the ones users
already type: `lora` has the fields of peft's `LoraConfig`, `quantization` those of transformers'
`BitsAndBytesConfig`, `training` those of `TrainingArguments`, with the same defaults.

The `Annotated` bounds are read by the dialects, which check what a user wrote before it gets here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, Len, Lt

# --------------------------------------------------------------------------- where a value was written


@dataclass(frozen=True, order=True)
class Location:
    """A place in a config file; `key` is the dotted path, lines and columns count from 1."""

    file: str
    line: int = 1
    column: int = 1
    key: str = ""
    default: str = ""
    """Whose default this value is, where nobody wrote it: the place is then the section's."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}{self.default and f' ({self.default})'}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a config, at one place."""

    where: Location
    message: str

    def __str__(self) -> str:
        return f"{self.where.file}:{self.where.line}:{self.where.column}: {self.message}"


class ConfigError(Exception):
    """The run's description cannot be used; holds every problem found, not just the first."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


# --------------------------------------------------------------------------- field types

Text: TypeAlias = Annotated[str, Len(1, 2000)]
Names: TypeAlias = tuple[Text, ...]
Count: TypeAlias = Annotated[int, Ge(1), Le(10**9)]
Index: TypeAlias = Annotated[int, Ge(0), Le(10**9)]
Function: TypeAlias = Annotated[str, Len(3, 200)]
Positive: TypeAlias = Annotated[float, Gt(0)]
NonNegative: TypeAlias = Annotated[float, Ge(0)]
Share: TypeAlias = Annotated[float, Ge(0), Lt(1)]
DType: TypeAlias = Literal["bfloat16", "float16", "float32"]
Choice: TypeAlias = Literal["train", "freeze"]
Modality: TypeAlias = Literal["image", "text", "audio", "video"]
Framework: TypeAlias = Literal[
    "vlcheck", "trl", "transformers", "axolotl", "llamafactory", "ms-swift", "unsloth", "other"
]
Attention: TypeAlias = Literal[
    "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention"
]


def _check_function(name: str, path: str | None) -> None:
    if path is not None:
        module, colon, function = path.partition(":")
        dotted = all(part.isidentifier() for part in module.split("."))
        if not (colon and dotted and function.isidentifier()):
            raise ValueError(f"{name} must have the form package.module:function")


# --------------------------------------------------------------------------- sections


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """The model to fine-tune, and how it is loaded."""

    id: Text
    """Hub id (`google/gemma-4-31B-it`) or a local folder that holds `config.json`."""
    revision: Text | None = None
    """Branch, tag or commit on the Hub."""
    dtype: DType = "bfloat16"
    """Storage type of everything that is not quantised."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """`random` draws the weights from training.seed: a run that downloads nothing and teaches nothing but the loop."""
    attn_implementation: Attention | None = None
    """Passed to `from_pretrained`; unset lets each submodel choose."""
    patch: Function | None = None
    """`package.module:function`, your monkeypatch; runs before PEFT, and only with --allow-code."""

    def __post_init__(self) -> None:
        _check_function("patch", self.patch)


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
class Data:
    """Where the samples come from and what they hold."""

    dataset: Text | None = None
    """Hub id of a dataset."""
    path: Text | None = None
    """Local folder or JSONL file, relative to the config file."""
    generated: Literal["shapes"] | None = None
    """Pictures drawn on the spot, for runs that need no data: `shapes` shows one shape in one of six colours."""
    train_split: Text = "train"
    """Split to train on."""
    eval_split: Text | None = None
    """Split to evaluate on."""
    train_samples: Count | None = None
    """Use at most this many samples of the training split."""
    eval_samples: Count | None = None
    """Use at most this many samples of the evaluation split."""
    image_column: Text = "image"
    """Column that holds the image."""
    answer_column: Text = "label"
    """Column that holds the answer."""
    split_column: Text = "split"
    """Column of a local file that names each row's split; rows without it are for training."""
    instruction: Annotated[str, Len(1, 20_000)] | None = None
    """The user's turn, beside the image."""
    modalities: Annotated[tuple[Modality, ...], Len(1, 4)] = ("image", "text")
    """What a sample can hold; adapters of towers that no sample reaches are reported."""
    max_soft_tokens: Count | None = None
    """Upper bound of an image's soft tokens; unset is the processor's default."""
    max_length: Count | None = None
    """Longest row in tokens, after image expansion; unset means no limit."""
    overflow: Literal["error", "drop"] = "error"
    """What becomes of a row longer than max_length: the run stops, or leaves it out and counts it."""
    max_unreadable: Share = 0.01
    """Share of training rows that may be unreadable; the run leaves them out, lists them, and stops beyond it."""
    collator: Function | None = None
    """`package.module:function`, your own collator, or what makes one of a processor; runs only with --allow-code."""

    def __post_init__(self) -> None:
        _check_function("collator", self.collator)
        if sum(source is not None for source in (self.dataset, self.path, self.generated)) > 1:
            raise ValueError("dataset, path and generated exclude each other")


@dataclass(frozen=True, kw_only=True)
class CheckpointingKwargs:
    """Keyword arguments of torch's `checkpoint`."""

    use_reentrant: bool | None = None
    """Reentrant checkpointing drops the gradient of a block whose input needs none."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """The fields of transformers' `TrainingArguments` that matter here, and some about the script around it."""

    framework: Framework | None = None
    """Whose loop and collator will run; what this file leaves out takes that framework's default."""
    framework_version: Text | None = None
    """Version of the framework; unset is the newest that vlcheck knows."""
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
    kbit_preparation: bool = False
    """Call peft's `prepare_model_for_kbit_training`, which turns every unquantised 16-bit tensor into fp32."""
    logits: Literal["supervised", "all", "chunked", "fused"] = "supervised"
    """Positions that logits are computed at; `all` is transformers' own loss, `chunked` never holds them all at once
    (TRL), `fused` computes the loss inside the head (Liger, cut-cross-entropy)."""
    logging_steps: Positive = 500
    """Log every so many optimizer steps."""
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
    """Shard parameters, gradients and optimizer state, for example `full_shard auto_wrap`."""
    seed: Index = 42
    """Seed of every random number generator."""

    def __post_init__(self) -> None:
        if self.bf16 and self.fp16:
            raise ValueError("bf16 and fp16 exclude each other")
        if self.framework == "vlcheck" and self.logits in ("chunked", "fused"):
            raise ValueError(f"logits: {self.logits} is not vlcheck's own loop, which takes supervised or all")


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What the run trains on."""

    gpu: Text | None = None
    """GPU by name, for example rtx-pro-6000."""
    memory_gib: Annotated[float, Gt(0), Le(4096)] | None = None
    """Memory of one GPU in GiB, as its driver reports it: for a card that has no name here, or a part of one."""
    count: Annotated[int, Ge(1), Le(4096)] = 1
    """GPUs."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The job that runs it."""

    platform: Literal["cloud-run", "modal", "runpod", "local"] = "local"
    """Where the job runs."""
    region: Text | None = None
    """Region of the platform."""
    cpu: Count | None = None
    """Virtual CPUs of the job."""
    memory_gib: Positive | None = None
    """Memory of the job in GiB."""
    timeout_seconds: Count | None = None
    """Longest run of one attempt; unset is the platform's default."""
    max_retries: Index | None = None
    """Attempts after the first."""


@dataclass(frozen=True, kw_only=True)
class Intent:
    """What you mean to train, by part; a part left out is reported but not judged."""

    vision: Choice | None = None
    """Vision tower."""
    projector: Choice | None = None
    """What maps image features into the language model."""
    language: Choice | None = None
    """Language model."""
    audio: Choice | None = None
    """Audio tower and its projection."""
    experts: Choice | None = None
    """Experts of a mixture-of-experts model."""
    router: Choice | None = None
    """The experts' router."""
    answers: Literal["all", "last"] = "all"
    """Which answers of a conversation are trained; `last` for a run that trains the last one on purpose."""


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """A run as the rest of vlcheck sees it.

    `sources` maps dotted paths (`lora.target_modules`, `lora.target_modules.0`) to the place that set
    them; a path that is missing was left to its default. A value that a framework's default filled is there too: its
    place is the section's, and `Location.default` says whose default it is.
    """

    model: ModelRef
    lora: Lora
    quantization: Quantization | None = None
    data: Data = Data()
    training: Training = Training()
    hardware: Hardware = Hardware()
    launch: Launch = Launch()
    intent: Intent = Intent()
    sources: Mapping[str, Location] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    def where(self, path: str) -> Location:
        """The place that set `path`; for a default, the nearest section that could have set it."""
        parts = path.split(".")
        for length in range(len(parts), -1, -1):
            found = self.sources.get(".".join(parts[:length]))
            if found is not None:
                return Location(found.file, found.line, found.column, path, found.default)
        return Location("<python>", 1, 1, path)
