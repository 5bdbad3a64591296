"""Attention as one operation forward and one backward, for layers whose passes are followed as graphs.

Its kernel was chosen before (`vlcheck.memory.attention`); nothing is computed, for it only ever runs on meta.
"""

from __future__ import annotations

from typing import Any

import torch

from vlcheck.memory.attention import Kernel, gradients_of, made


@torch.library.custom_op("vlcheck::attention", mutates_args=())
def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    kernel: str,
    calls: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A call of a fused kernel.

    Args:
        query, key, value: of shape (rows, heads, tokens, width); keys and values may have fewer heads.
        bias: as the kernel takes it.
        kernel: value of a `Kernel`.
        calls: how many calls one after another the rows are, in equal shares.

    Returns:
        Output as query, and log-sum-exp.
    """
    raise NotImplementedError("attention of a graph has no values")


@torch.library.custom_op("vlcheck::attention_backward", mutates_args=())
def attention_backward(  # noqa: PLR0913, PLR0917  an operation of torch takes plain tensors
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    sums: torch.Tensor,
    bias: torch.Tensor | None,
    kernel: str,
    calls: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value; arguments are those of `attention`, and what it made."""
    raise NotImplementedError("attention of a graph has no values")


@attention.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: Any, kernel: str, calls: int) -> Any:
    return made(query, value, Kernel(kernel))


@attention_backward.register_fake
def _(gradient: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any) -> Any:
    return gradients_of(query, key, value)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    query, key, value, bias, ctx.kernel, ctx.calls = inputs
    ctx.save_for_backward(query, key, value, *output, bias)
    ctx.mark_non_differentiable(output[1])


def _gradients(ctx: Any, gradient: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:
    return (*attention_backward(gradient, *ctx.saved_tensors, ctx.kernel, ctx.calls), None, None, None)


attention.register_autograd(_gradients, setup_context=_keep)
