"""Layers that are built alike need not all be run: one of them stands for the rest.

A layer may be left out when another was run whose neighbours are of the same kinds; the first layer and the last are
kinds of their own. What that one allocated and released is written to the tape again in its place, with each block
replaced by its counterpart.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

import torch
from torch import nn
from torch.utils._pytree import tree_flatten

from vlcheck.memory.blocks import Blocks

SHORTEST = 6
"""Lists with fewer layers are run as they are."""
NUMBERS = frozenset({"layer_idx", "layer_id", "index", "idx"})
PLAIN = (int, float, str, bool, type(None))


class Unlike(Exception):
    """A layer that was to stand for others is not like them after all."""


@dataclass
class LayerPass:
    """Events and blocks of one pass through one layer."""

    first_event: int
    first_block: int
    last_event: int = -1
    last_block: int = -1
    boundary: int | None = None
    """The block that it hands on: its output forward, the gradient of its input backward."""


@dataclass
class Layer:
    """A layer of a list: the one that stands for it, or None where it is run itself."""

    module: Any
    place: tuple[str, int]
    like: tuple[str, int] | None = None
    regions: dict[str, LayerPass] = field(default_factory=dict)
    arguments: Any = None
    output: Any = None
    own: Any = None
    """Its forward, where that is not its class's."""
    shares: bool = False
    """Whether it gets a tensor with a gradient that an earlier layer got too: how their sum is made is its own."""


@dataclass
class Layers:
    """All layers of a model by list and index, and the order in which their passes came."""

    blocks: Blocks
    found: dict[tuple[str, int], Layer]
    passes: list[tuple[str, tuple[str, int]]] = field(default_factory=list)
    given: WeakValueDictionary[int, torch.Tensor] = field(default_factory=WeakValueDictionary)
    """Tensors that need a gradient and that layers got, by their identity."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Record the passes of every layer; those that another stands for do nothing."""
        with ExitStack() as stack:
            for layer in self.found.values():
                if _checkpoints_its_hooks(layer.module):
                    stack.enter_context(self._around_checkpoint(layer))
                    continue
                for hook in (
                    layer.module.register_forward_pre_hook(
                        lambda _, args, kwargs, layer=layer: self._enter(layer, args, kwargs), with_kwargs=True
                    ),
                    layer.module.register_forward_hook(lambda _, __, output, layer=layer: self._leave(layer, output)),
                ):
                    stack.callback(hook.remove)
                if layer.like is not None:
                    layer.own = layer.module.__dict__.get("forward")
                    layer.module.forward = self._stand_in(layer)
                    stack.callback(_give_back, layer)
            yield

    @contextmanager
    def _around_checkpoint(self, layer: Layer) -> Iterator[None]:
        """Watch a layer where its checkpoint begins and ends: what it runs again is no second pass."""
        original = layer.module._gradient_checkpointing_func

        def checkpoint(function: Any, *args: Any) -> Any:
            self._enter(layer, args, function.keywords)
            if layer.like is None:
                output = original(function, *args)
            else:
                output = self._stand_in(layer, lambda *_, **__: original(function, *args))(*args, **function.keywords)
            self._leave(layer, output)
            return output

        layer.module._gradient_checkpointing_func = checkpoint
        try:
            yield
        finally:
            layer.module._gradient_checkpointing_func = original

    def _begin(self, layer: Layer, way: str) -> None:
        if way in layer.regions:
            raise Unlike(f"{layer.place} runs twice")
        self.end()
        tape = self.blocks.tape
        layer.regions[way] = LayerPass(len(tape.events), len(tape.sizes))
        self.passes.append((way, layer.place))

    def _enter(self, layer: Layer, args: Any, kwargs: Any) -> None:
        self._begin(layer, "forward")
        layer.arguments = _describe(args, kwargs)
        for tensor in _needing(args, kwargs):
            layer.shares |= id(tensor) in self.given
            self.given[id(tensor)] = tensor
        if layer.like is not None and layer.arguments != self.found[layer.like].arguments:
            raise Unlike(f"{layer.place} is called with other arguments than {layer.like}")

    def _leave(self, layer: Layer, output: Any) -> None:
        tensor = _tensor(output)
        if tensor is None:
            return
        layer.output = type(output), tensor.shape, tensor.dtype, tensor.stride()
        layer.regions["forward"].boundary = self.blocks.block_of(tensor)
        if tensor.requires_grad:
            tensor.register_hook(self._backward(layer))  # type: ignore[no-untyped-call]
        if (layer.place[0], layer.place[1] + 1) not in self.found:
            self.end()

    def _backward(self, layer: Layer) -> Callable[[torch.Tensor], None]:
        def hook(gradient: torch.Tensor) -> None:
            path, index = layer.place
            if (after := self.found.get((path, index + 1))) is not None and "backward" in after.regions:
                after.regions["backward"].boundary = self.blocks.block_of(gradient)
            self._begin(layer, "backward")
            self.blocks.tape.mark(f"backward of {path}.{index}")

        return hook

    def _stand_in(self, layer: Layer, whole: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """What takes the place of a layer's forward; `whole` runs the layer after all."""

        def forward(*args: Any, **kwargs: Any) -> Any:
            like = self.found[layer.like]  # type: ignore[index]
            if like.output is None:
                raise Unlike(f"{like.place} does not return a tensor")
            kind, shape, dtype, stride = like.output
            if layer.shares:
                return self._run_after_all(layer, whole)(*args, **kwargs)
            needing = _needing(args, kwargs)
            if needing:
                made: Any = Skipped.apply(shape, stride, dtype, *needing)  # type: ignore[no-untyped-call]
            else:
                made = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
            return made if kind is not tuple else (made,)

        return forward

    @staticmethod
    def _run_after_all(layer: Layer, whole: Callable[..., Any] | None) -> Callable[..., Any]:
        layer.like = None
        _give_back(layer)
        return whole or layer.module.forward

    def end(self) -> None:
        """Close the pass that is open, where the tape stands now."""
        if self.passes:
            way, place = self.passes[-1]
            region = self.found[place].regions[way]
            if region.last_event < 0:
                region.last_event, region.last_block = len(self.blocks.tape.events), len(self.blocks.tape.sizes)


def _give_back(layer: Layer) -> None:
    """Let a layer have its own forward again."""
    layer.module.__dict__.pop("forward", None)
    if layer.own is not None:
        layer.module.forward = layer.own


class Skipped(torch.autograd.Function):
    """A layer that is not run: an output and gradients of the right shapes."""

    @staticmethod
    def forward(ctx: Any, shape: Any, stride: Any, dtype: torch.dtype, *given: torch.Tensor) -> torch.Tensor:
        """An output of this shape, number type and stride on meta; the inputs are kept, as a layer would."""
        ctx.save_for_backward(*given)
        return torch.empty_strided(shape, stride, dtype=dtype, device="meta")

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        """A gradient of each input, of the input's shape."""
        return (None, None, None, *map(torch.empty_like, ctx.saved_tensors))


Likeness: TypeAlias = Mapping[tuple[str, int], tuple[Any, tuple[str, int] | None]]
"""Every layer by list and index, and the one that may stand for it."""


def find_likeness(model: nn.Module, kinds: Mapping[str, Sequence[Hashable]]) -> Likeness:
    """The layer lists of a model, and which layers may stand for which.

    Args:
        kinds: what a family knows of its lists, beside what the modules themselves show.
    """
    found: dict[tuple[str, int], tuple[Any, tuple[str, int] | None]] = {}
    lists: list[str] = []
    for path, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or len(module) < SHORTEST or path.startswith(tuple(lists)):
            continue
        lists.append(path + ".")
        told = kinds.get(path, ())
        if len(told) != len(module):
            told = [None] * len(module)
        alike: list[Hashable] = [(kind, signature(layer)) for kind, layer in zip(told, module, strict=True)]
        alike[0], alike[-1] = "first", "last"  # what comes in needs no gradient, and what goes out meets no layer
        settings = [tuple(alike[max(0, n - 1) : n + 2]) for n in range(len(alike))]
        firsts: dict[Any, int] = {}
        for n, setting in enumerate(settings):
            firsts.setdefault(setting, n)
        run = {near for n in firsts.values() for near in (n - 1, n, n + 1)}
        for n, layer in enumerate(module):
            found[path, n] = layer, None if n in run else (path, firsts[settings[n]])
    return found


def _checkpoints_its_hooks(layer: nn.Module) -> bool:
    """Whether a layer's checkpoint lies around its hooks, which then run again in the backward pass.

    That is `GradientCheckpointingLayer.__call__` of transformers 5.17; that of 5.23 checkpoints `forward` alone.
    """
    around = type(layer).__call__ is not nn.Module.__call__
    return around and layer.training and bool(getattr(layer, "gradient_checkpointing", False))


def layers_of(likeness: Likeness, blocks: Blocks, *, whole: bool = False) -> Layers:
    """The layers of one step; `whole` lets every one be run."""
    return Layers(
        blocks, {place: Layer(layer, place, None if whole else like) for place, (layer, like) in likeness.items()}
    )


def signature(layer: nn.Module) -> Hashable:
    """What decides how a layer runs: its tensors and its modules' plain settings."""
    modules = list(layer.named_modules())
    tensors = tuple(
        (name, key, tensor.shape, tensor.dtype, tensor.requires_grad)
        for name, module in modules
        for own in (module._parameters, module._buffers)
        for key, tensor in own.items()
        if tensor is not None
    )
    settings = tuple(
        (name, key, value)
        for name, module in modules
        for key, value in sorted(vars(module).items())
        if isinstance(value, PLAIN) and key not in NUMBERS
    )
    return type(layer).__name__, tensors, settings


def _needing(args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The tensors among arguments that need a gradient, those in transformers' own mappings too."""
    flat, _ = tree_flatten((args, kwargs))
    inside = [value for each in flat if isinstance(each, UserDict) for value in each.values()]
    return [t for t in [*flat, *tree_flatten(inside)[0]] if isinstance(t, torch.Tensor) and t.requires_grad]


def _tensor(output: Any) -> torch.Tensor | None:
    """The one tensor that a layer returns."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, tuple) and len(output) == 1 and isinstance(output[0], torch.Tensor):
        return output[0]
    return None


def _describe(args: Any, kwargs: Any) -> Any:
    """What of the arguments decides how a layer runs; small whole numbers by value."""
    return [describe(each) for each in tree_flatten((args, kwargs))[0]]


def describe(argument: Any) -> Any:
    """What of one argument decides how a layer runs."""
    if isinstance(argument, torch.Tensor):
        values = tuple(argument.flatten().tolist()) if not argument.is_meta and argument.numel() <= 1000 else ()
        return tuple(argument.shape), argument.dtype, argument.requires_grad, values
    return argument if isinstance(argument, int | float | str | bool | None) else type(argument).__name__
