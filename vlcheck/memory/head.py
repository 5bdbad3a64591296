"""The head and loss of frameworks that never hold all logits at once, on meta.

Read from TRL 1.16, `trl/trainer/utils.py` (`_fused_forward`) and `trl/kernels/chunked_logprob.py`: on a GPU only
positions with a label are scored, in tiles of so many tokens and words; the backward pass makes each tile again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vlcheck.memory.blocks import Blocks
from vlcheck.model.build import base_of
from vlcheck.processing.collator import Batch
from vlcheck.processing.labels import IGNORE_INDEX

TOKENS, WORDS = 4096, 32768
"""Of a tile."""
STATISTICS = 9
"""Numbers in fp32 that the forward pass takes of every position."""
CAUSE = "logits and loss"


def chunked_loss(model: nn.Module, batch: Batch, low: torch.dtype | None, blocks: Blocks) -> torch.Tensor:
    """TRL's loss of one micro-batch; its tiles and statistics are written to the tape of `blocks`.

    Args:
        low: the type that autocast computes in; None is that of the hidden states.
    """
    base: Any = base_of(model)
    inputs, labels = dict(batch), batch["labels"][:, 1:]
    del inputs["labels"]
    hidden = base.base_model(**inputs, use_cache=False).last_hidden_state[:, :-1]
    scored = hidden[labels != IGNORE_INDEX]
    weight = base.get_output_embeddings().weight
    loss: torch.Tensor = _Chunked.apply(scored, weight, low or hidden.dtype, blocks).sum()  # type: ignore[no-untyped-call]
    return loss


class _Chunked(torch.autograd.Function):
    """Log-probabilities of hidden states of shape (positions, width)."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, low: torch.dtype, blocks: Blocks) -> torch.Tensor:
        """Of shape (positions,), fp32."""
        positions, words = hidden.shape[0], min(weight.shape[0], WORDS)
        cast = [] if weight.dtype is low else [words * weight.shape[1] * low.itemsize]
        ctx.tiles, ctx.blocks = [min(positions, TOKENS) * words * low.itemsize, *cast], blocks
        ctx.save_for_backward(hidden, weight)
        with blocks.while_held(*ctx.tiles, *[4 * positions] * STATISTICS, cause=CAUSE):
            return hidden.new_empty(positions, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        """Gradients are summed up in fp32 beside the tile, that of the head too where it is trained, then cast."""
        wanted = [t if needed else None for t, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[:2], strict=True)]
        summed = [4 * each.numel() for each in wanted if each is not None]
        with ctx.blocks.while_held(*summed, *ctx.tiles, cause=CAUSE):
            pass
        cast = [4 * each.numel() for each in wanted if each is not None and each.dtype is not torch.float32]
        with ctx.blocks.while_held(*cast, cause=CAUSE):
            return *(None if each is None else torch.empty_like(each) for each in wanted), None, None
