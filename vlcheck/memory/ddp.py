"""What DistributedDataParallel takes of each GPU: copies when it wraps a model, then buckets for its gradients.

Read from torch 2.11 to 2.13: `nn/parallel/distributed.py`, `distributed/utils.py`, and under `csrc/distributed/c10d`
`comm.cpp` and `reducer.cpp`.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from vlcheck.memory.tape import Tape

BROADCAST = 250 * 2**20
"""Tensors of one type are sent together from this many bytes on, the last one whole: an embedding goes with what
stands before it."""
IN_FLIGHT = 2
"""Copies that are sent at the same time."""
FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20
"""Bytes from which a bucket of gradients is full."""


@dataclass(frozen=True)
class Wrapping:
    """Bytes that DDP takes of each process's GPU."""

    copies: tuple[int, ...]
    """Of each copy that the first synchronisation sends, in order."""
    buckets: tuple[int, ...]
    """Of each bucket of gradients in the first step."""
    rebuilt: tuple[int, ...]
    """And from the second step on, in the order in which gradients come."""

    def wrap(self, tape: Tape) -> list[int]:
        """Write the wrapping to a tape; returns the buckets."""
        sent: deque[int] = deque()
        for size in self.copies:
            if len(sent) == IN_FLIGHT:
                tape.release(sent.popleft())
            sent.append(tape.allocate(size, "copies of weights (DDP)"))
        for block in sent:
            tape.release(block)
        return self._take(self.buckets, tape)

    def rebuild(self, buckets: list[int], tape: Tape) -> None:
        """Write to a tape how the second step begins."""
        if self.rebuilt != self.buckets:
            for block in buckets:
                tape.release(block)
            self._take(self.rebuilt, tape)

    def _take(self, sizes: tuple[int, ...], tape: Tape) -> list[int]:
        return [tape.allocate(size, "gradient buckets (DDP)") for size in sizes]


def wrapping_of(model: nn.Module, *, leaves_frozen_out: bool, finds_unused: bool) -> Wrapping:
    """What wrapping a model takes. Gradients are kept twice, each in its parameter and in a bucket.

    Args:
        leaves_frozen_out: frozen parameters and buffers were named to DDP (`vlcheck.model.ddp`).
        finds_unused: `find_unused_parameters`; buckets are then never built anew.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    synchronised = trained if leaves_frozen_out else [*model.parameters(), *model.buffers()]
    copies = [_bytes(part) for part in assigned(synchronised, [BROADCAST]) if len(part) > 1]  # one alone is sent itself
    ordered = assigned(trained[::-1], [FIRST_BUCKET, BUCKET])
    first = assigned(trained, [FIRST_BUCKET, BUCKET])[::-1] if finds_unused else assigned(trained, [sys.maxsize])
    buckets = tuple(map(_bytes, first))
    return Wrapping(tuple(copies), buckets, buckets if finds_unused else tuple(map(_bytes, ordered)))


def assigned(tensors: Sequence[torch.Tensor], limits: Sequence[int]) -> list[list[torch.Tensor]]:
    """Tensors in buckets of one type each, closed once they hold a limit of bytes: the first limit once, then the last.

    As torch's `compute_bucket_assignment_by_size` does it, in the order of each bucket's first tensor.
    """
    open_: dict[torch.dtype, list[int]] = {}
    held: dict[torch.dtype, int] = {}
    closed: list[list[int]] = []
    left: dict[torch.dtype, list[int]] = {}
    for number, tensor in enumerate(tensors):
        kind = tensor.dtype
        open_.setdefault(kind, []).append(number)
        held[kind] = held.get(kind, 0) + _bytes([tensor])
        upcoming = left.setdefault(kind, [*limits])
        if held[kind] >= upcoming[0]:
            closed.append(open_.pop(kind))
            held[kind] = 0
            left[kind] = upcoming[1:] or upcoming
    closed += open_.values()
    return [[tensors[number] for number in bucket] for bucket in sorted(closed)]


def _bytes(tensors: Sequence[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
