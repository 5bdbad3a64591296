"""How adapters stand in a live model: how often they were attached, and which tensors were frozen since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Attached:
    """The adapters of a live model."""

    depth: int
    """PEFT models, one inside another; 0 for a model without PEFT."""
    nested: tuple[str, ...]
    """Adapted modules inside adapted modules."""
    layers: Mapping[str, int]
    """Adapted modules by the name of their adapter, those that compute with it."""
    tensors: int
    """Tensors of active adapters."""
    frozen: tuple[str, ...]
    """Of these, the ones that require no gradient."""


def attached(model: nn.Module) -> Attached:
    """Describe the adapters of a model, whatever is around it."""
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    depth = sum(isinstance(module, PeftModel) for module in model.modules())
    layers: dict[str, int] = {}
    nested: list[str] = []
    tensors: dict[str, nn.Parameter] = {}
    outer = ""
    for name, module in model.named_modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        if outer and name.startswith(outer):
            nested.append(name)
        else:
            outer = name + "."
        active = [adapter for adapter in module.active_adapters if adapter in _names(module)]
        for adapter in active:
            layers[adapter] = layers.get(adapter, 0) + 1
            tensors.update(_tensors(name, module, adapter))
    frozen = tuple(name for name, tensor in tensors.items() if not tensor.requires_grad)
    return Attached(depth, tuple(nested), layers, len(tensors), frozen)


def _names(layer: Any) -> set[str]:
    """Adapters that a layer has tensors of."""
    return {name for kind in layer.adapter_layer_names for name in _held(layer, kind)}


def _held(layer: Any, kind: str) -> dict[str, Any]:
    """What a layer holds of one kind (`lora_A`, ...), by the name of the adapter."""
    held: Any = getattr(layer, kind, None)
    return dict(held.items()) if hasattr(held, "items") else {}


def _tensors(path: str, layer: Any, adapter: str) -> Iterator[tuple[str, nn.Parameter]]:
    """An adapter's own tensors in one layer, by name."""
    for kind in layer.adapter_layer_names:
        if kind in layer.frozen_peft_weight_names.get(adapter, ()):
            continue  # some kinds of LoRA train one factor alone
        own = _held(layer, kind).get(adapter)
        if isinstance(own, nn.Module):
            yield from ((f"{path}.{kind}.{adapter}.{name}", tensor) for name, tensor in own.named_parameters())
        elif isinstance(own, nn.Parameter):
            yield f"{path}.{kind}.{adapter}", own
