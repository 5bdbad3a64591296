"""Which attention implementation each submodel of a model is asked for, and whether it takes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from torch import nn
from transformers import PreTrainedModel

Requested: TypeAlias = str | dict[str, str]
"""As transformers takes it: one implementation for all submodels, or one for each sub-config that is named."""


def attention_support(model: nn.Module, requested: Requested) -> dict[str, bool]:
    """Whether each submodel accepts the attention implementation that it is asked for, by class name.

    Read from the flags that transformers checks when it builds the model; asking it to build would
    need the attention packages of the training machine here.
    """
    asked = dict(_asked(model.config, requested))
    found: dict[str, bool] = {}
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            name = type(module).__name__
            found[name] = found.get(name, True) and _accepts(module, asked.get(id(module.config)))
    return dict(sorted(found.items()))


def head_widths(model: nn.Module, requested: Requested) -> Mapping[str, Mapping[int, int]]:
    """Attention layers by the implementation that they are asked for and the width of a head, in elements."""
    asked = dict(_asked(model.config, requested))
    found: dict[str, Counter[int]] = {}

    def count(module: nn.Module, implementation: str | None) -> None:
        if isinstance(module, PreTrainedModel):
            implementation = asked.get(id(module.config), implementation)
        width = getattr(module, "head_dim", None)
        if implementation is not None and isinstance(width, int) and next(module.parameters(), None) is not None:
            found.setdefault(implementation, Counter())[width] += 1
        for child in module.children():
            count(child, implementation)

    count(model, None)
    return found


def _asked(config: Any, requested: Requested | None) -> Iterator[tuple[int, str | None]]:
    """Every config of a model by its identity, and the implementation asked for it; None where it may choose."""
    yield id(config), requested.get("") if isinstance(requested, dict) else requested
    for key in getattr(config, "sub_configs", {}):
        inner = getattr(config, key, None)
        if inner is not None:
            yield from _asked(inner, requested.get(key) if isinstance(requested, dict) else requested)


def _accepts(module: PreTrainedModel, implementation: str | None) -> bool:
    if implementation is None or implementation == "eager":
        return True
    flags = {"sdpa": "_supports_sdpa", "flex_attention": "_supports_flex_attn"}
    return bool(getattr(type(module), flags.get(implementation, "_supports_flash_attn"), False))
