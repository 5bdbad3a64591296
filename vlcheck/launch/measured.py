"""Micro-batches that were measured: medians of `fixtures/measured/2026-11-24-h100.jsonl`, the first step left out."""

from __future__ import annotations

from dataclasses import dataclass

NEAR = 1.25
"""Factor by which a row may be longer or shorter than a measured one."""
MEASURED_BAND = 1.35
"""Factor between the same micro-batch measured twice on one day: 2.0 to 2.7 s of the 31B."""


@dataclass(frozen=True)
class MeasuredStep:
    """Seconds of one micro-batch of NF4 and LoRA on all linear layers, with checkpointing."""

    model: str
    gpu: str
    rows: int
    tokens: int
    seconds: float


STEPS = (
    MeasuredStep("google/gemma-4-31B-it", "h100", 1, 256, 2.13),
    MeasuredStep("google/gemma-4-31B-it", "h100", 1, 512, 2.66),
    MeasuredStep("google/gemma-4-31B-it", "h100", 1, 1408, 2.47),
    MeasuredStep("google/gemma-4-31B-it", "h100", 2, 512, 2.51),
    MeasuredStep("google/gemma-4-31B-it", "h100", 4, 512, 2.53),
    MeasuredStep("google/gemma-4-31B-it", "h100", 8, 512, 3.79),
    MeasuredStep("google/gemma-4-26B-A4B-it", "h100", 1, 512, 1.87),
    MeasuredStep("google/gemma-4-E4B-it", "h100", 1, 512, 1.52),
    MeasuredStep("google/gemma-4-E4B-it", "h100", 4, 512, 1.74),
    MeasuredStep("google/gemma-3-4b-it", "h100", 1, 512, 1.38),
    MeasuredStep("google/gemma-3-4b-it", "h100", 4, 512, 1.44),
    MeasuredStep("Qwen/Qwen3-VL-8B-Instruct", "h100", 1, 512, 1.09),
    MeasuredStep("Qwen/Qwen3-VL-8B-Instruct", "h100", 4, 512, 1.31),
    MeasuredStep("Qwen/Qwen2.5-VL-7B-Instruct", "h100", 1, 512, 1.08),
    MeasuredStep("Qwen/Qwen2.5-VL-7B-Instruct", "h100", 4, 512, 2.29),
)


def measured_step(model: str, gpu: str, rows: int, tokens: int) -> MeasuredStep | None:
    """The measured micro-batch that is nearest to this one; None where none is near."""
    near = [
        step
        for step in STEPS
        if (step.model, step.gpu, step.rows) == (model, gpu, rows) and tokens / NEAR <= step.tokens <= tokens * NEAR
    ]
    return min(near, key=lambda step: abs(step.tokens - tokens), default=None)
