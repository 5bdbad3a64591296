"""Room on the disk for what a run keeps."""

from __future__ import annotations

import shutil
from pathlib import Path

from vlcheck.training.checkpoint import CheckpointNotWritten
from vlcheck.training.manifest import NotOurs, read_manifest
from vlcheck.training.ours import folders
from vlcheck.training.settings import EIGHT_BIT_FROM
from vlcheck.training.snapshot import State


def check_room(root: Path, state: State, keep: int, *, best: bool = False) -> None:
    """Find out before training whether the disk holds what a run will keep.

    Checkpoints that lie there already count: they are pruned when newer ones are written, so that a resume
    needs no more than the run that it continues.

    Args:
        keep: checkpoints that lie there at most at one time.
        best: a checkpoint holds the adapter of the best evaluation as well.

    Raises:
        CheckpointNotWritten: if there is no room.
    """
    adapter = sum(tensor.numel() * tensor.element_size() for tensor in state.adapter.values())
    checkpoint = adapter * (2 if best else 1) + state_bytes(state)
    there = min(kept_bytes(root), max(0, keep - 1) * checkpoint)
    needed = checkpoint * keep - there + adapter
    if (free := shutil.disk_usage(root).free) < needed:
        lying = f", {there / 2**20:,.0f} MiB of them are there" if there else ""
        raise CheckpointNotWritten(
            f"{root}: {free / 2**20:,.0f} MiB free; {keep} checkpoints and the adapter take "
            f"{(needed + there) / 2**20:,.0f} MiB{lying}"
        )


def kept_bytes(root: Path) -> int:
    """Bytes of the checkpoints below a folder, as their manifests tell."""
    total = 0
    for folder in folders(root):
        try:
            total += sum(file.bytes for file in read_manifest(folder).files.values())
        except NotOurs:
            continue
    return total


def state_bytes(state: State) -> int:
    """Bytes of an optimizer's state after its first step: two values a parameter, in 8-bit optimizers of a byte."""
    eight_bit = getattr(getattr(state.optimizer, "args", None), "optim_bits", 32) == 8
    widths = (1 if eight_bit and p.numel() >= EIGHT_BIT_FROM else 4 for p in state.parameters)
    return sum(2 * width * p.numel() for width, p in zip(widths, state.parameters, strict=True))
