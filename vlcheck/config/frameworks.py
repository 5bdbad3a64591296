"""What each framework does when it is told nothing: one row a framework and version, each value with its place.

A place is a file of the framework's own release and the line. Values that a run's description can hold stand in
`defaults` under their dotted path; `vlcheck.config.defaults` fills them in where a config says nothing. To add a
version, add a row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from vlcheck.spec import CheckpointingKwargs, Quantization
from vlcheck.spec import Framework as Name

T = TypeVar("T")
Supervision: TypeAlias = Literal["answers", "all", "all but images", "none"]
"""What a framework's own collator for images gives a label: the answers with their end tokens; every id that is not
padding; those but the images' placeholders; or it has no such collator."""
TooLong: TypeAlias = Literal["cut", "dropped", "kept"]
"""What becomes of a row with images that is longer than the limit."""
Part: TypeAlias = Literal["vision", "projector", "language"]


@dataclass(frozen=True)
class Fact(Generic[T]):
    """A value, and where the framework says so."""

    value: T
    source: str


@dataclass(frozen=True, kw_only=True)
class Framework:
    """One framework at one version."""

    name: Name
    version: str
    package: str
    """Name of its distribution."""
    collator: Fact[str]
    """The collator of a run with images, by its import path; empty where the user brings one."""
    supervises: Fact[Supervision]
    too_long: Fact[TooLong]
    columns: Fact[tuple[str, ...]]
    """Columns that it reads of a row with images."""
    freezes: Fact[tuple[Part, ...]]
    """Parts that get no adapter unless it is told otherwise."""
    defaults: Mapping[str, Fact[Any]] = field(default_factory=dict)
    """Dotted path of a run's description to the value, or to a function that makes it of the run so far."""
    depends: Mapping[str, Fact[str]] = field(default_factory=dict)
    """Dotted path to a default that the description alone does not settle, in words: it is told, not filled in."""

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


def _reentrant(value: bool) -> CheckpointingKwargs:
    return CheckpointingKwargs(use_reentrant=value)


_TRAINER = "transformers/training_args.py"
_SFT = "trl/trainer/sft_config.py"
_AXOLOTL = "axolotl/utils/schemas/training.py"
_LLAMA = "llamafactory/hparams"
_SWIFT = "swift/trainers/arguments.py"
_UNSLOTH = "unsloth/models/rl.py"
_ZOO = "unsloth_zoo-2026.10.9: unsloth_zoo/vision_utils.py"

_ARGUMENTS: Mapping[str, Fact[Any]] = {
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
    "training.gradient_checkpointing_kwargs": Fact(_reentrant(False), "transformers/modeling_utils.py:3149"),
    "training.logging_steps": Fact(500, f"{_TRAINER}:1001"),
    "training.save_steps": Fact(500, f"{_TRAINER}:1183"),
    "training.seed": Fact(42, f"{_TRAINER}:1293"),
    "training.remove_unused_columns": Fact(True, f"{_TRAINER}:1373"),
}
"""transformers' `TrainingArguments`, on which the others stand."""

_HEAD: Mapping[str, Fact[Any]] = {"training.logits": Fact("all", "transformers/loss/loss_utils.py:61")}
"""transformers' own loss: logits at every position, turned into fp32 as a whole."""


def _packed(place: str, **more: Fact[Any]) -> dict[str, Fact[Any]]:
    """4-bit settings of the three frameworks that choose nf4 with double quantisation by themselves."""
    return {
        "quantization.bnb_4bit_quant_type": Fact("nf4", place),
        "quantization.bnb_4bit_use_double_quant": Fact(True, place),
        **{f"quantization.{key}": value for key, value in more.items()},
    }


TRANSFORMERS = Framework(
    name="transformers",
    version="5.23",
    package="transformers",
    collator=Fact("", "transformers/trainer.py:566: its own pads tensors, and none of them makes labels of a chat"),
    supervises=Fact("none", "transformers/trainer.py:566"),
    too_long=Fact("kept", "transformers/trainer.py: no limit"),
    columns=Fact((), "transformers/trainer.py: those that the model's forward names"),
    freezes=Fact((), "peft decides"),
    defaults={**_ARGUMENTS, **_HEAD},
)

TRL = Framework(
    name="trl",
    version="1.16",
    package="trl",
    collator=Fact("trl.trainer.sft_trainer:DataCollatorForVisionLanguageModeling", "trl/trainer/sft_trainer.py:982"),
    supervises=Fact("all", "trl/trainer/sft_trainer.py:412, sft_config.py:273"),
    too_long=Fact("cut", "trl/trainer/sft_trainer.py:381; a cut image stops the run, :1631"),
    columns=Fact(("messages", "prompt", "completion", "image", "images"), "trl/trainer/sft_trainer.py:1494"),
    freezes=Fact((), "peft decides"),
    defaults={
        **_ARGUMENTS,
        "data.max_length": Fact(1024, f"{_SFT}:202"),
        "training.learning_rate": Fact(2e-5, f"{_SFT}:140"),
        "training.bf16": Fact(True, "trl/trainer/base_config.py:108"),
        "training.gradient_checkpointing": Fact(True, "trl/trainer/base_config.py:62"),
        "training.logging_steps": Fact(10, "trl/trainer/base_config.py:55"),
        "training.logits": Fact("chunked", "trl/trainer/sft_trainer.py:1144,1611, trl/kernels/chunked_logprob.py:31"),
    },
    depends={
        "model.dtype": Fact(
            "float32 where the model is given by name, as `trl sft` does, and the checkpoint's own where a script "
            "loads it",
            "trl/trainer/utils.py:1332, trl/trainer/model_config.py:89, trl/trainer/sft_trainer.py:544",
        )
    },
)

AXOLOTL = Framework(
    name="axolotl",
    version="0.19",
    package="axolotl",
    collator=Fact("axolotl.utils.collators.mm_chat:MultiModalChatDataCollator", "axolotl/utils/collators/mm_chat.py"),
    supervises=Fact("answers", "axolotl/processing_strategies.py:338-390, train_on_inputs and train_on_eos unset"),
    too_long=Fact("kept", "axolotl/utils/collators/mm_chat.py: sequence_len is not applied to rows with images"),
    columns=Fact(("messages", "conversations", "image", "images"), "axolotl/processing_strategies.py:176-260"),
    freezes=Fact((), "axolotl/utils/schemas/config.py:649"),
    defaults={
        **{path: fact for path, fact in _ARGUMENTS.items() if path != "training.gradient_checkpointing_kwargs"},
        **_HEAD,
        **_packed(
            "axolotl/loaders/model.py:801-810",
            bnb_4bit_compute_dtype=Fact("bfloat16", "axolotl/loaders/model.py:806"),
            bnb_4bit_quant_storage=Fact("bfloat16", "axolotl/loaders/model.py:809"),
        ),
        "model.dtype": Fact("bfloat16", "axolotl/utils/config/__init__.py:198, where the card has bf16"),
        "training.bf16": Fact(True, "axolotl/utils/schemas/config.py:561, where the card has bf16"),
        "training.per_device_train_batch_size": Fact(1, f"{_AXOLOTL}:77"),
        "training.gradient_accumulation_steps": Fact(1, f"{_AXOLOTL}:71"),
        "training.optim": Fact("adamw_torch_fused", f"{_AXOLOTL}:122"),
        "training.lr_scheduler_type": Fact("cosine", f"{_AXOLOTL}:144"),
        "training.num_train_epochs": Fact(1.0, f"{_AXOLOTL}:267"),
        "training.gradient_checkpointing": Fact(False, "axolotl/utils/schemas/config.py:606"),
    },
    depends={
        "training.gradient_checkpointing_kwargs": Fact(
            "{use_reentrant: true}, and false for Gemma 4", "axolotl/utils/config/__init__.py:401,408"
        )
    },
)

LLAMA_FACTORY = Framework(
    name="llamafactory",
    version="0.9.5",
    package="llamafactory",
    collator=Fact(
        "llamafactory.data.collator:SFTDataCollatorWith4DAttentionMask", "llamafactory/data/processor/supervised.py"
    ),
    supervises=Fact("answers", "llamafactory/data/processor/supervised.py:80-97, hparams/data_args.py:50"),
    too_long=Fact("cut", "llamafactory/data/processor/supervised.py:71-76"),
    columns=Fact(("conversations", "images"), "llamafactory/data/parser.py:43,56"),
    freezes=Fact(("vision", "projector"), f"{_LLAMA}/finetuning_args.py:527,531"),
    defaults={
        **_ARGUMENTS,
        **_HEAD,
        **_packed(
            f"{_LLAMA}/model_args.py:287,291",
            bnb_4bit_compute_dtype=Fact(lambda spec: spec.model.dtype, "llamafactory/model/patcher.py:325"),
            bnb_4bit_quant_storage=Fact(
                lambda spec: spec.model.dtype, "llamafactory/model/model_utils/quantization.py:178"
            ),
        ),
        "lora.r": Fact(8, f"{_LLAMA}/finetuning_args.py:77"),
        "lora.lora_alpha": Fact(lambda spec: 2.0 * spec.lora.r, f"{_LLAMA}/finetuning_args.py:568"),
        "lora.lora_dropout": Fact(0.0, f"{_LLAMA}/finetuning_args.py:73"),
        "data.max_length": Fact(2048, f"{_LLAMA}/data_args.py:46"),
        "training.gradient_checkpointing": Fact(True, f"{_LLAMA}/model_args.py:116"),
        "training.gradient_checkpointing_kwargs": Fact(_reentrant(True), f"{_LLAMA}/model_args.py:120"),
        "training.remove_unused_columns": Fact(False, f"{_LLAMA}/parser.py:459"),
    },
)

MS_SWIFT = Framework(
    name="ms-swift",
    version="4.6",
    package="ms-swift",
    collator=Fact("swift.template.base:Template.data_collator", "swift/template/base.py"),
    supervises=Fact("answers", "swift/template/base.py:1214-1255, loss_scale/base.py: default"),
    too_long=Fact("dropped", "swift/arguments/base_args/template_args.py:132, the model's own limit"),
    columns=Fact(("messages", "query", "response", "image", "images"), "swift/dataset/preprocessor/core.py:24,68"),
    freezes=Fact(("vision", "projector"), "swift/arguments/tuner_args.py:123-124"),
    defaults={
        **_ARGUMENTS,
        **_packed(
            "swift/arguments/base_args/quant_args.py",
            bnb_4bit_compute_dtype=Fact(lambda spec: spec.model.dtype, "swift/arguments/base_args/quant_args.py"),
        ),
        "lora.r": Fact(8, "swift/arguments/tuner_args.py:133"),
        "lora.lora_alpha": Fact(32.0, "swift/arguments/tuner_args.py:134"),
        "lora.lora_dropout": Fact(0.05, "swift/arguments/tuner_args.py:135"),
        "lora.target_modules": Fact("all-linear", "swift/arguments/tuner_args.py:126"),
        "training.bf16": Fact(
            lambda spec: spec.model.dtype == "bfloat16", "swift/arguments/base_args/model_args.py:136"
        ),
        "training.per_device_train_batch_size": Fact(1, f"{_SWIFT}:130"),
        "training.gradient_accumulation_steps": Fact(
            lambda spec: max(1, math.ceil(16 / spec.training.per_device_train_batch_size / spec.hardware.count)),
            f"{_SWIFT}:291",
        ),
        "training.gradient_checkpointing": Fact(True, f"{_SWIFT}:135"),
        "training.gradient_checkpointing_kwargs": Fact(
            lambda spec: _reentrant(spec.hardware.count == 1 or bool(spec.training.fsdp)),
            "swift/trainers/mixin.py:949-953",
        ),
        "training.learning_rate": Fact(1e-4, "swift/arguments/sft_args.py:249"),
        "training.weight_decay": Fact(0.1, f"{_SWIFT}:146"),
        "training.adam_beta2": Fact(0.95, f"{_SWIFT}:147"),
        "training.lr_scheduler_type": Fact("cosine", f"{_SWIFT}:148"),
        "training.logging_steps": Fact(5, f"{_SWIFT}:139"),
        "training.logits": Fact("supervised", "swift/trainers/seq2seq_trainer.py:110, mixin.py:213-225"),
        "training.remove_unused_columns": Fact(False, "swift/arguments/sft_args.py:231"),
    },
)

UNSLOTH = Framework(
    name="unsloth",
    version="2026.10.9",
    package="unsloth",
    collator=Fact("unsloth_zoo.vision_utils:UnslothVisionDataCollator", f"{_ZOO}:1807"),
    supervises=Fact("all but images", f"{_ZOO}:2107-2114,1383-1405; train_on_responses_only unset, :1830"),
    too_long=Fact("cut", f"{_ZOO}:2077"),
    columns=Fact(("messages", "prompt", "completion", "images"), _ZOO),
    freezes=Fact((), "unsloth/models/vision.py:4917"),
    defaults={
        **_ARGUMENTS,
        "quantization": Fact(
            Quantization(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype="bfloat16",
            ),
            "unsloth/models/loader.py:1245: told nothing, it loads in 4 bits",
        ),
        **_packed(
            "unsloth/models/loader.py:2020",
            bnb_4bit_compute_dtype=Fact(lambda spec: spec.model.dtype, "unsloth/models/loader.py:2020"),
        ),
        "lora.r": Fact(16, "unsloth/models/vision.py:4912"),
        "lora.lora_alpha": Fact(16.0, "unsloth/models/vision.py:4914"),
        "lora.lora_dropout": Fact(0.0, "unsloth/models/vision.py:4915"),
        "data.max_length": Fact(2048, f"unsloth/models/loader.py:1243, {_ZOO}:1951"),
        "training.bf16": Fact(lambda spec: spec.model.dtype == "bfloat16", f"{_UNSLOTH}: follows the model's dtype"),
        "training.per_device_train_batch_size": Fact(4, f"{_UNSLOTH}:3313"),
        "training.gradient_accumulation_steps": Fact(2, f"{_UNSLOTH}:3314"),
        "training.weight_decay": Fact(0.001, f"{_UNSLOTH}:3316"),
        "training.seed": Fact(3407, f"{_UNSLOTH}:3317"),
        "training.optim": Fact("adamw_8bit", f"{_UNSLOTH}:3318"),
        "training.learning_rate": Fact(5e-5, f"{_UNSLOTH}:3319"),
        "training.logging_steps": Fact(1, f"{_UNSLOTH}:3323"),
        "training.warmup_steps": Fact(0.1, f"{_UNSLOTH}:3337"),
        "training.gradient_checkpointing": Fact(True, "unsloth/models/loader.py:1256"),
        "training.gradient_checkpointing_kwargs": Fact(
            lambda spec: _reentrant(spec.hardware.count == 1 or bool(spec.training.fsdp)),
            f"{_UNSLOTH}:3654-3666, loader_utils.py:335",
        ),
        "training.logits": Fact("fused", f"{_UNSLOTH}:3374, models/_utils.py:6504"),
    },
)

FRAMEWORKS: tuple[Framework, ...] = (TRANSFORMERS, TRL, AXOLOTL, LLAMA_FACTORY, MS_SWIFT, UNSLOTH)
"""The rows; of one framework the newest version first."""
