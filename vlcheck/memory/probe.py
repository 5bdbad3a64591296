"""Build a run's model with random weights on this machine's GPU, train a few steps, hold them against the plan."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vlcheck.finding import Unavailable
from vlcheck.gpus import GPUS, Gpu
from vlcheck.memory.batch import make_batch
from vlcheck.memory.measure import MICRO_BATCHES, Measured, measure
from vlcheck.memory.plan import MemoryPlan
from vlcheck.memory.project import project_memory
from vlcheck.memory.shape import Shape
from vlcheck.model.build import Weights, base_of, build_model
from vlcheck.model.family import Family, Part, Values
from vlcheck.spec import RunSpec
from vlcheck.training.settings import settings_of
from vlcheck.training.step import prepare

PASSES = 4
"""FLOPs of a frozen weight and a token: two for the product forward, two for the gradient of its input. What
checkpointing computes again does not count."""


@dataclass(frozen=True)
class ProbeResult:
    """What was measured, beside what was projected for the same card."""

    plan: MemoryPlan
    measured: Measured | None
    failure: str
    """Why the steps were not finished; empty where they were."""
    build_seconds: float
    model_flops: int
    """Floating-point operations of one micro-batch, forward and backward."""
    micro_batches: int


def probe(spec: RunSpec, config: Values, family: Family, shape: Shape | None = None, *, steps: int = 3,
          progress: Callable[[str], None] = lambda step: None) -> ProbeResult:  # fmt: skip
    """Measure a run on this machine's GPU.

    Nothing is downloaded. A paged optimizer is only tried where its managed memory fits what the card has free.

    Raises:
        Unavailable: without a GPU, or where the step cannot be projected.
    """
    if not torch.cuda.is_available():
        raise Unavailable("this machine has no CUDA GPU", "run `vlcheck probe` where the run will train")
    progress("projecting the run for this card")
    plan = project_memory(spec, config, family, this_card(), shape)
    progress("building the model with random weights")
    start, settings = time.perf_counter(), settings_of(spec)
    model, failure, measured = None, "", None
    try:
        model = build_model(spec, Weights.RANDOM, config=config, device="cuda")
        prepare(model, settings)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        progress("training on synthetic batches")
        measured = measure(model, family, settings, plan.shape, steps=steps)
    except torch.OutOfMemoryError as full:
        seconds, failure = time.perf_counter() - start, " ".join(str(full).split())[:200]
    flops = flops_of(model, family, plan.shape) if model is not None else 0
    count = min(settings.accumulation, MICRO_BATCHES)
    return ProbeResult(plan, measured, failure, seconds, flops, count)


def this_card() -> Gpu:
    """The GPU of this machine as a row: known figures where its name is known, else what torch tells."""
    found = torch.cuda.get_device_properties(0)
    name = found.name.lower()
    for row in GPUS:
        words = row.title.lower().split()
        if (
            all(word in name for word in words if not word.endswith("gb"))
            and abs(row.total_bytes - found.total_memory) < 2**31
        ):
            return row
    return Gpu(name=name, title=found.name, total_bytes=found.total_memory, major=found.major, minor=found.minor,
               amd=torch.version.hip is not None, teraflops=0.0, source="torch on this machine")  # fmt: skip


def flops_of(model: nn.Module, family: Family, shape: Shape) -> int:
    """Model FLOPs of one micro-batch: matrix products with weights, by the tokens or patches that pass them."""
    base: Any = base_of(model)
    config = base.config.to_dict()
    batch = make_batch(family, config, shape, pixels="meta")
    vision = config.get("vision_config") or {}
    patch = vision.get("patch_size", 1)
    side = patch[0] if isinstance(patch, (list, tuple)) else patch
    depth = vision.get("temporal_patch_size", 1)
    pixels = batch["pixel_values"].numel() if "pixel_values" in batch else 0
    passes = {
        Part.VISION: pixels // (3 * depth * side**2),
        Part.PROJECTOR: shape.rows * shape.images * shape.soft_tokens,
    }
    text = base.config.get_text_config()
    experts = getattr(text, "num_experts", 0) or 1
    chosen = getattr(text, "top_k_experts", None) or getattr(text, "num_experts_per_tok", None) or 1
    total = 0.0
    for name, module in base.named_modules():
        part = family.part_of(name)
        weights = [p for n, p in module.named_parameters(recurse=False) if p.dim() >= 2 or hasattr(p, "quant_state")]
        if part is None or isinstance(module, nn.Embedding) or not weights:
            continue
        count = sum(p.quant_state.shape.numel() if hasattr(p, "quant_state") else p.numel() for p in weights)
        share = chosen / experts if any(p.dim() > 2 for p in weights) and part is Part.LANGUAGE else 1.0
        total += count * share * passes.get(part, shape.rows * shape.tokens)
    return int(PASSES * total)


def probe_document(found: ProbeResult, steps: int) -> dict[str, Any]:
    """A probe for programs and for the terminal; bytes are whole numbers."""
    plan, measured = found.plan, found.measured
    document: dict[str, Any] = {
        "schema": "vlcheck.probe/1",
        "gpu": plan.gpu.title,
        "steps": steps,
        "fits": not found.failure,
        "failure": found.failure,
        "build_seconds": round(found.build_seconds, 2),
        "verdict": plan.verdict.name.lower(),
        "memory": {},
        "speed": None,
    }
    if measured is None:
        return document
    pairs = {
        "allocated": (measured.allocated_bytes, plan.allocated_bytes),
        "reserved": (measured.reserved_bytes, plan.reserved_bytes),
        "driver": (measured.driver_bytes, plan.driver_bytes),
    }
    document["memory"] = {
        name: {"measured_bytes": real, "projected_bytes": planned, "error": planned / real - 1}
        for name, (real, planned) in pairs.items()
    }
    seconds = statistics.median(measured.seconds[1:] or measured.seconds)
    rows = plan.shape.rows * found.micro_batches
    peak = plan.gpu.teraflops * 1e12
    document["speed"] = {
        "step_seconds": seconds,
        "micro_batches": found.micro_batches,
        "images_per_second": rows * plan.shape.images / seconds,
        "tokens_per_second": rows * plan.shape.tokens / seconds,
        "utilisation": found.model_flops * found.micro_batches / seconds / peak if peak else None,
    }
    document["losses"] = measured.losses
    document["seconds"] = measured.seconds
    return document
