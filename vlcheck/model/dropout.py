"""Dropout layers of a model, and whether they are switched on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

KINDS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@dataclass(frozen=True)
class Dropouts:
    """Dropout layers with a probability above zero, beside parameters that are trained."""

    layers: int
    off: tuple[str, ...]
    """Of these, the ones that are in evaluation mode."""
    largest: float
    """Probability of the one that drops most."""


def dropouts(model: nn.Module) -> Dropouts:
    """Every layer that drops something in training; those of a frozen tower are left out, which may rest."""
    holders = {path for name, parameter in model.named_parameters() for path in _above(name)}
    trained = {path for name, p in model.named_parameters() if p.requires_grad for path in _above(name)}
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, KINDS) and module.p > 0 and next((p for p in _above(name) if p in holders), "") in trained
    }
    off = tuple(name for name, module in found.items() if not module.training)
    return Dropouts(len(found), off, max((module.p for module in found.values()), default=0.0))


def _above(path: str) -> Iterator[str]:
    """Modules that hold a path, the nearest first; the model itself is the empty path."""
    while path:
        path = path.rpartition(".")[0]
        yield path
