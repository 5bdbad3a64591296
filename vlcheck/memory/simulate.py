"""Run a real training step without storage and follow every storage it would have had.

Floats live on meta; integers and booleans stay real on the CPU, so that code that depends on data just runs:
split sizes, boolean indexing, counts of image tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from vlcheck.memory.blocks import Blocks
from vlcheck.memory.cuda_operations import ATEN, CUDA, META, to_meta

INTEGERS = frozenset({torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool})
ARANGES = frozenset({ATEN.arange.default, ATEN.arange.start, ATEN.arange.start_step})
FACTORIES = ARANGES | {
    ATEN.zeros.default, ATEN.ones.default, ATEN.full.default, ATEN.empty.memory_format, ATEN.scalar_tensor.default,
}  # fmt: skip
INDEXED = frozenset({ATEN.index.Tensor, ATEN.index_put_.default, ATEN.index_put.default})
CAUSES = {"forward": "activations: ", "recompute": "recomputed activations", "backward": "gradients of activations"}
"""What a new tensor is for, by the pass that makes it."""
SUMS = frozenset({ATEN.add.Tensor})
LIKE_THOSE = frozenset({
    ATEN.mean.dim, ATEN.sum.dim_IntList, ATEN.amax.default, ATEN._softmax.default, ATEN._log_softmax.default,
    ATEN.native_dropout.default, ATEN.native_dropout_backward.default, ATEN.slice_backward.default,
    ATEN.native_layer_norm.default, ATEN._softmax_backward_data.default, ATEN.mm.default, ATEN.bmm.default,
    ATEN._to_copy.default, ATEN.clone.default, ATEN._safe_softmax.default, ATEN.cat.default,
    torch.ops.bitsandbytes.gemm_4bit.default,
    torch.ops.bitsandbytes.dequantize_4bit.default, torch.ops.bitsandbytes.dequantize_blockwise.default,
})  # fmt: skip
"""Not elementwise, but like those: what they make depends on the form of what they get, and is new."""
VIEWS = frozenset({
    ATEN.detach.default, ATEN.t.default, ATEN.view.default, ATEN.transpose.int, ATEN.slice.Tensor,
    ATEN.unsqueeze.default, ATEN.expand.default, ATEN._unsafe_view.default, ATEN.split_with_sizes.default,
    ATEN.split.Tensor, ATEN.select.int, ATEN.permute.default, ATEN.alias.default, ATEN.squeeze.dim,
})  # fmt: skip
"""What they make lies in the storage of what they get, a third of all operations."""


@dataclass(frozen=True, slots=True)
class Way:
    """How one operation is followed; looked up once, for torch hashes an operation in Python."""

    op: Any
    on_cuda: Callable[[FollowStorages, Any, Any, Any], Any] | None
    sums: bool
    by_form: bool
    """Whether what it makes is new, and depends on the form of what it gets alone."""
    view: bool
    """Whether what it makes lies in the storage of what it gets."""
    known: dict[Any, tuple[Any, ...]]
    """Forms of arguments to the forms of results."""

    @classmethod
    def of(cls, op: Any) -> Way:
        """The way of an operation."""
        pointwise = torch.Tag.pointwise in op.tags and not op._schema.is_mutable
        return cls(op, CUDA.get(op), op in SUMS, pointwise or op in LIKE_THOSE, op in VIEWS, {})


class FollowStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every new storage is charged to a cause until it dies."""

    def __init__(self, blocks: Blocks, ways: dict[int, Way] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.blocks = blocks
        self.part = "between the parts"
        """Part of the model that runs."""
        self.phase = "forward"
        self.vocabulary = -1
        self.at_head = False
        """From the language model's head to the first layer that runs again."""
        self.fused = False
        """While a compiled layer makes what lies in no memory."""
        self._ways = {} if ways is None else ways

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch would guard every operation against its compiler (2.13); nothing is compiled here."""
        return False

    def cause(self, tensor: torch.Tensor) -> str:
        """What a new tensor is for; gradients and optimizer state are told apart later."""
        if self.at_head and tensor.dim() and tensor.shape[-1] == self.vocabulary:
            return "logits and loss"
        return f"{CAUSES[self.phase]}{self.part if self.phase == 'forward' else ''}"

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        way = self._ways.get(id(op))
        if way is None:
            way = self._ways[id(op)] = Way.of(op)
        if way.view:
            return op(*args, **kwargs)
        devices = {each.is_meta for each in _tensors((*args, *kwargs.values()))}
        if self.fused:
            args, kwargs = _placed(op, args, kwargs, devices) if len(devices) == 2 else (args, kwargs)
            return op(*args, **kwargs)
        if way.sums and self.phase == "backward" and True in devices and (kept := _accumulated(args)) is not None:
            return kept
        if way.on_cuda is not None:
            result = way.on_cuda(self, op, args, kwargs)
        else:
            if len(devices) != 1 or "device" in kwargs:
                args, kwargs = _placed(op, args, kwargs, devices)
            result = self.made(op, args, kwargs) if True in devices else op(*args, **kwargs)
        if isinstance(result, torch.Tensor):
            self.blocks.hold(result, self.cause(result))
            return result
        for each in _tensors((result,)):
            self.blocks.hold(each, self.cause(each))
        return result

    def made(self, op: Any, args: Any, kwargs: Any) -> Any:
        """What an operation on meta makes.

        torch 2.11 finds the form of an elementwise result in Python, 0.1 to 0.5 ms a call and more than half of a
        step; a step asks the same few hundred questions again and again.
        """
        way = self._ways[id(op)]
        if not way.by_form:
            return op(*args, **kwargs)
        key = (*map(_form, args), *((name, _form(value)) for name, value in kwargs.items()))
        forms = way.known.get(key)
        if forms is None:
            result = op(*args, **kwargs)
            way.known[key] = tuple(map(_form, _tensors((result,))))
            return result
        made = [torch.empty_strided(shape, stride, dtype=dtype, device=META) for shape, stride, dtype, _ in forms]
        return made[0] if len(made) == 1 else tuple(made)


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """The tensors among values and in lists of them: operations take and make nothing deeper."""
    for each in values:
        if isinstance(each, torch.Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from (inner for inner in each if isinstance(inner, torch.Tensor))


def _form(value: Any) -> Any:
    """All of an argument that decides what a result looks like."""
    if isinstance(value, torch.Tensor):
        return value.shape, value.stride(), value.dtype, value.is_meta
    if isinstance(value, list | tuple):
        return tuple(_form(each) if isinstance(each, torch.Tensor) else each for each in value)
    return type(value), value


def _placed(op: Any, args: Any, kwargs: Any, devices: set[bool]) -> tuple[Any, Any]:
    """Arguments on one device: floats on meta, whole numbers on the CPU as long as nothing else takes part."""
    device = kwargs.get("device")
    if op in FACTORIES and device is not None and torch.device(device).type == "meta":
        dtype = kwargs.get("dtype")
        if dtype in INTEGERS or (dtype is None and op in ARANGES and all(isinstance(a, int) for a in args)):
            kwargs = {**kwargs, "device": "cpu"}
    elif len(devices) == 2:
        if op in INDEXED:
            args = (args[0], _indices(args[1]), *args[2:])
        args, kwargs = tree_map_only(torch.Tensor, to_meta, (args, kwargs))
    elif op is ATEN._to_copy.default and device is not None:
        if True in devices:  # there is one device, the GPU
            kwargs = {**kwargs, "device": META}
        elif {args[0].dtype, kwargs.get("dtype") or args[0].dtype} <= INTEGERS:
            kwargs = {**kwargs, "device": "cpu"}
    return args, kwargs


def _indices(given: Any) -> list[torch.Tensor | None]:
    """A real mask has a real count: turn it into as many indices before it becomes meta."""
    out: list[torch.Tensor | None] = []
    for index in given:
        if index is None or index.dtype is not torch.bool:
            out.append(index)
            continue
        count = index.numel() if index.is_meta else int(index.count_nonzero())  # on meta no value says which: all
        out += [torch.empty(count, dtype=torch.int64, device=META)] * index.dim()
    return out


def _accumulated(args: Any) -> torch.Tensor | None:
    """The engine adds gradients up in place where one of them is nobody else's; under a mode it would not."""
    first, second = args[0], args[1]
    if not isinstance(second, torch.Tensor) or first.shape != second.shape or first.dtype != second.dtype:
        return None
    for mine in (first, second):
        storage = mine.untyped_storage()
        if torch._C._storage_Use_Count(storage._cdata) <= OWN_USES:
            return mine
    return None


OWN_USES = 2
