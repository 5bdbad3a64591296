"""The batches of a step that went wrong, to be looked at or run again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file

from vlcheck.training.feed import MicroBatch


def keep_batches(root: Path, step: int, rank: int, micro_batches: Sequence[MicroBatch]) -> Path:
    """Write what a process took in a step, each micro-batch a file, and the names of its rows; returns the folder."""
    folder = root / f"replay-step-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    for number, micro in enumerate(micro_batches):
        if micro.batch is not None:
            tensors = {key: tensor.contiguous() for key, tensor in micro.batch.items()}
            save_file(tensors, folder / f"process-{rank}-micro-batch-{number}.safetensors")
    rows = json.dumps([micro.names for micro in micro_batches], ensure_ascii=False)
    (folder / f"process-{rank}-rows.json").write_text(rows, "utf-8")
    return folder
