"""Which attention kernel a GPU picks, and what that kernel keeps and takes.

The choice follows torch 2.11 to 2.13, `sdp_utils.cpp`; the sizes were measured on an H100 with torch 2.11
(`fixtures/measured/attention-h100.jsonl`; `tests/memory/test_attention.py` holds them against it).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

from vlcheck.memory.blocks import Blocks


class Kernel(Enum):
    """Backends of `scaled_dot_product_attention`."""

    CUDNN = "cudnn"
    FLASH = "flash"
    EFFICIENT = "efficient"
    MATH = "math"


HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Arch:
    """What of a GPU decides the kernel: its compute capability, or that it is an AMD card."""

    major: int
    minor: int = 0
    amd: bool = False

    @property
    def half(self) -> tuple[torch.dtype, ...]:
        """16-bit types that the efficient kernel takes."""
        return HALF if self.amd or self.major >= 8 else (torch.float16,)


HOPPER = Arch(9)


@dataclass(frozen=True)
class Call:
    """All of a call of attention that decides its kernel."""

    dims: int
    width: int
    dtype: torch.dtype
    grouped: bool
    """Keys and values have fewer heads."""
    training: bool
    masked: bool
    dropout: bool

    @classmethod
    def of(cls, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None,
           dropout: float) -> Call:  # fmt: skip
        """What decides the kernel of a call.

        Args:
            query, key, value: of shape (rows, heads, tokens, width); keys and values may have fewer heads.
            mask: broadcast to (rows, heads, tokens, tokens), boolean or added to the scores.
            dropout: share of attention weights that is dropped.
        """
        training = query.requires_grad or key.requires_grad or value.requires_grad
        grouped = query.dim() > 2 and query.shape[-3] != key.shape[-3]
        return cls(query.dim(), query.shape[-1], query.dtype, grouped, training, mask is not None, bool(dropout))


def choose(arch: Arch, call: Call) -> Kernel:
    """The kernel that torch takes for a call, in its order of preference."""
    width, half = call.width, call.dtype in HALF
    if call.dims != 4:
        return Kernel.MATH
    if arch.major in (9, 10) and not arch.amd and half and width <= 256 and width % 8 == 0 and not call.dropout:
        return Kernel.CUDNN
    ada = not arch.amd and (arch.major == 12 or (arch.major == 8 and arch.minor in (6, 7, 9)))
    refused = ada and call.training and (192 < width <= 224 or (width > 224 and call.dropout))
    widest = 512 if arch.amd else 256
    if arch.major >= 8 and half and not call.masked and width <= widest and not refused:
        return Kernel.FLASH
    aligned = width % (8 if half else 4) == 0
    if not call.grouped and aligned and (call.dtype in arch.half or call.dtype is torch.float32):
        return Kernel.EFFICIENT
    return Kernel.MATH


class Fused(torch.autograd.Function):
    """A fused kernel on meta: keeps what the real one keeps, and takes what it takes."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None,
                kernel: Kernel, blocks: Blocks, calls: int = 1) -> torch.Tensor:  # fmt: skip
        """Output of shape (rows, heads, tokens, width); keeps it, the inputs, log-sum-exp and the kernel's own mask.

        Args:
            calls: how many calls one after another the rows are, in equal shares.
        """
        bias = bias_of(mask, query, kernel)
        out, sums = made(query, value, kernel)
        if size := taken(out, kernel):
            blocks.flash(size // calls, "attention workspace")
        ctx.save_for_backward(query, key, value, out, sums, bias)
        ctx.kernel, ctx.blocks, ctx.rows = kernel, blocks, query.shape[0] // calls
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        """Gradients of the three inputs, and the kernel's workspace while it runs."""
        query, key, value, *_ = ctx.saved_tensors
        with ctx.blocks.while_held(
            *workspace(ctx.kernel, query[: ctx.rows], key[: ctx.rows]), cause="attention workspace"
        ):
            gradients = gradients_of(query, key, value)
        return (*gradients, None, None, None, None)


def made(query: torch.Tensor, value: torch.Tensor, kernel: Kernel) -> tuple[torch.Tensor, torch.Tensor]:
    """Output of shape (rows, heads, tokens, width), its tokens next to each other, and log-sum-exp in fp32."""
    rows, heads, tokens, _ = query.shape
    out = query.new_empty(rows, tokens, heads, value.shape[-1]).transpose(1, 2)
    padded = -(-tokens // 32) * 32 if kernel is Kernel.EFFICIENT else tokens
    return out, torch.empty(rows, heads, padded, dtype=torch.float32, device=query.device)


def taken(out: torch.Tensor, kernel: Kernel) -> int:
    """Bytes that the forward pass takes and gives back."""
    wide = kernel is Kernel.EFFICIENT and out.shape[-1] > 128 and out.dtype in HALF
    return 4 * out.numel() if wide else 0


def gradients_of(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What the backward pass makes: for each input a tensor like it, its tokens next to each other."""
    return tuple(
        like.new_empty(like.shape[0], like.shape[2], like.shape[1], like.shape[3]).transpose(1, 2) for like in inputs
    )


def bias_of(mask: torch.Tensor | None, query: torch.Tensor, kernel: Kernel) -> torch.Tensor | None:
    """Boolean masks become numbers, a copy for each call; the efficient kernel wants rows of eight."""
    if mask is None or kernel is Kernel.FLASH:
        return None
    ragged = kernel is Kernel.EFFICIENT and mask.shape[-1] % 8 != 0
    if mask.dtype is not torch.bool and not ragged:
        return mask
    shape = (*mask.shape[:-1], -(-mask.shape[-1] // 8) * 8 if ragged else mask.shape[-1])
    return query.new_empty(shape)


def workspace(kernel: Kernel, query: torch.Tensor, key: torch.Tensor) -> tuple[int, ...]:
    """Bytes that the backward pass takes beside the gradients, block by block."""
    rows, heads, tokens, width = query.shape
    keys = key.shape[2]
    grouped = 2 * (2 * rows * heads * keys * width,) if key.shape[1] != heads else ()
    if kernel is Kernel.CUDNN:
        return (256 + 4 * rows * heads * tokens * (width + 1), *grouped)
    if kernel is Kernel.FLASH:
        rounded, wide = -(-tokens // 128) * 128, 32 if width <= 128 else 64
        sums = 4 * rows * heads * rounded
        return (sums * (-(-width // wide) * wide), sums, *grouped)
    wide = 64 if width <= 64 else -(-width // 128) * 128
    sums = -(-tokens // 64) * 64 * wide * 4 + tokens
    if query.dtype in HALF and width > 128:  # keys and values are summed in fp32 too, 64 rows for each split
        sums += 2 * 64 * max(1, min(-(-keys // 64), 200 // (rows * heads))) * wide * 4
    return (4 * rows * heads * tokens, rows * heads * sums)
