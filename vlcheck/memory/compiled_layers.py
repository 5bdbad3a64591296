"""Compiled layers in a simulated step: each runs by the graphs that torch's compiler would make of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_unflatten

from vlcheck.memory.cuda_operations import ATEN
from vlcheck.memory.graphs import Given, Graphs, trace, trained
from vlcheck.memory.layers import signature
from vlcheck.memory.mixed import CudaFunctions
from vlcheck.memory.simulate import FollowStorages
from vlcheck.model.frozen_product import make_opaque
from vlcheck.training.compiled import forward_of, repeated_layers


@dataclass
class Compiler:
    """What was compiled for a model so far."""

    graphs: dict[Hashable, Graphs | None] = field(default_factory=dict)
    """By kind of layer and form of its arguments; None where the compiler's graph could not be made."""

    @classmethod
    def of(cls, model: nn.Module) -> Compiler:
        """A compiler for a model, whose frozen products become opaque, as the trainer has them."""
        for _, layer in repeated_layers(model):
            make_opaque(layer)
        return cls()

    def find(self, layer: CompiledLayer, args: Any, kwargs: Any, given: Given) -> Graphs | None:
        """The graphs of a call; `given` are its arguments, taken apart."""
        key = (signature(layer.module), given.described(), layer.functions.arch, layer.functions.low)
        if key not in self.graphs:
            try:
                self.graphs[key] = trace(layer.module, layer.forward, args, kwargs, given, layer.functions)
            except Exception:  # whatever a model's own code raises while it is traced: it runs as it is written
                self.graphs[key] = None
        return self.graphs[key]


@dataclass
class CompiledLayer:
    """A layer's forward that runs by its graphs."""

    module: nn.Module
    forward: Callable[..., Any]
    """Its own, without its checkpoint."""
    compiler: Compiler
    functions: CudaFunctions
    storages: FollowStorages
    left: set[str]
    """Kinds of layers that run as they are written; more are added."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer returns."""
        given = Given.of(args, kwargs)
        graphs = None if given is None else self.compiler.find(self, args, kwargs, given)
        if given is None or graphs is None:
            self.left.add(type(self.module).__name__)
            return self.forward(*args, **kwargs)
        self.functions.chosen.update(graphs.chosen)
        for kernel, calls in graphs.kernels.items():
            self.functions.kernels[kernel] = self.functions.kernels.get(kernel, 0) + calls
        inputs = (*given.inputs(), *trained(self.module).values())
        made = Passes.apply(graphs, self.storages, *inputs)  # type: ignore[no-untyped-call]
        result, added = tree_unflatten(list(made), graphs.form)
        Given.add(args, kwargs, added)
        return result


class Passes(torch.autograd.Function):
    """One call of a compiled layer."""

    @staticmethod
    def forward(ctx: Any, graphs: Graphs, storages: FollowStorages, *inputs: torch.Tensor) -> tuple[Any, ...]:
        """The layer's own results; what the graph hands on is kept."""
        made = Run(graphs.forward, storages).run(*inputs)
        ctx.save_for_backward(*made[graphs.outputs :])
        ctx.graphs, ctx.storages = graphs, storages
        own = made[: graphs.outputs]
        others = [each for n, each in enumerate(own) if n not in graphs.differentiable]
        ctx.mark_non_differentiable(*(each for each in others if isinstance(each, torch.Tensor)))
        return tuple(own)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        """A gradient of each input that needs one."""
        wanted = [gradients[n] for n in ctx.graphs.differentiable]
        return None, None, *Run(ctx.graphs.backward, ctx.storages).run(*ctx.saved_tensors, *wanted)


class GraphFailed(Exception):
    """A graph that was made does not run on meta."""


class Run(fx.Interpreter):
    """A graph, operation by operation; what fused operations alone read lies in no memory."""

    def __init__(self, graph: fx.GraphModule, storages: FollowStorages) -> None:
        super().__init__(graph)
        self.storages = storages

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """What an operation makes; a view is a copy where strides differ from those that were traced."""
        return super().call_function(torch.reshape if target is ATEN.view.default else target, args, kwargs)

    def run_node(self, node: fx.Node) -> Any:
        """What a node makes."""
        self.storages.fused = node.meta.get("fused", False)
        try:
            return super().run_node(node)
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            raise GraphFailed(str(error)) from error
        finally:
            self.storages.fused = False


@contextmanager
def compiled(base: nn.Module, compiler: Compiler, functions: CudaFunctions, storages: FollowStorages,
             left: set[str]) -> Iterator[dict[str, CompiledLayer]]:  # fmt: skip
    """Let every layer that the trainer would compile run by its graphs, in place.

    Yields:
        Layers whose checkpoint lies around the compiled forward, by name; the rest has the compiled forward as its own.
    """
    inside: dict[str, CompiledLayer] = {}
    own = []
    for name, module in repeated_layers(base):
        if not module.training:
            continue
        forward, checkpointed = forward_of(module)
        layer = CompiledLayer(module, forward, compiler, functions, storages, left)
        if checkpointed:
            inside[name] = layer
        else:
            module.forward = layer
            own.append(module)
    try:
        yield inside
    finally:
        for module in own:
            module.__dict__.pop("forward", None)


def in_checkpoint(layer: CompiledLayer | None, function: Callable[..., Any]) -> Callable[..., Any]:
    """What a checkpoint runs: the compiled layer in place of its forward, where there is one."""
    return function if layer is None else partial(layer, **function.keywords)  # type: ignore[attr-defined]
