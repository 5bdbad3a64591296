"""Runs with rows of many lengths, and the local data sets that they train on."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tests.gpu.runs import Run
from tests.photos import photo, write_json_lines
from vlcheck.config.load import load
from vlcheck.evidence.resolve import Evidence
from vlcheck.processing.fallback import CORPUS
from vlcheck.spec import Data, Hardware, RunSpec

E4B, QWEN, BIG = "google/gemma-4-E4B-it", "Qwen/Qwen2.5-VL-7B-Instruct", "google/gemma-4-31B-it"
SIZES = ((448, 448), (640, 480), (896, 672), (1008, 756))
"""Pixels of pictures; Qwen spends 256 to 972 soft tokens on them, Gemma 4 at most 280."""
TINY_SHARE = 20
"""How much shorter rows are for a tiny model."""
WORDS = [word for line in CORPUS for word in line.split()]


@dataclass(frozen=True)
class RowsRun:
    """One run: QLoRA of rank 16 on all linear layers."""

    model: str
    rows: int
    longest: int
    """Tokens of the longest row; the shortest has 300."""
    micro: int = 1
    accumulation: int = 1
    logits: Literal["supervised", "all"] = "supervised"
    images: int = 4
    """Most images of a row; the fewest is one."""
    answer: int = 1000
    """Tokens of the longest answer; the shortest has 8."""
    optim: str = "adamw_8bit"
    checkpointing: bool = True
    processes: int = 1
    plain: bool = False
    """DDP as frameworks wrap a model, with frozen tensors in it."""
    steps: int = -1
    """Optimizer steps; by default two epochs."""

    @property
    def name(self) -> str:
        """Short, unique."""
        marks = [f"n{self.rows}", f"t{self.longest}", f"b{self.micro}"]
        marks += [f"acc{self.accumulation}"] * (self.accumulation > 1) + ["full"] * (self.logits == "all")
        marks += ["nock"] * (not self.checkpointing) + [self.optim] * (self.optim != "adamw_8bit")
        marks += [f"ddp{self.processes}"] * (self.processes > 1) + ["plain"] * self.plain
        return f"{self.model.split('/')[1]} {' '.join(marks)}"

    @property
    def framework(self) -> Literal["vlcheck", "transformers"]:
        """Whose DDP this is."""
        return "transformers" if self.plain else "vlcheck"

    def model_key(self) -> tuple[object, ...]:
        """What a built model depends on."""
        return self.model, self.checkpointing, self.plain

    def spec(self, folder: Path, *, tiny: bool = False) -> RunSpec:
        """The run over the rows of a folder; with the model of the recipe `tiny` on request."""
        base = Run(self.model, rows=self.micro, rank=16, accumulation=self.accumulation, logits=self.logits,
                   optim=self.optim, checkpointing=self.checkpointing).spec()  # fmt: skip
        if tiny:
            recipe = load(Path(__file__).parents[2] / "vlcheck" / "recipes" / "tiny.yaml")
            base = replace(base, model=replace(recipe.model, dtype="float32"), quantization=None)
            base = replace(base, training=replace(base.training, bf16=False))
        epochs = {"num_train_epochs": 2.0, "max_steps": self.steps, "framework": self.framework}
        budget = 70 if tiny else 280 if "gemma" in base.model.id else None
        return replace(
            base,
            model=replace(base.model, weights="random"),
            data=Data(path=str(folder), max_soft_tokens=budget),
            training=replace(base.training, output_dir="none", seed=7, **epochs),
            hardware=Hardware(count=self.processes),
        )


def _single(model: str, *variants: dict[str, Any]) -> tuple[RowsRun, ...]:
    return tuple(RowsRun(model, **variant) for variant in variants)


SINGLE: tuple[RowsRun, ...] = (
    *_single(
        E4B,
        {"rows": 8, "longest": 16_000},
        {"rows": 12, "longest": 8_000, "micro": 2},
        {"rows": 16, "longest": 2_000, "micro": 4, "optim": "adamw_torch_fused"},
        {"rows": 8, "longest": 4_000, "logits": "all"},
        {"rows": 12, "longest": 3_000, "micro": 2, "accumulation": 2, "logits": "all"},
    ),
    *_single(
        QWEN,
        {"rows": 8, "longest": 16_000},
        {"rows": 8, "longest": 12_000, "logits": "all"},
        {"rows": 12, "longest": 6_000, "micro": 2, "logits": "all"},
        {"rows": 16, "longest": 5_000, "micro": 4, "optim": "adamw_torch_fused"},
        {"rows": 12, "longest": 8_000, "micro": 2, "accumulation": 2},
    ),
)
DDP: tuple[RowsRun, ...] = (
    *(RowsRun(model, rows=12, longest=2_500, images=2, answer=200, micro=micro, processes=2, steps=4, plain=plain)
      for model, plain in ((E4B, False), (E4B, True), (QWEN, False), (QWEN, True), (BIG, False))
      for micro in ((1, 2) if not plain else (1,))),
)  # fmt: skip


def write_rows(run: RowsRun, folder: Path, *, tiny: bool = False) -> Path:
    """Rows of a run, of seeded lengths, as `messages` and pictures: the longest first, the shortest last."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Evidence(run.spec(folder, tiny=tiny), {}, offline=True).get("processor").processor.tokenizer
    dice, share = random.Random(run.name), TINY_SHARE if tiny else 1
    longest, shortest = run.longest // share, 300 // share
    entries, count = [], min(run.rows, 4) if tiny else run.rows
    for number in range(count):
        level = 1 - number / (count - 1)
        tokens = round(shortest * (longest / shortest) ** level)
        images = (
            [dice.choice(SIZES) for _ in range(dice.randint(1, run.images))] if tokens > 1_500 // share else SIZES[:1]
        )
        files = [f"{number}-{place}.jpg" for place in range(len(images))]
        for file, size in zip(files, images, strict=True):
            photo(number, size).save(folder / file)
        answer = min(round(8 * (run.answer / 8) ** dice.random()), max(8, tokens // 3))
        soft = (
            sum(width * height // 784 for width, height in images) if run.model == QWEN else 280 // share * len(images)
        )
        entries.append({
            "messages": [
                {"role": "user", "content": "<image>" * len(images) + _text(tokenizer, tokens - soft - answer, dice)},
                {"role": "assistant", "content": _text(tokenizer, answer, dice)},
            ],
            "images": files,
        })  # fmt: skip
    write_json_lines(folder / "train.jsonl", entries)
    return folder


def _text(tokenizer: Any, tokens: int, dice: random.Random) -> str:
    """About so many tokens of ordinary words, at least one."""
    words = " ".join(dice.choices(WORDS, k=max(1, tokens)))
    offsets = tokenizer(words, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return words[: offsets[min(max(1, tokens), len(offsets)) - 1][1]].strip() or "cat"
