"""The passes of a compiled layer as graphs: traced on meta, and split where torch's compiler splits them.

The compiler makes one graph of a layer's forward and backward pass, and its partitioner decides what lies between them:
what is kept, and what is made again. That partitioner is called here. Results that fused operations alone read lie in
no memory, as in the compiler's kernels.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from vlcheck.memory import opaque_attention
from vlcheck.memory.attention import Call, Kernel, bias_of
from vlcheck.memory.cuda_operations import ATEN, META
from vlcheck.memory.layers import describe
from vlcheck.memory.mixed import CudaFunctions, autocast_flag
from vlcheck.memory.simulate import VIEWS

CONVERT = torch.ops.prims.convert_element_type.default
FUSED = VIEWS | {
    CONVERT, ATEN.clone.default, ATEN.cat.default, ATEN.full.default, ATEN._to_copy.default,
    ATEN.slice_backward.default, ATEN.slice_scatter.default,
}  # fmt: skip
"""What the compiler fuses beside pointwise operations."""


@dataclass(frozen=True)
class Graphs:
    """A layer's two passes."""

    forward: fx.GraphModule
    backward: fx.GraphModule
    form: Any
    """Structure of the layer's own results: what it returns, and what it puts into mappings that it gets. What else the
    forward graph makes is kept for the backward pass."""
    differentiable: list[int]
    """Which of those results have a gradient."""
    kernels: dict[str, int]
    """Attention calls of the forward pass by kernel."""
    chosen: dict[Call, Kernel]
    """What each kind of them was given."""

    @property
    def outputs(self) -> int:
        """How many results are the layer's own."""
        return int(self.form.num_leaves)


@dataclass(frozen=True)
class Given:
    """What a layer is called with, taken apart."""

    leaves: list[Any]
    form: Any
    places: list[int]
    """Which of the leaves are inputs of the graphs: tensors whose values are unknown, or are a mask's."""

    @classmethod
    def of(cls, args: Any, kwargs: Any) -> Given | None:
        """Whole numbers stay what they are: their values decide how a layer runs.

        None where an argument holds a state of its own, such as a cache: there is no graph of such a call.
        """
        opened = [dict(each) if isinstance(each, UserDict) else each for each in tree_flatten((args, kwargs))[0]]
        leaves, form = tree_flatten(opened)
        if not all(isinstance(each, torch.Tensor | int | float | str | None) for each in leaves):
            return None
        tensors = [(n, each) for n, each in enumerate(leaves) if isinstance(each, torch.Tensor)]
        return cls(leaves, form, [n for n, each in tensors if each.is_meta or each.dtype is torch.bool])

    def inputs(self) -> list[torch.Tensor]:
        """Those tensors."""
        return [self.leaves[n] for n in self.places]

    def described(self) -> Hashable:
        """All of the arguments that decides how a layer runs."""
        return tuple(
            (each.stride(), *describe(each)) if isinstance(each, torch.Tensor) else describe(each)
            for each in self.leaves
        )

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any, inputs: Sequence[torch.Tensor]) -> Any:
        """What a function returns for other inputs, and what it puts into the mappings among its arguments."""
        leaves = list(self.leaves)
        for place, each in zip(self.places, inputs, strict=False):
            leaves[place] = each
        old, form = tree_flatten((args, kwargs))
        opened = tree_unflatten(leaves, self.form)
        new = [type(was)(now) if isinstance(was, UserDict) else now for was, now in zip(old, opened, strict=True)]
        args, kwargs = tree_unflatten(new, form)
        result = function(*args, **kwargs)
        return result, [
            {key: value for key, value in now.items() if key not in was}
            for was, now in zip(old, new, strict=True)
            if isinstance(was, UserDict)
        ]

    @staticmethod
    def add(args: Any, kwargs: Any, added: Sequence[dict[Any, Any]]) -> None:
        """Put into the mappings among arguments what a layer would have put there."""
        mappings = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, UserDict)]
        for mapping, more in zip(mappings, added, strict=True):
            mapping.update(more)


def trace(layer: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any, given: Given,
          functions: CudaFunctions) -> Graphs:  # fmt: skip
    """A layer's passes as graphs, for arguments like these.

    A thread of its own has none of the modes and hooks that follow the step around it.

    Args:
        forward: the layer's own, without its checkpoint.
        given: the arguments, taken apart.
        functions: those of the step; another set like them is traced.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_trace, layer, forward, args, kwargs, given, functions).result()


def trained(layer: nn.Module) -> dict[str, nn.Parameter]:
    """A layer's parameters that train, by name: inputs of its graphs beside what it is called with."""
    return {name: each for name, each in layer.named_parameters() if each.requires_grad}


def _trace(layer: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any, given: Given,
           functions: CudaFunctions) -> Graphs:  # fmt: skip
    # private, and the compiler's own: seen in torch 2.13
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.nn.utils.stateless import _reparametrize_module

    parameters, attention = trained(layer), OpaqueAttention(functions)
    needing = [each.requires_grad for each in (*given.inputs(), *parameters.values())]

    def run(primals: Sequence[torch.Tensor]) -> Any:
        swapped = dict(zip(parameters, primals[len(given.places) :], strict=True))
        with _reparametrize_module(layer, swapped), attention:
            return given.call(forward, args, kwargs, primals)

    def joint(primals: list[torch.Tensor], tangents: list[torch.Tensor]) -> list[Any]:
        made = tree_flatten(run(primals))[0]
        inputs = [each for each, needs in zip(primals, needing, strict=True) if needs]
        gradients = iter(torch.autograd.grad(_differentiable(made), inputs, tangents, allow_unused=True))
        return [*made, *(next(gradients) if needs else None for needs in needing)]

    with META, autocast_flag(functions.low):
        primals = [_like(each) for each in (*given.inputs(), *parameters.values())]
        made, form = tree_flatten(run(primals))
        tangents = [torch.empty_like(each) for each in _differentiable(made)]
        asked = dict(attention.kernels), dict(attention.chosen)
        attention.forget()
        whole = make_fx(joint, decomposition_table=select_decomp_table())(primals, tangents)
        names = [f"primals_{n + 1}" for n in range(len(primals))] + [f"tangents_{n + 1}" for n in range(len(tangents))]
        _prepare(whole, names, [*primals, *tangents])
        halves = min_cut_rematerialization_partition(
            whole, [primals, tangents], num_fwd_outputs=len(made), static_lifetime_input_indices=[]
        )
    for half in halves:
        _mark(half)
    differentiable = [n for n, each in enumerate(made) if isinstance(each, torch.Tensor) and each.requires_grad]
    return Graphs(*halves, form, differentiable, *asked)


class OpaqueAttention(CudaFunctions):
    """A CUDA device's functions, with attention as one operation."""

    def __init__(self, functions: CudaFunctions) -> None:
        super().__init__(functions.arch, functions.blocks, functions.low, gathers=functions.gathers)
        self.casting = True

    def _fused(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None,
               kernel: Kernel, calls: int) -> torch.Tensor:  # fmt: skip
        bias = bias_of(mask, query, kernel)
        out: torch.Tensor = opaque_attention.attention(query, key, value, bias, kernel.value, calls)[0]
        return out


def _like(tensor: torch.Tensor) -> torch.Tensor:
    made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META)
    return made.requires_grad_(tensor.requires_grad)


def _differentiable(values: Sequence[Any]) -> list[torch.Tensor]:
    return [each for each in values if isinstance(each, torch.Tensor) and each.requires_grad]


def _prepare(graph: fx.GraphModule, names: list[str], inputs: list[torch.Tensor]) -> None:
    """Bring a traced graph into the form that the partitioner reads: inputs by name, each result with its form."""
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
    for node, name in zip(placeholders, names, strict=True):
        node.name = node.target = name
    for node in graph.graph.nodes:
        if (functional := _functional(node)) is not None:
            node.target = functional
    _Forms(graph, garbage_collect_values=False).run(*inputs)
    for node in graph.graph.nodes:
        _shorten_casts(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


class _Forms(fx.Interpreter):
    def run_node(self, node: fx.Node) -> Any:
        node.meta["val"] = made = super().run_node(node)
        return made


def _functional(node: fx.Node) -> Any:
    """The operation that makes anew what this one changes in place, as the compiler has it."""
    name = getattr(node.target, "_opname", "")
    if not name.endswith("_") or name.startswith("_"):
        return None
    packet = getattr(ATEN, name.removesuffix("_"), None)
    return packet and getattr(packet, node.target._overloadname, None)  # type: ignore[union-attr]


def _shorten_casts(node: fx.Node) -> None:
    """Take out casts that lead back, as the compiler does: from 16 bits to 32 and back again is nowhere."""
    if node.target is not CONVERT or not isinstance(source := node.args[0], fx.Node):
        return
    if source.target is CONVERT and isinstance(first := source.args[0], fx.Node):
        low, high, last = (each.meta["val"].dtype for each in (first, source, node))
        if low.is_floating_point and high.itemsize >= max(low.itemsize, last.itemsize):
            node.args = (first, *node.args[1:])
            source = first
    if source.meta["val"].dtype == node.meta["val"].dtype:
        node.replace_all_uses_with(source)


def _mark(graph: fx.GraphModule) -> None:
    """Say which results lie in memory: of fused operations those alone that something else reads."""
    for node in graph.graph.nodes:
        node.meta["fused"] = _fuses(node) and all(map(_fuses, _readers(node)))


def _fuses(node: fx.Node) -> bool:
    if node.target in FUSED:
        return True
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags


def _readers(node: fx.Node) -> Iterator[fx.Node]:
    for user in node.users:
        if user.target in VIEWS:
            yield from _readers(user)
        else:
            yield user
