"""Run real steps on a GPU and read what they took: by torch's own counters and by the driver's."""

from __future__ import annotations

import ctypes
import functools
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from vlcheck.memory.batch import make_batch
from vlcheck.memory.optimizer import Optimized, managed_size
from vlcheck.memory.shape import Shape
from vlcheck.model.build import base_of
from vlcheck.model.family import Family
from vlcheck.processing.collator import to_device
from vlcheck.training.settings import StepSettings
from vlcheck.training.step import autocast, finish, make_optimizer, micro_step, trainable

MICRO_BATCHES = 2
"""Micro-batches of a measured step where the run accumulates: the second meets gradients of the first."""


class TooLarge(Exception):
    """A paged optimizer would need more managed memory than the card has free; asking for it can hang the GPU."""


@dataclass
class Measured:
    """Bytes and seconds of a few steps; phases hold the largest value over all steps."""

    weights_bytes: int = 0
    """Allocated before the first step."""
    allocated_bytes: int = 0
    """Peak of `torch.cuda.max_memory_allocated`."""
    reserved_bytes: int = 0
    """Peak of the segments that torch takes from the driver."""
    requested_bytes: int = 0
    """Peak of what was asked for, before the allocator rounded it."""
    driver_bytes: int = 0
    """What the driver counts as used on the card, managed memory and the context included."""
    context_bytes: int = 0
    """What the driver counted beyond the allocator's segments before the first step."""
    managed_bytes: int = 0
    """State of a paged optimizer, by its own tensors."""
    phases: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def measure(
    model: nn.Module, family: Family, settings: StepSettings, shape: Shape, *, steps: int = 3, device: str = "cuda"
) -> Measured:
    """Take optimizer steps on a synthetic batch; the model is `prepare`d and on the device. Figures are bytes, seconds.

    Raises:
        TooLarge: if a paged optimizer would need more managed memory than the card has free; such a request
            can hang the GPU rather than fail.
        torch.OutOfMemoryError: if a step does not fit.
    """
    measured = Measured()
    _settle()
    parameters = trainable(model)
    measured.managed_bytes = managed_size(Optimized.of(model), settings)
    free, total = torch.cuda.mem_get_info()
    if measured.managed_bytes > free:
        raise TooLarge(f"a paged optimizer would need {measured.managed_bytes / 2**30:.1f} GiB of managed memory; "
                       f"the card has {free / 2**30:.1f} GiB free")  # fmt: skip
    measured.weights_bytes = torch.cuda.memory_allocated()
    measured.context_bytes = total - free - torch.cuda.memory_reserved()
    base: Any = base_of(model)
    batch = make_batch(family, base.config.to_dict(), shape)
    optimizer = make_optimizer(parameters, settings)
    micro_batches = min(settings.accumulation, MICRO_BATCHES)
    context = functools.partial(autocast, settings.precision, device)
    try:
        for _ in range(steps):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(micro_batches):
                with _phase(measured, "micro-step"):
                    moved = to_device(batch, device)
                    loss = micro_step(
                        model, moved, supervised_only=settings.supervised_only, context=context, share=1 / micro_batches
                    )
                    del moved
            with _phase(measured, "optimizer"):
                finish(parameters, optimizer, settings.max_grad_norm)
            torch.cuda.synchronize()
            measured.seconds.append(time.perf_counter() - start)
            measured.losses.append(float(loss))
            free, total = torch.cuda.mem_get_info()
            measured.driver_bytes = max(measured.driver_bytes, total - free)
    finally:
        model.zero_grad(set_to_none=True)
        optimizer.state.clear()
        free_managed(optimizer)
        del optimizer
        _settle()
    return measured


def free_managed(optimizer: Any) -> None:
    """Give a paged optimizer's memory back: bitsandbytes never does, and the next measurement would count it."""
    manager = getattr(optimizer, "page_mng", None)
    if manager is None or not manager.paged_tensors:
        return
    torch.cuda.synchronize()
    runtime = ctypes.CDLL(f"libcudart.so.{str(torch.version.cuda).partition('.')[0]}")
    for tensor in manager.paged_tensors:
        runtime.cudaFree(ctypes.c_void_p(tensor.data_ptr()))
    manager.paged_tensors.clear()


@contextmanager
def _phase(measured: Measured, name: str) -> Iterator[None]:
    torch.cuda.reset_peak_memory_stats()
    yield
    stats = torch.cuda.memory_stats()
    measured.phases[name] = max(measured.phases.get(name, 0), stats["allocated_bytes.all.peak"])
    measured.allocated_bytes = max(measured.allocated_bytes, stats["allocated_bytes.all.peak"])
    measured.reserved_bytes = max(measured.reserved_bytes, stats["reserved_bytes.all.peak"])
    measured.requested_bytes = max(measured.requested_bytes, stats["requested_bytes.all.peak"])


def _settle() -> None:
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
