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
    words = base.get_output_embeddings().weight.shape[0]
    loss: torch.Tensor = _Chunked.apply(scored, words, low or hidden.dtype, blocks).sum()  # type: ignore[no-untyped-call]
    return loss


class _Chunked(torch.autograd.Function):
    """Log-probabilities of hidden states of shape (positions, width)."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, words: int, low: torch.dtype, blocks: Blocks) -> torch.Tensor:
        """Of shape (positions,), fp32."""
        positions = hidden.shape[0]
        ctx.tile, ctx.blocks = min(positions, TOKENS) * min(words, WORDS) * low.itemsize, blocks
        ctx.save_for_backward(hidden)
        with blocks.while_held(ctx.tile, *[4 * positions] * STATISTICS, cause=CAUSE):
            return hidden.new_empty(positions, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        """The gradient is summed up in fp32 beside the tile."""
        (hidden,) = ctx.saved_tensors
        with ctx.blocks.while_held(4 * hidden.numel(), ctx.tile, cause=CAUSE):
            pass
        with ctx.blocks.while_held(4 * hidden.numel(), cause=CAUSE):
            return torch.empty_like(hidden), None, None, None
