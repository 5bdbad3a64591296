"""One description of a fine-tuning run, whatever file it was written in.

Every config dialect becomes the same frozen `RunSpec`. Section and field names are the ones users
already type: `lora` has the fields of peft's `LoraConfig`, `quantization` those of transformers'
`BitsAndBytesConfig`, `training` those of `TrainingArguments`, with the same defaults.

The `Annotated` bounds are read by the dialects, which check what a user wrote before it gets here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Len

from vlcheck.library_settings import (
    SWITCHES,
    Attention,
    AttentionByPart,
    CheckpointingKwargs,
    Choice,
    Count,
    DType,
    Framework,
    Function,
    Index,
    Lora,
    Modality,
    Names,
    Offload,
    Platform,
    Positive,
    Quantization,
    Share,
    Text,
    Training,
    ZeroOptimization,
    check_function,
)
from vlcheck.origin import Concern, ConfigError, Generation, Ignore, Location, Origin, Outdated, Problem, Unread

__all__ = [
    "AttentionByPart", "CheckpointingKwargs", "Concern", "ConfigError", "Data", "Framework", "Gate", "Generation",
    "Hardware", "Ignore", "Intent", "Launch", "Location", "Lora", "ModelRef", "Offload", "Origin", "Outdated",
    "Problem", "Quantization", "RunSpec", "Source", "Training", "Unread", "ZeroOptimization",
]  # fmt: skip


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
    attn_implementation: Attention | AttentionByPart | None = None
    """Passed to `from_pretrained`: one for all submodels or one a part; unset lets each submodel choose."""
    patch: Function | None = None
    """`package.module:function`, your monkeypatch; runs before PEFT, and only with --allow-code."""

    @property
    def attention(self) -> str | dict[str, str] | None:
        """`attn_implementation` as transformers takes it."""
        asked = self.attn_implementation
        return {k: v for k, v in vars(asked).items() if v} if isinstance(asked, AttentionByPart) else asked

    def __post_init__(self) -> None:
        check_function("patch", self.patch)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A further data set of a run."""

    dataset: Text | None = None
    """Hub id of a dataset."""
    path: Text | None = None
    """Local folder or JSONL file, relative to the config file."""
    split: Text = "train"
    """Split to train on."""
    samples: Count | None = None
    """Use at most this many samples of the split."""

    def __post_init__(self) -> None:
        if (self.dataset is None) == (self.path is None):
            raise ValueError("a further data set is a dataset or a path, one of the two")


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
    more: Annotated[tuple[Source, ...], Len(0, 100)] = ()
    """Further data sets; their rows are trained behind those of the first, which the keys above describe."""
    collator: Function | None = None
    """`package.module:function`, your own collator, or what makes one of a processor; or `script.py:function`, that of
    a training script, with what it needs of it. Runs only with --allow-code."""

    def __post_init__(self) -> None:
        check_function("collator", self.collator, scripts=True)
        if sum(source is not None for source in (self.dataset, self.path, self.generated)) > 1:
            raise ValueError("dataset, path and generated exclude each other")
        if self.more and self.dataset is None and self.path is None:
            raise ValueError("more names further data sets; the first is a dataset or a path")


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What the run trains on."""

    gpu: Text | None = None
    """GPU by name, for example rtx-pro-6000."""
    memory_gib: Annotated[float, Gt(0), Le(4096)] | None = None
    """Memory of one GPU in GiB, as its driver reports it: for a card that has no name here, or a part of one."""
    count: Annotated[int, Ge(1), Le(4096)] = 1
    """GPUs."""
    price_per_hour: Positive | None = None
    """What the machine costs an hour, in any currency; the summary of a run then says what the run has cost."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The job that runs it."""

    platform: Platform = "local"
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
    grace_seconds: Count | None = None
    """Between SIGTERM and the end of the job."""
    tasks: Count | None = None
    """Copies of the job that one launch starts."""
    image: Text | None = None
    """Container image."""
    mounts: Names | None = None
    """Folders of the container that outlive it: a bucket, a volume."""


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
class Gate:
    """What the trained adapter must reach on the evaluation split, where `pytest --vlcheck -m gpu` trains the run."""

    metric: Literal["accuracy", "macro_f1"] = "accuracy"
    """Score of the evaluation."""
    at_least: Share
    """Least score that passes."""
    rows: Count | None = None
    """Evaluate this many rows, every label in turn; unset is the whole split."""


def objections(
    lora: Lora | None, quantization: Quantization | None, training: Training
) -> Iterator[tuple[tuple[str, ...], str]]:
    """What sections of a run have against each other: the path of the key to blame, and why."""
    if lora is None and quantization is not None:
        yield ("quantization",), "quantised weights cannot be trained, and without lora every weight is; add lora"
    if lora is not None and training.freeze and training.framework not in SWITCHES:
        allowed = f"freeze is a switch of {', '.join(SWITCHES)}, and of runs without lora"
        yield ("training", "freeze"), f"{allowed}; elsewhere lora.exclude_modules leaves parts out"


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """A run as the rest of vlcheck sees it.

    `sources` maps dotted paths (`lora.target_modules`, `lora.target_modules.0`) to the place that set
    them; a path that is missing was left to its default. A value that a framework's default filled is there too: its
    place is the section's, and `Location.default` says whose default it is. In a run that was read from another tool's
    file, a place's key is that file's own.
    """

    model: ModelRef
    lora: Lora | None = None
    """None where every weight is trained that `training.freeze` does not name."""
    quantization: Quantization | None = None
    data: Data = Data()
    training: Training = Training()  # noqa: RUF009  frozen too, in a file that ruff does not look into
    hardware: Hardware = Hardware()
    launch: Launch = Launch()
    intent: Intent = Intent()
    gate: Gate | None = None
    sources: Mapping[str, Location] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    origin: Origin | None = field(default=None, compare=False)
    """None for a run that was described in vlcheck's own words."""
    ignores: tuple[Ignore, ...] = field(default=(), compare=False)
    """What the config's comments ignore."""

    def __post_init__(self) -> None:
        for _, objection in objections(self.lora, self.quantization, self.training):
            raise ValueError(objection)

    @property
    def own_loop(self) -> bool:
        """Whether vlcheck's own loop would run: the run names it, or no framework at all."""
        return self.training.framework in (None, "vlcheck")

    def where(self, path: str) -> Location:
        """The place that set `path`; for a default, the nearest section that could have set it."""
        parts = path.split(".")
        for length in range(len(parts), -1, -1):
            above = ".".join(parts[:length])
            found = self.sources.get(above)
            if found is not None:
                key = path if found.key == above else found.key
                return Location(found.file, found.line, found.column, key, found.default)
        return Location("<python>", 1, 1, path)
