"""A model in the state in which it trains: training mode, checkpointed layers, no cache."""

from __future__ import annotations

import math
from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from vlcheck.model.build import base_of


def prepare_for_training(model: nn.Module, *, checkpointing: float, reentrant: bool | None = None) -> None:
    """Put a model into training mode, with checkpointing as trainers have it: inputs need gradients, no cache.

    Args:
        checkpointing: share of the language model's layers, from the first on, whose activations are computed again in
            the backward pass, as those of all other layers are; 0 for none anywhere.
        reentrant: kind of checkpointing; None leaves it to transformers.
    """
    model.train()
    if checkpointing:
        given = {} if reentrant is None else {"use_reentrant": reentrant}
        base: Any = base_of(model)
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs=given or None)
        base.enable_input_require_grads()
        base.config.use_cache = False
        _leave_last_layers(base, checkpointing)


def _leave_last_layers(base: nn.Module, share: float) -> None:
    """Switch checkpointing off in the last layers of the list with the most weights, which is the language model's.

    What those keep is freed before the others recompute. A vision tower's would be the most memory for the least time.
    """
    if share == 1:
        return
    lists = [each for each in base.modules() if isinstance(each, nn.ModuleList) and len(each)]
    lists = [each for each in lists if all(isinstance(one, GradientCheckpointingLayer) for one in each)]
    layers: Any = max(lists, key=lambda each: sum(parameter.numel() for parameter in each.parameters()), default=())
    for layer in layers[math.ceil(share * len(layers)) :]:
        layer.gradient_checkpointing = False
