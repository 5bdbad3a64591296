"""Fused attention over many short stretches of a row, of which those of one length are simulated in one call.

Qwen2.5-VL's vision tower attends within windows, Qwen's other towers within images, and each takes a call of its own:
a photo has some sixty windows, a micro-batch of documents thousands. Blocks of one call are as large as those of its
windows together; a workspace is that of one window.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch


def gathered(tensor: torch.Tensor, sections: Any, dim: int = 0) -> tuple[torch.Tensor, ...] | None:
    """What `torch.split` makes of queries, keys or values, with windows of one length in one part.

    Args:
        tensor: of shape (1, heads, tokens, width), on meta, where order says nothing.
        sections: lengths of the windows.

    Returns:
        Parts of shape (1, heads, windows x length, width), each with the number of its `windows`; None for other
        tensors, and where no two windows are of one length.
    """
    if not isinstance(sections, list | tuple) or tensor.dim() != 4 or dim != 2 or len(tensor) != 1:
        return None
    counts = Counter(sections)
    if not tensor.is_meta or len(counts) == len(sections):
        return None
    parts: Any = torch.split(tensor, [length * count for length, count in counts.items()], dim)
    for part, count in zip(parts, counts.values(), strict=True):
        part.windows = count
    return tuple(parts)


def apart(tensor: torch.Tensor, windows: int) -> torch.Tensor:
    """A part as a batch of its windows: (1, heads, windows x length, width) to (windows, heads, length, width)."""
    return tensor.unflatten(2, (windows, -1)).squeeze(0).transpose(0, 1)  # type: ignore[no-untyped-call,no-any-return]


def together(tensor: torch.Tensor) -> torch.Tensor:
    """A batch of windows as one part, laid out as attention leaves its rows: the way back of `apart`."""
    windows, heads, length, width = tensor.shape
    return tensor.transpose(1, 2).reshape(1, windows * length, heads, width).transpose(1, 2)
