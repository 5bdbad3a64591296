"""Compile the layers that repeat: one graph a kind of layer, fused by torch's compiler.

What is compiled is the readable layer itself, so there is no second formula to keep right. Its checkpoint stays
outside and is torch's own: the compiler refuses some graphs with dropout inside a checkpoint (torch 2.11).
On an H100 a step of the 31B (8 x 512 tokens) takes 2.13 s instead of 3.52 (`fixtures/measured`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from vlcheck.model.build import base_of
from vlcheck.model.frozen_product import make_opaque
from vlcheck.spec import Training
from vlcheck.training.order import Order

EARNS = 200
"""Micro-batches from which compiling earns its time: it takes about a minute, and saves 0.3 to 3 s a micro-batch."""
VARIANTS = 64
"""Graphs a layer may have: its kinds, with one size and with any, batches of one row and of several. Beyond the limit
torch falls back on the readable layer without a word (8 by default)."""


def compiles(training: Training, order: Order) -> bool:
    """Whether a run's layers are compiled here: it asks for that, there is a GPU, and it is long enough."""
    return training.torch_compile and not why_not(order)


def why_not(order: Order) -> str:
    """Why a run that asks for compiled layers does without them; empty where it does not."""
    if not torch.cuda.is_available():
        return "there is no GPU"
    count = order.steps * order.accumulation
    return f"{count:,} micro-batches do not earn the time; {EARNS:,} would" if count < EARNS else ""


def compile_layers(model: nn.Module, backend: str | Callable[..., Any] = "inductor") -> int:
    """Compile every layer that transformers can checkpoint, in place, and return how many.

    The first step that meets a new kind of layer waits for the compiler; torch keeps what it made in
    `TORCHINDUCTOR_CACHE_DIR`. Sizes that change from batch to batch cost one more graph each kind, not one each size.

    Args:
        backend: torch's name of a compiler; `aot_eager` makes the same graphs and fuses nothing.
    """
    # there is no public switch for these limits; seen in torch 2.11 and 2.13
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    dynamo.recompile_limit = max(dynamo.recompile_limit, VARIANTS)
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, 16 * VARIANTS)
    dynamo.suppress_errors = True  # what the compiler cannot do runs as it is written; `left_readable` counts it
    inductor.deterministic = True  # kernels are not chosen by timing them, which would differ from run to run
    layers = dict(repeated_layers(model))
    for layer in layers.values():
        make_opaque(layer)
        _compile(layer, backend)
    return len(layers)


def repeated_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers that are compiled, by their paths in the base: those that transformers can checkpoint."""
    modules = base_of(model).named_modules()
    return ((path, module) for path, module in modules if isinstance(module, GradientCheckpointingLayer))


def forward_of(layer: Any) -> tuple[Callable[..., Any], bool]:
    """What of a layer is compiled: its forward without its checkpoint, and whether a checkpoint lies around that."""
    forward = type(layer).forward
    inner = getattr(forward, "__wrapped__", forward)  # without its checkpoint (transformers 5.23, `modeling_layers.py`)
    return MethodType(inner, layer), inner is not forward and layer.gradient_checkpointing


def _compile(layer: Any, backend: str | Callable[..., Any]) -> None:
    forward, checkpointed = forward_of(layer)
    compiled = torch.compile(forward, backend=backend)
    if not checkpointed:
        layer.forward = compiled
        return
    checkpoint = layer._gradient_checkpointing_func
    layer._gradient_checkpointing_func = lambda given, *args: checkpoint(partial(compiled, **given.keywords), *args)


def left_readable() -> int:
    """Graphs that the compiler gave up in this process, whose layers run as they are written."""
    from torch._dynamo.utils import counters  # the only place that tells; seen in torch 2.11 and 2.13

    return int(counters["frames"]["total"] - counters["frames"]["ok"])


def compiled_line(seconds: float) -> str:
    """What the first step of a run with compiled layers has to tell.

    Args:
        seconds: that it took.
    """
    told = f"the first step took {seconds:.0f} s, compiling included"
    if not (failed := left_readable()):
        return told
    return f"warning: {told}; {failed} graphs were given up, and their layers run as they are written"


def readable() -> AbstractContextManager[None]:
    """Run compiled layers as they are written, for a while: generation meets a new size with every token."""
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
