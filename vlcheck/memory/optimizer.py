"""What an optimizer keeps, and takes while it steps; read from torch 2.11 to 2.13 and bitsandbytes 0.50."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from vlcheck.memory.tape import Tape
from vlcheck.training.settings import EIGHT_BIT_FROM, StepSettings
from vlcheck.training.step import trainable

PAGED_FROM = 100_000
"""bitsandbytes keeps the state of smaller parameters in ordinary memory."""


@dataclass(frozen=True)
class Optimized:
    """What an optimizer holds: the parameters that train, in the model's order, and which of them embed tokens."""

    parameters: tuple[nn.Parameter, ...]
    embeddings: frozenset[int] = frozenset()
    """Identities of the weights of embeddings."""

    @classmethod
    def of(cls, model: nn.Module) -> Optimized:
        """What the optimizer of a prepared model holds."""
        tables = (m for m in model.modules() if isinstance(m, nn.Embedding))
        return cls(tuple(trainable(model)), frozenset(id(p) for m in tables for p in m.parameters()))

    def kept(self, settings: StepSettings) -> list[tuple[nn.Parameter, str]]:
        """Each parameter, and the optimizer as which its state is kept.

        transformers' Trainer has 8-bit optimizers keep the state of embeddings in 32 bits (5.23, trainer.py:1328).
        """
        wide = settings.optimizer if settings.own_loop else settings.optimizer.replace("8bit", "32bit")
        return [(p, wide if id(p) in self.embeddings else settings.optimizer) for p in self.parameters]


def step_blocks(optimized: Optimized, settings: StepSettings, tape: Tape, *, first: bool) -> list[int]:
    """Write clip and step to a tape.

    Args:
        first: the optimizer makes its state in this step.

    Returns:
        The blocks of the state that the first step makes.
    """
    parameters = optimized.parameters
    if settings.max_grad_norm:
        norms = [tape.allocate(4, "optimizer step") for _ in parameters]
        stacked = tape.allocate(4 * len(parameters), "optimizer step")
        for block in (*norms, stacked):
            tape.release(block)
    kept: list[int] = []
    if first:
        for parameter, optim in optimized.kept(settings):
            sizes = state_sizes(parameter, optim, masters=settings.sharding.masters)
            kept += [tape.allocate(size, "optimizer state") for size in sizes]
    for sizes in _while_stepping(parameters, settings):
        held = [tape.allocate(size, "optimizer step") for size in sizes]
        for block in held:
            tape.release(block)
    return kept


def _while_stepping(parameters: Sequence[nn.Parameter], settings: StepSettings) -> Iterator[list[int]]:
    """Bytes of what is held beside the state, together, one list after another."""
    whole = [p.numel() * p.element_size() for p in parameters]
    if settings.optimizer == "adamw_torch" or (settings.optimizer == "sgd" and settings.weight_decay):
        yield whole  # foreach kernels hold the roots of all second moments, or all gradients with their decay
    elif settings.optimizer == "adafactor":  # transformers' takes one after another: its update twice, 16 bits in fp32
        yield from ([4 * p.numel()] * (2 if p.element_size() == 4 else 4) for p in parameters)


def state_sizes(parameter: nn.Parameter, optim: str, *, masters: bool = False) -> list[int]:
    """Bytes of each tensor that the optimizer keeps of a parameter in the allocator's memory.

    Args:
        masters: it steps on fp32 copies of 16-bit weights, which it keeps too.
    """
    if masters and parameter.element_size() < 4:
        return [4 * parameter.numel(), *_state_sizes(parameter, optim, 4)]
    return _state_sizes(parameter, optim, parameter.element_size())


def _state_sizes(parameter: nn.Parameter, optim: str, width: int) -> list[int]:  # noqa: PLR0911  one line an optimizer
    count = parameter.numel()
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


def managed_size(optimized: Optimized, settings: StepSettings) -> int:
    """Bytes of state that a paged optimizer keeps in managed memory, which the allocator does not count."""
    kept = ((p.numel(), optim) for p, optim in optimized.kept(settings))
    return sum(2 * (4 if optim.endswith("32bit") else 1) * count for count, optim in kept if _paged(count, optim))


def _paged(count: int, optim: str) -> bool:
    return optim.startswith("paged") and count >= PAGED_FROM
