"""Runs without adapters: which weights train, and which parts stay as they are."""

from __future__ import annotations

from torch import nn

from vlcheck.model.family import Family
from vlcheck.model.targets import parts_by_path
from vlcheck.spec import RunSpec


def freeze_parts(model: nn.Module, spec: RunSpec, family: Family) -> None:
    """Freeze, in place, the parts that a run without adapters leaves as they are; nothing in a run that has some.

    Args:
        model: the transformers model, without wrappers.
    """
    if spec.lora is not None or not spec.training.freeze:
        return
    of = parts_by_path(model, family)
    for name, module in model.named_modules():
        part = of.get(name)
        if part is not None and part.intent in spec.training.freeze:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
