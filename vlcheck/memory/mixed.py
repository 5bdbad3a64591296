"""What a CUDA device does to functions before they reach their kernels: autocast, fused dropout and attention.

Tensors on meta know no autocast, take the unfused dropout and the attention that keeps its matrix. This mode
stands where those decisions are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from vlcheck.memory.attention import Arch, Call, Fused, Kernel, choose
from vlcheck.memory.blocks import Blocks
from vlcheck.memory.windows import apart, gathered, together

LOWER = frozenset({
    "linear", "matmul", "__matmul__", "__rmatmul__", "bmm", "mm", "addmm", "baddbmm", "addbmm", "conv1d", "conv2d",
    "conv3d", "conv_transpose1d", "conv_transpose2d", "einsum", "prelu", "scaled_dot_product_attention",
})  # fmt: skip
"""Functions that autocast runs in 16 bits (torch 2.11, `autocast_mode.h`)."""
UPPER = frozenset({
    "exp", "log", "log2", "log10", "log1p", "expm1", "pow", "__pow__", "rsqrt", "reciprocal", "softplus", "layer_norm",
    "group_norm", "norm", "nll_loss", "cross_entropy", "mse_loss", "cosine_similarity", "logsumexp", "softmax",
    "log_softmax", "cumsum", "cumprod", "sum", "prod", "sinh", "cosh", "tan",
})  # fmt: skip
"""Functions that autocast runs in fp32."""


class CudaFunctions(TorchFunctionMode):
    """Casts, dropout and attention as on a CUDA device."""

    def __init__(self, arch: Arch, blocks: Blocks, low: torch.dtype | None, *, gathers: bool = False) -> None:
        super().__init__()
        self.arch, self.blocks, self.low, self.gathers = arch, blocks, low, gathers
        self.casting = False
        """Whether autocast is in force: in the forward pass and where it is run again."""
        self.kernels: dict[str, int] = {}
        """Attention calls by kernel."""
        self.chosen: dict[Call, Kernel] = {}
        """What each kind of call was given: a card that gives them the same takes the same steps."""
        self._copies: dict[int, torch.Tensor] = {}

    def forget(self) -> None:
        """Autocast's copies of the weights die with its outermost context."""
        self._copies.clear()

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.split and args and self._gathers(args[0]):
            parts = gathered(*args, **kwargs)
            return func(*args, **kwargs) if parts is None else parts
        name = getattr(func, "__name__", "")
        windows = getattr(args[0], "windows", 1) if args else 1
        if self.casting and self.low is not None:
            if name in LOWER:
                args, kwargs = _cast(args, kwargs, self._lowered)
            elif name in UPPER:
                args, kwargs = _cast(args, kwargs, self._raised)
        if func is functional.scaled_dot_product_attention:
            if windows == 1:
                return self._attention(func, *args, **kwargs)
            query, key, value = (apart(each, windows) for each in args[:3])
            return together(self._attention(func, query, key, value, *args[3:], **kwargs, calls=windows))
        if func is functional.dropout:
            return _dropout(*args, **kwargs)
        return func(*args, **kwargs)

    def _lowered(self, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point() or tensor.dtype in (self.low, torch.float64):
            return tensor
        if not (tensor.is_leaf and tensor.requires_grad and tensor.dtype is torch.float32) or tensor._is_view():
            return tensor.to(self.low)
        if id(tensor) not in self._copies:
            with self.blocks.meant_for("16-bit copies of what trains"):
                self._copies[id(tensor)] = tensor.to(self.low)
        return self._copies[id(tensor)]

    def _raised(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor

    def _gathers(self, tensor: torch.Tensor) -> bool:
        """Whether attention may take its windows together: what plain matrix products take, each takes alone."""
        return self.gathers and choose(self.arch, Call.of(tensor, tensor, tensor, None, 0.0)) is not Kernel.MATH

    def _attention(self, func: Callable[..., Any], query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                   attn_mask: torch.Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False, *,
                   calls: int = 1, **more: Any) -> torch.Tensor:  # fmt: skip
        call = Call.of(query, key, value, attn_mask, dropout_p)
        kernel = self.chosen[call] = choose(self.arch, call)
        self.kernels[kernel.value] = self.kernels.get(kernel.value, 0) + calls
        if kernel is Kernel.MATH:
            made: torch.Tensor = func(query, key, value, attn_mask, dropout_p, is_causal, **more)
            return made
        return self._fused(query, key, value, attn_mask, kernel, calls)

    def _fused(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None,
               kernel: Kernel, calls: int) -> torch.Tensor:  # fmt: skip
        """What a fused kernel makes."""
        fused: torch.Tensor = Fused.apply(query, key, value, mask, kernel, self.blocks, calls)  # type: ignore[no-untyped-call]
        return fused


def _cast(args: Any, kwargs: Any, to: Callable[[torch.Tensor], torch.Tensor]) -> tuple[Any, Any]:
    """Arguments with each tensor cast, those in lists too: functions that autocast knows take nothing deeper."""

    def cast(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return to(value)
        return type(value)(map(cast, value)) if type(value) in {list, tuple} else value

    return tuple(map(cast, args)), {name: cast(value) for name, value in kwargs.items()}


def _dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """CUDA's dropout keeps a boolean mask."""
    if not training or p == 0:
        return input
    return torch.native_dropout(input, p, True)[0]


@contextmanager
def autocast_flag(low: torch.dtype | None) -> Iterator[None]:
    """Libraries ask torch whether autocast is on; on meta only the answer matters."""
    before = torch.is_autocast_enabled("cuda")
    torch.set_autocast_enabled("cuda", low is not None)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", before)
