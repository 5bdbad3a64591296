"""An optimizer's groups held against the parameters of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class OptimizerGroups:
    """Which parameters an optimizer steps, and which of the model's it leaves out."""

    groups: int
    held: int
    """Parameters in all groups."""
    trained: int
    """Parameters of the model that require gradients."""
    missing: tuple[str, ...]
    """Of these, the ones in no group."""
    frozen: tuple[str, ...]
    """Parameters in a group that require no gradient."""
    foreign: int
    """Parameters in a group that are not the model's."""


def optimizer_groups(model: nn.Module, optimizer: Any) -> OptimizerGroups:
    """Hold the groups of an optimizer against a model.

    Args:
        model: as the run trains it; whatever is around it counts as its name.
        optimizer: anything with `param_groups`, whose mappings have `params`.
    """
    groups: list[Mapping[str, Any]] = list(optimizer.param_groups)
    held = {id(parameter): parameter for group in groups for parameter in group["params"]}
    own = {id(parameter): name for name, parameter in model.named_parameters()}
    trained = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    return OptimizerGroups(
        len(groups),
        len(held),
        len(trained),
        tuple(name for key, name in trained.items() if key not in held),
        tuple(own[key] for key, parameter in held.items() if key in own and not parameter.requires_grad),
        sum(key not in own for key in held),
    )
