"""What a run needs beside its steps: loading, merging, the host's memory and disk."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vlcheck.model.build import base_of

PROCESS_BYTES = 6 * 2**30
"""A process that imports torch, transformers and peft and holds a CUDA context: assumed, not measured."""
FILES_IN_MEMORY = frozenset({"cloud-run"})
"""Platforms whose container writes files to the job's own memory (cloud.google.com/run/docs/container-contract)."""


@dataclass(frozen=True)
class Host:
    """Bytes on the host, and of the phases around training."""

    checkpoint_bytes: int
    """The base on disk, 16 bits a parameter."""
    adapter_bytes: int
    """One saved adapter, as it is trained; without adapters, every weight that is."""
    trained: int
    """Values that train."""
    memory_bytes: int
    """Main memory while training: the process and, where files count against it, the checkpoint."""
    merge_bytes: int
    """Where the adapter is merged: the base in 16 bits, the adapter, and one layer's delta in fp32; 0 without one."""
    disk_bytes: int
    """Checkpoint and what the run keeps of its own."""


def host_of(reference: nn.Module, peft: nn.Module, *, platform: str, kept: int) -> Host:
    """What the host holds.

    Args:
        reference: the untouched base.
        peft: the run's model, with its adapters where it has some.
        kept: training checkpoints kept at once.
    """
    base = base_of(reference)
    checkpoint = sum(2 * p.numel() for p in base.parameters()) + sum(
        b.numel() * b.element_size() for b in base.buffers()
    )
    trained = [p for p in peft.parameters() if p.requires_grad]
    adapter = sum(p.numel() * p.element_size() for p in trained)
    largest = max((p.numel() for p in base.parameters()), default=0)
    return Host(
        checkpoint_bytes=checkpoint,
        adapter_bytes=adapter,
        trained=sum(p.numel() for p in trained),
        memory_bytes=PROCESS_BYTES + (checkpoint if platform in FILES_IN_MEMORY else 0),
        merge_bytes=0 if base_of(peft) is peft else checkpoint + adapter + 4 * largest,
        disk_bytes=checkpoint + 3 * adapter * max(1, kept),
    )
