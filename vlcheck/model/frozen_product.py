"""The product with a frozen 4-bit weight as one opaque operation forward and one backward, for compiled layers.

bitsandbytes' backward pass expands the weight by an operation that does not take the gradient, which a compiler is free
to do in the forward pass already and to keep: 16-bit weights, which QLoRA is there to avoid. Here the expansion hides
inside an operation that takes the gradient, so it can only happen in the backward pass, and nothing is kept but the
packed weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from vlcheck.model.uncompiled import bitsandbytes

STATISTICS_BLOCK = 256
"""Block size of nested statistics that bitsandbytes' own product takes (0.50, `autograd/_functions.py`)."""


@torch.library.custom_op("vlcheck::frozen_product", mutates_args=())
def frozen_product(  # noqa: PLR0913, PLR0917  an operation of torch takes plain tensors
    x: torch.Tensor,
    packed: torch.Tensor,
    absmax: torch.Tensor,
    code: torch.Tensor | None,
    offset: torch.Tensor | None,
    nested_absmax: torch.Tensor | None,
    shape: Sequence[int],
    blocksize: int,
    kind: str,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """`x @ W.T + bias` for a packed weight.

    Args:
        x: (..., in), 16 bits.
        packed: the weight as bitsandbytes packs it, two values a byte.
        absmax: its blocks' largest values; with nested statistics, packed in 8 bits themselves.
        code, offset, nested_absmax: of nested statistics; None without.
        shape: (out, in) of the weight.
        blocksize: values that share one statistic.
        kind: `nf4` or `fp4`.
        bias: (out,), as x; it gets no gradient.

    Returns:
        (..., out), as x.
    """
    gemm = torch.ops.bitsandbytes.gemm_4bit.default
    flat = packed.view(-1, 1)
    if nested_absmax is None:
        return gemm(x, flat, shape, absmax, blocksize, kind, bias=bias)  # type: ignore[no-any-return]
    nested = {"bias": bias, "absmax_8bit": absmax, "absmax_code": code, "absmax_offset": offset}
    return gemm(x, flat, shape, nested_absmax, blocksize, kind, **nested)  # type: ignore[no-any-return]


@torch.library.custom_op("vlcheck::frozen_product_backward", mutates_args=())
def frozen_product_backward(  # noqa: PLR0913, PLR0917
    gradient: torch.Tensor,
    packed: torch.Tensor,
    absmax: torch.Tensor,
    code: torch.Tensor | None,
    offset: torch.Tensor | None,
    nested_absmax: torch.Tensor | None,
    shape: Sequence[int],
    blocksize: int,
    kind: str,
) -> torch.Tensor:
    """`gradient @ W`: what the input's gradient is. Arguments are those of `frozen_product`."""
    if nested_absmax is not None:
        expand = torch.ops.bitsandbytes.dequantize_blockwise.default
        absmax = expand(absmax, nested_absmax, code, STATISTICS_BLOCK, torch.float32) + offset
    expand = torch.ops.bitsandbytes.dequantize_4bit.default
    weight: torch.Tensor = expand(packed.view(-1, 1), absmax, blocksize, kind, shape, gradient.dtype)
    return gradient @ weight


@frozen_product.register_fake
def _(x: torch.Tensor, *rest: Any) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], rest[5][0]))


@frozen_product_backward.register_fake
def _(gradient: torch.Tensor, *rest: Any) -> torch.Tensor:
    return gradient.new_empty((*gradient.shape[:-1], rest[5][1]))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs[1:6])
    ctx.rest = inputs[6:9]


def _input_gradient(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return (frozen_product_backward(gradient, *ctx.saved_tensors, *ctx.rest), *[None] * 9)


frozen_product.register_autograd(_input_gradient, setup_context=_keep)


class FrozenLinear4bit(bitsandbytes.nn.Linear4bit):  # type: ignore[misc]
    """A 4-bit layer whose product is opaque to a compiler; values and gradients are those of bitsandbytes' own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output: (..., in) to (..., out), in x's number type."""
        state: Any = self.weight.quant_state
        nested = state.state2 if state.nested else None
        offset = state.offset if nested else None
        product: torch.Tensor = frozen_product(
            x.to(self.compute_dtype), self.weight, state.absmax, nested and nested.code, offset,
            nested and nested.absmax, list(state.shape), state.blocksize, state.quant_type,
            None if self.bias is None else self.bias.to(self.compute_dtype),
        )  # fmt: skip
        return product.to(x.dtype)


def make_opaque(module: nn.Module) -> int:
    """Let every frozen 4-bit layer inside run by `frozen_product`, in place; how many do.

    A layer keeps its class where the operation does not know its packing, or its bias trains.
    """
    count = 0
    for each in module.modules():
        if type(each) is bitsandbytes.nn.Linear4bit and _known(each):
            each.__class__ = FrozenLinear4bit
            count += 1
    return count


def _known(layer: Any) -> bool:
    state = getattr(layer.weight, "quant_state", None)
    if state is None or layer.compute_dtype is None or (layer.bias is not None and layer.bias.requires_grad):
        return False
    return not state.nested or state.state2.blocksize == STATISTICS_BLOCK
