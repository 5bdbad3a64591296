"""What a backward pass left in a live model: gradients by part."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vlcheck.model.build import base_of
from vlcheck.model.family import Part
from vlcheck.model.modules import ModuleTable


@dataclass(frozen=True)
class PartGradients:
    """Gradients of the trained modules of one part."""

    modules: int
    none: tuple[str, ...]
    """Modules none of whose tensors has a gradient."""
    zero: tuple[str, ...]
    """Modules all of whose gradients are zero."""
    not_finite: tuple[str, ...]
    """Modules with NaN or infinity in a gradient."""
    norm: float
    """Of all gradients of the part that are finite, (L2)."""


def gradients_by_part(model: nn.Module, modules: ModuleTable) -> Mapping[Part, PartGradients]:
    """Describe the gradients of a model by part; empty where no parameter has one.

    A module counts by all its tensors together: `lora_A` has a zero gradient as long as `lora_B` is zero.
    """
    base: Any = base_of(model)
    found: dict[Part, list[tuple[str, float | None]]] = defaultdict(list)
    for row in modules.rows:
        if row.trainable and row.part is not None:
            whole = bool(row.adapter_parameters or row.saved)
            own = base.get_submodule(row.name).parameters(recurse=whole)
            found[row.part].append((row.name, _norm([p for p in own if p.requires_grad])))
    if all(norm is None for each in found.values() for _, norm in each):
        return {}
    return {part: _summed(found[part]) for part in Part if part in found}


def _norm(parameters: list[nn.Parameter]) -> float | None:
    """Of a module's gradients, (L2); None where no tensor has one."""
    own = [p.grad.detach() for p in parameters if p.grad is not None]
    return float(torch.stack([grad.float().norm().cpu() for grad in own]).norm()) if own else None


def _summed(norms: list[tuple[str, float | None]]) -> PartGradients:
    finite = [norm for _, norm in norms if norm is not None and math.isfinite(norm)]
    return PartGradients(
        len(norms),
        tuple(name for name, norm in norms if norm is None),
        tuple(name for name, norm in norms if norm == 0),
        tuple(name for name, norm in norms if norm is not None and not math.isfinite(norm)),
        math.hypot(*finite),
    )
