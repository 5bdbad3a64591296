"""The tensors that a model holds on its device, and how loading puts them there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vlcheck.memory.tape import Tape


@dataclass(frozen=True)
class Stored:
    """A tensor that stays, and what loading holds while it makes it."""

    size: int
    cause: str
    temporary: tuple[int, ...] = ()


def pack(model: nn.Module) -> None:
    """Give 4-bit and LLM.int8 layers on meta packed weights, in place, with what PEFT and bitsandbytes read."""
    import bitsandbytes
    from bitsandbytes.functional import QuantState

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear8bitLt):
            _pack_int8(module)
            continue
        if not isinstance(module, bitsandbytes.nn.Linear4bit) or not isinstance(
            module.weight, bitsandbytes.nn.Params4bit
        ):
            continue
        old: Any = module.weight
        count, size = old.numel(), int(old.blocksize)
        blocks = -(-count // size)
        inner = None
        if old.compress_statistics:
            inner = QuantState(absmax=_meta(-(-blocks // 256)), blocksize=256, code=_meta(256), dtype=torch.float32)
        state = QuantState(
            absmax=_meta(blocks, dtype=torch.uint8 if inner else torch.float32),
            shape=torch.Size(old.shape),
            code=_meta(16),
            blocksize=size,
            quant_type=old.quant_type,
            dtype=old.dtype,
            offset=_meta() if inner else None,
            state2=inner,
        )
        width = old.quant_storage.itemsize
        packed: Any = nn.Parameter(_meta(-(-count // (2 * width)), 1, dtype=old.quant_storage), requires_grad=False)
        packed.quant_state, packed.compress_statistics = state, old.compress_statistics
        packed.quant_type, packed.bnb_quantized = old.quant_type, True
        module.weight, module.quant_state = packed, state


def _pack_int8(module: Any) -> None:
    """A byte a weight, and the largest value of each row, as bitsandbytes keeps them from the first product on."""
    codes = _meta(*module.weight.shape, dtype=torch.int8)
    module.weight = type(module.weight)(codes, requires_grad=False, has_fp16_weights=False)
    module.state.CB, module.state.SCB = codes, _meta(codes.shape[0])


def settle(model: nn.Module) -> None:
    """Do to a model what its first step does: bitsandbytes gives biases of 4-bit layers the compute type for good."""
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit) and module.bias is not None and module.compute_dtype is not None:
            module.bias.data = module.bias.data.to(module.compute_dtype)


def stored(model: nn.Module, adapters: Sequence[str] = ("lora_", "modules_to_save")) -> Iterator[Stored]:
    """Every tensor once, in the order in which a load makes them: the base, then the adapters."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    seen: set[int] = set()
    late: list[Stored] = []
    for path, module in model.named_modules():
        if isinstance(module, Linear4bit):
            yield from _packed(module.weight)
            seen.add(id(module.weight))
        elif isinstance(module, Linear8bitLt):
            yield from _int8(module.weight)
            seen.add(id(module.weight))
        kind = "embeddings" if isinstance(module, nn.Embedding) else "other tensors"
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is None or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            size = tensor.numel() * tensor.element_size()
            dtype = str(tensor.dtype).removeprefix("torch.")
            if any(mark in f"{path}.{name}" for mark in adapters):
                late.append(Stored(size, f"adapters ({dtype})"))
            elif tensor.dim() > 2 and "expert" in path:
                yield Stored(size, f"experts ({dtype})")
            else:
                yield Stored(size, f"{kind} ({dtype})")
    yield from late


def _packed(weight: Any) -> Iterator[Stored]:
    """A 4-bit weight: packed while its 16-bit values are there, its statistics in turn packed."""
    state = weight.quant_state
    whole, blocks = state.shape.numel() * state.dtype.itemsize, state.absmax.numel()
    name = f"quantised weights ({state.quant_type})"
    yield Stored(weight.numel() * weight.element_size(), name, (whole, 4 * blocks))
    statistics = [state.absmax, state.code]
    if state.state2 is not None:
        statistics += [state.offset, state.state2.absmax, state.state2.code]
    for tensor in statistics:
        yield Stored(tensor.numel() * tensor.element_size(), "quantisation statistics")


def _int8(weight: Any) -> Iterator[Stored]:
    """An LLM.int8 weight: made from a copy in fp16, in which its 16-bit values are by then."""
    rows, count = weight.shape[0], weight.numel()
    yield Stored(count, "quantised weights (int8)", (2 * count,))
    yield Stored(4 * rows, "quantisation statistics")


def load(tensors: Iterable[Stored], tape: Tape, *, upcast: bool = False) -> None:
    """Write the loading of a model to a tape; its blocks stay.

    Args:
        upcast: the model was prepared for k-bit training: fp32 tensors were 16 bits wide when they were loaded.
    """
    narrow: list[tuple[int, Stored]] = []
    for each in tensors:
        held = [tape.allocate(size, "loading") for size in each.temporary]
        if upcast and each.cause.endswith("(float32)") and not each.cause.startswith("adapters"):
            narrow.append((tape.allocate(each.size // 2, "loading"), each))
        else:
            tape.allocate(each.size, each.cause)
        for block in held:
            tape.release(block)
    for block, each in narrow:
        tape.allocate(each.size, each.cause)
        tape.release(block)


def _meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")
