"""What one step of pre-training takes: by variant, by part, by kernel; and what the spikes' way takes."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from tests.gpu.standin import base
from tests.gpu.standin.animals import patches
from tests.gpu.standin.pretrain import Learner, drawn, part

WARM, TIMED = 5, 20
SPIKE = base.Size(256, 1024, 6, 320, 1280, 6)
"""About the 15.8 million parameters of the spikes, whose pictures had 630 patches: 3 x 3 of them a soft token."""


def profile(out: Path, device: str, say: Callable[[dict[str, Any]], None]) -> None:
    """One line a variant, and a table of kernels of each in `profile.txt`."""
    few = device == "cpu"
    size, batch = (base.CPU, 4) if few else (base.GPU, 128)
    generator = torch.Generator().manual_seed(0)
    learner: Learner | None = None
    for name, compiled, captured in (
        ("eager", False, False), ("eager, graph", False, True), ("compiled", True, False),
        ("compiled, graph", True, True),
    ):  # fmt: skip
        if few and (compiled or captured):
            continue
        begun = time.perf_counter()
        try:
            learner = Learner(size, batch, device)
            if compiled:
                learner.compile()
            if captured:
                learner.capture()
            learner.take(generator, 1e-3)
            line = measured(functools.partial(learner.take, generator, 1e-3), device, out, name)
            line["loss"] = float(learner.loss)
        except Exception as error:  # a variant that does not run is a finding
            line = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        say({"kind": "profile", "variant": name, "batch": batch, "all_seconds": time.perf_counter() - begun} | line)
        learner = None
    if not few:
        torch.cuda.empty_cache()
    for dtype in ("bfloat16", "float32"):
        say({"kind": "profile", "variant": f"as the spikes, {dtype}"} | as_the_spikes(device, dtype, out, few))


def measured(step: Callable[[], None], device: str, out: Path, name: str) -> dict[str, Any]:
    """Seconds a step on the clock, those in which the card was busy, and its kernels by part."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(WARM if device == "cuda" else 1):
        step()
    wait()
    start, count = time.perf_counter(), TIMED if device == "cuda" else 2
    for _ in range(count):
        step()
    wait()
    taken = (time.perf_counter() - start) / count
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with torch.profiler.profile(activities=kinds) as seen:
        step()
        wait()
    events = seen.key_averages()
    kernels = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA and not e.key.startswith("part: ")]
    busy = sum(e.self_device_time_total for e in kernels) / 1e6
    order = "self_cuda_time_total" if device == "cuda" else "self_cpu_time_total"
    with (out / "profile.txt").open("a") as file:
        file.write(f"== {name}: {taken:.4f} s a step, card busy {busy:.4f} s\n")
        with contextlib.suppress(AttributeError):  # the name of this order has changed between versions
            file.write(events.table(sort_by=order, row_limit=25, max_name_column_width=70) + "\n")
    return {
        "step_seconds": round(taken, 5), "busy_seconds": round(busy, 5), "kernels": sum(e.count for e in kernels),
        "parts_ms": {
            e.key.removeprefix("part: "): [round(e.cpu_time_total / 1e3, 2), round(e.device_time_total / 1e3, 2)]
            for e in events if e.key.startswith("part: ") and e.device_type == torch.autograd.DeviceType.CPU
        },
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if device == "cuda" else None,
    }  # fmt: skip


def as_the_spikes(device: str, dtype: str, out: Path, few: bool) -> dict[str, Any]:
    """The model's own forward over 96 pictures of 630 patches that lie on the card, eager."""
    pool, batch = 3, 2 if few else 96
    values = base.config_of(base.CPU if few else SPIKE)
    values["vision_config"].update(pooling_kernel_size=pool)
    model = base.fresh(values, 0, device).to(getattr(torch, dtype))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    scenes, _ = drawn(batch, torch.Generator().manual_seed(0))
    pixels, places = patches(scenes.to(device), most=base.SOFT_TOKENS, pool=pool, side=base.PATCH)
    soft = (places[..., 0] >= 0).sum(1) // pool**2
    at = torch.arange(100, device=device)[None]
    image = int(values["image_token_id"])
    ids = torch.where(at < soft[:, None], image, 400 + at % 50)
    batch_ = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels.to(model.dtype),
        "mm_token_type_ids": (ids == image).long(), "image_position_ids": places,
        "labels": ids.where(at >= 80, -100),
    }  # fmt: skip

    def step() -> None:
        with part("forward"):
            loss = model(**batch_).loss
        with part("backward"):
            loss.backward()
        with part("optimizer"):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    try:
        return {"parameters": sum(p.numel() for p in model.parameters())} | measured(
            step, device, out, f"spikes {dtype}"
        )
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error)[:300]}"}
