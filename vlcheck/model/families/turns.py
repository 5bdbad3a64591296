"""One short row of ids and labels, as the tiny runs of all families see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

IMAGE, VIDEO, START, END, AUDIO = 40, 41, 42, 43, 44
"""Placeholder ids of the tiny runs, whose vocabulary has 64 words."""


def turn(*soft: int) -> dict[str, torch.Tensor]:
    """A question that holds these placeholder ids, and its answer; placeholders are never supervised."""
    import torch

    ids = torch.tensor([[2, 5, 6, *soft, 7, 8, 9, 10, 11]])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": ids.where(ids < IMAGE, -100),
    }


def pixels(*shape: int) -> torch.Tensor:
    """Random pixels of this shape, float32 between 0 and 1."""
    import torch

    return torch.rand(*shape)


def types(row: dict[str, torch.Tensor], kinds: Sequence[int] = (IMAGE,)) -> torch.Tensor:
    """Which ids of a row stand for what: 1 and on for these placeholders, 0 for text."""
    ids = row["input_ids"]
    found = ids * 0
    for number, kind in enumerate(kinds, 1):
        found[ids == kind] = number
    return found
