"""The runs that the memory projection is measured on.

Families are split before any constant is fitted: those under `calibration` may be looked at while the
projection is made, those under `held-out` may not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vlcheck.memory.shape import Shape
from vlcheck.spec import CheckpointingKwargs, Lora, ModelRef, Quantization, RunSpec, Training

SPLIT = {
    "google/gemma-4-31B-it": "calibration",
    "google/gemma-4-26B-A4B-it": "calibration",
    "google/gemma-4-E4B-it": "calibration",
    "Qwen/Qwen2.5-VL-7B-Instruct": "calibration",
    "google/gemma-3-4b-it": "held-out",
    "google/gemma-3-12b-it": "held-out",
    "Qwen/Qwen3-VL-8B-Instruct": "held-out",
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": "held-out",
    "llava-hf/llava-1.5-7b-hf": "held-out",
    "OpenGVLab/InternVL3-8B-hf": "held-out",
    "google/paligemma2-3b-pt-224": "held-out",
}
LANGUAGE = r".*language_model\..*(q|k|v|o|gate|up|down)_proj"


@dataclass(frozen=True)
class Run:
    """One measured run: what differs from QLoRA on all linear layers with checkpointing."""

    model: str
    rows: int = 1
    tokens: int = 512
    soft_tokens: int = 280
    quantised: bool = True
    rank: int = 64
    targets: Literal["all-linear", "language"] = "all-linear"
    checkpointing: bool = True
    logits: Literal["supervised", "all"] = "supervised"
    optim: str = "paged_adamw_8bit"
    bf16: bool = True
    """Autocast."""
    kbit: bool = False
    accumulation: int = 1
    dropout: float = 0.05
    steps: int = 3
    trace: bool = False
    int8: bool = False
    """LLM.int8 in place of NF4."""
    outliers: bool = True
    """LLM.int8 takes columns with outliers apart, as by default: what they hold depends on values."""
    reentrant: bool = False
    share: float = 1.0
    """Share of the layers that are checkpointed."""
    whole: bool = False
    """Every weight trains, in 16 bits."""

    @property
    def split(self) -> str:
        return "settings" if self.int8 or self.whole or self.share != 1 else SPLIT[self.model]

    @property
    def name(self) -> str:
        """Short, unique: the model, then what differs from the default."""
        short = self.model.split("/")[1]
        marks = [f"b{self.rows}", f"t{self.tokens}", f"s{self.soft_tokens}", f"r{self.rank}"]
        marks += ["bf16"] * (not self.quantised) + ["language"] * (self.targets == "language")
        marks += ["nock"] * (not self.checkpointing) + ["full"] * (self.logits == "all") + ["kbit"] * self.kbit
        marks += [self.optim] * (self.optim != "paged_adamw_8bit") + ["noamp"] * (not self.bf16)
        marks += ["int8"] * self.int8 + ["no outliers"] * (not self.outliers) + ["reentrant"] * self.reentrant
        marks += ["whole"] * self.whole + [f"share{self.share}"] * (self.share != 1)
        marks += [f"acc{self.accumulation}"] * (self.accumulation > 1) + [f"d{self.dropout}"] * (self.dropout != 0.05)
        return f"{short} {' '.join(marks)}"

    def model_key(self) -> tuple[object, ...]:
        """What the built model depends on."""
        settings = self.targets, self.kbit, self.dropout, self.int8, self.outliers, self.whole, self.share
        return self.model, self.quantised, self.rank, *settings

    def shape(self) -> Shape:
        return Shape(rows=self.rows, tokens=self.tokens, soft_tokens=self.soft_tokens)

    def spec(self) -> RunSpec:
        nf4 = Quantization(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                           bnb_4bit_compute_dtype="bfloat16")  # fmt: skip
        int8 = Quantization(load_in_8bit=True, llm_int8_threshold=6.0 if self.outliers else 0.0)
        return RunSpec(
            model=ModelRef(id=self.model),
            quantization=int8 if self.int8 else nf4 if self.quantised else None,
            lora=None if self.whole else Lora(
                r=self.rank, lora_alpha=self.rank, lora_dropout=self.dropout,
                target_modules="all-linear" if self.targets == "all-linear" else LANGUAGE,
                exclude_modules=".*audio.*",
            ),
            training=Training(
                per_device_train_batch_size=self.rows, gradient_accumulation_steps=self.accumulation,
                optim=self.optim, bf16=self.bf16, gradient_checkpointing=self.checkpointing, logits=self.logits,
                kbit_preparation=self.kbit, gradient_checkpointing_share=self.share,
                gradient_checkpointing_kwargs=CheckpointingKwargs(use_reentrant=self.reentrant),
            ),
        )  # fmt: skip


def _group(model: str, *variants: dict[str, object], **common: object) -> tuple[Run, ...]:
    return tuple(Run(model, **(common | variant)) for variant in variants)  # type: ignore[arg-type]


RUNS: tuple[Run, ...] = (
    # ---- calibration
    *_group(
        "google/gemma-4-31B-it",
        {"trace": True}, {"rows": 2}, {"rows": 4}, {"rows": 8}, {"logits": "all"}, {"rows": 2, "logits": "all"},
        {"accumulation": 2}, {"optim": "adamw_torch_fused"}, {"bf16": False}, {"rows": 16, "steps": 2},
        {"checkpointing": False, "steps": 2}, {"tokens": 1408, "soft_tokens": 1120}, {"tokens": 256, "soft_tokens": 70},
        {"rank": 16}, {"rank": 16, "targets": "language"}, {"rank": 128}, {"rank": 16, "kbit": True},
        {"quantised": False, "steps": 2},
    ),
    *_group(
        "google/gemma-4-E4B-it",
        {"rank": 16, "trace": True}, {"rank": 16, "rows": 4},
        {"rank": 16, "rows": 4, "checkpointing": False, "trace": True},
        {"rank": 16, "rows": 8, "logits": "all", "trace": True}, {"rank": 16, "optim": "adamw_torch", "trace": True},
        {"quantised": False, "rank": 32}, {"quantised": False, "rank": 32, "rows": 16},
    ),
    *_group(
        "Qwen/Qwen2.5-VL-7B-Instruct",
        {"trace": True}, {"rows": 4, "trace": True}, {"rows": 2, "checkpointing": False, "trace": True}, {"rows": 16},
        {"logits": "all", "rows": 4}, {"tokens": 1408, "soft_tokens": 1120}, {"rank": 8, "targets": "language"},
        {"quantised": False, "rank": 16, "rows": 4},
        {"rank": 16, "kbit": True},
        soft_tokens=256,
    ),
    *_group("google/gemma-4-26B-A4B-it", {"rank": 16, "trace": True}, {"rank": 16, "rows": 4}, {"rank": 16, "rows": 8},
            {}),
    # ---- held out
    *_group(
        "google/gemma-3-4b-it",
        {}, {"rows": 4}, {"rows": 2, "checkpointing": False}, {"rows": 4, "logits": "all"}, {"rows": 16},
        {"optim": "adamw_torch_fused"}, {"quantised": False, "rank": 16, "rows": 4}, {"rank": 16, "kbit": True},
        soft_tokens=256,
    ),
    *_group(
        "Qwen/Qwen3-VL-8B-Instruct",
        {}, {"rows": 4}, {"rows": 2, "checkpointing": False}, {"rows": 4, "logits": "all"}, {"rows": 16},
        {"tokens": 1408, "soft_tokens": 1120}, {"rank": 8, "targets": "language"}, {"accumulation": 2},
        {"quantised": False, "rank": 16, "rows": 2},
        soft_tokens=256,
    ),
    *_group(
        "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
        {"rank": 16}, {"rank": 16, "rows": 4}, {"rank": 16, "rows": 8, "checkpointing": False},
        {"rank": 16, "rows": 4, "logits": "all"}, {"rank": 128}, {"quantised": False, "rank": 16, "rows": 4},
        {"rank": 16, "tokens": 1408, "soft_tokens": 81 * 13},
        soft_tokens=81,
    ),
    *_group("llava-hf/llava-1.5-7b-hf", {"rank": 16}, {"rank": 16, "rows": 4}, {"rank": 16, "checkpointing": False},
            {"rank": 16, "rows": 4, "logits": "all"}, tokens=1024, soft_tokens=576),
    *_group("OpenGVLab/InternVL3-8B-hf", {"rank": 16}, {"rank": 16, "rows": 4}, soft_tokens=256),
    *_group("google/paligemma2-3b-pt-224", {"rank": 16}, {"rank": 16, "rows": 8}, soft_tokens=256),
)  # fmt: skip

SETTINGS: tuple[Run, ...] = (
    *_group(
        "Qwen/Qwen2.5-VL-7B-Instruct",
        {}, {"rows": 4, "tokens": 1024}, {"rows": 4, "tokens": 1024, "reentrant": True},
        {"rows": 4, "tokens": 1024, "checkpointing": False},
        soft_tokens=256, rank=16, int8=True,
    ),
    *_group(
        "Qwen/Qwen2.5-VL-7B-Instruct",
        {}, {"rows": 4, "tokens": 1024}, {"rows": 4, "tokens": 1024, "reentrant": True},
        {"rows": 4, "tokens": 1024, "checkpointing": False},
        soft_tokens=256, rank=16, int8=True, outliers=False,
    ),
    *_group(
        "google/gemma-4-E4B-it", {}, {"rows": 4, "tokens": 1024}, soft_tokens=280, rank=16, int8=True,
    ),
    *_group(
        "google/gemma-4-E4B-it", {}, {"rows": 4, "tokens": 1024}, soft_tokens=280, rank=16, int8=True, outliers=False,
    ),
    *_group("Qwen/Qwen2.5-VL-7B-Instruct", {"rows": 4, "tokens": 1024, "share": 0.5}, soft_tokens=256, rank=16),
    *_group("google/gemma-4-E4B-it", {"rows": 4, "tokens": 1024, "share": 0.5}, soft_tokens=280, rank=16),
    *_group(
        "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
        {"optim": "adamw_torch_fused"}, {"optim": "adamw_torch"}, {"optim": "adamw_8bit"}, {"optim": "adafactor"},
        {"optim": "sgd"}, {"optim": "adamw_torch_fused", "rows": 4, "tokens": 1024, "accumulation": 2},
        {"optim": "adamw_torch_fused", "rows": 4, "tokens": 1024, "checkpointing": False, "logits": "all"},
        soft_tokens=81, whole=True, quantised=False,
    ),
)  # fmt: skip
"""Runs with settings that none of `RUNS` has."""
