"""Operations that a CUDA device carries out otherwise than torch on meta: what they take and what they keep.

Each is followed by a function `(mode, op, args, kwargs) -> result`; `CUDA` is the table of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch.utils._pytree import tree_map_only

from vlcheck.memory import opaque_attention  # noqa: F401  registers its operations
from vlcheck.memory.attention import Kernel, taken, workspace
from vlcheck.memory.blocks import Blocks
from vlcheck.model import frozen_product  # noqa: F401  registers its operations, and imports bitsandbytes

ATEN = torch.ops.aten
META = torch.device("meta")


class Step(Protocol):
    """What a followed operation needs of the step around it."""

    blocks: Blocks

    def cause(self, tensor: torch.Tensor) -> str:
        """What a new tensor is for."""

    def made(self, op: Any, args: Any, kwargs: Any) -> Any:
        """What an operation on meta makes."""


def to_meta(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without its values; those of a tensor on meta are unknown already."""
    return tensor if tensor.is_meta else tensor.to(META)


def _gemm_4bit(mode: Step, op: Any, args: Any, kwargs: Any) -> Any:
    """Bitsandbytes expands the weight to 16 bits for the product, its statistics first (0.50, `cuda/ops.py`)."""
    sizes = _expanded(args[0], args[2], kwargs.get("absmax_8bit"))
    with mode.blocks.while_held(*sizes, cause="dequantisation"):
        return mode.made(op, args, kwargs)


def _expanded(value: torch.Tensor, shape: tuple[int, int], statistics: torch.Tensor | None) -> tuple[int, ...]:
    """Bytes of a weight in the value's number type, after those of its nested statistics."""
    rows, columns = shape
    nested = () if statistics is None else 2 * (4 * statistics.numel(),)
    return *nested, rows * columns * value.element_size()


def _dequantise(mode: Step, op: Any, args: Any, kwargs: Any) -> Any:
    result = mode.made(op, args, kwargs)
    mode.blocks.hold(result, "dequantisation")
    return result


def _int8_quantise(mode: Step, op: Any, args: Any, kwargs: Any) -> Any:
    """LLM.int8 looks for columns with outliers: a copy of the values and a mask (0.50, `cuda/ops.py`).

    Which columns have any depends on values; here none has.
    """
    values, threshold = args[0], kwargs.get("threshold", args[1] if len(args) > 1 else 0.0)
    count = values.numel()
    made = (
        torch.empty(values.shape, dtype=torch.int8, device=META),
        torch.empty(count // values.shape[-1], dtype=torch.float32, device=META),
    )
    for each in made:
        mode.blocks.hold(each, mode.cause(each))
    if not threshold:
        return *made, None
    with mode.blocks.while_held(values.element_size() * count, count, cause="quantisation of activations"):
        return *made, torch.empty(0, dtype=torch.int64)


def _int8_product(mode: Step, op: Any, args: Any, kwargs: Any) -> Any:
    """The product in int32, expanded to fp16, then cast to the type that is wanted (0.50, `cuda/ops.py`)."""
    mixed = op is torch.ops.bitsandbytes.int8_mixed_scaled_mm.default
    left, right = args[1:3] if mixed else args[:2]
    dtype = args[0].dtype if mixed else args[5] if len(args) > 5 else torch.float16  # torch hands all on by place
    shape = (*left.shape[:-1], right.shape[0])
    count = math.prod(shape)
    with mode.blocks.while_held(4 * count, *[2 * count] * (dtype is not torch.float16), cause="dequantisation"):
        made = torch.empty(shape, dtype=dtype, device=META)
        mode.blocks.hold(made, mode.cause(made))
    return (made, torch.empty(0, dtype=dtype, device=META)) if mixed else made


def _masked_scatter(mode: Step, op: Any, args: Any, kwargs: Any) -> Any:
    """CUDA counts the mask's ones before it copies: eight bytes an element."""
    args, kwargs = tree_map_only(torch.Tensor, to_meta, (args, kwargs))
    with mode.blocks.while_held(8 * args[0].numel(), cause="temporary"):
        return op(*args, **kwargs)


def _topk(mode: Step, op: Any, args: Any, kwargs: Any) -> Any:
    """Places that depend on values: spread evenly, as a router that balances its experts would."""
    values, places = op(*args, **kwargs)
    width = args[0].shape[-1]
    real = (torch.arange(places.numel()) % width).reshape(places.shape)
    return values, real


def _histc(mode: Step, op: Any, args: Any, kwargs: Any) -> Any:
    """CUDA counts whole numbers; the CPU wants them as floats."""
    if args[0].is_meta or args[0].is_floating_point():
        return op(*args, **kwargs)
    return op(args[0].float(), *args[1:], **kwargs).to(args[0].dtype)


def _equal(mode: Step, op: Any, args: Any, kwargs: Any) -> Any:
    """Values on meta are unknown; models that compare them look for padding, and there is none."""
    if isinstance(args[1], torch.Tensor) or not args[0].is_meta:
        args, kwargs = tree_map_only(torch.Tensor, to_meta, (args, kwargs)) if args[0].is_meta else (args, kwargs)
        return op(*args, **kwargs)
    return torch.zeros(args[0].shape, dtype=torch.bool)


def _frozen_product(mode: Step, op: Any, args: Any, kwargs: Any) -> Any:
    """As `_gemm_4bit`, forward and backward."""
    sizes = _expanded(args[0], args[6], None if args[5] is None else args[2])
    with mode.blocks.while_held(*sizes, cause="dequantisation"):
        return op(*args, **kwargs)


def _attention(mode: Step, op: Any, args: Any, kwargs: Any) -> Any:
    out, sums = op(*args, **kwargs)
    if size := taken(out, Kernel(args[4])):
        mode.blocks.flash(size // args[5], "attention workspace")
    return out, sums


def _attention_backward(mode: Step, op: Any, args: Any, kwargs: Any) -> Any:
    rows = args[1].shape[0] // args[-1]
    sizes = workspace(Kernel(args[-2]), args[1][:rows], args[2][:rows])
    with mode.blocks.while_held(*sizes, cause="attention workspace"):
        return op(*args, **kwargs)


CUDA: Mapping[Any, Callable[[Step, Any, Any, Any], Any]] = {
    torch.ops.bitsandbytes.gemm_4bit.default: _gemm_4bit,
    torch.ops.bitsandbytes.dequantize_4bit.default: _dequantise,
    torch.ops.bitsandbytes.dequantize_blockwise.default: _dequantise,
    torch.ops.bitsandbytes.int8_vectorwise_quant.default: _int8_quantise,
    torch.ops.bitsandbytes.int8_mixed_scaled_mm.default: _int8_product,
    torch.ops.bitsandbytes.int8_scaled_mm.default: _int8_product,
    torch.ops.vlcheck.frozen_product.default: _frozen_product,
    torch.ops.vlcheck.frozen_product_backward.default: _frozen_product,
    torch.ops.vlcheck.attention.default: _attention,
    torch.ops.vlcheck.attention_backward.default: _attention_backward,
    ATEN.masked_scatter.default: _masked_scatter,
    ATEN.topk.default: _topk,
    ATEN.histc.default: _histc,
    ATEN.eq.Scalar: _equal,
}
