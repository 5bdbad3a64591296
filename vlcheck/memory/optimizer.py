"""What an optimizer keeps, and takes while it steps; read from torch 2.11 to 2.13 and bitsandbytes 0.50."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from vlcheck.memory.tape import Tape
from vlcheck.training.settings import EIGHT_BIT_FROM, StepSettings

PAGED_FROM = 100_000
"""bitsandbytes keeps the state of smaller parameters in ordinary memory."""


def step_blocks(parameters: Sequence[nn.Parameter], settings: StepSettings, tape: Tape, *, first: bool) -> list[int]:
    """Write clip and step to a tape.

    Args:
        first: the optimizer makes its state in this step.

    Returns:
        The blocks of the state that the first step makes.
    """
    if settings.max_grad_norm:
        norms = [tape.allocate(4, "optimizer step") for _ in parameters]
        stacked = tape.allocate(4 * len(parameters), "optimizer step")
        for block in (*norms, stacked):
            tape.release(block)
    kept: list[int] = []
    if first:
        for parameter in parameters:
            kept += [tape.allocate(size, "optimizer state") for size in state_sizes(parameter, settings.optimizer)]
    if settings.optimizer == "adamw_torch":  # the foreach kernels hold the square roots of every second moment
        roots = [tape.allocate(p.numel() * p.element_size(), "optimizer step") for p in parameters]
        for block in roots:
            tape.release(block)
    return kept


def state_sizes(parameter: nn.Parameter, optim: str) -> list[int]:  # noqa: PLR0911  one line an optimizer
    """Bytes of each tensor that the optimizer keeps of a parameter in the allocator's memory."""
    count, width = parameter.numel(), parameter.element_size()
    if optim == "sgd":
        return []
    if optim == "adafactor":
        if parameter.dim() < 2:
            return [4 * count, 4]
        return [4 * count // parameter.shape[-1], 4 * count // parameter.shape[-2], 4]
    if optim == "adamw_torch":
        return [width * count, width * count]
    if optim == "adamw_torch_fused":
        return [4, width * count, width * count]
    if optim.endswith("32bit") or count < EIGHT_BIT_FROM:
        return [] if _paged(count, optim) else [4 * count, 4 * count]
    statistics = [4 * -(-count // 256)] * 2
    return statistics if _paged(count, optim) else [count, count, *statistics]


def managed_size(parameters: Sequence[nn.Parameter], optim: str) -> int:
    """Bytes of state that a paged optimizer keeps in managed memory, which the allocator does not count."""
    width = 4 if optim.endswith("32bit") else 1
    return sum(2 * width * p.numel() for p in parameters if _paged(p.numel(), optim))


def _paged(count: int, optim: str) -> bool:
    return optim.startswith("paged") and count >= PAGED_FROM
